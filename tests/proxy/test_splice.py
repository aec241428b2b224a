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

from recorder.protocol.envelope import RecordKind
from tests.proxy.conftest import (
    ACCEPT,
    UPGRADE,
    RunningWorker,
    Scripted,
    accept,
    read_exactly,
    read_head,
    read_to_end,
    take,
    upgrade,
)

MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]


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


def test_recording_can_be_off(upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        connection.sendall(read_exactly(connection, 4))

    proxy = worker(upstream(behave).url, recording=False)
    with upgrade(proxy) as client:
        client.sendall(b"echo")
        assert read_exactly(client, 4) == b"echo"
    assert proxy.records() == []
