"""One session's hand on the ring: facts and chunks in, gaps accounted for."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from recorder.protocol.envelope import RecordKind
from recorder.store.ring import RingWriter

_DIRECTIONS = {RecordKind.CLIENT_BYTES: "client", RecordKind.SERVER_BYTES: "server"}


_GAP_BYTES = 1024  # more than the records of two gaps


class Tap:
    """Copies what a session says into the ring before it is forwarded.

    Never waits and never raises: what the ring cannot take is counted, and becomes a GAP record once there is room.

    Attributes:
        missed_bytes: bytes forwarded and not recorded, in all.
    """

    __slots__ = ("_gaps", "_ring", "_session_no", "missed_bytes")

    def __init__(self, ring: RingWriter, session_no: int) -> None:
        self._ring = ring
        self._session_no = session_no
        self._gaps: dict[int, int] = {}
        self.missed_bytes = 0

    def chunk(self, kind: int, data: bytes) -> None:
        """Record bytes of one direction, with the time of now."""
        now = time.monotonic_ns()
        if (self._gaps and not self._end_gaps(now, len(data))) or not self._ring.append(
            kind, self._session_no, now, data
        ):
            self._gaps[kind] = self._gaps.get(kind, 0) + len(data)
            self.missed_bytes += len(data)

    def facts(self, kind: int, facts: dict[str, Any]) -> bool:
        """Record a JSON object; False when the ring has no room for it."""
        now = time.monotonic_ns()
        data = msgspec.json.encode(facts)
        if self._gaps and not self._end_gaps(now, len(data)):
            return False
        return self._ring.append(kind, self._session_no, now, data)

    def _end_gaps(self, now: int, next_bytes: int) -> bool:
        """Report what was missed, if what comes next will fit too: else a gap would crumble into many."""
        if not self._ring.has_room(next_bytes + _GAP_BYTES):
            return False
        for kind, missed in self._gaps.items():
            gap = {"direction": _DIRECTIONS[RecordKind(kind)], "bytes": missed, "reason": "ring full"}
            self._ring.append(RecordKind.GAP, self._session_no, now, msgspec.json.encode(gap))
        self._gaps.clear()
        return True
