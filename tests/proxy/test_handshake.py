import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from recorder.protocol.envelope import RecordKind
from tests.proxy.conftest import (
    ACCEPT,
    UPGRADE,
    RunningWorker,
    Scripted,
    exchange,
    read_exactly,
    read_head,
    read_to_end,
)

MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]

SECRET = "sk-proj-very-secret-0123456789"


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def test_a_request_is_forwarded_as_it_is_but_for_host(upstream: MakeUpstream, worker: MakeWorker) -> None:
    heads: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        heads.append(read_head(connection))
        connection.sendall(ACCEPT)
        read_to_end(connection)

    server = upstream(behave)
    request = (
        b"GET /openai/realtime?deployment=d%20x&api-version=2025-08-28 HTTP/1.1\r\n"
        b"X-first: 1\r\nhOsT: app.test\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key." + SECRET.encode() + b"\r\n"
        b"api-key: " + SECRET.encode() + b"\r\nX-twice: a\r\nX-twice: b\r\n\r\n"
    )
    with worker(server.url).connect() as client:
        client.sendall(request)
        assert read_head(client) == ACCEPT
    server.stop()
    assert heads == [request.replace(b"hOsT: app.test", b"hOsT: " + server.url.removeprefix("ws://").encode())]


def test_an_upstream_may_have_a_path_of_its_own(upstream: MakeUpstream, worker: MakeWorker) -> None:
    heads: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        heads.append(read_head(connection))
        connection.sendall(ACCEPT)

    server = upstream(behave)
    with worker(server.url + "/gateway/").connect() as client:
        client.sendall(UPGRADE)
        assert read_head(client) == ACCEPT
    server.stop()
    assert heads[0].startswith(b"GET /gateway/v1/realtime?model=gpt-realtime HTTP/1.1\r\n")


def test_no_secret_reaches_the_ring(upstream: MakeUpstream, worker: MakeWorker) -> None:
    def behave(connection: socket.socket) -> None:
        assert SECRET.encode() in read_head(connection)
        connection.sendall(ACCEPT)

    proxy = worker(upstream(behave).url)
    with proxy.connect() as client:
        client.sendall(
            b"GET /v1/realtime?model=m&api-key=" + SECRET.encode() + b" HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nAuthorization: Bearer " + SECRET.encode() + b"\r\n"
            b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key." + SECRET.encode() + b"\r\n"
            b"X-Api-Key: " + SECRET.encode() + b"\r\nCookie: session=" + SECRET.encode() + b"\r\n\r\n"
        )
        assert read_head(client) == ACCEPT
        assert read_to_end(client) == b""
    proxy.stop()
    assert SECRET.encode() not in proxy.reader.path.read_bytes()
    (opened,) = proxy.facts(RecordKind.OPENED)
    assert opened["request"]["target"].startswith("/v1/realtime?model=m&api-key=")
    assert ["Upgrade", "websocket"] in opened["request"]["headers"]


def test_what_is_recorded_of_a_session_that_opened(upstream: MakeUpstream, worker: MakeWorker) -> None:
    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(ACCEPT)

    server = upstream(behave)
    proxy = worker(server.url)
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        assert read_head(client) == ACCEPT
        assert read_to_end(client) == b""
        local = client.getsockname()
    (opened,) = proxy.facts(RecordKind.OPENED)
    assert opened["source"] == "proxy"
    assert opened["upstream"] == server.url
    assert opened["client"] == {"address": f"127.0.0.1:{local[1]}"}
    assert opened["session_id"][14] == "7"
    (accepted,) = proxy.facts(RecordKind.ACCEPTED)
    assert accepted["status"] == 101
    assert 0 < accepted["connect_seconds"] <= accepted["handshake_seconds"]
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["first_end"], closed["missed_bytes"]) == ("lost", "upstream", 0)


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found", "429 Too Many Requests"])
@pytest.mark.parametrize("length", [True, False])
def test_an_upstreams_refusal_reaches_the_client_byte_for_byte(
    upstream: MakeUpstream, worker: MakeWorker, status: str, length: bool
) -> None:
    body = b'{"error": {"message": "no"}}'
    head = f"HTTP/1.1 {status}\r\nX-request-id: r1\r\n".encode()
    head += b"Content-Length: %d\r\n\r\n" % len(body) if length else b"Connection: close\r\n\r\n"

    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(head + body[:5])
        connection.sendall(body[5:])
        if length:
            read_to_end(connection)  # a keep-alive upstream does not close of itself

    proxy = worker(upstream(behave).url)
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        assert read_to_end(client) == head + body
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["status"]) == ("upstream", int(status[:3]))
    assert 0 < closed["connect_seconds"] <= closed["handshake_seconds"]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"NONSENSE\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nBad Header : x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", b"400"),
        (b"GET http://elsewhere/ HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: a\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000, b"431"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),  # TLS spoken to a plain port
    ],
)
def test_a_bad_request_is_answered_and_never_forwarded(worker: MakeWorker, request_bytes: bytes, status: bytes) -> None:
    line, body = exchange(worker(f"ws://127.0.0.1:{closed_port()}"), request_bytes)
    assert line.split(b" ")[1] == status
    assert json.loads(body)["error"]["type"] == "recorder_proxy_error"


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n", b"\n"])
def test_empty_lines_before_a_request_are_nothing(upstream: MakeUpstream, worker: MakeWorker, before: bytes) -> None:
    """RFC 9112 section 2.2: some clients end a body with one too many."""

    def behave(connection: socket.socket) -> None:
        assert read_head(connection).startswith(b"GET /v1/realtime")
        connection.sendall(ACCEPT)

    with worker(upstream(behave).url).connect() as client:
        client.sendall(before[:1])
        client.sendall(before[1:] + UPGRADE)
        assert read_head(client) == ACCEPT


def test_empty_lines_without_end_are_a_head_too_large(worker: MakeWorker) -> None:
    line, _ = exchange(worker(f"ws://127.0.0.1:{closed_port()}"), b"\r\n" * 40_000)
    assert line.split(b" ")[1] == b"431"


@pytest.mark.parametrize("version", [b"0.9", b"2.0", b"3.1"])
def test_other_versions_of_http_are_refused(worker: MakeWorker, version: bytes) -> None:
    """What is forwarded is of version 1, so an upstream could not tell."""
    request = UPGRADE.replace(b"HTTP/1.1", b"HTTP/" + version)
    line, body = exchange(worker(f"ws://127.0.0.1:{closed_port()}"), request)
    assert line == b"HTTP/1.1 505 HTTP Version Not Supported"
    assert json.loads(body)["error"]["type"] == "recorder_proxy_error"


def test_a_minor_version_to_come_is_taken_for_ours(upstream: MakeUpstream, worker: MakeWorker) -> None:
    def behave(connection: socket.socket) -> None:
        assert read_head(connection).startswith(b"GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\n")
        connection.sendall(ACCEPT)

    with worker(upstream(behave).url).connect() as client:
        client.sendall(UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.2"))
        assert read_head(client) == ACCEPT


def test_before_http_1_1_there_is_no_asking_for_a_websocket(upstream: MakeUpstream, worker: MakeWorker) -> None:
    """RFC 9110 section 7.8. The upstream answers as it would directly, in a form that the client reads."""
    heads: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        heads.append(read_head(connection))
        connection.sendall(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n")

    server = upstream(behave)
    proxy = worker(server.url)
    line, _ = exchange(proxy, UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert line == b"HTTP/1.1 426 Upgrade Required"
    server.stop()
    assert heads[0].startswith(b"GET /v1/realtime?model=gpt-realtime HTTP/1.0\r\n")
    assert b"Upgrade: websocket" not in heads[0]
    assert proxy.records() == []


def test_who_speaks_tls_to_a_plain_listener_learns_it_at_once(
    worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = worker(f"ws://127.0.0.1:{closed_port()}", handshake_timeout_seconds=3600.0)
    with proxy.connect() as client, pytest.raises(ssl.SSLError, match=r"WRONG_VERSION_NUMBER|HTTP_REQUEST"):
        ssl.create_default_context().wrap_socket(client, server_hostname="localhost")
    assert "the client speaks TLS, and this address does not" in caplog.text


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_an_upgrade_has_no_body_that_upstream_and_recorder_might_read_differently(
    worker: MakeWorker, framing: bytes
) -> None:
    proxy = worker(f"ws://127.0.0.1:{closed_port()}")
    status, body = exchange(proxy, UPGRADE.replace(b"Host:", framing + b"\r\nHost:") + b"hello")
    assert status == b"HTTP/1.1 400 Bad Request"
    assert json.loads(body)["error"]["message"] == "a WebSocket's request has no body"
    empty = UPGRADE.replace(b"Host:", b"Content-Length: 0\r\nHost:")
    assert exchange(proxy, empty)[0] == b"HTTP/1.1 502 Bad Gateway"


def test_no_upstream_is_a_502_and_on_record(worker: MakeWorker) -> None:
    port = closed_port()
    proxy = worker(f"ws://127.0.0.1:{port}")
    line, body = exchange(proxy, UPGRADE)
    assert line == b"HTTP/1.1 502 Bad Gateway"
    assert json.loads(body)["error"]["message"] == f"no connection to 127.0.0.1:{port}: Connection refused"
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["status"]) == ("proxy", 502)
    assert "Connection refused" in closed["error"]


def test_a_name_that_does_not_resolve_is_a_502(worker: MakeWorker) -> None:
    line, body = exchange(worker("ws://does-not-exist.invalid"), UPGRADE)
    assert line == b"HTTP/1.1 502 Bad Gateway"
    assert json.loads(body)["error"]["code"] == "upstream_unreachable"


@pytest.mark.parametrize(
    ("answer", "said"), [(b"", "nothing"), (b"garbage\r\n\r\n", "not HTTP"), (b"SSH-2.0-x\r\n", "garbage")]
)
def test_an_upstream_that_speaks_no_http_is_a_502(
    upstream: MakeUpstream, worker: MakeWorker, answer: bytes, said: str
) -> None:
    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(answer)

    line, body = exchange(worker(upstream(behave).url), UPGRADE)
    assert line == b"HTTP/1.1 502 Bad Gateway"
    assert said in json.loads(body)["error"]["message"]


def test_an_upstream_that_never_answers_is_a_504(upstream: MakeUpstream, worker: MakeWorker) -> None:
    def behave(connection: socket.socket) -> None:
        read_head(connection)
        assert read_to_end(connection) == b""

    line, body = exchange(worker(upstream(behave).url, handshake_timeout_seconds=0.2), UPGRADE)
    assert line == b"HTTP/1.1 504 Gateway Timeout"
    assert json.loads(body)["error"]["code"] == "handshake_timeout"


def test_a_request_that_never_ends_is_a_408(worker: MakeWorker) -> None:
    proxy = worker(f"ws://127.0.0.1:{closed_port()}", handshake_timeout_seconds=0.2)
    line, _ = exchange(proxy, b"GET / HTTP/1.1\r\nHost: a\r\n")
    assert line == b"HTTP/1.1 408 Request Timeout"


def test_one_session_too_many_is_a_503(upstream: MakeUpstream, worker: MakeWorker) -> None:
    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(ACCEPT)
        read_to_end(connection)

    proxy = worker(upstream(behave).url, max_sessions=1)
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        assert read_head(client) == ACCEPT
        line, _ = exchange(proxy, b"")
        assert line == b"HTTP/1.1 503 Service Unavailable"


def test_plain_http_passes_through_both_ways_and_is_not_recorded(upstream: MakeUpstream, worker: MakeWorker) -> None:
    heads: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        heads.append(read_head(connection))
        assert read_exactly(connection, 11) == b'{"session"}'
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    proxy = worker(upstream(behave).url)
    line, body = exchange(
        proxy,
        b"POST /v1/realtime/client_secrets HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n"
        b'Content-Length: 11\r\n\r\n{"session"}',
    )
    assert (line, body) == (b"HTTP/1.1 200 OK", b"{}")
    assert b"Connection: close\r\n" in heads[0]
    assert b"keep-alive" not in heads[0]
    assert proxy.records() == []


def test_tls_on_both_sides(upstream: MakeUpstream, worker: MakeWorker, certificate: Path) -> None:
    """Large messages both ways, ends and all, through TLS towards the upstream and towards the client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    got: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            read_head(tls)
            tls.sendall(ACCEPT)
            got.append(read_exactly(tls, 300_000))
            tls.sendall(b"d" * 300_000)

    server = upstream(behave)
    url = server.url.replace("ws://127.0.0.1", "wss://localhost")
    proxy = worker(url, upstream_ca=str(certificate), tls_cert=str(certificate))
    trusting = ssl.create_default_context(cafile=str(certificate))
    with trusting.wrap_socket(proxy.connect(), server_hostname="localhost") as client:
        client.sendall(UPGRADE)
        assert read_head(client) == ACCEPT
        client.sendall(b"u" * 300_000)
        assert read_to_end(client) == b"d" * 300_000
    server.stop()
    assert got == [b"u" * 300_000]
    assert proxy.tapped(RecordKind.CLIENT_BYTES) == b"u" * 300_000
    assert proxy.tapped(RecordKind.SERVER_BYTES) == b"d" * 300_000


def test_an_upstream_certificate_that_is_not_trusted_is_a_502(
    upstream: MakeUpstream, worker: MakeWorker, certificate: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def behave(connection: socket.socket) -> None:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)

    url = upstream(behave).url.replace("ws://127.0.0.1", "wss://localhost")
    line, body = exchange(worker(url), UPGRADE)
    assert line == b"HTTP/1.1 502 Bad Gateway"
    assert json.loads(body)["error"]["code"] == "upstream_tls_failed"
