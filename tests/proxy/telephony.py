"""An upstream for calls that go past the proxy: says where a call is, and what is said on its sideband connection."""

import socket
import threading
from collections.abc import Callable

from websockets.frames import Close, Frame, Opcode
from websockets.utils import accept_key

from tests.proxy.conftest import PATIENCE, read_exactly, read_head, read_to_end

KEY = "ek_0123456789abcdefghij"
OFFER = b"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n"
CREATED = (
    b"HTTP/1.1 201 Created\r\nLocation: /v1/realtime/calls/rtc_1\r\nContent-Type: application/sdp\r\n"
    b"Content-Length: 6\r\nConnection: close\r\n\r\nanswer"
)
CREATED_EVENT = b'{"type":"session.created","session":{"id":"sess_1","model":"gpt-realtime"}}'


def offer(path: str = "/v1/realtime/calls?model=gpt-realtime", headers: str = "") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/sdp\r\n{headers}"
    )
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(OFFER) + OFFER


def frame(opcode: Opcode, data: bytes = b"") -> bytes:
    return Frame(opcode, data).serialize(mask=False)


def accepted(head: bytes) -> bytes:
    (key,) = (line.partition(b": ")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key.decode()).encode() + b"\r\n\r\n"
    )


class Telephony:
    """An upstream: answers what begins a call, then each attempt to join as told; keeps what it was sent.

    Args:
        joined: what happens on a sideband connection, after its head was read.
        created: the answer to what begins a call.
    """

    def __init__(self, *joined: Callable[[socket.socket, bytes], None], created: bytes = CREATED) -> None:
        self._joined = list(joined)
        self._created = created
        self.posts: list[bytes] = []
        self.heads: list[bytes] = []
        self.came = threading.Semaphore(0)

    def __call__(self, connection: socket.socket) -> None:
        head = read_head(connection)
        if head.startswith(b"POST "):
            self.posts.append(head + read_exactly(connection, len(OFFER)))
            connection.sendall(self._created)
            return
        self.heads.append(head)
        behave = self._joined.pop(0)
        behave(connection, head)
        self.came.release()

    def wait(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.came.acquire(timeout=PATIENCE)


def refuse(status: str) -> Callable[[socket.socket, bytes], None]:
    def behave(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    return behave


def talk(connection: socket.socket, head: bytes) -> None:
    """A whole call: an event with the head, a ping, a Close whose answer is awaited."""
    connection.sendall(accepted(head) + frame(Opcode.TEXT, CREATED_EVENT))
    connection.sendall(frame(Opcode.PING, b"are you there"))
    assert read_exactly(connection, 19)[:2] == b"\x8a\x8d"
    connection.sendall(frame(Opcode.CLOSE, Close(1000, "call ended").serialize()))
    assert read_exactly(connection, 8)[:2] == b"\x88\x82"
    assert read_to_end(connection) == b""
