"""How a splice reads and writes a socket, plain or TLS, tens of thousands of times a second."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol

from recorder.store.carry import NO_ROOM, NOTHING, Carrier
from recorder.store.ring import WINDOW, Receive

Buffer = bytes | memoryview

NOT_NOW: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_TLS_RECORD: Final = 1 << 14  # RFC 8446 section 5.1; no read gives more
_TLS_BURST: Final = 1 << 17  # of records that are there together, so much is sent on at once


class Filter(Protocol):
    """What decides which bytes of one direction pass."""

    def feed(self, data: bytes) -> bytes:
        """The next bytes; gives those to tap and forward now. Raises OSError where the direction has to be reset."""

    def end(self) -> bytes:
        """There are no more; gives what is left to forward."""


def _tls_of(sock: ssl.SSLSocket) -> Any:
    """The TLS connection itself: `read(most, buffer)` and `write(data)` of it are what the socket's own methods call.

    They do so after checks that, at each message, take as long as half of what the proxy does with it.
    """
    return sock._sslobj  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way; the same since Python 3.7


def received_from(source: socket.socket) -> Receive:
    """A socket's `recv_into`; raises as it does."""
    if not isinstance(source, ssl.SSLSocket):
        return source.recv_into
    read = _tls_of(source).read
    failed: list[OSError] = []

    def receive(buffer: memoryview, most: int) -> int:
        if failed:
            raise failed[0]
        try:
            length = record = int(read(_TLS_RECORD, buffer))
        except ssl.SSLEOFError:
            return 0  # an end without TLS's own, as `SSLSocket.read` has it
        while record == _TLS_RECORD and length + _TLS_RECORD <= min(most, _TLS_BURST):
            try:
                record = int(read(_TLS_RECORD, buffer[length:]))
            except (*NOT_NOW, ssl.SSLEOFError):
                break
            except OSError as error:  # a socket tells of a reset once only, and what came before it comes first
                failed.append(error)
                break
            length += record
        return length

    return receive


def taken_by(carrier: Carrier, step_by_step: Callable[[], Buffer]) -> Callable[[], Buffer]:
    """What receives into the ring in one step, or `step_by_step` where that cannot be; it raises as the socket does."""
    take, native, blocked, ring, no_room = carrier.take, carrier.lane, carrier.blocked, carrier.ring, -NO_ROOM

    def taken() -> Buffer:
        length = no_room if blocked else take(native)
        if length > 0:
            body: int = native.body
            return ring[body : body + length]
        if length == no_room:
            return step_by_step()
        error = carrier.error
        if error is not None:
            raise error
        return b""

    return taken


def given_to(carrier: Carrier, receive: Receive) -> Callable[[Any], int]:
    """What a carrier's `carry` does, for what `receive` gives; it raises what that does."""
    room, give, ring = carrier.room, carrier.give, carrier.ring

    def carry(native: Any) -> int:
        body = room(native)
        if not body:
            return NO_ROOM
        length = receive(ring[body:], WINDOW)
        if length:
            return give(native, length)
        native.error = 0
        return NOTHING

    return carry


def sender(sink: socket.socket) -> Callable[[Buffer], int]:
    """A socket's `send`; raises as it does."""
    send: Callable[[Buffer], int] = _tls_of(sink).write if isinstance(sink, ssl.SSLSocket) else sink.send
    return send


def filtered_from(receive: Callable[[], memoryview], passing: Filter) -> Callable[[], bytes]:
    """A `recv` that gives what passes. Where that is nothing, it is as if nothing had come."""

    def filtered() -> bytes:
        data = receive()
        if not data:
            return passing.end()
        passed = passing.feed(bytes(data))
        if not passed:
            raise BlockingIOError
        return passed

    return filtered
