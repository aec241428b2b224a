"""Who sends audio of another rate than it says, and who is only slow, is told apart by how steady it is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from typing import Any

import pytest

from recorder.analytics.engine import Engine
from tests.analytics.test_rules import RULES, fill, found

CHUNK_SECONDS = 0.02
Times = Callable[[int, random.Random], list[float]]
"""How many appends, and chance → when each came, in seconds."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as opened:
        yield opened


def microphone(count: int, _: random.Random) -> list[float]:
    return [number * CHUNK_SECONDS for number in range(count)]


def over_a_network(count: int, chance: random.Random) -> list[float]:
    """Late by up to 60 ms, in order."""
    return list(accumulate((at + chance.uniform(0, 0.06) for at in microphone(count, chance)), max))


def bunched(count: int, _: random.Random) -> list[float]:
    """Five at once, as a sound card with large buffers gives them."""
    return [number // 5 * 5 * CHUNK_SECONDS for number in range(count)]


def push_to_talk(count: int, chance: random.Random) -> list[float]:
    """Silent for seconds after each second and a half of speech."""
    return [at + number // 75 * 4.0 for number, at in enumerate(microphone(count, chance))]


def sleeping(count: int, chance: random.Random) -> list[float]:
    """Waits for 20 ms after each, and a millisecond at most for the loop."""
    return list(accumulate([0.0, *(CHUNK_SECONDS + chance.uniform(0, 0.001) for _ in range(count - 1))]))


def overloaded(count: int, chance: random.Random) -> list[float]:
    """Each append takes as long as the machine happens to give."""
    return list(accumulate([0.0, *(chance.expovariate(1 / CHUNK_SECONDS) for _ in range(count - 1))]))


def ever_busier(count: int, _: random.Random) -> list[float]:
    """Real time at the beginning; the more others there are, the slower."""
    return list(accumulate([0.0, *(CHUNK_SECONDS / 3 * (1 + 4 * number / count) for number in range(count - 1))]))


def stopped_now_and_then(count: int, _: random.Random) -> list[float]:
    """Real time for a third of each 900 ms, and nothing in between."""
    real = [number * CHUNK_SECONDS / 3 for number in range(count)]
    return [at + at // 0.3 * 0.6 for at in real]


def session(session_id: str, times: list[float], *, ratio: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Its appends and its row of `pacing`, exactly `ratio` as fast as real time all in all."""
    scale = (times[-1] - times[0]) / ((len(times) - 1) * CHUNK_SECONDS)
    gaps = sum(b - a - CHUNK_SECONDS for a, b in pairwise(times) if b - a > 0.5)
    chunk_ms = 1000 * CHUNK_SECONDS * ratio
    appends = [
        {
            "session_id": session_id,
            "position": position,
            "direction": "client",
            "type": "input_audio_buffer.append",
            "audio_ms": chunk_ms,
            "monotonic_ns": int(at / (1 if gaps else scale) * 1e9),
        }
        for position, at in enumerate(times)
    ]
    paced = {"audio_seconds": len(times) * chunk_ms / 1000, "pace_without_gaps": ratio}
    return appends, paced | {"session_id": session_id, "first_append_position": 0, "last_append_position": len(times)}


@pytest.mark.parametrize("ratio", [1 / 3, 2 / 3, 2.0])
@pytest.mark.parametrize("count", [400, 1_500])
@pytest.mark.parametrize(
    ("times", "is_wrong"),
    [
        (microphone, True),
        (over_a_network, True),
        (bunched, True),
        (push_to_talk, True),
        (sleeping, True),
        (overloaded, False),
        (ever_busier, False),
        (stopped_now_and_then, False),
    ],
)
def test_steady_is_wrong_and_unsteady_is_slow(
    engine: Engine, times: Times, count: int, ratio: float, *, is_wrong: bool
) -> None:
    events, pacing = [], []
    for seed in range(10):
        appends, row = session(f"s{seed}", times(count, random.Random(seed)), ratio=ratio)
        events += appends
        pacing.append(row)
    fill(engine, {"events": events, "pacing": pacing})

    assert len(found(engine, RULES["audio_format_wrong"])) == (10 if is_wrong else 0)
    assert len(found(engine, RULES["pacing_off"])) == (0 if is_wrong else 10)


def test_of_a_moment_it_cannot_be_told(engine: Engine) -> None:
    appends, row = session("s", microphone(240, random.Random(0)), ratio=1 / 3)
    fill(engine, {"events": appends, "pacing": [row]})
    assert found(engine, RULES["audio_format_wrong"]) == []
