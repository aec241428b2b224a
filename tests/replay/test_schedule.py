from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from recorder.replay.player import play
from recorder.replay.schedule import Entry, at_speed, entries, limit_idle, seek

TIMES = st.lists(st.floats(0, 1e5), max_size=30).map(sorted)


class VirtualClock:
    """A clock that only sleeping moves."""

    def __init__(self, late: float = 0.0) -> None:
        self.time = 100.0
        self.late = late

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.time += seconds + self.late


def numbered(times: Iterable[float]) -> list[Entry[int]]:
    return [(at, number) for number, at in enumerate(times)]


def test_entries_never_fall_and_fill_in_what_has_no_time() -> None:
    values = [(None, "a"), (2_000_000_000, "b"), (None, "c"), (1_000_000_000, "d"), (3_500_000_000, "e")]
    schedule = entries(values, lambda value: value[0])
    assert [(at, value[1]) for at, value in schedule] == [(0, "a"), (2, "b"), (2, "c"), (2, "d"), (3.5, "e")]


def test_seek_starts_there() -> None:
    assert list(seek(numbered([0, 1, 2, 5]), 2)) == [(0, 2), (3, 3)]


def test_pauses_are_shortened_and_the_rest_moves_forward() -> None:
    assert list(limit_idle(numbered([3, 4, 14, 14.5]), 2)) == [(2, 0), (3, 1), (5, 2), (5.5, 3)]


def test_speed_divides() -> None:
    assert list(at_speed(numbered([0, 1, 8]), 4)) == [(0, 0), (0.25, 1), (2, 2)]


@given(TIMES, st.floats(0, 1000), st.floats(0.01, 1000))
def test_transforms_keep_order_and_values(times: list[float], longest: float, speed: float) -> None:
    plain = numbered(times)
    played = list(at_speed(limit_idle(plain, longest), speed))
    assert [value for _, value in played] == [value for _, value in plain]
    assert all(before <= after for (before, _), (after, _) in pairwise(played))
    for (before, _), (after, _) in zip([(0.0, -1), *played], played, strict=False):
        assert after - before <= longest / speed + 1e-6 * max(1.0, after)
    for (at, _), (original, _) in zip(played, plain, strict=True):
        assert at <= original / speed * (1 + 1e-9) + 1e-9


@given(TIMES, st.floats(0, 1e5))
def test_seek_leaves_out_what_lies_before(times: list[float], start: float) -> None:
    kept = list(seek(numbered(times), start))
    assert [value for _, value in kept] == [number for number, at in enumerate(times) if at >= start]
    assert all(at >= 0 for at, _ in kept)


def test_playing_emits_each_value_when_it_is_due() -> None:
    clock = VirtualClock()
    seen: list[tuple[float, int]] = []
    count = play(numbered([0, 0.5, 0.5, 2]), lambda value: seen.append((clock.time - 100, value)), clock=clock)
    assert seen == [(0, 0), (0.5, 1), (0.5, 2), (2, 3)]
    assert count == 4


def test_lateness_does_not_add_up() -> None:
    clock = VirtualClock(late=0.05)
    seen: list[float] = []
    play(numbered([n * 0.1 for n in range(100)]), lambda _: seen.append(clock.time - 100), clock=clock)
    assert all(
        math.isclose(at, due, abs_tol=0.051) for at, due in zip(seen, (n * 0.1 for n in range(100)), strict=True)
    )
