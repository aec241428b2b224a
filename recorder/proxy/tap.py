"""One session's hand on the ring: facts and chunks in, gaps accounted for."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import Any

import msgspec

from recorder.protocol.envelope import SPEAKERS, RecordKind, gap_facts
from recorder.store.carry import Carrier
from recorder.store.ring import Receive, RingWriter

_GAP_BYTES = 1024  # more than the records of two gaps
_NOWHERE = 1 << 62  # no ring lives so long
RING_FULL = "ring full"
STORE_REMOVED = "store removed"


def receive_and_tell(
    chunk: Callable[[int, memoryview], None], kind: int, receive: Receive, scratch: memoryview
) -> Callable[[], memoryview]:
    """What receives bytes into `scratch` and gives them when `chunk` has been told of them."""

    def received() -> memoryview:
        length = receive(scratch, len(scratch))
        data = scratch[:length]
        if data:
            chunk(kind, data)
        return data

    return received


class Tap:
    """Copies what a session says into the ring before it is forwarded.

    Never waits and never raises: what the ring cannot take is counted, and becomes a GAP record once there is room.

    Attributes:
        missed: by kind, bytes that could not be recorded.
        left_out: by kind, bytes not recorded on purpose.
        gaps: how many stretches `missed` is made of.
        why: the reason of the last of them.
        stopped: why nothing more is recorded: `stop` was called, or nothing was to be recorded from the start.
        off: whether nothing was from the start: then there are facts only, and no GAP records.
    """

    __slots__ = (
        "_begun_at",
        "_carriers",
        "_gaps",
        "_owed",
        "_record",
        "_ring",
        "_session_no",
        "_told",
        "gaps",
        "left_out",
        "missed",
        "off",
        "stopped",
        "why",
    )

    def __init__(self, ring: RingWriter, session_no: int, *, off: bool = False) -> None:
        self._ring = ring
        self._record = ring.append
        self._session_no = session_no
        self._gaps: dict[int, int] = {}
        self._carriers: list[Carrier] = []
        self._owed: list[tuple[int, int, bytes]] = []  # kind, time and data of facts that the ring had no room for
        self._told: list[tuple[int, int, bytes]] = []  # likewise of facts, to be told once more in another store
        self._begun_at = _NOWHERE  # where in the ring's life the first of them ends
        self.missed: dict[int, int] = dict.fromkeys(SPEAKERS, 0)
        self.left_out: dict[int, int] = dict.fromkeys(SPEAKERS, 0)
        self.gaps = 0
        self.why = RING_FULL
        self.off = off
        self.stopped: str | None = "not to be recorded" if off else None
        if off:
            self._gaps[RecordKind.CLIENT_BYTES] = 0  # see `stop`

    @property
    def missed_bytes(self) -> int:
        """Bytes forwarded and not recorded, for whatever reason."""
        return sum(self.missed.values()) + sum(self.left_out.values())

    def chunk(self, kind: int, data: bytes | memoryview) -> None:
        """Record bytes of one direction, with the time of now."""
        now, record = monotonic_ns(), self._record
        if (self._gaps and not self._resume(now, len(data))) or not record(kind, self._session_no, now, data):
            self._miss(kind, len(data))

    def receiver(self, kind: int, receive: Receive, scratch: memoryview) -> Callable[[], memoryview]:
        """What receives bytes of one direction and has them on record when it gives them.

        They are received into the ring, or, where it is full or this tap has a gap to end first, into `scratch`.
        """
        otherwise = receive_and_tell(self.chunk, kind, receive, scratch)
        return self._ring.receiver(receive, int(kind), self._session_no, self._gaps, otherwise)

    def carrier(self, kind: int, source: int, sink: int, sample_every: int) -> Carrier | None:
        """What receives bytes of one direction, records them and sends them on in one step; None where nothing can."""
        carrier = self._ring.carrier(
            source, sink, kind=int(kind), session_no=self._session_no, sample_every=sample_every
        )
        if carrier is not None:
            self._carriers.append(carrier)
            carrier.block(bool(self._gaps))
        return carrier

    def _tell_carriers(self) -> None:
        """While there is a gap to end first, they leave all to `chunk`."""
        for carrier in self._carriers:
            carrier.block(bool(self._gaps))

    def facts(self, kind: int, facts: dict[str, Any]) -> bool:
        """Record a JSON object; False when the ring has no room for it: then it is recorded later, in its order.

        Whoever records nothing more has to call `settle` until that has been done.
        """
        now = monotonic_ns()
        data = msgspec.json.encode(facts)
        if kind != RecordKind.CLOSED:
            self._told.append((kind, now, data))
        if (not self._gaps or self._end_gaps(now, len(data))) and self._append(kind, now, data):
            return True
        self._owed.append((kind, now, data))
        self._gaps.setdefault(RecordKind.CLIENT_BYTES, 0)  # an open gap is what makes `chunk` think twice
        self._tell_carriers()
        return False

    @property
    def is_bereft(self) -> bool:
        """Whether the store that the session began in is there no more."""
        return self._begun_at <= self._ring.lost_until

    def begin_anew(self, carried: dict[int, int]) -> None:
        """Record once more that the session began, for the store that there is now, and that all it said is missing.

        Args:
            carried: by kind, bytes so far.
        """
        now = monotonic_ns()
        self._begun_at = _NOWHERE
        self._owed = list(self._told)
        for kind, total in carried.items():
            said = total - self.left_out[kind]
            if count := said - self._gaps.get(kind, 0):
                facts = gap_facts(SPEAKERS[RecordKind(kind)], count, STORE_REMOVED)
                self._owed.append((RecordKind.GAP, now, facts))
            if said != self.missed[kind]:
                self.gaps, self.why = self.gaps + 1, STORE_REMOVED
                self.missed[kind] = said
        self._gaps.setdefault(RecordKind.CLIENT_BYTES, 0)  # see `facts`
        self._tell_carriers()
        self.settle()

    def settle(self) -> bool:
        """Record what could not be recorded before; False while there is no room."""
        return not self._owed or self._end_gaps(monotonic_ns(), 0)

    def stop(self, reason: str) -> None:
        """Record no more chunks. What is left out is counted, and stands in GAP records before the session's end.

        A GAP record of no bytes is written now: so the journal of a worker that dies meanwhile tells as well.
        """
        if self.stopped is None:
            self.facts(RecordKind.GAP, {"direction": "recorder", "bytes": 0, "reason": reason})
            self.stopped = reason
            self._gaps.setdefault(RecordKind.CLIENT_BYTES, 0)  # see `facts`
            self._tell_carriers()

    def _miss(self, kind: int, count: int) -> None:
        if self.stopped is not None:
            self.left_out[kind] += count
            return
        if kind not in self._gaps:
            self.gaps, self.why = self.gaps + 1, RING_FULL
        self._gaps[kind] = self._gaps.get(kind, 0) + count
        self._tell_carriers()
        self.missed[kind] += count
        self._ring.owe(self._session_no, kind, self._gaps[kind])

    def _resume(self, now: int, next_bytes: int) -> bool:
        return self.stopped is None and self._end_gaps(now, next_bytes)

    def _end_gaps(self, now: int, next_bytes: int) -> bool:
        """Report what was missed, if what comes next will fit too: else a gap would crumble into many."""
        owed_bytes = sum(len(data) + _GAP_BYTES for _, _, data in self._owed)
        if not self._ring.has_room(next_bytes + owed_bytes + _GAP_BYTES):
            return False
        owed, self._owed = self._owed, []
        for kind, at_ns, data in owed:
            if kind == RecordKind.CLOSED:  # nothing comes after that
                self._report(self._gaps, RING_FULL, now)
                self._gaps.clear()
            self._append(kind, at_ns, data)
        self._report(self._gaps, RING_FULL, now)
        self._gaps.clear()
        if self.stopped is not None:
            self._gaps[RecordKind.CLIENT_BYTES] = 0
        self._tell_carriers()
        return True

    def _append(self, kind: int, at_ns: int, data: bytes) -> bool:
        if kind == RecordKind.CLOSED and self.stopped is not None and not self.off:
            self._report(self.left_out, self.stopped, at_ns)
        recorded = self._record(kind, self._session_no, at_ns, data)
        if kind == RecordKind.OPENED and recorded:
            self._begun_at = self._ring.head
        return recorded

    def _report(self, counts: dict[int, int], reason: str, now: int) -> None:
        for kind, count in counts.items():
            if count:
                self._record(
                    RecordKind.GAP, self._session_no, now, gap_facts(SPEAKERS[RecordKind(kind)], count, reason)
                )
                self._ring.owe(self._session_no, kind, 0)
