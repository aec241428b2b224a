"""Which route a request takes."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.envelope import RecordKind
from recorder.protocol.redact import fingerprint
from recorder.proxy.http import RefusedError, Request
from recorder.proxy.routefile import load_config
from recorder.proxy.routes import Route, Routes
from recorder.proxy.upstream import Upstream
from tests.proxy.conftest import ACCEPT, UPGRADE, RunningWorker, Scripted, read_head, read_to_end

MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]

UPSTREAM = Upstream.parse("ws://upstream.test")


def request(target: str = "/v1/realtime", host: str = "proxy.test", **headers: str) -> Request:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Request("GET", target, [("Host", host), *named], b"")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "routes.toml"
    path.write_text(text, encoding="utf-8")
    return path


def one(tmp_path: Path, lines: str) -> Route:
    """The route of a file with these lines."""
    (route,) = load_config(write(tmp_path, f'[[route]]\nname = "r"\nupstream = "ws://upstream.test"\n{lines}\n'))
    return route


ROUTES = Routes(
    [
        Route(name="any", upstream=UPSTREAM),
        Route(name="v1", upstream=UPSTREAM, path_prefix="/v1"),
        Route(name="v1-realtime", upstream=UPSTREAM, path_prefix="/v1/realtime"),
        Route(name="host", upstream=UPSTREAM, host="a.test"),
        Route(name="host-azure", upstream=UPSTREAM, host="a.test", path_prefix="/azure"),
        Route(name="six", upstream=UPSTREAM, host="::1"),
    ]
)


@pytest.mark.parametrize(
    ("host", "target", "name"),
    [
        ("x.test", "/", "any"),
        ("x.test", "/v1", "v1"),
        ("x.test", "/v1?model=m", "v1"),
        ("x.test", "/v10/realtime", "any"),
        ("x.test", "/V1/realtime", "any"),
        ("x.test", "/v1/other?next=/v1/realtime", "v1"),
        ("x.test", "/v1/realtime/calls", "v1-realtime"),
        ("a.test", "/v1/realtime", "host"),
        ("A.TEST:8443", "/v1/realtime", "host"),
        ("a.test.", "/azure/x", "host-azure"),
        ("b.a.test", "/azure/x", "any"),
        ("[::1]:80", "/", "six"),
        ("[::1]", "/", "six"),
    ],
)
def test_which_route_a_request_takes(host: str, target: str, name: str) -> None:
    assert ROUTES.match(request(target, host)).name == name


def test_no_route_is_a_404() -> None:
    with pytest.raises(RefusedError) as refused:
        Routes([Route(name="v1", upstream=UPSTREAM, path_prefix="/v1")]).match(request("/v2"))
    assert (refused.value.status, refused.value.code) == (404, "no_route")


@pytest.mark.parametrize("path", ["/v1/../admin", "/v1/.", "/..", "/v1/%2e%2E/admin", "/v1/.%2e?x"])
def test_a_path_that_an_upstream_may_resolve_to_another_is_refused(path: str) -> None:
    with pytest.raises(RefusedError, match="dot segments"):
        ROUTES.match(request(path))


@pytest.mark.parametrize(
    "path",
    ["//v1/realtime", "/v1//realtime", "/%76%31/realtime", "/v1%2Frealtime", "/v1;x=1/realtime", "/v1;x/realtime;y?a"],
)
def test_a_path_that_another_route_may_be_meant_by_is_refused(path: str) -> None:
    """An upstream that merges slashes, say, would serve what a stricter route was made for."""
    with pytest.raises(RefusedError, match="another route"):
        ROUTES.match(request(path))


@pytest.mark.parametrize("path", ["/v1/realtime/a%20b", "/v1/realtime//x", "/v1/realtime/%E2%82%AC;v=1", "/x//y;z"])
def test_escapes_that_change_nothing_pass(path: str) -> None:
    assert ROUTES.match(request(path)).name == ("any" if path.startswith("/x") else "v1-realtime")


def test_dots_elsewhere_are_no_dot_segments() -> None:
    assert ROUTES.match(request("/v1/realtime/...?next=../x")).name == "v1-realtime"


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.sampled_from(["", "/v1", "/v1/x", "/v"])), unique=True))
def test_a_match_is_the_most_special_that_takes_the_request(places: list[tuple[str | None, str]]) -> None:
    routes = [Route(name=str(n), upstream=UPSTREAM, host=h, path_prefix=p) for n, (h, p) in enumerate(places)]
    takers = [route for route in routes if route.takes("a", "/v1/x")]
    try:
        matched = Routes(routes).match(request("/v1/x", "a"))
    except RefusedError:
        assert takers == []
    else:
        best = max(takers, key=lambda route: (route.host is not None, len(route.path_prefix)))
        assert matched is best


def test_labels() -> None:
    route = Route(
        name="r",
        upstream=UPSTREAM,
        labels={"team": "voice", "tenant": "ours"},
        label_headers=("x-recorder-label-tenant", "x-user-id", "x-auth-token"),
    )
    headers = {"X_Recorder_Label_Tenant": "theirs", "X_USER_ID": "u" * 300, "X_Auth_Token": "geheim-1"}
    assert route.labels_for(request(**headers), "web") == {
        "team": "voice",
        "tenant": "ours",
        "x-user-id": "u" * 256,
        "x-auth-token": fingerprint("geheim-1"),
        "client": "web",
    }
    assert route.labels_for(request(), None) == {"team": "voice", "tenant": "ours"}


def test_requests_go_where_their_route_leads(upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path) -> None:
    heads: list[tuple[str, bytes]] = []

    def behave_as(name: str) -> Callable[[socket.socket], None]:
        def behave(connection: socket.socket) -> None:
            heads.append((name, read_head(connection)))
            connection.sendall(ACCEPT)
            read_to_end(connection)

        return behave

    openai, azure = upstream(behave_as("openai")), upstream(behave_as("azure"))
    text = f"""
[[route]]
name = "openai"
path_prefix = "/v1"
upstream = "{openai.url}"
remove_headers = ["X-Internal"]
[[route]]
name = "azure"
path_prefix = "/azure"
strip_prefix = true
upstream = "{azure.url}/base"
set_headers = {{ X-Team = "voice" }}
labels = {{ team = "voice" }}
label_headers = ["X-Recorder-Label-Tenant"]
consent_header = "X-Consent"
"""
    proxy = worker("ws://unused.test", config_file=str(write(tmp_path, text)))
    more = b"X-Recorder-Label-Tenant: acme\r\nX-Consent: on\r\nX-Internal: 1\r\nx-team: mine\r\n\r\n"
    for target in (b"/v1/realtime?model=m", b"/azure/openai/realtime?deployment=d", b"/azure?x"):
        with proxy.connect() as client:
            client.sendall(UPGRADE.replace(b"/v1/realtime?model=gpt-realtime", target)[:-2] + more)
            assert read_head(client) == ACCEPT
    rest = UPGRADE[:-2].partition(b"Upgrade: ")[2] + more
    host = {"openai": openai.url[5:].encode(), "azure": azure.url[5:].encode()}
    ours = rest.replace(b"X-Internal: 1\r\n", b"")
    theirs = rest.replace(more, b"X-Internal: 1\r\nX-Team: voice\r\n\r\n")
    assert heads == [
        ("openai", b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: %b\r\nUpgrade: " % host["openai"] + ours),
        ("azure", b"GET /base/openai/realtime?deployment=d HTTP/1.1\r\nHost: %b\r\nUpgrade: " % host["azure"] + theirs),
        ("azure", b"GET /base/?x HTTP/1.1\r\nHost: %b\r\nUpgrade: " % host["azure"] + theirs),
    ]
    opened = proxy.facts(RecordKind.OPENED)
    assert [(facts["route"], facts["upstream"]) for facts in opened] == [
        ("openai", openai.url),
        ("azure", azure.url + "/base"),
        ("azure", azure.url + "/base"),
    ]
    assert (opened[0]["labels"], opened[1]["labels"]) == ({}, {"team": "voice", "tenant": "acme"})
    assert opened[1]["recording"] == {"mode": "on", "decided_by": "route", "sample": 1.0}
    assert opened[1]["request"]["target"] == "/azure/openai/realtime?deployment=d"


def test_a_request_without_a_route_is_a_404_and_not_on_record(worker: MakeWorker, tmp_path: Path) -> None:
    path = write(tmp_path, '[[route]]\nname = "r"\npath_prefix = "/v1"\nupstream = "ws://unused.test"')
    proxy = worker("ws://unused.test", config_file=str(path))
    with proxy.connect() as client:
        client.sendall(UPGRADE.replace(b"/v1/", b"/v2/"))
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert json.loads(body)["error"]["code"] == "no_route"
    assert proxy.records() == []


def test_a_reload_takes_new_routes_or_leaves_all_as_it_was(
    upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def behave_as(name: bytes) -> Callable[[socket.socket], None]:
        def behave(connection: socket.socket) -> None:
            read_head(connection)
            connection.sendall(ACCEPT + name)

        return behave

    def answer() -> bytes:
        with proxy.connect() as client:
            client.sendall(UPGRADE)
            return read_to_end(client).removeprefix(ACCEPT)

    one, two = upstream(behave_as(b"one")).url, upstream(behave_as(b"two")).url
    path = write(tmp_path, f'[[route]]\nname = "r"\nupstream = "{one}"')
    proxy = worker("ws://unused.test", config_file=str(path))
    assert answer() == b"one"
    write(tmp_path, f'[[route]]\nname = "r"\nupstream = "{two}"\nhots = "x"')
    proxy.call(lambda worker: worker._settings.reload())
    assert answer() == b"one"
    assert "not reloaded" in caplog.text
    assert "unknown key 'hots', is host meant?" in caplog.text
    write(tmp_path, f'[[route]]\nname = "r"\nupstream = "{two}"')
    proxy.call(lambda worker: worker._settings.reload())
    assert answer() == b"two"
