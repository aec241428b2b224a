"""`python -m benchmarks models`: how fast all derived tables are made from events that have been decoded.

Sessions as they come: a made-up call of two minutes (audio in appends of 20 ms, an answer every dozen seconds), and
beside it the sample recordings of a barge-in, a tool call and a voice turn, so that every kind of row has to be made.
They are repeated under other ids until there are as many events as wanted, and go through the models at once, as
in a rebuild. Time is wall time of the second run (the first fills the caches of the process); each model's is that of
all threads that make it, for their part of the sessions.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmarks.storage import made_up_call
from recorder.analytics.engine import run_models
from recorder.pipeline.imports import import_files
from recorder.store import manifests, segments, session_tables

GOAL_EVENTS_A_SECOND: Final = 1_000_000
EVENTS: Final = 10_000_000
_SAMPLES: Final = ("barge_in", "tool_call", "voice_turn")
_SAMPLE_FOLDER: Final = Path(__file__).parents[1] / "sample_logs" / "v1"


def run(console: Console, *, count: int = EVENTS) -> bool:
    """Measure and print; whether the goal is reached."""
    events = many_sessions(count)
    run_models(_head(events))
    took: dict[str, float] = {}
    began = time.perf_counter()
    rows = {name: table.num_rows for name, table in run_models(events, took=took).items()}
    seconds = time.perf_counter() - began
    table = Table("model", "rows", "seconds", "of all")
    for name, each in sorted(took.items(), key=lambda item: -item[1]):
        share = each / sum(took.values())
        table.add_row(name, f"{rows[name]:,}" if name in rows else "", f"{each:.3f}", f"{share:.1%}")
    console.print(table)
    rate = events.num_rows / seconds
    console.print(
        f"{events.num_rows:,} events in {seconds:.2f} s: {rate:,.0f} a second (goal: {GOAL_EVENTS_A_SECOND:,})"
    )
    return bool(rate >= GOAL_EVENTS_A_SECOND)


def many_sessions(count: int) -> pa.Table:
    """At least so many rows of `events`, appends included."""
    sessions = _sessions()
    one_round = pa.concat_tables(sessions)
    rounds = -(-count // one_round.num_rows)
    ids = pa.array([str(uuid.UUID(int=number)) for number in range(rounds * len(sessions))])
    lengths = [session.num_rows for session in sessions] * rounds
    of_row = pa.array([number for number, length in enumerate(lengths) for _ in range(length)], pa.int32())
    column = one_round.schema.get_field_index("session_id")
    return pa.concat_tables([one_round] * rounds).set_column(column, one_round.field(column), ids.take(of_row))


def _sessions() -> list[pa.Table]:
    call = made_up_call(minutes=2.0)
    found: list[Any] = [session_tables.collect(call[0].session_id, call).events()]
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        import_files(data_dir, [_SAMPLE_FOLDER / f"{name}.jsonl" for name in _SAMPLES])
        for manifest in manifests.list_manifests(data_dir):
            found += [segments.read_events(data_dir, manifest.files, session_id=each) for each in manifest.sessions]
    return [table.select(found[0].column_names).cast(found[0].schema) for table in found]


def _head(events: pa.Table) -> pa.Table:
    return events.slice(0, min(events.num_rows, 200_000))
