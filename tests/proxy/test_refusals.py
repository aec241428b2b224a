"""Refusals arrive whole: the upstream's to its own end, and ours although the client is still sending."""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from recorder.protocol.envelope import RecordKind
from recorder.proxy import sockets
from recorder.proxy.config import WorkerConfig
from recorder.store.counters import REFUSED
from tests.proxy.conftest import ACCEPT, UPGRADE, RunningWorker, Scripted, accept, read_head, read_to_end
from tests.proxy.fault_stage import eventually

MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]

CHUNKED_REFUSAL = (
    b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n"
    b'6\r\n{"no":\r\n2\r\n1}\r\n0\r\n\r\n'
)


@pytest.mark.parametrize("cut", [1, 40, 86, 90, len(CHUNKED_REFUSAL) - 1, len(CHUNKED_REFUSAL)])
def test_a_refusal_in_chunks_ends_where_its_last_chunk_does(
    upstream: MakeUpstream, worker: MakeWorker, cut: int
) -> None:
    def refuse(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(CHUNKED_REFUSAL[:cut])
        connection.sendall(CHUNKED_REFUSAL[cut:])
        assert connection.recv(1) == b""  # it would go on to be used

    proxy = worker(upstream(refuse).url)
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        assert read_to_end(client) == CHUNKED_REFUSAL
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["status"], closed["error"]) == ("upstream", 401, None)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_refusal_without_a_body_ends_with_its_head(upstream: MakeUpstream, worker: MakeWorker, status: str) -> None:
    answer = f"HTTP/1.1 {status}\r\n\r\n".encode()

    def refuse(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(answer)
        assert connection.recv(1) == b""

    with worker(upstream(refuse).url).connect() as client:
        client.sendall(UPGRADE)
        assert read_to_end(client) == answer


def test_a_refusal_whose_chunks_are_none_goes_on_to_its_end(upstream: MakeUpstream, worker: MakeWorker) -> None:
    answer = b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n" + b"x" * 100_000

    def refuse(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(answer)

    with worker(upstream(refuse).url).connect() as client:
        client.sendall(UPGRADE)
        assert read_to_end(client) == answer


def test_one_too_many_gets_its_answer_whatever_it_was_about_to_say(upstream: MakeUpstream, worker: MakeWorker) -> None:
    proxy = worker(upstream(accept).url, max_sessions=1)
    with proxy.connect() as first:
        first.sendall(UPGRADE[:10])
        eventually(lambda: proxy.call(lambda one: len(one._sessions) == 1), "the first is served")
        with proxy.connect() as second:
            second.sendall(b"x" * 100_000)  # never read as a request: a close on it would be a reset
            assert read_head(second).startswith(b"HTTP/1.1 503 ")
            second.sendall(b"y")
            second.shutdown(socket.SHUT_WR)
            assert b"too_many_sessions" in read_to_end(second)


def test_handshakes_of_tls_are_bounded_as_sessions_are(worker: MakeWorker, certificate: Path) -> None:
    proxy = worker("ws://127.0.0.1:9", max_sessions=2, tls_cert=str(certificate))
    with proxy.connect() as first, proxy.connect() as second:
        eventually(lambda: proxy.call(lambda one: len(one._tasks) == 2), "two say nothing")
        with proxy.connect() as third:
            assert third.recv(1) == b""
        first.close()
        eventually(lambda: proxy.call(lambda one: len(one._tasks) == 1), "there is room")
        with proxy.connect() as fourth:
            eventually(lambda: proxy.call(lambda one: len(one._tasks) == 2), "it is taken")
            fourth.sendall(b"no TLS")
            eventually(lambda: proxy.call(lambda one: len(one._tasks) == 1), "that is refused by itself")
        assert second.fileno() > 0
    counters = proxy.call(lambda one: one._counters)
    assert counters[REFUSED, "too_many_sessions"] == 1


def test_a_client_that_is_gone_when_its_answer_comes_is_lost_and_not_refused(
    upstream: MakeUpstream, worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many come and go at once its reset may not have been looked at yet."""

    async def send_all(sock: socket.socket, data: bytes) -> None:
        if data == ACCEPT:
            raise ConnectionResetError(errno.ECONNRESET, "")
        await sockets.send_all(sock, data)

    monkeypatch.setattr("recorder.proxy.session.send_all", send_all)
    proxy = worker(upstream(accept).url)
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["status"], closed["error"]) == ("lost", None, "Connection reset by peer")


def test_the_docs_say_how_long_a_head_may_be() -> None:
    text = (Path(__file__).parents[2] / "docs" / "proxy.md").read_text(encoding="utf-8")
    (default,) = (field.default for field in msgspec.structs.fields(WorkerConfig) if field.name == "max_header_bytes")
    assert f"(a head over {default >> 10} KiB) | 400, 431 or 501 |" in text
