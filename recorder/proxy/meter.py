"""What a worker's sessions add to its counters: looked up once a second and at a session's end, never per chunk."""

from __future__ import annotations

import logging
from typing import Final

from recorder.protocol.envelope import RecordKind
from recorder.proxy.tap import Tap
from recorder.store.counters import (
    BYTES,
    DIRECTIONS,
    GAP_BYTES,
    GAPS,
    LEFT_OUT_BYTES,
    SESSIONS_OPEN,
    SESSIONS_OPENED,
    SESSIONS_UNRECORDED,
    Counters,
    Metric,
)

log = logging.getLogger(__name__)

_KINDS: Final = (RecordKind.CLIENT_BYTES, RecordKind.SERVER_BYTES)
_SAY_AGAIN_SECONDS: Final = 60.0


class Meter:
    """One running session's share of its worker's counters.

    Args:
        counters: the worker's.
        session_id: for the log.
        tap: the session's; None where nothing is recorded on purpose.
    """

    __slots__ = ("_counters", "_said_at", "_said_bytes", "_seen", "_session_id", "_tap", "_unrecorded")

    def __init__(self, counters: Counters, session_id: str, tap: Tap | None) -> None:
        self._counters = counters
        self._session_id = session_id
        self._tap = tap
        self._seen: dict[tuple[str, str], int] = {}
        self._said_bytes = 0
        self._said_at = -_SAY_AGAIN_SECONDS
        self._unrecorded = False
        counters.add(SESSIONS_OPENED)
        counters.add(SESSIONS_OPEN)
        self._see_whether_recorded()

    def look(self, traffic: tuple[int, int], now: float) -> None:
        """Count what is new, and say so if bytes were lost to the recording, at most once a minute.

        Args:
            traffic: bytes forwarded so far, the client's and the upstream's.
            now: seconds of a monotonic clock.
        """
        self._see_whether_recorded()
        tap = self._tap
        for direction, kind, carried in zip(DIRECTIONS, _KINDS, traffic, strict=True):
            self._count(BYTES, direction, carried)
            if tap is None:
                self._count(LEFT_OUT_BYTES, direction, carried)
            elif tap.missed_bytes:
                self._count(GAP_BYTES, direction, tap.missed[kind])
                self._count(LEFT_OUT_BYTES, direction, tap.left_out[kind])
        if tap is not None and tap.gaps:
            self._count(GAPS, "", tap.gaps)
            self._be_loud(sum(tap.missed.values()), tap.why, now)

    def finish(self, traffic: tuple[int, int], now: float) -> None:
        """The last look."""
        self.look(traffic, now)
        self._counters.add(SESSIONS_OPEN, -1)
        self._counters.add(SESSIONS_UNRECORDED, -self._unrecorded)

    def _see_whether_recorded(self) -> None:
        if not self._unrecorded and (self._tap is None or self._tap.stopped is not None):
            self._unrecorded = True
            self._counters.add(SESSIONS_UNRECORDED)

    def _count(self, metric: Metric, direction: str, total: int) -> None:
        new = total - self._seen.get((metric.name, direction), 0)
        if new:
            self._counters.add(metric, new, direction)
            self._seen[metric.name, direction] = total

    def _be_loud(self, missed: int, why: str, now: float) -> None:
        if missed > self._said_bytes and now - self._said_at >= _SAY_AGAIN_SECONDS:
            new, self._said_bytes, self._said_at = missed - self._said_bytes, missed, now
            log.error(
                "%d bytes were forwarded and are not recorded: %s",
                new,
                why,
                extra={"session_id": self._session_id, "gap_bytes": missed},
            )
