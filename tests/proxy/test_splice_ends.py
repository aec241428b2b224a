"""How a splice is brought to its end: by the proxy, by time, by silence."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable

import pytest
from websockets.frames import Close, Frame, Opcode

from recorder.protocol.envelope import RecordKind
from recorder.protocol.frames import FrameDecoder
from tests.proxy.conftest import (
    RunningWorker,
    Scripted,
    accept,
    read_exactly,
    read_to_end,
    upgrade,
)

MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]


def frame(opcode: Opcode, data: bytes, *, mask: bool) -> bytes:
    return Frame(opcode, data).serialize(mask=mask)


GOODBYE = Close(1001, "the proxy is shutting down").serialize()


def test_stopping_tells_both_sides_between_frames_and_keeps_what_they_answer(
    upstream: MakeUpstream, worker: MakeWorker
) -> None:
    """Neither has said anything since the drain began, so a frame may stand where the streams are."""
    answer = frame(Opcode.CLOSE, GOODBYE, mask=True)
    heard: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        accept(connection)
        heard.append(read_to_end(connection))

    server = upstream(behave)
    proxy = worker(server.url)
    with upgrade(proxy) as client:
        client.sendall(frame(Opcode.TEXT, b"{}", mask=True))
        stopping = threading.Thread(target=proxy.stop)
        stopping.start()
        goodbye = frame(Opcode.CLOSE, GOODBYE, mask=False)
        assert read_exactly(client, len(goodbye)) == goodbye
        client.sendall(answer)
        client.close()
        stopping.join()
    server.stop()
    decoder = FrameDecoder("client")
    assert [message.opcode for message in decoder.feed(heard[0])] == [Opcode.TEXT, Opcode.CLOSE]
    assert proxy.tapped(RecordKind.CLIENT_BYTES).endswith(answer)
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["close_code"], closed["error"]) == ("proxy", 1001, "the proxy stopped")


@pytest.mark.parametrize(("cut", "told"), [(0, True), (3, False)])
def test_no_close_is_put_into_the_middle_of_a_frame(
    upstream: MakeUpstream, worker: MakeWorker, *, cut: int, told: bool
) -> None:
    """While the proxy drains the server sends one frame, whole or in part; then the time is up."""
    sent = frame(Opcode.TEXT, b'{"type":"session.updated"}', mask=False)
    sent = sent[: len(sent) - cut]
    speak = threading.Event()

    def behave(connection: socket.socket) -> None:
        accept(connection)
        speak.wait(20)
        connection.sendall(sent)
        read_to_end(connection)

    proxy = worker(upstream(behave).url, drain_seconds=0.5)
    with upgrade(proxy) as client:
        stopping = threading.Thread(target=proxy.stop)
        stopping.start()
        while proxy.accepts():
            time.sleep(0.01)
        speak.set()
        assert read_to_end(client) == sent + (frame(Opcode.CLOSE, GOODBYE, mask=False) if told else b"")
    stopping.join()


def test_nothing_is_put_into_a_stream_that_flows_when_time_is_up_at_once(
    upstream: MakeUpstream, worker: MakeWorker
) -> None:
    """With no time to drain, a pause between two chunks of one frame must not pass for silence."""
    speaking = threading.Event()
    said = bytearray()

    def behave(connection: socket.socket) -> None:
        accept(connection)
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"%08d" % len(said))
                said.extend(b"%08d" % len(said))
                speaking.set()
                time.sleep(0.01)  # the pace of the stream

    server = upstream(behave)
    proxy = worker(server.url, drain_seconds=0.0)
    with upgrade(proxy) as client:
        assert speaking.wait(20)
        stopping = threading.Thread(target=proxy.stop)
        stopping.start()
        heard = read_to_end(client)
    stopping.join()
    server.stop()
    assert len(heard) > 8
    assert bytes(said).startswith(heard)
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["close_code"]) == ("proxy", 1001)  # the upstream could be told


def test_running_sessions_go_on_while_the_proxy_drains(upstream: MakeUpstream, worker: MakeWorker) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        connection.sendall(read_exactly(connection, 5))

    proxy = worker(upstream(behave).url, drain_seconds=20)
    with upgrade(proxy) as client:
        stopping = threading.Thread(target=proxy.stop)
        stopping.start()
        while proxy.accepts():
            time.sleep(0.01)
        client.sendall(b"still")
        assert read_to_end(client) == b"still"
    stopping.join()
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert closed["first_end"] == "upstream"


@pytest.mark.parametrize(
    ("settings_", "error"),
    [({"idle_timeout_seconds": 0.1}, "idle for 0.1 s"), ({"half_open_seconds": 0.1}, "half-closed for 0.1 s")],
)
def test_silence_has_limits(
    upstream: MakeUpstream, worker: MakeWorker, settings_: dict[str, float], error: str
) -> None:
    ended = threading.Event()

    def behave(connection: socket.socket) -> None:
        accept(connection)
        if "half_open_seconds" in settings_:
            connection.shutdown(socket.SHUT_WR)
        read_to_end(connection)
        ended.set()

    proxy = worker(upstream(behave).url, **settings_)
    with upgrade(proxy) as client:
        assert read_to_end(client) == b""
        assert ended.wait(20)
        (closed,) = proxy.facts(RecordKind.CLOSED)
    assert closed["error"] == error
