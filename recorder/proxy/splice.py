"""The splice: bytes in = bytes out, both ways, tapped before they are forwarded.

Nothing here knows WebSocket. Backpressure is the kernel's: a side that does not read makes its lane hold one chunk
and stop reading, until the chunk is gone. Ends are passed on as they come: a FIN as a FIN in that direction alone, a
reset as a reset.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import select
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from recorder.proxy.selector import READ, WRITE, SpliceSelector
from recorder.proxy.sockets import end_sending, reset_when_sent, words_for
from recorder.proxy.streams import (
    NOT_NOW,
    Buffer,
    Chunks,
    Filter,
    Lane,
    Party,
    filtered_from,
    given_to,
    received_from,
    taken_by,
)
from recorder.store.carry import NO_ROOM, SAMPLED, UNSENT, Carrier
from recorder.store.ring import Receive

log = logging.getLogger(__name__)

_ERROR: Final = select.EPOLLERR
_RESET_AFTER_ALL: Final = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
SAMPLE_EVERY: Final = 64
"""Of so many chunks of a direction, one's time is taken."""


class Splice:
    """Joins two connected non-blocking sockets (plain or TLS) until both directions have ended.

    Takes over both sockets and closes them.

    Args:
        selector: the worker's selector; sockets must not be registered with asyncio any more.
        client: the client's socket.
        upstream: the upstream's socket.
        tap: where chunks are recorded, or None to record nothing.
        kinds: the record kinds of the client's and the upstream's bytes.
        on_end: called once, on the event loop, when both sockets are closed.
        observe: told, for one chunk of `SAMPLE_EVERY`, its kind and the nanoseconds from having read it to having sent
            it on.
        filters: which of the client's and of the upstream's bytes pass; None for all.

    Attributes:
        first_end: whose end came first (FIN or reset), once there is one.
        error: the socket error that ended it, if any.
    """

    def __init__(
        self,
        selector: SpliceSelector,
        client: socket.socket,
        upstream: socket.socket,
        *,
        tap: Chunks | None,
        kinds: tuple[int, int],
        on_end: Callable[[Splice], None],
        observe: Callable[[int, int], None] | None = None,
        filters: tuple[Filter, Filter] | None = None,
    ) -> None:
        self._selector = selector
        self._tap = tap
        self._on_end = on_end
        self._observe = observe or (lambda _kind, _ns: None)
        self._loop = asyncio.get_running_loop()
        up, down = filters or (None, None)
        self._up = Lane("client", client, upstream, kinds[0], up)
        self._down = Lane("upstream", upstream, client, kinds[1], down)
        self._equip()
        self._finished = False
        self.first_end: Party | None = None
        self.error: str | None = None

    @property
    def client_bytes(self) -> int:
        """Bytes the client has sent since the splice began."""
        return self._up.carried

    @property
    def server_bytes(self) -> int:
        """Bytes the upstream has sent since the splice began."""
        return self._down.carried

    @property
    def carried(self) -> int:
        """Bytes of both directions."""
        return self._up.carried + self._down.carried

    def start(self) -> None:
        """Begin to forward."""
        self._watch(self._up)
        self._watch(self._down)

    def replace_tap(self, tap: Chunks) -> None:
        """Record through another tap from now on."""
        self._tap = tap
        self._equip()
        self._watch_both()

    def detach(self) -> tuple[socket.socket, socket.socket, tuple[bytes, bytes]]:
        """Stop forwarding and give the sockets back: client, upstream, and what is held for (upstream, client).

        `on_end` is not called; whoever takes the sockets ends the session. Call only while `running`.
        """
        self._finished = True
        for sock in (self._up.source, self._down.source):
            self._selector.unwatch(sock.fileno())
        return self._up.source, self._down.source, (self._up.held, self._down.held)

    @property
    def running(self) -> bool:
        """Whether it still forwards."""
        return not self._finished

    def abort(self, error: str) -> None:
        """Close both sides now."""
        self.error = self.error or error
        self._finish()

    def _ready(self, outbound: Lane, inbound: Lane, mask: int) -> None:
        """A socket is ready: `outbound` is what it reads for, `inbound` what it is written."""
        try:
            if mask & WRITE and inbound.held:
                self._flush(inbound)
            if mask & ~WRITE and not outbound.held:
                if not outbound.ended:
                    outbound.forward(mask)
                elif mask & _ERROR:
                    self._reset(outbound, _RESET_AFTER_ALL)  # after its end
        except Exception:
            log.exception("splice failed")
            self.abort("internal error")

    def _equip(self) -> None:
        for lane in (self._up, self._down):
            receive, carrier = received_from(lane.source), None
            recorded = self._receiver(lane, receive)
            from_tls, to_tls = isinstance(lane.source, ssl.SSLSocket), isinstance(lane.sink, ssl.SSLSocket)
            if self._tap is not None and lane.filter is None and not (from_tls and to_tls):
                carrier = self._tap.carrier(lane.kind, lane.source.fileno(), lane.sink.fileno(), SAMPLE_EVERY)
            lane.step = None
            if carrier is None:
                lane.forward = self._forwarder(lane, recorded)
            elif to_tls:
                lane.forward = self._forwarder(lane, taken_by(carrier, recorded))
            else:
                lane.sent_on, lane.native = lane.carried, carrier.lane
                deal = self._dealing(lane, carrier, self._forwarder(lane, recorded))
                lane.forward = self._in_one_step(lane, given_to(carrier, receive) if from_tls else carrier.carry, deal)
                lane.step = None if from_tls else (carrier.lane, deal)

    def _in_one_step(
        self, lane: Lane, carry: Callable[[Any], int], deal: Callable[[int, int], None]
    ) -> Callable[[int], None]:
        """What carries a lane's chunks over by its carrier."""
        native = lane.native

        def forward(mask: int) -> None:
            try:
                outcome = carry(native)
            except Exception:
                log.exception("splice failed")
                self.abort("internal error")
                return
            if outcome:  # not CARRIED, as nearly always
                deal(outcome, mask)

        return forward

    def _dealing(self, lane: Lane, carrier: Carrier, step_by_step: Callable[[int], None]) -> Callable[[int, int], None]:
        """What does `step_by_step` whatever a carrier has left undone, given its outcome and the epoll mask."""

        def deal(outcome: int, mask: int) -> None:
            if self._finished:
                return
            try:
                if outcome == NO_ROOM:
                    step_by_step(mask)
                elif outcome == SAMPLED:
                    self._observe(lane.kind, carrier.took_ns)
                elif outcome == UNSENT:
                    self._hold(lane, carrier.rest, carrier.error)
                elif (error := carrier.raised or carrier.error) is None:
                    self._at_end(lane, mask)
                else:
                    self._not_received(lane, mask, error)
            except Exception:
                log.exception("splice failed")
                self.abort("internal error")

        return deal

    def _hold(self, lane: Lane, rest: bytes, error: OSError | None) -> None:
        """Keep what was not sent, unless it never can be."""
        done = self._not_sent(lane, len(rest), error) if error is not None else 0
        if done != len(rest):
            lane.held = rest
            self._watch_both()

    def _forwarder(self, lane: Lane, receive: Callable[[], Buffer]) -> Callable[[int], None]:
        """What carries a lane's chunks over: the handler of a socket of which nothing is wanted but to be read.

        It has all that it needs at hand, for it is called tens of thousands of times a second.
        """
        kind, send, now = lane.kind, lane.send, time.monotonic_ns
        # Sampling begins anywhere, so that short sessions have their share of it.
        until_sample = os.getrandom(1)[0] % SAMPLE_EVERY + 1

        def forward(mask: int) -> None:
            nonlocal until_sample
            try:
                try:
                    data = receive()
                except OSError as error:
                    self._not_received(lane, mask, error)
                    return
                length = len(data)
                if not length:
                    self._at_end(lane, mask)
                    return
                until_sample -= 1
                began = until_sample or now()
                lane.sent_on += length
                try:
                    sent = send(data)
                except OSError as error:
                    sent = self._not_sent(lane, length, error)
                if not until_sample:
                    until_sample = SAMPLE_EVERY
                    self._observe(kind, now() - began)
                if sent != length:
                    lane.held = bytes(data[sent:])
                    self._watch_both()
            except Exception:
                log.exception("splice failed")
                self.abort("internal error")

        return forward

    def _receiver(self, lane: Lane, receive: Receive) -> Callable[[], Buffer]:
        """What gives the bytes to forward, recorded; it raises as the socket does, and gives none at its end."""
        scratch, tap = self._selector.scratch, self._tap
        if lane.filter is None and tap is not None:
            return tap.receiver(lane.kind, receive, scratch)

        def untapped() -> memoryview:
            length = receive(scratch, len(scratch))
            return scratch[:length]

        if lane.filter is None:
            return untapped
        filtered = filtered_from(untapped, lane.filter)

        def tapped() -> bytes:
            data = filtered()
            if data and tap is not None:
                tap.chunk(lane.kind, data)
            return data

        return tapped

    def _not_received(self, lane: Lane, mask: int, error: OSError) -> None:
        if isinstance(error, ssl.SSLZeroReturnError):  # instead of b"" once we have ended our own direction
            self._at_end(lane, mask)
        elif not isinstance(error, NOT_NOW):
            self._reset(lane, error)

    def _at_end(self, lane: Lane, mask: int) -> None:
        if mask & _ERROR:
            self._reset(lane, _RESET_AFTER_ALL)  # over TLS a reset is read as an end
        else:
            self._end(lane)

    def _not_sent(self, lane: Lane, length: int, error: OSError) -> int:
        """How much of a chunk is done with."""
        if isinstance(error, NOT_NOW):
            return 0
        self._sink_failed(lane, error)
        return length

    def _flush(self, lane: Lane) -> None:
        try:
            sent = lane.send(lane.held)
        except NOT_NOW:
            return
        except OSError as error:
            sent = len(lane.held)
            self._sink_failed(lane, error)
        lane.held = lane.held[sent:]
        if not lane.held:
            if lane.ended:
                self._pass_end_on(lane)
            self._watch_both()

    def _sink_failed(self, lane: Lane, error: OSError) -> None:
        """The sink takes no more. What it still had to say comes first: its own lane reads that, then its error."""
        if self._opposite(lane).ended:
            self.error = self.error or words_for(error)
            self._finish(reset=lane.source)

    def _opposite(self, lane: Lane) -> Lane:
        return self._down if lane is self._up else self._up

    def _end(self, lane: Lane) -> None:
        self.first_end = self.first_end or lane.party
        lane.ended = True
        self._watch_both()
        if not lane.held:
            self._pass_end_on(lane)

    def _pass_end_on(self, lane: Lane) -> None:
        end_sending(lane.sink)
        if self._up.ended and self._down.ended and not self._up.held and not self._down.held:
            self._finish()

    def _reset(self, lane: Lane, error: OSError) -> None:
        self.first_end = self.first_end or lane.party
        self.error = self.error or words_for(error)
        self._finish(reset=lane.sink)

    def _watch_both(self) -> None:
        self._watch(self._up)
        self._watch(self._down)

    def _watch(self, outbound: Lane) -> None:
        """Watch a lane's source for what it can do now. Where nothing, for an error, once: a hang-up would spin."""
        if self._finished:
            return
        inbound = self._opposite(outbound)
        mask = (0 if outbound.held or outbound.ended else READ) | (WRITE if inbound.held else 0)
        handler = outbound.forward if mask == READ else partial(self._ready, outbound, inbound)
        step = outbound.step if mask == READ else None
        self._selector.watch(outbound.source.fileno(), mask or select.EPOLLET, handler, step)

    def _finish(self, reset: socket.socket | None = None) -> None:
        if self._finished:
            return
        self._finished = True
        for sock in (self._up.source, self._up.sink):
            self._selector.unwatch(sock.fileno())
            if sock is reset:
                self._loop.create_task(reset_when_sent(sock))
            else:
                sock.close()
        self._loop.call_soon(self._on_end, self)
        self._selector.interrupt()
