"""1xx answers before the upgrade's own reach the client when the upstream gives them, not with what comes after."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from recorder.protocol.envelope import RecordKind
from tests.proxy.conftest import ACCEPT, PATIENCE, UPGRADE, RunningWorker, Scripted, read_head, read_to_end

MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink:  </a>; rel=preload\r\nLink: </b>\r\n\r\n"
REFUSAL = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}"
FRAME = b"\x82\x02hi"


def answering(*parts: bytes, step: threading.Event | None = None) -> Callable[[socket.socket], None]:
    """An upstream that sends a part after the other, each once the client has read the one before."""

    def behave(connection: socket.socket) -> None:
        read_head(connection)
        for number, part in enumerate(parts):
            if number and step is not None:
                assert step.wait(PATIENCE)
                step.clear()
            connection.sendall(part)

    return behave


@pytest.mark.parametrize("final", [ACCEPT, REFUSAL])
def test_each_is_there_before_the_next_is_sent(upstream: MakeUpstream, worker: MakeWorker, final: bytes) -> None:
    step = threading.Event()
    server = upstream(answering(CONTINUE, HINTS, final, step=step))
    with worker(server.url).connect() as client:
        client.sendall(UPGRADE)
        for part in (CONTINUE, HINTS):
            assert read_head(client) == part
            step.set()
        assert read_to_end(client) == final


@pytest.mark.parametrize("cut", range(1, len(HINTS + CONTINUE + ACCEPT), 23))
def test_they_pass_as_they_are_however_they_are_cut(upstream: MakeUpstream, worker: MakeWorker, cut: int) -> None:
    sent = HINTS + CONTINUE + ACCEPT + FRAME
    proxy = worker(upstream(answering(sent[:cut], sent[cut:])).url)
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        assert read_to_end(client) == sent
    (accepted,) = proxy.facts(RecordKind.ACCEPTED)
    assert (accepted["status"], accepted["interim_statuses"]) == (101, [103, 100])
    assert accepted["headers"][0] == ["Upgrade", "websocket"]
    assert proxy.tapped(RecordKind.SERVER_BYTES) == FRAME
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["client_bytes"], closed["server_bytes"]) == (0, len(FRAME))


def test_one_that_stands_before_a_refusal_is_on_record(upstream: MakeUpstream, worker: MakeWorker) -> None:
    proxy = worker(upstream(answering(HINTS + REFUSAL)).url)
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        assert read_to_end(client) == HINTS + REFUSAL
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["status"], closed["interim_statuses"]) == ("upstream", 401, [103])


@pytest.mark.parametrize(
    ("then", "status"),
    [(b"", b"502"), (b"garbage\r\n\r\n", b"502"), (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, b"502")],
)
def test_what_comes_of_one_with_no_answer_behind(
    upstream: MakeUpstream, worker: MakeWorker, then: bytes, status: bytes
) -> None:
    proxy = worker(upstream(answering(HINTS + then)).url)
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        assert read_head(client) == HINTS
        assert read_head(client).split()[1] == status
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["status"], closed["interim_statuses"]) == ("proxy", 502, [103])


def test_silence_behind_one_is_a_504(upstream: MakeUpstream, worker: MakeWorker) -> None:
    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(HINTS)
        assert read_to_end(connection) == b""

    with worker(upstream(behave).url, handshake_timeout_seconds=0.3).connect() as client:
        client.sendall(UPGRADE)
        assert read_head(client) == HINTS
        assert read_head(client).startswith(b"HTTP/1.1 504 ")


def test_endless_ones_are_held_back_by_their_reader_and_end_in_time(upstream: MakeUpstream, worker: MakeWorker) -> None:
    """Nothing can be said in the middle of one; and of so many only the first are told of."""
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"l" * 50_000 + b"\r\n\r\n"
    held_back = threading.Event()

    def behave(connection: socket.socket) -> None:
        read_head(connection)
        with suppress(ConnectionResetError, BrokenPipeError):
            while True:
                connection.sendall(hint)
        held_back.set()

    proxy = worker(upstream(behave).url, handshake_timeout_seconds=1.0)
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        assert held_back.wait(PATIENCE)
        with pytest.raises(ConnectionResetError):
            read_to_end(client)
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["status"], closed["interim_statuses"]) == ("proxy", None, [103] * 16)
