"""How a sideband connection ends, and what it may not hold up: through real sockets."""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from websockets.frames import Close, Opcode

from recorder.protocol.envelope import RecordKind
from recorder.proxy import sideband
from recorder.store.counters import ERROR
from tests.proxy.conftest import PATIENCE, RunningWorker, Scripted, read_exactly, read_to_end
from tests.proxy.telephony import CREATED_EVENT, Telephony, accepted, frame, refuse
from tests.proxy.test_sideband import begin, events, gone

MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sideband, "RETRY_SECONDS", (0.01, 0.01, 0.01))


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
def test_an_upstream_that_just_goes(
    upstream: MakeUpstream, worker: MakeWorker, caplog: pytest.LogCaptureFixture, reset: bool
) -> None:
    """The call may well go on, and nobody would know that it is not recorded any more."""

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
    assert proxy.call(lambda worker: worker._counters[ERROR, "sideband"]) == 1
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["first_end"]) == ("lost", "upstream")
    assert closed["error"] == ("Connection reset by peer" if reset else None)
    why = "Connection reset by peer" if reset else "the upstream ended the connection without a Close"
    assert f"call rtc_1 is recorded no further: {why}" in caplog.text
