"""When each thing of a recording is due when it is played again: iterator transforms, pure.

An entry is `(seconds, value)`, the seconds counted from the session's start and never falling. The transforms are put
one after the other: `seek`, then `limit_idle` (in recorded seconds), then `at_speed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
Entry = tuple[float, T]


def entries(values: Iterable[T], at_ns: Callable[[T], int | None]) -> Iterator[Entry[T]]:
    """Pair values with their times.

    Args:
        values: in order of their positions.
        at_ns: nanoseconds since the session opened; a value without takes the time of the one before it, and so does
            one whose clock ran backwards.
    """
    latest = 0.0
    for value in values:
        ns = at_ns(value)
        latest = max(latest, 0.0 if ns is None else ns / 1e9)
        yield latest, value


def seek(schedule: Iterable[Entry[T]], start: float) -> Iterator[Entry[T]]:
    """Leave out what lies before `start` seconds; `start` becomes zero."""
    for at, value in schedule:
        if at >= start:
            yield at - start, value


def limit_idle(schedule: Iterable[Entry[T]], longest: float) -> Iterator[Entry[T]]:
    """Shorten every pause to at most `longest` seconds; what follows moves forward."""
    before = moved = 0.0
    for at, value in schedule:
        moved += min(at - before, longest)
        before = at
        yield moved, value


def at_speed(schedule: Iterable[Entry[T]], speed: float) -> Iterator[Entry[T]]:
    """Play `speed` times as fast. `speed` > 0."""
    for at, value in schedule:
        yield at / speed, value
