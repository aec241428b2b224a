"""Playing a schedule against a clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from recorder.replay.schedule import Entry

T = TypeVar("T")


class Clock(Protocol):
    """What a player needs of time; tests give one of their own."""

    def now(self) -> float:
        """Seconds on a clock that never steps."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Seconds on the monotonic clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def play(schedule: Iterable[Entry[T]], emit: Callable[[T], None], *, clock: Clock | None = None) -> int:
    """Emit each value when it is due.

    Due times count from the start of playing, not from the value before, so lateness never adds up; values that are
    late are emitted at once.

    Args:
        schedule: entries in order of time.
        emit: takes a value.
        clock: the system's clock where None.

    Returns:
        How many values were emitted.
    """
    clock = clock or SystemClock()
    started = clock.now()
    count = 0
    for at, value in schedule:
        wait = started + at - clock.now()
        if wait > 0:
            clock.sleep(wait)
        emit(value)
        count += 1
    return count
