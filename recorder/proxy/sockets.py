"""Awaitable reads and writes on the non-blocking sockets that will become a splice.

asyncio's own socket calls refuse TLS sockets, and its transports would put a buffer and a protocol between us and the
descriptor that the splice is to own. These few functions drive a plain or TLS socket directly.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import socket
import ssl
import struct
import termios
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

CHUNK = 65536
_RESET_PATIENCE_SECONDS: Final = 5.0
_NO_LINGERING: Final = struct.pack("ii", 1, 0)
WANTS_READ = (BlockingIOError, ssl.SSLWantReadError)
WANTS_WRITE = (ssl.SSLWantWriteError,)


async def _when_ready(sock: socket.socket, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    fd = sock.fileno()

    def on_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    add(fd, on_ready)
    try:
        await ready
    finally:
        remove(fd)


async def _attempt(sock: socket.socket, call: Callable[[], T], *, writing: bool) -> T:
    while True:
        try:
            return call()
        except BlockingIOError:
            await _when_ready(sock, writing=writing)
        except ssl.SSLWantReadError:
            await _when_ready(sock, writing=False)
        except ssl.SSLWantWriteError:
            await _when_ready(sock, writing=True)


async def receive(sock: socket.socket) -> bytes:
    """Some bytes, or b"" at the end of the stream. Raises OSError as the socket does."""
    return await _attempt(sock, lambda: sock.recv(CHUNK), writing=False)


async def send_all(sock: socket.socket, data: bytes) -> None:
    """Send everything. Raises OSError as the socket does."""
    view = memoryview(data)
    while view:
        rest = view
        sent = await _attempt(sock, lambda rest=rest: sock.send(rest), writing=True)  # type: ignore[misc]
        view = view[sent:]


async def start_tls(
    sock: socket.socket, context: ssl.SSLContext, *, server_hostname: str | None = None, server_side: bool = False
) -> ssl.SSLSocket:
    """TLS over a connected socket. Raises ssl.SSLError, OSError; the socket is then closed."""
    try:
        tls = context.wrap_socket(
            sock, server_side=server_side, server_hostname=server_hostname, do_handshake_on_connect=False
        )
    except BaseException:
        sock.close()
        raise
    try:
        await _attempt(tls, tls.do_handshake, writing=False)
    except BaseException:
        tls.close()
        raise
    return tls


def reset_on_close(sock: socket.socket) -> None:
    """Make `close` a reset, which discards what was not sent yet."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)


def end_sending(sock: socket.socket) -> None:
    """Tell the peer that no more comes: FIN, over TLS its close_notify first. What it still says can be received."""
    with contextlib.suppress(OSError, ValueError):
        if isinstance(sock, ssl.SSLSocket):
            _send_close_notify(sock)
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_WR)  # SSLSocket's own would make it forget its TLS


def _send_close_notify(sock: ssl.SSLSocket) -> None:
    """Send TLS's end of stream and read nothing.

    `unwrap` does more: it also looks for the peer's end, and discards data that comes before that. So for as long as
    it takes, the descriptor is that of a socket pair with nothing to read, from which the alert is then taken.
    """
    inner, outer = socket.socketpair()
    with inner, outer, socket.fromfd(sock.fileno(), sock.family, sock.type) as real:
        inner.setblocking(False)
        os.dup2(inner.fileno(), sock.fileno(), inheritable=False)
        try:
            with contextlib.suppress(ssl.SSLWantReadError):
                sock.unwrap()
        finally:
            os.dup2(real.fileno(), sock.fileno(), inheritable=False)
        outer.setblocking(False)
        real.setblocking(False)
        real.send(outer.recv(CHUNK))


async def connect(host: str, port: int) -> socket.socket:
    """A connected, non-blocking TCP socket: the host's addresses in turn.

    Raises:
        OSError: the last address's failure, or that the name has none (socket.gaierror).
    """
    loop = asyncio.get_running_loop()
    problem: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            problem = error
        except BaseException:
            sock.close()
            raise
        else:
            return prepare(sock)
    raise problem or OSError(f"{host} has no address")


def prepare(sock: socket.socket) -> socket.socket:
    """Settings of every socket of a splice: no Nagle delay, dead peers found."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock


def words_for(error: OSError) -> str:
    """What an error means: the system's own words where it has a number, for asyncio replaces them by an address."""
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return (error.strerror or str(error)).partition(" (while attempting")[0]  # what `socket.create_server` adds


async def reset_when_sent(sock: socket.socket) -> None:
    """Close with a reset, but not before what was sent has left: a reset would discard it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _RESET_PATIENCE_SECONDS
    unsent = array.array("i", [0])
    try:
        while loop.time() < deadline:
            fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, unsent)
            if not unsent[0]:
                break
            await asyncio.sleep(0.01)
    except OSError:
        pass
    finally:
        reset_on_close(sock)
        sock.close()
