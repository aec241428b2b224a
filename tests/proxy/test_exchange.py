"""Plain HTTP: one request a connection, and nothing of a second is ever forwarded."""

import itertools
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.proxy.exchange import Answer, RequestBody
from recorder.proxy.http import RefusedError, Request, Response
from tests.proxy.conftest import PATIENCE, RunningWorker, Scripted, read_exactly, read_head, read_to_end

MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
SECOND = b"GET /admin HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer smuggled\r\n\r\n"
CHUNKS = b"5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nX-Trailer: t\r\n\r\n"
REFRAMED = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"


def request(*headers: str, rest: bytes = b"", method: str = "POST") -> Request:
    pairs = [tuple(header.split(": ", 1)) for header in ("Host: a", *headers)]
    return Request(method, "/v1/x", [(name, value) for name, value in pairs], rest)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:stop] for start, stop in itertools.pairwise(places)]


@given(st.lists(st.integers(0, 200), max_size=8), st.binary(max_size=20))
def test_a_body_of_a_known_length_passes_and_no_more(cuts: list[int], more: bytes) -> None:
    first, *others = pieces(b"hello world" + SECOND + more, cuts)
    body = RequestBody(request("Content-Length: 11", rest=first), 65536)
    assert body.first + b"".join(map(body.feed, others)) + body.end() == b"hello world"


@given(st.lists(st.integers(0, 200), max_size=8))
def test_chunks_are_framed_anew_and_nothing_follows_the_last(cuts: list[int]) -> None:
    first, *others = pieces(CHUNKS + SECOND, cuts)
    body = RequestBody(request("Transfer-Encoding: chunked", rest=first), 65536)
    passed = body.first + b"".join(map(body.feed, others))
    assert passed.endswith(b"\r\n0\r\n\r\n")
    again = RequestBody(request("Transfer-Encoding: chunked", rest=passed), 65536)
    assert again.first == passed
    if not cuts:
        assert passed == REFRAMED


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD", "OPTIONS"])
def test_what_announces_no_body_has_none(method: str) -> None:
    body = RequestBody(request(rest=SECOND, method=method), 65536)
    assert (body.first, body.feed(SECOND)) == (b"", b"")


BAD_CHUNKS = [
    b"-1\r\nx\r\n",
    b"0x5\r\nhello\r\n",
    b"5\r\nhelloX\r\n",
    b"ffffffffffffffffffffff\r\n",
    b" 5\r\nhello\r\n",
    b"\r\n",
]


@pytest.mark.parametrize("bad", BAD_CHUNKS)
def test_a_malformed_chunk_ends_it(bad: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        RequestBody(request("Transfer-Encoding: chunked", rest=bad), 65536)
    assert refused.value.status == 400
    body = RequestBody(request("Transfer-Encoding: chunked", rest=b"1\r\na\r\n"), 65536)
    with pytest.raises(ConnectionAbortedError):
        body.feed(bad)


def test_a_chunks_header_has_a_ceiling() -> None:
    body = RequestBody(request("Transfer-Encoding: chunked"), 100)
    with pytest.raises(ConnectionAbortedError):
        body.feed(b"5;" + b"x" * 300)


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        (OK, OK),
        (OK.replace(b"close", b"Keep-Alive, CLOSE"), OK.replace(b"close", b"Keep-Alive, CLOSE")),
        (
            b"HTTP/1.1 201 Created\r\nconnection: keep-alive\r\nKeep-Alive: timeout=5\r\nX-A:  b\r\n\r\nbody\r\n\r\n",
            b"HTTP/1.1 201 Created\r\nX-A:  b\r\nConnection: close\r\n\r\nbody\r\n\r\n",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX-A: b\r\nConnection: keep-alive,\r\n  x-b\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"HTTP/1.1 100 Continue\r\n\r\n" + OK),
        (b"SSH-2.0\r\n\r\nwhat", b"SSH-2.0\r\n\r\nwhat"),
        (b"HTTP/1.1 200 OK\r\nX: y", b"HTTP/1.1 200 OK\r\nX: y"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500, b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500),
    ],
)
@given(cuts=st.lists(st.integers(0, 200), max_size=8))
def test_an_answer_passes_and_says_that_it_is_the_last(sent: bytes, passed: bytes, cuts: list[int]) -> None:
    heads: list[Response] = []
    answer = Answer(400, heads.append)
    assert b"".join(map(answer.feed, pieces(sent, cuts))) + answer.end() == passed
    assert len(heads) == (b"SSH" not in sent and b"X: y" not in sent)


def test_an_interim_answer_is_not_held_back() -> None:
    answer = Answer(400, lambda _: None)
    assert answer.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2") == b"HTTP/1.1 100 Continue\r\n\r\n"


# Through a worker


class Keeping:
    """An upstream that pays no heed to `Connection: close`: answers once, and keeps whatever comes."""

    def __init__(self, answer: bytes = OK) -> None:
        self.got = b""
        self._answer = answer

    def __call__(self, connection: socket.socket) -> None:
        self.got += read_head(connection)
        connection.sendall(self._answer)
        self.got += read_to_end(connection)


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + SECOND,
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + SECOND,
        b"GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n" + SECOND,
        b"GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n" + SECOND,
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello" + SECOND,
    ],
    ids=["length", "chunked", "no body", "h2c", "length twice"],
)
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "apart"])
def test_a_second_request_is_never_forwarded(
    upstream: MakeUpstream, worker: MakeWorker, sent: bytes, apart: bool
) -> None:
    keeping = Keeping()
    server = upstream(keeping)
    proxy = worker(server.url)
    with proxy.connect() as client:
        for piece in pieces(sent, [sent.index(SECOND)] if apart else []):
            client.sendall(piece)
        assert read_exactly(client, len(OK)) == OK
        if apart:
            client.sendall(SECOND)
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b""
    server.stop()
    head, _, rest = keeping.got.partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert b"pgrade" not in head
    assert rest in {b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n"}
    assert b"smuggled" not in keeping.got


def test_a_client_is_told_not_to_use_the_connection_again(upstream: MakeUpstream, worker: MakeWorker) -> None:
    server = upstream(Keeping(OK.replace(b"Connection: close", b"Connection: keep-alive")))
    with worker(server.url).connect() as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"\r\nConnection: close\r\n" in read_head(client)
        assert read_exactly(client, 2) == b"{}"


def test_a_body_streams_up_while_the_answer_streams_down(upstream: MakeUpstream, worker: MakeWorker) -> None:
    step = threading.Event()

    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert read_exactly(connection, 300_000) == b"u" * 300_000
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfirst")
        assert step.wait(PATIENCE)
        assert read_exactly(connection, 5) == b"final"
        connection.sendall(b"second")

    with worker(upstream(behave).url).connect() as client:
        client.sendall(b"POST /v1/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 300005\r\n\r\n")
        assert read_head(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"u" * 300_000)
        read_head(client)
        assert read_exactly(client, 5) == b"first"
        step.set()
        client.sendall(b"final")
        assert read_to_end(client) == b"second"


def test_both_sides_of_tls(upstream: MakeUpstream, worker: MakeWorker, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    got: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            read_head(tls)
            got.append(read_exactly(tls, 200_000))
            tls.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"d" * 200_000)

    server = upstream(behave)
    url = server.url.replace("ws://127.0.0.1", "wss://localhost")
    proxy = worker(url, upstream_ca=str(certificate), tls_cert=str(certificate))
    trusting = ssl.create_default_context(cafile=str(certificate))
    with trusting.wrap_socket(proxy.connect(), server_hostname="localhost") as client:
        client.sendall(b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"u" * 200_000 + SECOND)
        assert read_head(client) == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        assert read_to_end(client) == b"d" * 200_000
    server.stop()
    assert got == [b"u" * 200_000]


def test_a_chunk_that_breaks_later_resets_the_upstream(upstream: MakeUpstream, worker: MakeWorker) -> None:
    arrived = threading.Event()

    def behave(connection: socket.socket) -> None:
        read_head(connection)
        assert read_exactly(connection, 10) == b"5\r\nhello\r\n"
        arrived.set()
        with pytest.raises(ConnectionResetError):
            read_to_end(connection)

    with worker(upstream(behave).url).connect() as client:
        client.sendall(b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        assert arrived.wait(PATIENCE)
        client.sendall(b"zz\r\n" + SECOND)
        assert read_to_end(client) == b""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked", b"501"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked", b"501"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked", b"501"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-length: 6", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: identity", b"501"),
        (b"POST / HTTP/1.1\r\nHost: a\n\nGET /admin HTTP/1.1\r\nHost: a", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", b"400"),  # the body is no chunk
        (b"CONNECT / HTTP/1.1\r\nHost: a", b"501"),
        (b"TRACE / HTTP/1.1\r\nHost: a", b"501"),
        (b"GET /v1/..%2fadmin HTTP/1.1\r\nHost: a", b"400"),
        (b"GET /v1/%2e%2e%5Cadmin HTTP/1.1\r\nHost: a", b"400"),
        (b"GET /v1\\..\\admin HTTP/1.1\r\nHost: a", b"400"),
        (b"GET /v1#/../admin HTTP/1.1\r\nHost: a", b"400"),
    ],
)
def test_tricks_are_answered_and_not_forwarded(
    upstream: MakeUpstream, worker: MakeWorker, head: bytes, status: bytes
) -> None:
    server = upstream(lambda _: pytest.fail("it was connected to"))
    with worker(server.url).connect() as client:
        client.sendall(head + b"\r\n\r\nhello" + SECOND)
        assert read_to_end(client).split(b" ")[1] == status


@pytest.mark.parametrize(
    "head",
    [
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket, h2c\r\nHTTP2-Settings: AA\r\n"
            b"Connection: Upgrade, HTTP2-Settings"
        ),
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade",
        b"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade",
    ],
)
def test_only_a_websocket_is_an_upgrade(upstream: MakeUpstream, worker: MakeWorker, head: bytes) -> None:
    """An upstream that chose HTTP/2 instead would be spoken to by requests that nobody has looked at."""
    heads: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        heads.append(read_head(connection))
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert read_to_end(connection) == b""

    server = upstream(behave)
    with worker(server.url).connect() as client:
        client.sendall(head + b"\r\n\r\n")
        assert read_head(client).startswith(b"HTTP/1.1 101")
        client.sendall(SECOND)
        client.shutdown(socket.SHUT_WR)
        read_to_end(client)
    server.stop()
    assert b"upgrade" not in heads[0].lower()


@pytest.mark.parametrize("upgrade", [b"", b"Upgrade: websocket\r\nConnection: Upgrade\r\n"])
def test_what_is_sent_on_has_a_host(upstream: MakeUpstream, worker: MakeWorker, upgrade: bytes) -> None:
    heads: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        heads.append(read_head(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    server = upstream(behave)
    with worker(server.url).connect() as client:
        client.sendall(b"GET /v1/models HTTP/1.0\r\n" + upgrade + b"\r\n")
        read_to_end(client)
    server.stop()
    assert b"\r\nHost: " + server.url.removeprefix("ws://").encode() + b"\r\n" in heads[0]
