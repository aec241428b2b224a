"""A message's whole way between two plain sockets in one step, where `carry.c` is compiled; or half of it.

Where it is not, `RingWriter.receiver` and a splice take the same steps one by one, at a few times the price.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
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
"""Nothing was done: the ring's writer has to look for room first, or it is blocked."""
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
        settled: where in it stands up to where its records are settled.
        window: the most that is received at once, in bytes.
        place: where to begin.

    Attributes:
        place: to be used instead of `place`; where nothing is compiled, it is that.
        view: the ring.
    """

    def __init__(self, ring: mmap.mmap, head: int, settled: int, window: int, place: Place) -> None:
        self.place: Any = place
        self.view = memoryview(ring)
        if _carry is not None:
            self._base = _carry.ffi.from_buffer("uint8_t[]", ring)
            self.place = _carry.ffi.new("struct place *")
            self.place.ring = self._base
            self.place.head = _carry.ffi.cast("uint64_t *", self._base + head)
            self.place.settled = _carry.ffi.cast("uint64_t *", self._base + settled)
            self.place.window = window
            self.place.next, self.place.room_until, self.place.lap = place.next, place.room_until, place.lap

    def close(self) -> None:
        """Nobody may write any more: the map is about to go."""
        self.place.room_until = 0
        self.view.release()
        if _carry is not None:
            _carry.ffi.release(self._base)

    def carrier(self, source: int, sink: int, *, kind: int, session_no: int, sample_every: int) -> Carrier | None:
        """What carries one direction; None where nothing is compiled.

        Args:
            source: the descriptor of the socket to read from.
            sink: that of the one to write to.
            kind: what kind of record it becomes.
            session_no: the session's number.
            sample_every: of so many messages, one's time is taken.
        """
        if _carry is None:
            return None
        lane = _carry.ffi.new("struct lane *")
        lane.place, lane.source, lane.sink = self.place, source, sink
        lane.kind, lane.session_no = kind, session_no
        # Sampling begins anywhere, so that short sessions have their share of it.
        lane.sample_every, lane.until_sample = sample_every, os.getrandom(1)[0] % sample_every + 1
        return Carrier(self, lane)


class Carrier:
    """Carries one direction; see `SharedPlace.carrier`.

    Attributes:
        carry: called with `lane` when there is something to read: one of the outcomes above.
        take: likewise, to receive and record and no more: how many bytes, or the outcome, negative.
        room: called with `lane`: where in `ring` so much may be received as is received at once; 0 where it may not.
        give: called with `lane` and how many bytes were put there, to record and send them on: an outcome.
        lane: what C keeps of it, with `carried`, the bytes so far, and `body`, where in the ring lies what was taken.
        raised: why nothing came, where that was received otherwise.
        ring: all of it; what was taken is good until the next record, or until `RingWriter.settle` is called.
    """

    __slots__ = ("_place", "carry", "give", "lane", "raised", "ring", "room", "take")

    def __init__(self, place: SharedPlace, lane: Any) -> None:
        self._place = place  # has to outlive the lane
        self.carry: Callable[[Any], int] = _carry.lib.carry
        self.take: Callable[[Any], int] = _carry.lib.take
        self.room: Callable[[Any], int] = _carry.lib.room
        self.give: Callable[[Any, int], int] = _carry.lib.give
        self.raised: OSError | None = None
        self.ring = place.view
        self.lane = lane

    def block(self, blocked: bool) -> None:
        """Whether it has to leave all to be done step by step."""
        self.lane.blocked = blocked

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


class Serving:
    """Waits for descriptors and carries what lanes have to carry, where `carry.c` is compiled.

    Args:
        epoll: the descriptor of the epoll that knows them all.

    Attributes:
        serve: called with `native` and a timeout in ms (-1: none): how many are `ready`, plus 256 for each that is
            `undone`; negative, an error's number.
        native: what C keeps of it, with `undone_count`.
        ready: what else than carrying has to be done: of each, the descriptor, and the epoll mask 32 bits further up.
        unpack: gives so many of them as a list.
    """

    def __init__(self, epoll: int) -> None:
        self.serve: Callable[[Any, int], int] = _carry.lib.serve
        self.native = _carry.ffi.new("struct serving *")
        self.native.epoll = epoll
        self.ready = self.native.ready
        self.unpack: Callable[[Any, int], list[int]] = _carry.ffi.unpack
        self._lanes: dict[int, Any] = {}
        self._table: Any = None

    @property
    def undone(self) -> list[tuple[int, int, int]]:
        """What lanes have left undone: of each the descriptor, the outcome and the epoll mask."""
        found = (self.native.undone[number] for number in range(self.native.undone_count))
        return [(one.fd, one.outcome, one.mask) for one in found]

    def carry(self, fd: int, lane: Any) -> None:
        """Have a lane, or none, carry what can be read from a descriptor."""
        if lane is None:
            if self._lanes.pop(fd, None) is not None:
                self._table[fd] = _carry.ffi.NULL
            return
        self._lanes[fd] = lane  # has to live as long as C knows of it
        if fd >= self.native.lanes_size:
            size = 2 * (fd + 1)
            self._table = _carry.ffi.new("struct lane *[]", size)
            for known, its in self._lanes.items():
                self._table[known] = its
            self.native.lanes, self.native.lanes_size = self._table, size
        self._table[fd] = lane


def serving(epoll: int) -> Serving | None:
    """What waits and carries; None where nothing is compiled."""
    return None if _carry is None else Serving(epoll)
