from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from recorder.replay import player

Run = Callable[..., Result]


class VirtualClock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    clock = VirtualClock()
    monkeypatch.setattr(player, "SystemClock", lambda: clock)
    return clock


def test_the_lines_of_show_at_their_own_pace(run: Run, clock: VirtualClock) -> None:
    result = run("replay", "sess_voice")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == run("show", "sess_voice").stdout.splitlines()[3:]
    assert clock.time == pytest.approx(12.5)


def test_speed_and_idle_limit(run: Run, clock: VirtualClock) -> None:
    run("replay", "sess_voice", "--speed", "2", "--max-idle", "1")
    # 12.5 s, less 0.1 s of the pause before speech started, less 7.4 s before the response was done; at double speed
    assert clock.time == pytest.approx((12.5 - 0.1 - 7.4) / 2)


@pytest.mark.parametrize(("start", "first", "wait"), [("66", 66, 8.9), ("+3.55", 66, 8.95), ("+3.6", 67, 8.9)])
def test_from_a_moment_on(run: Run, clock: VirtualClock, start: str, first: int, wait: float) -> None:
    result = run("replay", "sess_voice", "--from", start, "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["position"] for event in events] == list(range(first, 69))
    assert clock.time == pytest.approx(wait)


def test_without_times_it_plays_at_once_and_says_so(run: Run, clock: VirtualClock) -> None:
    result = run("replay", "sess_text", "--json")
    assert result.stderr == "this session carries no times: played without pauses\n"
    assert len(result.stdout.splitlines()) == 5
    assert clock.time == 0.0
