"""Credentials and client tokens: found in every form, taken out, put in, told from wrong ones, and never leaked."""

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from recorder.errors import UsageError
from recorder.protocol.envelope import RecordKind
from recorder.proxy.config import WorkerConfig
from recorder.proxy.credentials import Credential, presented, without_credentials
from recorder.proxy.forward import response_head
from recorder.proxy.http import Headers, Request
from recorder.proxy.routes import Route
from recorder.proxy.settings import load
from recorder.proxy.tokens import ClientTokens, add_token, read_tokens, remove_token
from recorder.proxy.upstream import Upstream
from tests.proxy.conftest import ACCEPT, UPGRADE, RunningWorker, Scripted, read_head, read_to_end

MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]

THEIRS = "Client-0123456789abcdef.secret"
OURS = "Upstream-0123456789abcdef.secret"

FORMS: dict[str, tuple[str, Headers]] = {
    "bearer": ("", [("Authorization", f"Bearer {THEIRS}")]),
    "bearer in lower case": ("", [("authorization", f"bearer {THEIRS}")]),
    "api-key": ("", [("api-key", THEIRS)]),
    "x-api-key": ("", [("X-API-Key", THEIRS)]),
    "azure gateway": ("", [("Ocp-Apim-Subscription-Key", THEIRS)]),
    "browser": ("", [("Sec-WebSocket-Protocol", f"realtime, openai-insecure-api-key.{THEIRS}")]),
    "browser, key first": ("", [("Sec-WebSocket-Protocol", f"openai-insecure-api-key.{THEIRS},realtime")]),
    "browser, key alone": ("", [("Sec-WebSocket-Protocol", f"openai-insecure-api-key.{THEIRS}")]),
    "browser, two headers": (
        "",
        [("Sec-WebSocket-Protocol", "realtime"), ("Sec-WebSocket-Protocol", f"openai-insecure-api-key.{THEIRS}")],
    ),
    "query": (f"api-key={THEIRS}", []),
    "query, gateway": (f"subscription-key={THEIRS}", []),
    "query, encoded name": (f"API%2Dkey={THEIRS}", []),
    "query, bearer": (f"authorization=Bearer%20{THEIRS}", []),
    "query, token": (f"access_token={THEIRS}", []),
}
each_form = pytest.mark.parametrize(("query", "headers"), FORMS.values(), ids=FORMS)


def request_bytes(query: str = "", headers: Headers | None = None) -> bytes:
    """An upgrade with more in its query and headers."""
    target = b"/v1/realtime?model=gpt-realtime" + (f"&{query}".encode() if query else b"")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers or [])
    return UPGRADE.replace(b"/v1/realtime?model=gpt-realtime", target)[:-2] + lines.encode() + b"\r\n"


def route_file(tmp_path: Path, url: str, credential: str = '{ header = "api-key", value_from_file = "key" }') -> str:
    (tmp_path / "key").write_text(OURS + "\n", encoding="utf-8")
    path = tmp_path / "routes.toml"
    path.write_text(f'[[route]]\nname = "r"\nupstream = "{url}"\ncredential = {credential}\n', encoding="utf-8")
    return str(path)


@each_form
def test_what_a_client_presents_is_found_and_can_be_taken_out(query: str, headers: Headers) -> None:
    target = f"/v1/realtime?model=m&{query}&intent=transcription"
    other = [("User-Agent", "x"), ("OpenAI-Project", "p")]
    assert list(presented(target, other + headers)) == [THEIRS]
    left_target, left_headers = without_credentials(target, other + headers)
    assert THEIRS not in f"{left_target} {left_headers}"
    assert left_headers[:2] == other
    assert [value for _, value in left_headers[2:]] in ([], ["realtime"])
    expected = "/v1/realtime?model=m&intent=transcription" if query else target
    assert left_target == expected
    assert list(presented(left_target, left_headers)) == []


@pytest.mark.parametrize(
    ("target", "left"),
    [
        ("/v1?key=a", "/v1"),
        ("/v1?key=a&model=m", "/v1?model=m"),
        ("/v1?model=m&&x", "/v1?model=m&&x"),
        ("/v1?", "/v1?"),
        ("/v1", "/v1"),
        ("/key=a", "/key=a"),
        ("/v1?monkey=a&keys=b", "/v1?monkey=a&keys=b"),
    ],
)
def test_only_credentials_are_taken_out_of_a_query(target: str, left: str) -> None:
    assert without_credentials(target, [])[0] == left


def test_only_credentials_are_taken_out_of_subprotocols() -> None:
    offered = "realtime,openai-beta.realtime-v1 , openai-agents-sdk.0.1.0, openai-project.proj_1"
    headers = [("Sec-WebSocket-Protocol", offered)]
    assert without_credentials("/", headers) == ("/", headers)
    headers = [("sec-websocket-protocol", f"{offered}, openai-insecure-api-key.x, openai-organization.org-1")]
    _, [(name, left)] = without_credentials("/", headers)
    assert name == "sec-websocket-protocol"
    assert [entry.strip() for entry in f"{offered},openai-organization.org-1".split(",")] == left.split(", ")


@given(st.lists(st.sampled_from(sorted(FORMS)), max_size=4), st.text("ab=&?%", max_size=20))
def test_nothing_presented_is_left(names: list[str], junk: str) -> None:
    query = "&".join([junk, *(FORMS[name][0] for name in names)])
    headers = [header for name in names for header in FORMS[name][1]]
    once = without_credentials(f"/v1?{query}", headers)
    assert THEIRS not in str(once)
    assert without_credentials(*once) == once


@each_form
def test_a_route_puts_its_own_credential_in_place_of_any_of_the_clients(
    upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path, query: str, headers: Headers
) -> None:
    heads: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        heads.append(read_head(connection))
        connection.sendall(ACCEPT)

    server = upstream(behave)
    proxy = worker("ws://unused.test", config_file=route_file(tmp_path, server.url))
    with proxy.connect() as client:
        client.sendall(request_bytes(query, [*headers, ("Cookie", f"a={THEIRS}"), ("API-KEY", THEIRS)]))
        assert read_head(client).startswith(b"HTTP/1.1 101 ")
        assert read_to_end(client) == b""
    server.stop()
    assert THEIRS.encode() not in heads[0]
    assert heads[0].startswith(b"GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\n")
    assert heads[0].endswith(f"api-key: {OURS}\r\n\r\n".encode())
    (opened,) = proxy.facts(RecordKind.OPENED)
    assert OURS not in json.dumps(opened)
    assert THEIRS not in json.dumps(opened)


def test_plain_http_gets_the_routes_credential_too(upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path) -> None:
    heads: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        heads.append(read_head(connection))
        connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    server = upstream(behave)
    credential = '{ value_from_file = "key", prefix = "Bearer " }'
    proxy = worker("ws://unused.test", config_file=route_file(tmp_path, server.url, credential))
    with proxy.connect() as client:
        client.sendall(f"POST /v1/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {THEIRS}\r\n\r\n".encode())
        assert read_to_end(client).startswith(b"HTTP/1.1 204 ")
    server.stop()
    host = server.url.removeprefix("ws://")
    expected = f"POST /v1/x HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {OURS}\r\nConnection: close\r\n\r\n"
    assert heads == [expected.encode()]


def test_an_upstream_that_asks_for_none_gets_none(upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path) -> None:
    heads: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        heads.append(read_head(connection))
        connection.sendall(ACCEPT)

    server = upstream(behave)
    proxy = worker("ws://unused.test", config_file=route_file(tmp_path, server.url, '"none"'))
    with proxy.connect() as client:
        client.sendall(request_bytes(*FORMS["bearer"]))
        assert read_head(client) == ACCEPT
    server.stop()
    assert heads == [request_bytes().replace(b"app.test", server.url.removeprefix("ws://").encode())]


# What a client gets to see of subprotocols


@asynccontextmanager
async def realtime_server(supported: list[str]) -> AsyncIterator[tuple[str, list[str | None]]]:
    """A real WebSocket server; its URL, and the offers it has seen."""
    seen: list[str | None] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(connection.request.headers.get("Sec-WebSocket-Protocol"))
        await connection.send("hello")

    def choose(_connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return next((Subprotocol(name) for name in supported if name in offered), None)

    async with serve(
        handler, "127.0.0.1", 0, subprotocols=[Subprotocol("unused")], select_subprotocol=choose
    ) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


@pytest.mark.parametrize(
    ("supported", "offered", "forwarded", "chosen"),
    [
        (["realtime"], ["realtime", f"openai-insecure-api-key.{THEIRS}"], "realtime", "realtime"),
        (["realtime"], [f"openai-insecure-api-key.{THEIRS}", "realtime"], "realtime", "realtime"),
        (
            ["openai-beta.realtime-v1"],
            ["realtime", f"openai-insecure-api-key.{THEIRS}", "openai-beta.realtime-v1"],
            "realtime, openai-beta.realtime-v1",
            "openai-beta.realtime-v1",
        ),
        # Its whole offer is taken out, yet a browser goes on only with one of those that it offered.
        (["realtime"], [f"openai-insecure-api-key.{THEIRS}"], None, f"openai-insecure-api-key.{THEIRS}"),
        # As with a direct connection, for not our doing: the upstream chose none of them.
        ([], ["realtime", f"openai-insecure-api-key.{THEIRS}"], "realtime", None),
        (["realtime"], None, None, None),
    ],
)
async def test_the_chosen_subprotocol_is_one_that_the_client_offered(  # noqa: PLR0917 - pytest names them
    worker: MakeWorker,
    tmp_path: Path,
    supported: list[str],
    offered: list[str] | None,
    forwarded: str | None,
    chosen: str | None,
) -> None:
    async with realtime_server(supported) as (url, seen):
        proxy = worker("ws://unused.test", config_file=route_file(tmp_path, url))
        protocols = [Subprotocol(name) for name in offered] if offered is not None else None
        async with connect(f"ws://127.0.0.1:{proxy.address[1]}/v1/realtime", subprotocols=protocols) as client:
            assert client.subprotocol == chosen
            assert await client.recv() == "hello"
        await asyncio.to_thread(proxy.stop)
    assert seen == [forwarded]
    assert THEIRS.encode() not in proxy.reader.path.read_bytes()


def test_a_101_is_changed_only_where_the_whole_offer_was_taken_out() -> None:
    injecting = Route(
        name="r", upstream=Upstream.parse("ws://h"), credential=Credential(replaces=True, header="api-key", value="k")
    )
    passing = Route(name="r", upstream=Upstream.parse("ws://h"))
    key_alone = Request("GET", "/", FORMS["browser, key alone"][1], b"")
    odd = b"HTTP/1.1 101 X\r\nsec-websocket-protocol: realtime\r\nB: c\r\n\r\n"
    answer = f"HTTP/1.1 101 X\r\nB: c\r\nSec-WebSocket-Protocol: openai-insecure-api-key.{THEIRS}\r\n\r\n".encode()
    assert response_head(odd, key_alone, injecting) == answer
    assert response_head(odd, key_alone, passing) == odd
    assert response_head(odd, Request("GET", "/", FORMS["browser"][1], b""), injecting) == odd
    assert response_head(odd, Request("GET", "/", [], b""), injecting) == odd


# Client tokens


def token_file(tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "tokens"
    return path, add_token(path, "web-app")


def test_tokens_are_made_listed_and_removed(tmp_path: Path) -> None:
    path, web = token_file(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + "  # a comment\n\n", encoding="utf-8")
    phone = add_token(path, "phone")
    assert [token.name for token in read_tokens(path)] == ["web-app", "phone"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert web not in path.read_text(encoding="utf-8")
    tokens = ClientTokens(read_tokens(path))
    assert (tokens.name_of([web]), tokens.name_of(["x", phone])) == ("web-app", "phone")
    assert (tokens.name_of([]), tokens.name_of(["", web[:-1], web + "x", "web-app"])) == (None, None)
    remove_token(path, "web-app")
    assert [token.name for token in read_tokens(path)] == ["phone"]
    assert "# a comment" in path.read_text(encoding="utf-8")
    assert ClientTokens(read_tokens(path)).name_of([web]) is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("web", "tokens:2: this is no token's line"),
        ("web sk-1", "tokens:2: this is no token's line"),
        ("-web sha256:" + "0" * 64, "tokens:2: this is no token's line"),
        ("web sha256:" + "0" * 63, "tokens:2: this is no token's line"),
        (f"a sha256:{'0' * 64}\na sha256:{'1' * 64}", "tokens:3: a is there twice"),
    ],
)
def test_token_files_that_make_no_sense(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# tokens\n{line}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        read_tokens(path)


def test_tokens_that_cannot_be(tmp_path: Path) -> None:
    path, _ = token_file(tmp_path)
    with pytest.raises(UsageError, match="web-app has one already"):
        add_token(path, "web-app")
    with pytest.raises(UsageError, match="cannot be a token's name"):
        add_token(path, "a b")
    with pytest.raises(UsageError, match="there is none for 'phone'"):
        remove_token(path, "phone")
    with pytest.raises(UsageError, match="No such file"):
        read_tokens(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="No such file"):
        add_token(tmp_path / "nowhere" / "tokens", "a")


def config(tmp_path: Path, **settings: Any) -> WorkerConfig:
    return WorkerConfig(upstream=Upstream.parse("ws://h"), data_dir=str(tmp_path), ring_dir=str(tmp_path), **settings)


def test_tokens_are_refused_where_they_would_be_passed_on(tmp_path: Path) -> None:
    tokens = str(token_file(tmp_path)[0])
    with pytest.raises(UsageError, match="--upstream: --client-tokens needs a credential for the upstream"):
        load(config(tmp_path, client_tokens=tokens))
    with pytest.raises(UsageError, match="route r: --client-tokens needs a credential"):
        load(config(tmp_path, client_tokens=tokens, config_file=route_file(tmp_path, "ws://h", '"pass"')))
    for credential in ('"none"', '{ value_from_file = "key" }'):
        loaded = load(config(tmp_path, client_tokens=tokens, config_file=route_file(tmp_path, "ws://h", credential)))
        assert loaded.tokens is not None


@each_form
def test_a_clients_token_is_taken_in_any_form_and_names_its_sessions(
    upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path, query: str, headers: Headers
) -> None:
    heads: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        heads.append(read_head(connection))
        connection.sendall(ACCEPT)

    server = upstream(behave)
    path, token = token_file(tmp_path)
    proxy = worker("ws://unused.test", config_file=route_file(tmp_path, server.url), client_tokens=str(path))
    with proxy.connect() as client:
        client.sendall(request_bytes(query, headers).replace(THEIRS.encode(), token.encode()))
        assert read_head(client).startswith(b"HTTP/1.1 101 ")
        assert read_to_end(client) == b""
    server.stop()
    assert token.encode() not in heads[0]
    (opened,) = proxy.facts(RecordKind.OPENED)
    assert opened["labels"] == {"client": "web-app"}
    assert token.encode() not in proxy.reader.path.read_bytes()


@pytest.mark.parametrize("request_head", [request_bytes(), *(request_bytes(*form) for form in FORMS.values())])
def test_without_a_valid_token_the_answer_is_401(worker: MakeWorker, tmp_path: Path, request_head: bytes) -> None:
    path, _ = token_file(tmp_path)
    file = route_file(tmp_path, "ws://unused.test")
    proxy = worker("ws://unused.test", config_file=file, client_tokens=str(path))
    with proxy.connect() as client:
        client.sendall(request_head)
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\n")
    error = {"type": "recorder_proxy_error", "code": "unauthorized", "message": "a valid client token is needed here"}
    assert json.loads(body) == {"error": error}
    assert proxy.records() == []


def test_whether_there_is_a_route_is_not_told_to_strangers(worker: MakeWorker, tmp_path: Path) -> None:
    path, _ = token_file(tmp_path)
    file = Path(route_file(tmp_path, "ws://unused.test"))
    file.write_text(file.read_text(encoding="utf-8") + 'path_prefix = "/v1"\n', encoding="utf-8")
    proxy = worker("ws://unused.test", config_file=str(file), client_tokens=str(path))
    with proxy.connect() as client:
        client.sendall(UPGRADE.replace(b"/v1/", b"/v2/"))
        assert read_to_end(client).startswith(b"HTTP/1.1 401 ")


def test_tokens_come_and_go_with_a_reload(upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path) -> None:
    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(ACCEPT)

    def answer(token: str) -> bytes:
        with proxy.connect() as client:
            client.sendall(request_bytes("", [("api-key", token)]))
            return read_to_end(client).split(b" ")[1]

    path, old = token_file(tmp_path)
    file = route_file(tmp_path, upstream(behave).url)
    proxy = worker("ws://unused.test", config_file=file, client_tokens=str(path))
    assert answer(old) == b"101"
    new = add_token(path, "new")
    remove_token(path, "web-app")
    assert (answer(old), answer(new)) == (b"101", b"401")
    assert proxy.call(lambda worker: worker._settings.reload())
    assert (answer(old), answer(new)) == (b"401", b"101")
    path.write_text("garbage", encoding="utf-8")
    assert not proxy.call(lambda worker: worker._settings.reload())
    assert (answer(old), answer(new)) == (b"401", b"101")
