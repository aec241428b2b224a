"""A message's whole way between two plain sockets in one step, where `carry.c` is compiled; or half of it.

Where it is not, `RingWriter.receiver` and a splice take the same steps one by one, at a few times the price.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Any, Final

_carry: Any
try:
    from recorder.store import _carry
except ImportError:  # nothing is compiled
    _carry = None

CARRIED: Final = 0
"""It was received, recorded and sent on."""
SAMPLED: Final = 1
"""Likewise, and its time was taken."""
NO_ROOM: Final = 2
"""Nothing was done: the ring's writer has to look for room first."""
NOTHING: Final = 3
"""Nothing came: there is an `error`, or else it is the end."""
UNSENT: Final = 4
"""It was received and recorded, but not all of it was sent; if there is an `error`, that is why."""


@dataclass(slots=True)
class Place:
    """Where a ring's writer stands, in bytes from the start of the file.

    Attributes:
        next: where the next record goes.
        room_until: up to where there is room without another look at the tail.
        lap: what makes a head of a place.
    """

    next: int
    room_until: int
    lap: int


class SharedPlace:
    """A `Place` that C writes to as well.

    Args:
        ring: the map; it stays mapped for as long as this is there.
        head: where in it the head is.
        window: the most that is received at once, in bytes.
        place: where to begin.

    Attributes:
        place: to be used instead of `place`; where nothing is compiled, it is that.
        view: the ring.
    """

    def __init__(self, ring: mmap.mmap, head: int, window: int, place: Place) -> None:
        self.place: Any = place
        self.view = memoryview(ring)
        if _carry is not None:
            self._base = _carry.ffi.from_buffer("uint8_t[]", ring)
            self.place = _carry.ffi.new("struct place *")
            self.place.ring = self._base
            self.place.head = _carry.ffi.cast("uint64_t *", self._base + head)
            self.place.window = window
            self.place.next, self.place.room_until, self.place.lap = place.next, place.room_until, place.lap

    def close(self) -> None:
        """Nobody may write any more: the map is about to go."""
        self.place.room_until = 0
        self.view.release()
        if _carry is not None:
            _carry.ffi.release(self._base)

    def carrier(
        self, source: int, sink: int, *, kind: int, session_no: int, sample_every: int, blocked: Sized
    ) -> Carrier | None:
        """What carries one direction; None where nothing is compiled.

        Args:
            source: the descriptor of the socket to read from.
            sink: that of the one to write to.
            kind: what kind of record it becomes.
            session_no: the session's number.
            sample_every: of so many messages, one's time is taken.
            blocked: it must not carry while there is anything in it.
        """
        if _carry is None:
            return None
        lane = _carry.ffi.new("struct lane *")
        lane.place, lane.source, lane.sink = self.place, source, sink
        lane.kind, lane.session_no = kind, session_no
        # Sampling begins anywhere, so that short sessions have their share of it.
        lane.sample_every, lane.until_sample = sample_every, os.getrandom(1)[0] % sample_every + 1
        return Carrier(self, lane, blocked)


class Carrier:
    """Carries one direction; see `SharedPlace.carrier`.

    Attributes:
        carry: called with `lane` when there is something to read: one of the outcomes above.
        take: likewise, to receive and record and no more: how many bytes, or the outcome, negative.
        room: called with `lane`: where in `ring` so much may be received as is received at once; 0 where it may not.
        give: called with `lane` and how many bytes were put there, to record and send them on: an outcome.
        lane: what C keeps of it, with `carried`, the bytes so far, and `body`, where in the ring lies what was taken.
        blocked: do not call them while there is anything in it.
        ring: all of it; what was taken is good until the next record, or until `RingWriter.settle` is called.
    """

    __slots__ = ("_place", "blocked", "carry", "give", "lane", "ring", "room", "take")

    def __init__(self, place: SharedPlace, lane: Any, blocked: Sized) -> None:
        self._place = place  # has to outlive the lane
        self.blocked = blocked
        self.carry: Callable[[Any], int] = _carry.lib.carry
        self.take: Callable[[Any], int] = _carry.lib.take
        self.room: Callable[[Any], int] = _carry.lib.room
        self.give: Callable[[Any, int], int] = _carry.lib.give
        self.ring = place.view
        self.lane = lane

    @property
    def took_ns(self) -> int:
        """How long the sampled message took, from having read it to having sent it on."""
        return int(self.lane.took_ns)

    @property
    def error(self) -> OSError | None:
        """Why nothing came, or not all was sent."""
        number = self.lane.error
        return OSError(number, os.strerror(number)) if number else None

    @property
    def rest(self) -> bytes:
        """What was not sent."""
        return bytes(_carry.ffi.buffer(self.lane.unsent, self.lane.unsent_bytes))
