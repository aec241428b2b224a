import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

from recorder.protocol.envelope import RecordKind
from recorder.protocol.frames import FrameDecoder
from tests.proxy.conftest import ACCEPT, UPGRADE, RunningWorker, Scripted, read_exactly, read_head, read_to_end, take

MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]


def accept(connection: socket.socket) -> None:
    assert read_head(connection).startswith(b"GET /v1/realtime")
    connection.sendall(ACCEPT)


def upgrade(worker: RunningWorker) -> socket.socket:
    client = worker.connect()
    client.sendall(UPGRADE)
    assert read_head(client) == ACCEPT
    return client


def test_bytes_pass_unchanged_and_are_tapped(upstream: MakeUpstream, worker: MakeWorker) -> None:
    got: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        accept(connection)
        got.append(read_exactly(connection, 9))
        connection.sendall(b"from upstream")
        got.append(read_to_end(connection))

    server = upstream(behave)
    proxy = worker(server.url)
    with upgrade(proxy) as client:
        client.sendall(b"to server")
        assert read_exactly(client, 13) == b"from upstream"
    server.stop()
    assert got == [b"to server", b""]
    assert proxy.tapped(RecordKind.CLIENT_BYTES) == b"to server"


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    up=st.lists(st.integers(1, 200_000), max_size=8),
    down=st.lists(st.integers(1, 200_000), max_size=8),
    seed=st.integers(0, 255),
)
def test_any_chunking_both_ways_at_once(
    tmp_path_factory: pytest.TempPathFactory, up: list[int], down: list[int], seed: int
) -> None:
    """The bytes of both directions, whatever their sizes, arrive and are tapped in full and in order."""

    def pieces(sizes: list[int], salt: int) -> list[bytes]:
        return [bytes([(seed + salt + n) % 256]) * size for n, size in enumerate(sizes)]

    received: list[bytes] = []

    def send(connection: socket.socket) -> None:
        for piece in pieces(down, 100):
            connection.sendall(piece)

    def behave(connection: socket.socket) -> None:
        accept(connection)
        sender = threading.Thread(target=send, args=(connection,))
        sender.start()
        received.append(read_to_end(connection))
        sender.join()

    server = Scripted(behave)
    proxy = RunningWorker(server.url, tmp_path_factory.mktemp("proxy"))
    try:
        with upgrade(proxy) as client:
            got: list[bytes] = []
            reader = threading.Thread(target=lambda: got.append(read_to_end(client)))
            reader.start()
            for piece in pieces(up, 0):
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            reader.join()
        assert got == [b"".join(pieces(down, 100))]
        server.stop()
        assert received == [b"".join(pieces(up, 0))]
        records = proxy.records()
        for kind, sent in ((RecordKind.CLIENT_BYTES, received), (RecordKind.SERVER_BYTES, got)):
            assert b"".join(record.data for record in records if record.kind == kind) == sent[0]
        assert [record.kind for record in records[:2]] == [RecordKind.OPENED, RecordKind.ACCEPTED]
        assert records[-1].kind == RecordKind.CLOSED
    finally:
        server.stop()
        proxy.stop()
        proxy.reader.close(remove=True)


def test_what_comes_with_a_head_is_not_lost(upstream: MakeUpstream, worker: MakeWorker) -> None:
    """Servers send session.created in the packet of their 101; hasty clients send events with their request."""
    got: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(ACCEPT + b"session.created")
        got.append(read_to_end(connection))

    server = upstream(behave)
    proxy = worker(server.url)
    with proxy.connect() as client:
        client.sendall(UPGRADE + b"early")
        assert read_head(client) == ACCEPT
        assert read_exactly(client, 15) == b"session.created"
    server.stop()
    assert got == [b"early"]
    kinds = [record.kind for record in proxy.records()]
    assert kinds == [
        RecordKind.OPENED,
        RecordKind.ACCEPTED,
        RecordKind.CLIENT_BYTES,
        RecordKind.SERVER_BYTES,
        RecordKind.CLOSED,
    ]


def test_a_fin_passes_in_its_direction_alone(upstream: MakeUpstream, worker: MakeWorker) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        assert read_to_end(connection) == b"last words"
        connection.sendall(b"answer after the client's end")

    proxy = worker(upstream(behave).url)
    with upgrade(proxy) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b"answer after the client's end"


@pytest.mark.parametrize("party", ["client", "upstream"])
def test_a_reset_passes_as_a_reset_after_all_that_was_said(
    upstream: MakeUpstream, worker: MakeWorker, party: str
) -> None:
    said = b"x" * 100_000
    seen: list[bytes | str] = []
    ready, done = threading.Event(), threading.Event()

    def reset(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def listen_to(sock: socket.socket) -> None:
        seen.append(read_exactly(sock, len(said)))
        ready.set()
        try:
            sock.recv(1)
            seen.append("end")
        except ConnectionResetError:
            seen.append("reset")

    def behave(connection: socket.socket) -> None:
        accept(connection)
        if party == "upstream":
            connection.sendall(said)
            ready.wait(20)
            reset(connection)
        else:
            listen_to(connection)
        done.set()

    proxy = worker(upstream(behave).url)
    client = upgrade(proxy)
    if party == "client":
        client.sendall(said)
        ready.wait(20)
        reset(client)
        done.wait(20)
    else:
        listen_to(client)
        client.close()
    assert seen == [said, "reset"]
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["first_end"], closed["error"]) == (party, "Connection reset by peer")


@pytest.mark.parametrize("slow", ["client", "upstream"])
def test_a_peer_that_does_not_read_holds_the_other_back_and_loses_nothing(
    upstream: MakeUpstream, worker: MakeWorker, slow: str
) -> None:
    """The sender is stopped by TCP after what kernels and one chunk hold; all arrives once the peer reads again."""
    amount = 64 << 20
    sent_before_reading: list[int] = []
    full, read_on = threading.Event(), threading.Event()

    def flood(sock: socket.socket) -> None:
        sock.setblocking(False)
        block = bytes(range(256)) * 256
        sent, stalled = 0, 0
        while sent < amount:
            try:
                sent += sock.send(block[sent % 256 :][: amount - sent])
                stalled = 0
            except BlockingIOError:
                stalled += 1
                if stalled == 40 and not full.is_set():
                    sent_before_reading.append(sent)
                    full.set()
                time.sleep(0.005)  # what is awaited here is that nothing happens
        sock.setblocking(True)
        sock.settimeout(20)
        sock.shutdown(socket.SHUT_WR)

    def check(sock: socket.socket) -> None:
        full.wait(20)
        got = read_to_end(sock)
        assert len(got) == amount
        assert got == (bytes(range(256)) * (amount // 256))
        read_on.set()

    def behave(connection: socket.socket) -> None:
        accept(connection)
        (flood if slow == "client" else check)(connection)
        read_on.wait(20)

    proxy = worker(upstream(behave).url, ring_bytes=1 << 20)
    with upgrade(proxy) as client:
        (check if slow == "client" else flood)(client)
        read_on.wait(20)
    assert sent_before_reading[0] < amount // 2


def test_what_the_ring_cannot_take_is_a_gap_and_is_forwarded(upstream: MakeUpstream, worker: MakeWorker) -> None:
    amount = 3 << 20

    def behave(connection: socket.socket) -> None:
        accept(connection)
        connection.sendall(b"s" * amount)
        assert read_to_end(connection) == b"after"

    proxy = worker(upstream(behave).url, ring_bytes=1 << 20)
    with upgrade(proxy) as client:
        assert read_exactly(client, amount) == b"s" * amount
        records = take(proxy.reader)
        client.sendall(b"after")
    records += proxy.records()
    stored = sum(len(record.data) for record in records if record.kind == RecordKind.SERVER_BYTES)
    gaps = [record.data for record in records if record.kind == RecordKind.GAP]
    assert stored < 1 << 20
    assert gaps == [b'{"direction":"server","bytes":%d,"reason":"ring full"}' % (amount - stored)]
    assert [record.data for record in records if record.kind == RecordKind.CLIENT_BYTES] == [b"after"]


def test_sessions_do_not_mix(upstream: MakeUpstream, worker: MakeWorker) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(65536):
                connection.sendall(data)

    proxy = worker(upstream(behave).url)
    clients = [upgrade(proxy) for _ in range(30)]
    for turn, (number, client) in itertools.product(range(5), enumerate(clients)):
        client.sendall(b"%d:%d" % (number, turn))
        assert read_exactly(client, len(b"%d:%d" % (number, turn))) == b"%d:%d" % (number, turn)
    for client in clients:
        client.close()
    by_session: dict[int, bytes] = {}
    for record in proxy.records():
        if record.kind == RecordKind.SERVER_BYTES:
            by_session[record.session_no] = by_session.get(record.session_no, b"") + record.data
    expected = {b"".join(b"%d:%d" % (number, turn) for turn in range(5)) for number in range(30)}
    assert set(by_session.values()) == expected


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


def test_recording_can_be_off(upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        connection.sendall(read_exactly(connection, 4))

    proxy = worker(upstream(behave).url, recording=False)
    with upgrade(proxy) as client:
        client.sendall(b"echo")
        assert read_exactly(client, 4) == b"echo"
    assert proxy.records() == []
