"""Simulated calls in a time of their own: it stands still while anybody works, and leaps when all of them wait.

Both ends and the wire between them live in one event loop, so nobody outside is kept waiting. A call of a minute takes
as long as its messages do, and what two parties see at one moment has one time: durations can be compared exactly.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar
from unittest import mock

T = TypeVar("T")

_IN_FLIGHT_SECONDS: Final = 0.0002
"""Real time that bytes on the loopback device may take."""


class _Clock:
    """A time that is only told, and leaps."""

    def __init__(self) -> None:
        self._now_ns = 1_000_000_000_000

    def monotonic_ns(self) -> int:
        return self._now_ns

    def monotonic(self) -> float:
        return self._now_ns / 1e9

    def leap(self, seconds: float) -> None:
        self._now_ns += max(1, math.ceil(seconds * 1e9))


class _Selector(selectors.SelectSelector):
    """Passes time on when nothing happens; of the kind that can wait for less than a millisecond."""

    def __init__(self, leap: Callable[[float], None]) -> None:
        super().__init__()
        self._leap = leap

    def select(self, timeout: float | None = None) -> list[Any]:
        """Whatever is ready; if nothing is, `timeout` is over."""
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready or (super().select(None) if timeout is None else [])
        ready = super().select(_IN_FLIGHT_SECONDS)
        if not ready:
            self._leap(timeout)
        return ready


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `work` in a loop and a time of its own; `time.monotonic` and its like tell that time meanwhile."""
    clock = _Clock()
    with (
        mock.patch("time.monotonic_ns", clock.monotonic_ns),
        mock.patch("time.monotonic", clock.monotonic),
        asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(_Selector(clock.leap))) as runner,
    ):
        return runner.run(work())
