"""`python -m benchmarks scale`: what looking something up costs as a store grows, and how soon it can be looked up.

Measured with a catalog that is open, medians of several runs: a session's first 200 events by its id, as replay reads
them, and the overview's panels over thirty days, with the models' rows in memory, as `recorder serve` has them, and
from files, as commands read them. The smallest store is also measured as the sealer leaves it, each session in files of
its own. How stores are made: `benchmarks/scale_store.py`.
"""

from __future__ import annotations

import datetime as dt
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.scale_live import wire_to_sql
from benchmarks.scale_store import DAYS, FIRST_DAY, Template, data_files, fill
from dashboards import queries
from recorder.pipeline.catalog import Catalog

SIZES: Final = (1_000_000, 10_000_000, 50_000_000)
GOAL_SECONDS: Final = 0.020
WIRE_GOAL_SECONDS: Final = 1.0
_GOAL_AT: Final = 10_000_000
_RUNS: Final = 15
_LOOKUP: Final = "session lookup"
_MEMORY: Final = "SELECT sum(memory_usage_bytes)::BIGINT FROM duckdb_memory() WHERE tag = 'IN_MEMORY_TABLE'"


class Timing(NamedTuple):
    """Medians of one question, in seconds."""

    wall: float
    cpu: float


def run(console: Console, *, sizes: tuple[int, ...] = SIZES) -> bool:
    """Measure and print; whether the goals are reached."""
    delays = wire_to_sql()
    worst = max(delays)
    console.print(
        f"wire → SQL, {len(delays)} events: median {statistics.median(delays):.3f} s, longest {worst:.3f} s",
        markup=False,
    )
    template = Template()
    reached = worst < WIRE_GOAL_SECONDS
    for size in sizes:
        for compacted in (True, False) if size == sizes[0] else (True,):
            with tempfile.TemporaryDirectory(prefix="recorder-scale-") as folder:
                data_dir = Path(folder)
                ids = fill(data_dir, template, size, compacted=compacted)
                found = {keep: _measure(data_dir, ids, keep=keep) for keep in (True, False)}
                _print(console, data_dir, len(ids) * template.events, found, compacted=compacted)
            if size == _GOAL_AT:
                reached &= all(timing.cpu <= GOAL_SECONDS for name, timing in found[True].items() if name != "open")
    return reached


def _print(
    console: Console, data_dir: Path, events: int, found: Mapping[bool, Mapping[str, Timing]], *, compacted: bool
) -> None:
    sizes = [path.stat().st_size for path in data_files(data_dir)]
    with Catalog(data_dir, keep=True) as catalog:
        kept = catalog.query(_MEMORY).item()
    said = "compacted" if compacted else "not compacted"
    title = f"{events:,} events, {said}: {len(sizes):,} files, {sum(sizes) / events:.1f} B an event"
    table = Table("wall / CPU ms", f"rows in memory ({kept / 1e6:,.0f} MB)", "from files", title=title)
    for name in found[True]:
        table.add_row(
            name, *(f"{found[keep][name].wall * 1e3:,.1f} / {found[keep][name].cpu * 1e3:,.1f}" for keep in found)
        )
    console.print(table)


def _measure(data_dir: Path, ids: Sequence[str], *, keep: bool) -> dict[str, Timing]:
    chance = random.Random(1)
    began = time.perf_counter(), time.process_time()
    with Catalog(data_dir, keep=keep) as catalog:
        figures = {"open": Timing(time.perf_counter() - began[0], time.process_time() - began[1])}
        now = FIRST_DAY + dt.timedelta(days=DAYS)
        since = now - dt.timedelta(days=DAYS)
        width = queries.steps(catalog, since, now).width
        asked: dict[str, Callable[[], Any]] = {
            _LOOKUP: lambda: catalog.events(chance.choice(ids), limit=200),
            "overview": lambda: queries.overview(catalog, since),
            "sessions and cost per day": lambda: queries.sessions_over_time(catalog, since, width),
            "latency per day": lambda: queries.latency_over_time(catalog, since, width),
            "interruptions per day": lambda: queries.interruptions_over_time(catalog, since, width),
            "page of sessions": lambda: queries.list_sessions(catalog, queries.SessionFilter(since=since)),
        }
        for name, ask in asked.items():
            timings = list(_timed(ask))
            figures[name] = Timing(*(statistics.median(each) for each in zip(*timings, strict=True)))
    return figures


def _timed(ask: Callable[[], Any]) -> Iterator[Timing]:
    ask()  # footers are read once
    for _ in range(_RUNS):
        wall, cpu = time.perf_counter(), time.process_time()
        ask()
        yield Timing(time.perf_counter() - wall, time.process_time() - cpu)
