"""An HTTP proxy between us and the upstream."""

import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from recorder.errors import UsageError
from recorder.protocol.envelope import RecordKind
from recorder.proxy.upstream import HttpProxy
from tests.proxy.conftest import ACCEPT, UPGRADE, RunningWorker, Scripted, read_exactly, read_head, read_to_end

MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]

PASSWORD = "p@ss/word-0123456789"  # percent-encoded in the URL
ENCODED = "p%40ss%2Fword-0123456789"
BASIC = "Basic bWU6cEBzcy93b3JkLTAxMjM0NTY3ODk="


class ConnectProxy:
    """What an HTTP proxy does with CONNECT; keeps the heads it got."""

    def __init__(self, *, authorization: str | None = None) -> None:
        self.heads: list[bytes] = []
        self._authorization = authorization

    def __call__(self, connection: socket.socket) -> None:
        head = read_head(connection)
        self.heads.append(head)
        if self._authorization and f"Proxy-Authorization: {self._authorization}\r\n".encode() not in head:
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        with socket.create_connection((host, int(port)), 20) as far:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            back = threading.Thread(target=pump, args=(far, connection))
            back.start()
            pump(connection, far)
            back.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def route_file(tmp_path: Path, url: str, proxy: str) -> str:
    path = tmp_path / "routes.toml"
    path.write_text(f'[[route]]\nname = "r"\nupstream = "{url}"\nproxy = "{proxy}"\n', encoding="utf-8")
    return str(path)


def through(proxy: Scripted, user: str = "") -> str:
    return proxy.url.replace("ws://", f"http://{user}")


def test_a_plain_upstream_is_reached_by_connect_too(upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path) -> None:
    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(ACCEPT + b"hello")
        assert read_exactly(connection, 300_000) == b"u" * 300_000

    connect = ConnectProxy()
    server, between = upstream(behave), upstream(connect)
    proxy = worker("ws://unused.test", config_file=route_file(tmp_path, server.url, through(between)))
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        assert read_head(client) == ACCEPT
        assert read_exactly(client, 5) == b"hello"
        client.sendall(b"u" * 300_000)
        assert read_to_end(client) == b""
    there = server.url.removeprefix("ws://").encode()
    assert connect.heads == [b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (there, there)]
    (opened,) = proxy.facts(RecordKind.OPENED)
    assert opened["upstream"] == server.url


def test_tls_is_with_the_upstream_through_the_proxy(
    upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path, certificate: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def behave(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            read_head(tls)
            tls.sendall(ACCEPT + b"hello")
            read_to_end(tls)

    connect = ConnectProxy(authorization=BASIC)
    server, between = upstream(behave), upstream(connect)
    url = server.url.replace("ws://127.0.0.1", "wss://localhost")
    file = route_file(tmp_path, url, through(between, f"me:{ENCODED}@"))
    proxy = worker("ws://unused.test", config_file=file, upstream_ca=str(certificate))
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        assert read_head(client) == ACCEPT
        assert read_exactly(client, 5) == b"hello"
    assert len(connect.heads) == 1
    records = repr(proxy.records())
    assert PASSWORD not in records
    assert BASIC not in records


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nX: y\r\n\r\n", 502, "answered 407 for 127.0.0.1:9"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", 502, "answered 502 for 127.0.0.1:9"),
        (b"HTTP/1.1 200 OK\r\n\r\nand more", 502, "answered 200 for 127.0.0.1:9"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 502, "answered 101 for 127.0.0.1:9"),
        (b"SSH-2.0-x\r\n\r\n", 502, "is not HTTP"),
        (b"", 502, "answered nothing and closed the connection"),
    ],
)
def test_a_proxy_that_will_not_is_named(  # noqa: PLR0917 - pytest names them
    upstream: MakeUpstream,
    worker: MakeWorker,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    answer: bytes,
    status: int,
    said: str,
) -> None:
    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(answer)

    between = upstream(behave)
    file = route_file(tmp_path, "ws://127.0.0.1:9", through(between, f"me:{ENCODED}@"))
    proxy = worker("ws://unused.test", config_file=file)
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")
    assert int(head.split(b" ")[1]) == status
    message = json.loads(body)["error"]["message"]
    assert f"the proxy {through(between)}" in message
    assert said in message
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["error"]) == ("proxy", message)
    for secret in (PASSWORD, ENCODED, BASIC, "me:"):
        assert secret not in f"{caplog.text} {message} {proxy.records()}"


def test_a_proxy_that_is_not_there_is_a_502(worker: MakeWorker, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    proxy = worker("ws://unused.test", config_file=route_file(tmp_path, "ws://up.test", f"http://127.0.0.1:{port}"))
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        body = read_to_end(client).partition(b"\r\n\r\n")[2]
    message = f"no connection to up.test through the proxy http://127.0.0.1:{port}: Connection refused"
    assert json.loads(body)["error"] == {
        "type": "recorder_proxy_error", "code": "upstream_unreachable", "message": message
    }  # fmt: skip


def test_a_proxy_that_says_nothing_is_a_504(upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path) -> None:
    def behave(connection: socket.socket) -> None:
        read_head(connection)
        assert read_to_end(connection) == b""

    file = route_file(tmp_path, "ws://up.test", through(upstream(behave)))
    proxy = worker("ws://unused.test", config_file=file, connect_timeout_seconds=0.2)
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        assert read_to_end(client).startswith(b"HTTP/1.1 504 ")


def test_proxies() -> None:
    proxy = HttpProxy.parse(f"http://me:{ENCODED}@[::1]:3128/", where="proxy")
    assert (proxy.host, proxy.port, proxy.authorization) == ("::1", 3128, BASIC)
    assert (str(proxy), repr(proxy)) == ("http://[::1]:3128", "HttpProxy(http://[::1]:3128)")
    assert HttpProxy.parse("proxy.test", where="proxy") == HttpProxy("proxy.test", 80)
    for url in ("https://h", "socks5://h", "http://", "http://h/path", "http://h?q", "http://h:0x1"):
        with pytest.raises(UsageError, match=r"^here is "):
            HttpProxy.parse(url, where="here")


def test_plain_http_that_gets_no_connection_in_time_is_a_504_too(
    upstream: MakeUpstream, worker: MakeWorker, tmp_path: Path
) -> None:
    def behave(connection: socket.socket) -> None:
        read_head(connection)
        assert read_to_end(connection) == b""

    file = route_file(tmp_path, "ws://up.test", through(upstream(behave)))
    proxy = worker("ws://unused.test", config_file=file, handshake_timeout_seconds=0.2)
    with proxy.connect() as client:
        client.sendall(b"POST /v1/realtime/calls HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert read_to_end(client).startswith(b"HTTP/1.1 504 ")
