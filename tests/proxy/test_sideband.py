"""Calls that go past the proxy, joined by a WebSocket of its own: through real sockets."""

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recorder.protocol.decode import SessionDecoder
from recorder.protocol.envelope import Record, RecordedEvent, RecordKind
from recorder.proxy import sideband
from recorder.proxy.tokens import add_token
from recorder.store.counters import ERROR
from tests.proxy.conftest import RunningWorker, Scripted, read_to_end
from tests.proxy.telephony import CREATED, KEY, Telephony, offer, refuse, talk

MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]


def begin(proxy: RunningWorker, request: bytes | None = None, created: bytes = CREATED) -> None:
    with proxy.connect() as client:
        client.sendall(request or offer())
        assert read_to_end(client) == created


def gone(proxy: RunningWorker) -> None:
    """Wait until the worker serves nobody any more."""
    done = threading.Event()

    def look(worker: Any) -> bool:
        return not worker._sessions

    while not proxy.call(look):
        assert not done.wait(0.01)


def events(proxy: RunningWorker) -> list[RecordedEvent]:
    decoder = SessionDecoder()
    return [
        event
        for record in proxy.records()
        for event in decoder.feed(Record(record.kind, record.at_ns, bytes(record.data)))
    ]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sideband, "RETRY_SECONDS", (0.01, 0.01, 0.01))


def test_a_call_is_joined_and_recorded(upstream: MakeUpstream, worker: MakeWorker) -> None:
    telephony = Telephony(talk)
    server = upstream(telephony)
    proxy = worker(server.url + "/gateway", sideband=True)
    begin(proxy, offer(headers="OpenAI-Organization: org\r\nUser-Agent: app/1\r\n"))
    telephony.wait()
    gone(proxy)
    (head,) = telephony.heads
    lines = head.decode().split("\r\n")
    assert lines[0] == "GET /gateway/v1/realtime?call_id=rtc_1 HTTP/1.1"
    assert f"Host: {server.url.removeprefix('ws://')}" in lines
    assert f"Authorization: Bearer {KEY}" in lines
    assert "OpenAI-Organization: org" in lines
    assert not [line for line in lines if line.lower().startswith(("content-", "sec-websocket-extensions"))]
    recorded = events(proxy)
    assert [(event.direction, event.type) for event in recorded] == [
        ("recorder", "recorder.session_opened"),
        ("recorder", "recorder.handshake_completed"),
        ("server", "session.created"),
        ("server", "websocket.ping"),
        ("client", "websocket.pong"),
        ("server", "websocket.close"),
        ("client", "websocket.close"),
        ("recorder", "recorder.session_closed"),
    ]
    (opened,) = proxy.facts(RecordKind.OPENED)
    assert (opened["source"], opened["call_id"], opened["labels"]) == ("proxy", "rtc_1", {"connection": "sideband"})
    assert opened["request"]["target"] == "/v1/realtime?call_id=rtc_1"
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["client_bytes"], closed["missed_bytes"], closed["error"]) == (27, 0, None)
    everything = b"".join(record.data for record in proxy.records())
    assert closed["server_bytes"] == len(proxy.tapped(RecordKind.SERVER_BYTES))
    assert KEY.encode() not in everything
    assert b"v=0" not in everything
    assert b"answer" not in everything


def test_over_tls(upstream: MakeUpstream, worker: MakeWorker, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    telephony = Telephony(talk)

    def behave(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            telephony(tls)

    url = upstream(behave).url.replace("ws://127.0.0.1", "wss://localhost")
    proxy = worker(url, upstream_ca=str(certificate), tls_cert=str(certificate), sideband=True)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with trusting.wrap_socket(proxy.connect(), server_hostname="localhost") as client:
        client.sendall(offer())
        assert read_to_end(client) == CREATED
    telephony.wait()
    gone(proxy)
    assert [event.type for event in events(proxy)].count("session.created") == 1


def test_without_the_setting_no_call_is_joined(upstream: MakeUpstream, worker: MakeWorker) -> None:
    proxy = worker(upstream(Telephony()).url)
    begin(proxy)
    assert proxy.records() == []


def test_a_telephone_call_is_joined_when_it_is_accepted(upstream: MakeUpstream, worker: MakeWorker) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    telephony = Telephony(talk, created=answer)
    proxy = worker(upstream(telephony).url, sideband=True)
    begin(proxy, offer("/v1/realtime/calls/rtc_sip/accept"), answer)
    telephony.wait()
    assert telephony.heads[0].startswith(b"GET /v1/realtime?call_id=rtc_sip HTTP/1.1\r\n")
    gone(proxy)
    assert proxy.facts(RecordKind.OPENED)[0]["call_id"] == "rtc_sip"


@pytest.mark.parametrize(
    "created",
    [
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /v1/realtime/calls/a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"garbage",
    ],
)
def test_what_is_no_call_is_not_joined(upstream: MakeUpstream, worker: MakeWorker, created: bytes) -> None:
    proxy = worker(upstream(Telephony(created=created)).url, sideband=True)
    begin(proxy, created=created)
    gone(proxy)
    assert proxy.call(lambda worker: worker._counters[ERROR, "sideband"]) == 0
    assert proxy.records() == []


@pytest.mark.parametrize("location", [b"", b"Location: /v1/realtime/calls/a%20b\r\n", b"Location: /v1/elsewhere\r\n"])
def test_a_call_whose_answer_does_not_name_it_is_said_not_to_be_recorded(
    upstream: MakeUpstream, worker: MakeWorker, caplog: pytest.LogCaptureFixture, location: bytes
) -> None:
    created = CREATED.replace(b"Location: /v1/realtime/calls/rtc_1\r\n", location)
    proxy = worker(upstream(Telephony(created=created)).url, sideband=True)
    begin(proxy, created=created)
    gone(proxy)
    assert proxy.call(lambda worker: worker._counters[ERROR, "sideband"]) == 1
    assert proxy.records() == []
    assert "a call is not recorded: the answer that begins it (201) names none" in caplog.text


def test_a_call_that_is_not_ready_yet_is_tried_again(upstream: MakeUpstream, worker: MakeWorker) -> None:
    def drop(_connection: socket.socket, _head: bytes) -> None:
        """Says nothing at all."""

    telephony = Telephony(refuse("404 Not Found"), refuse("503 Service Unavailable"), drop, talk)
    proxy = worker(upstream(telephony).url, sideband=True)
    begin(proxy)
    telephony.wait(4)
    gone(proxy)
    assert [event.type for event in events(proxy)].count("session.created") == 1
    assert len(proxy.facts(RecordKind.OPENED)) == len(proxy.facts(RecordKind.ACCEPTED)) == 1


@pytest.mark.parametrize(
    ("answers", "status", "by", "said"),
    [
        (["401 Unauthorized"], 401, "upstream", "the upstream answered 401"),
        (["404 Not Found"] * 4, 404, "upstream", "the upstream answered 404"),
        (["101 Switching Protocols"] * 4, 502, "proxy", "the handshake failed: InvalidUpgrade"),
    ],
)
def test_a_call_that_cannot_be_joined_is_loud_and_on_record(  # noqa: PLR0917 - pytest names them
    upstream: MakeUpstream,
    worker: MakeWorker,
    caplog: pytest.LogCaptureFixture,
    answers: list[str],
    status: int,
    by: str,
    said: str,
) -> None:
    telephony = Telephony(*map(refuse, answers))
    proxy = worker(upstream(telephony).url, sideband=True)
    begin(proxy)
    telephony.wait(len(answers))
    gone(proxy)
    assert proxy.call(lambda worker: worker._counters[ERROR, "sideband"]) == 1
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["status"], closed["closed_by"], closed["error"]) == (status, by, said)
    assert proxy.facts(RecordKind.ACCEPTED) == []
    assert f"call rtc_1 is not recorded: {said}" in caplog.text
    assert KEY not in caplog.text


def test_credentials_are_the_routes(
    upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "sk-theirs-0123456789")
    telephony = Telephony(talk)
    token = add_token(tmp_path / "tokens", "web-app")
    routes = tmp_path / "routes.toml"
    routes.write_text(
        f'[[route]]\nname = "r"\nupstream = "{upstream(telephony).url}"\npath_prefix = "/ai"\nstrip_prefix = true\n'
        'credential = { value_from_env = "UPSTREAM_KEY", prefix = "Bearer " }\nlabel_headers = ["X-Tenant"]\n'
        'labels = { team = "t" }\nsideband = true\ndrop_audio = "client"\nset_headers = { X-Set = "1" }\n',
        encoding="utf-8",
    )
    proxy = worker("ws://unused.test", config_file=str(routes), client_tokens=str(tmp_path / "tokens"))
    begin(proxy, offer("/ai/v1/realtime/calls", "X-Tenant: acme\r\n").replace(KEY.encode(), token.encode()))
    telephony.wait()
    gone(proxy)
    (head,) = telephony.heads
    assert head.startswith(b"GET /v1/realtime?call_id=rtc_1 HTTP/1.1\r\n")
    assert b"Authorization: Bearer sk-theirs-0123456789\r\n" in head
    assert b"X-Set: 1\r\n" in head
    assert b"acme" not in head
    (opened,) = proxy.facts(RecordKind.OPENED)
    labels = {"team": "t", "x-tenant": "acme", "client": "web-app", "connection": "sideband"}
    assert (opened["labels"], opened["recording"]["policy"]["drop_audio"]) == (labels, "client")
    everything = b"".join(record.data for record in proxy.records()) + head
    assert token.encode() not in everything


@pytest.mark.parametrize("lines", ['recording = "off"', "sample = 0.0", 'consent_header = "X-Consent"'])
def test_a_call_that_is_not_to_be_recorded_is_not_joined(
    upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path, lines: str
) -> None:
    routes = tmp_path / "routes.toml"
    url = upstream(Telephony()).url
    routes.write_text(f'[[route]]\nname = "r"\nupstream = "{url}"\nsideband = true\n{lines}\n', encoding="utf-8")
    proxy = worker("ws://unused.test", config_file=str(routes))
    begin(proxy, offer(headers="X-Consent: off\r\n"))
    gone(proxy)
    assert [record.kind for record in proxy.records()] == [RecordKind.OPENED, RecordKind.CLOSED]
    (opened,) = proxy.facts(RecordKind.OPENED)
    assert opened["labels"] == {"connection": "sideband"}
    assert "rtc_1" not in str(opened)
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["error"]) == ("proxy", "not joined: nothing of this call is to be recorded")


def test_where_it_cannot_be_recorded_the_call_goes_on_without(upstream: MakeUpstream, worker: MakeWorker) -> None:
    proxy = worker(upstream(Telephony()).url, sideband=True, on_recording_failure="refuse")
    proxy.reader.hold_back(True)
    begin(proxy)
    gone(proxy)
    assert proxy.call(lambda worker: worker._counters[ERROR, "sideband"]) == 1
    assert proxy.records() == []
