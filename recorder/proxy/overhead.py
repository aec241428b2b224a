"""What the proxy itself adds to a session: the measured chunks' times from read to sent on, as a histogram each way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from recorder.protocol.envelope import RecordKind

_SIDES: Final = {RecordKind.CLIENT_BYTES: "client", RecordKind.SERVER_BYTES: "server"}
_PRECISION_BITS: Final = 5  # 16 buckets for each doubling: an upper bound is at most 1/16 above what it bounds


class Overhead:
    """One session's histograms.

    Args:
        every: of how many chunks one is measured.
        tell: what else wants to know each measured time, in nanoseconds.
    """

    __slots__ = ("_counts", "_every", "_max_ns", "_sum_ns", "_tell")

    def __init__(self, every: int, tell: Callable[[int], None]) -> None:
        self._every = every
        self._tell = tell
        self._counts: dict[int, dict[int, int]] = {kind: {} for kind in _SIDES}
        self._sum_ns: dict[int, int] = dict.fromkeys(_SIDES, 0)
        self._max_ns: dict[int, int] = dict.fromkeys(_SIDES, 0)

    def observe(self, kind: int, nanoseconds: int) -> None:
        """Put one measured chunk of a direction into its histogram."""
        self._tell(nanoseconds)
        upper, counts = _upper_bound(nanoseconds), self._counts[kind]
        counts[upper] = counts.get(upper, 0) + 1
        self._sum_ns[kind] += nanoseconds
        self._max_ns[kind] = max(self._max_ns[kind], nanoseconds)

    def facts(self) -> dict[str, Any]:
        """`added_latency` of a session's last record, by who sent the chunks; nothing where none was measured.

        `upper_ns` and `counts` are the histogram: how many chunks took less than that, and not less than the bound
        before.
        """
        sides = {side: self._side(kind) for kind, side in _SIDES.items() if self._counts[kind]}
        return {"added_latency": {"every": self._every, **sides}} if sides else {}

    def _side(self, kind: int) -> dict[str, Any]:
        upper_ns, counts = zip(*sorted(self._counts[kind].items()), strict=True)
        return {"sum_ns": self._sum_ns[kind], "max_ns": self._max_ns[kind], "upper_ns": upper_ns, "counts": counts}


def _upper_bound(nanoseconds: int) -> int:
    """The end of the bucket that a time falls into; it is not in it itself."""
    shift = max(0, nanoseconds.bit_length() - _PRECISION_BITS)
    return ((nanoseconds >> shift) + 1) << shift
