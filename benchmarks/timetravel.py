"""`python -m benchmarks timetravel`: the conversation of a long session at any position, as a slider along a call asks.

Two sealed sessions of 40,000 events each: a made-up voice call (audio in appends of 20 ms, an answer every dozen
seconds), and one that is nothing but written answers, word by word. The first look reads the files, as for each session
that somebody opens; the others, at random positions, find what it has made ready.
"""

from __future__ import annotations

import gc
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.storage import made_up_call
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.commit import write_segments
from recorder.pipeline.timetravel import TimeTravel, conversation_at
from recorder.protocol.builder import EventBuilder
from recorder.protocol.envelope import RecordedEvent
from recorder.store import layout

GOAL_MS: Final = 50.0
EVENTS: Final = 40_000
_CALL_MINUTES: Final = 12.0
_WORDS: Final = 60
_OPENED_NS: Final = 1_769_860_800_000_000_000
_WORD_NS: Final = 5_000_000


def run(console: Console, *, positions: int = 300, share: float = 1.0) -> bool:
    """Measure and print; whether the goal is reached at every position of the call.

    Args:
        console: where to.
        positions: how many are asked for, at random, beside the last.
        share: of the sessions' length.
    """
    sessions = {"voice call": made_up_call(_CALL_MINUTES * share), "written answers": list(_written(share))}
    headings = ("session", "events", "first look, ms", "p50, ms", "p95, ms", "longest, ms")
    table = Table(*headings, title=f"at {positions:,} positions")
    worst = {}
    with tempfile.TemporaryDirectory() as folder:
        layout.create(Path(folder))
        ids = dict(zip(sessions, write_segments(Path(folder), sessions.values()), strict=True))
        counts = {name: len(events) for name, events in sessions.items()}
        sessions.clear()
        gc.collect()
        gc.freeze()  # as `recorder serve` does
        with Catalog(Path(folder)) as catalog:
            for name, count in counts.items():
                first, *taken = _times(catalog, ids[name], count, positions)
                worst[name] = max(first, *taken)
                figures = (first, median(taken), quantiles(taken, n=20)[-1], max(taken))
                table.add_row(name, f"{count:,}", *(f"{figure:.1f}" for figure in figures))
        gc.unfreeze()
    console.print(table)
    console.print(f"goal: under {GOAL_MS:g} ms at any position")
    return max(worst.values()) < GOAL_MS


def _times(catalog: Catalog, session_id: str, count: int, positions: int) -> list[float]:
    """Milliseconds: of the first look, at the end, and of all others."""
    chance = random.Random(1)
    conversation_at(catalog, session_id, 0)  # imports, and the system's cache of the files
    past = TimeTravel(catalog)
    taken = []
    for at in [count - 1, *(chance.randrange(count) for _ in range(positions)), count - 1]:
        began = time.perf_counter()
        state = past.conversation(session_id, at)
        taken.append((time.perf_counter() - began) * 1e3)
        assert state.position == at
    return taken


def _written(share: float) -> Iterator[RecordedEvent]:
    builder = EventBuilder("019c1410-7c00-7000-8000-000000000abc", _OPENED_NS, 0)
    yield builder.own("recorder.session_opened", "{}", 0)
    for number in range(int(EVENTS * share / (_WORDS + 4))):
        for place, message in enumerate(_answer(number)):
            at_ns = (number * (_WORDS + 4) + place) * _WORD_NS
            yield builder.message("server", json.dumps(message).encode(), at_ns=at_ns)


def _answer(number: int) -> Iterator[dict[str, Any]]:
    response, item = f"resp_{number}", f"item_{number}"
    where = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
    message = {"id": item, "type": "message", "role": "assistant", "content": []}
    yield {"type": "response.created", "response": {"id": response, "conversation_id": "conv_1"}}
    before = f"item_{number - 1}" if number else None
    yield {"type": "conversation.item.added", "previous_item_id": before, "item": message}
    for _ in range(_WORDS):
        yield {"type": "response.output_text.delta", **where, "delta": "word "}
    yield {"type": "response.output_text.done", **where, "text": "word " * _WORDS}
    done = {**message, "content": [{"type": "output_text", "text": "word " * _WORDS}]}
    yield {"type": "response.done", "response": {"id": response, "status": "completed", "output": [done]}}
