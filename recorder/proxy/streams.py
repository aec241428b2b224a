"""What a splice reads and writes with, plain or TLS, tens of thousands of times a second."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol

from recorder.store.carry import NO_ROOM, NOTHING, Carrier
from recorder.store.ring import WINDOW, Receive

Party = Literal["client", "upstream"]
Buffer = bytes | memoryview
Step = tuple[Any, Callable[[int, int], None]]
"""A carrier's lane, which C may carry by itself, and what is called with its outcome and the epoll mask if that was not
all."""

NOT_NOW: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_TLS_RECORD: Final = 1 << 14  # RFC 8446 section 5.1; no read gives more
_TLS_BURST: Final = 1 << 17  # of records that are there together, so much is sent on at once


class Filter(Protocol):
    """What decides which bytes of one direction pass."""

    def feed(self, data: bytes) -> bytes:
        """The next bytes; gives those to tap and forward now. Raises OSError where the direction has to be reset."""

    def end(self) -> bytes:
        """There are no more; gives what is left to forward."""


class Chunks(Protocol):
    """What wants to see the bytes before they are forwarded: a tap."""

    def receiver(self, kind: int, receive: Receive, scratch: memoryview) -> Callable[[], memoryview]:
        """What receives bytes of one direction, and has taken note of them when it gives them.

        Args:
            kind: the record kind of the direction.
            receive: gives them, and raises as a socket does; what it raises is passed on.
            scratch: memory that may be used until the next call.
        """

    def chunk(self, kind: int, data: Buffer) -> None:
        """Take note of bytes that were received otherwise, which are good for now only; never waits, never raises."""

    def carrier(self, kind: int, source: int, sink: int, sample_every: int) -> Carrier | None:
        """What does all of it in one step, between the descriptors of two plain sockets; None where nothing can."""


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
    take, native, ring, no_room = carrier.take, carrier.lane, carrier.ring, -NO_ROOM

    def taken() -> Buffer:
        length = take(native)
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
    """What a carrier's `carry` does, for what `receive` gives; what that raises is the carrier's `raised`."""
    room, give, ring = carrier.room, carrier.give, carrier.ring

    def carry(native: Any) -> int:
        body = room(native)
        if not body:
            return NO_ROOM
        try:
            length = receive(ring[body:], WINDOW)
        except OSError as error:
            carrier.raised = error
            return NOTHING
        if length:
            return give(native, length)
        carrier.raised, native.error = None, 0
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


class Lane:
    """One direction of a splice."""

    __slots__ = (
        "ended",
        "filter",
        "forward",
        "held",
        "kind",
        "native",
        "party",
        "send",
        "sent_on",
        "sink",
        "source",
        "step",
    )

    def __init__(
        self, party: Party, source: socket.socket, sink: socket.socket, kind: int, passing: Filter | None
    ) -> None:
        self.party: Party = party
        self.source = source
        self.sink = sink
        self.send = sender(sink)
        self.kind = kind
        self.filter = passing
        self.held = b""  # read, tapped, and not yet taken by the sink
        self.ended = False  # nothing more will be read
        self.sent_on = 0  # bytes, but for what the carrier counts
        self.native: Any = None  # the carrier's own count of them, as `native.carried`
        self.forward: Callable[[int], None]  # carries over what there is to read, given the epoll mask
        self.step: Step | None = None  # what the selector may do in place of that

    @property
    def carried(self) -> int:
        """Bytes since it began."""
        count: int = self.sent_on if self.native is None else self.sent_on + self.native.carried
        return count
