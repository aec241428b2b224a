"""Calls that go past the proxy, joined by a WebSocket of its own: through real sockets."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Close, Opcode

from recorder.protocol.decode import SessionDecoder
from recorder.protocol.envelope import Record, RecordedEvent, RecordKind
from recorder.proxy import sideband
from recorder.proxy.tokens import add_token
from recorder.store.counters import ERROR
from tests.proxy.conftest import PATIENCE, RunningWorker, Scripted, read_exactly, read_to_end
from tests.proxy.telephony import CREATED, CREATED_EVENT, KEY, Telephony, accepted, frame, offer, refuse, talk

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
        b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nLocation: /v1/realtime/calls/a%20b\r\nConnection: close\r\n\r\n",
        b"garbage",
    ],
)
def test_what_is_no_call_is_not_joined(upstream: MakeUpstream, worker: MakeWorker, created: bytes) -> None:
    proxy = worker(upstream(Telephony(created=created)).url, sideband=True)
    begin(proxy, created=created)
    assert proxy.records() == []


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


def listening(until: threading.Event) -> Callable[[socket.socket, bytes], None]:
    """A call that goes on until it is left; keeps the last frame."""

    def behave(connection: socket.socket, head: bytes) -> None:
        connection.sendall(accepted(head) + frame(Opcode.TEXT, CREATED_EVENT))
        until.set()
        data = read_to_end(connection)
        assert data[:1] == b"\x88"
        mask, masked = data[2:6], data[6:]
        payload = bytes(byte ^ mask[place % 4] for place, byte in enumerate(masked))
        assert Close.parse(payload) == Close(1001, "the proxy is shutting down")
        connection.sendall(frame(Opcode.TEXT, b'{"type":"last.words"}') + frame(Opcode.CLOSE, payload))

    return behave


def test_when_the_proxy_stops_it_leaves_the_call(upstream: MakeUpstream, worker: MakeWorker) -> None:
    running = threading.Event()
    telephony = Telephony(listening(running))
    proxy = worker(upstream(telephony).url, sideband=True)
    begin(proxy)
    assert running.wait(PATIENCE)
    (described,) = proxy.call(lambda worker: [one.describe() for one in worker._sessions])
    assert described["labels"] == {"connection": "sideband"}
    proxy.stop()
    telephony.wait()
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["close_code"], closed["close_reason"]) == (
        "proxy", 1001, "the proxy is shutting down"
    )  # fmt: skip
    assert [event.type for event in events(proxy)][2:-1] == [
        "session.created", "websocket.close", "last.words", "websocket.close"
    ]  # fmt: skip


def test_frames_may_come_in_any_pieces(upstream: MakeUpstream, worker: MakeWorker) -> None:
    def dribble(connection: socket.socket, head: bytes) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        said = frame(Opcode.TEXT, CREATED_EVENT) + frame(Opcode.PING, b"?") + frame(Opcode.CLOSE)
        for byte in accepted(head) + said:
            connection.sendall(bytes([byte]))
        answers = read_to_end(connection)
        assert (answers[:2], answers[7:9], len(answers)) == (b"\x8a\x81", b"\x88\x80", 13)

    telephony = Telephony(dribble)
    proxy = worker(upstream(telephony).url, sideband=True)
    begin(proxy)
    telephony.wait()
    gone(proxy)
    said = [(event.direction, event.type) for event in events(proxy)]
    assert [kind for who, kind in said if who == "server"] == ["session.created", "websocket.ping", "websocket.close"]
    assert [kind for who, kind in said if who == "client"] == ["websocket.pong", "websocket.close"]


def test_an_upstream_that_takes_no_pongs_holds_up_nobody(
    upstream: MakeUpstream, worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sideband, "_PATIENCE_SECONDS", 0.1)
    stuck = threading.Event()

    def flood(connection: socket.socket, head: bytes) -> None:
        connection.sendall(accepted(head))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(1)
        pings = frame(Opcode.PING, b"p" * 125) * 5000
        with suppress(TimeoutError):  # no byte for so long: a slow proxy is no stuck one
            while True:
                rest = memoryview(pings)
                while rest:
                    rest = rest[connection.send(rest) :]
        stuck.set()
        connection.settimeout(PATIENCE)
        with suppress(ConnectionResetError):
            read_to_end(connection)

    telephony = Telephony(flood)
    proxy = worker(upstream(telephony).url, sideband=True, ring_bytes=64 << 20)
    begin(proxy)
    assert stuck.wait(PATIENCE)
    proxy.stop()
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["error"]) == ("proxy", "the proxy stopped")
    assert "close_code" not in closed  # none could be said in the middle of a frame


def test_when_the_proxy_stops_it_waits_no_longer_to_join(
    upstream: MakeUpstream, worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sideband, "RETRY_SECONDS", (60.0,))
    telephony = Telephony(refuse("404 Not Found"))
    proxy = worker(upstream(telephony).url, sideband=True)
    begin(proxy)
    telephony.wait()
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["error"]) == ("proxy", "the proxy stopped")


def test_a_call_more_than_there_may_be_is_not_joined(
    upstream: MakeUpstream, worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    running = threading.Event()
    telephony = Telephony(listening(running))
    proxy = worker(upstream(telephony).url, sideband=True, max_sessions=2)
    begin(proxy)
    assert running.wait(PATIENCE)
    begin(proxy)
    assert "call rtc_1 is not recorded: it serves its most sessions already" in caplog.text
    assert proxy.call(lambda worker: worker._counters[ERROR, "sideband"]) == 1
    proxy.stop()
    telephony.wait()


def stop_recording(worker: Any) -> bool:
    return any(one.stop_recording() for one in worker._sessions if one.describe()["server_bytes"])


def test_a_recording_that_is_stopped_keeps_nothing_more(upstream: MakeUpstream, worker: MakeWorker) -> None:
    running, stopped = threading.Event(), threading.Event()

    def behave(connection: socket.socket, head: bytes) -> None:
        connection.sendall(accepted(head) + frame(Opcode.TEXT, CREATED_EVENT))
        running.set()
        assert stopped.wait(PATIENCE)
        connection.sendall(frame(Opcode.TEXT, b'{"type":"secret"}'))

    telephony = Telephony(behave)
    proxy = worker(upstream(telephony).url, sideband=True)
    begin(proxy)
    assert running.wait(PATIENCE)
    while not proxy.call(stop_recording):
        pass
    stopped.set()
    telephony.wait()
    gone(proxy)
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert closed["left_out"] == {"client_bytes": 0, "server_bytes": 19}
    assert closed["recording_stopped"] == "stopped by request"
    assert b"secret" not in b"".join(record.data for record in proxy.records())


def test_silence_can_be_too_long(upstream: MakeUpstream, worker: MakeWorker) -> None:
    def behave(connection: socket.socket, head: bytes) -> None:
        connection.sendall(accepted(head))
        assert read_to_end(connection)[:1] == b"\x88"

    telephony = Telephony(behave)
    proxy = worker(upstream(telephony).url, sideband=True, idle_timeout_seconds=0.1)
    begin(proxy)
    telephony.wait()
    gone(proxy)
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["close_code"], closed["error"]) == ("proxy", 1000, "idle for 0.1 s")


@pytest.mark.parametrize("reset", [False, True])
def test_an_upstream_that_just_goes(upstream: MakeUpstream, worker: MakeWorker, reset: bool) -> None:
    def behave(connection: socket.socket, head: bytes) -> None:
        connection.sendall(accepted(head) + frame(Opcode.TEXT, CREATED_EVENT) + frame(Opcode.PING))
        assert read_exactly(connection, 6)[:2] == b"\x8a\x80"
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    telephony = Telephony(behave)
    proxy = worker(upstream(telephony).url, sideband=True)
    begin(proxy)
    telephony.wait()
    gone(proxy)
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["first_end"]) == ("lost", "upstream")
    assert closed["error"] == ("Connection reset by peer" if reset else None)
