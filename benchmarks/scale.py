"""`python -m benchmarks scale`: what looking something up costs as a store grows, in files as compaction leaves them.

One made-up call of two minutes is decoded and run through the models; its rows are then written again and again under
other ids and days, thirty days of them, without audio. Measured with a catalog that is open, medians of several runs:
a session's first 200 events by its id, and the overview's panels over thirty days. The smallest store is also measured
as the sealer leaves it, a few files for each session.
"""

from __future__ import annotations

import datetime as dt
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from benchmarks.storage import made_up_call
from dashboards import queries
from recorder import __version__
from recorder.analytics.engine import run_models
from recorder.pipeline.catalog import Catalog
from recorder.store import layout, manifests, segments
from recorder.store.manifests import Manifest
from recorder.store.schema import FORMAT_VERSION

SIZES: Final = (1_000_000, 10_000_000, 50_000_000)
GOAL_SECONDS: Final = 0.020
_DAYS: Final = 30
_FIRST_DAY: Final = dt.datetime(2026, 1, 1, 9, tzinfo=dt.UTC)
_RUNS: Final = 15
_WITHOUT: Final = frozenset({"parts", "audio"})
_DAY_NS: Final = 86_400 * 10**9

Tables = dict[str, pa.Table]


def run(console: Console, *, sizes: tuple[int, ...] = SIZES) -> bool:
    """Measure and print; whether the goals are reached at ten million events."""
    template, opened_ns = _template()
    table = Table("events", "sessions", "files", "open", "session lookup", "overview", "per day", "latency per day")
    reached = True
    for size in sizes:
        for scattered in (True, False) if size == sizes[0] else (False,):
            with tempfile.TemporaryDirectory(prefix="recorder-scale-") as folder:
                data_dir = Path(folder)
                ids = _fill(data_dir, template, opened_ns, size, scattered=scattered)
                figures = _measure(data_dir, ids)
                files = sum(1 for _ in data_dir.glob("segments/*/*/*.parquet"))
            words = [f"{value * 1000:,.1f} ms" for value in figures.values()]
            table.add_row(f"{size:,}" + (" not compacted" if scattered else ""), f"{len(ids):,}", f"{files:,}", *words)
            if size == 10_000_000:
                reached = all(value <= GOAL_SECONDS for name, value in figures.items() if name != "open")
    console.print(table)
    return reached


def _template() -> tuple[Tables, int]:
    """A call's rows by data set, and when it opened."""
    events = made_up_call(minutes=2.0)
    collected = segments.collect(events[0].session_id, events)
    tables = {name: rows for name, rows in collected.data_sets().items() if name not in _WITHOUT}
    opened_ns = events[0].recorded_at_ns
    assert opened_ns is not None
    return tables | run_models(collected.events()), opened_ns


def _fill(data_dir: Path, template: Tables, opened_ns: int, size: int, *, scattered: bool) -> list[str]:
    """Write a store of so many events; the ids of its sessions."""
    layout.create(data_dir)
    a_session = template["events"].num_rows + template["appends"].num_rows
    a_day = max(1, round(size / a_session / _DAYS))
    found: list[str] = []
    for day in range(_DAYS):
        begins_ns = int(_FIRST_DAY.timestamp()) * 10**9 + day * _DAY_NS
        date = f"{_FIRST_DAY + dt.timedelta(days=day):%Y-%m-%d}"
        opened = [begins_ns + number * 10**9 for number in range(a_day)]
        ids = [_identity(at_ns) for at_ns in opened]
        found += ids
        if scattered:
            for session_id, at_ns in zip(ids, opened, strict=True):
                rows = {name: _moved(each, session_id, at_ns - opened_ns) for name, each in template.items()}
                _write(data_dir, date, session_id, rows, {session_id: at_ns})
        else:
            rows = {
                name: pa.concat_tables(
                    _moved(each, one, at_ns - opened_ns) for one, at_ns in zip(ids, opened, strict=True)
                )
                for name, each in template.items()
            }
            _write(data_dir, date, f"compact-{uuid.uuid4().hex}", rows, dict(zip(ids, opened, strict=True)))
    return found


def _identity(at_ns: int) -> str:
    return str(uuid.UUID(int=(at_ns // 10**6 << 80) | 7 << 76 | 2 << 62 | random.getrandbits(62)))


def _moved(rows: pa.Table, session_id: str, by_ns: int) -> pa.Table:
    """The rows as those of another session at another time."""
    for number, field in enumerate(rows.schema):
        column = rows.column(number)
        if field.name == "session_id":
            column = pa.chunked_array([pa.array([session_id] * rows.num_rows, field.type)])
        elif pa.types.is_timestamp(field.type):
            column = pc.add(column, pa.scalar(by_ns, pa.duration("ns"))).cast(field.type, safe=False)
        elif pa.types.is_date(field.type):
            column = pc.add(column.cast(pa.timestamp("ns")), pa.scalar(by_ns, pa.duration("ns"))).cast(
                field.type, safe=False
            )
        rows = rows.set_column(number, field, column)
    return rows


def _write(data_dir: Path, date: str, name: str, rows: Tables, opened: dict[str, int]) -> None:
    files = segments.write(data_dir, date, name, rows)
    count = rows["events"].num_rows + rows["appends"].num_rows
    facts = {
        each: {"opened_at_ns": at_ns, "sealed_at_ns": at_ns, "event_count": count // len(opened)}
        for each, at_ns in opened.items()
    }
    manifests.write(data_dir, Manifest(FORMAT_VERSION, name, date, __version__, facts, files))


def _measure(data_dir: Path, ids: list[str]) -> dict[str, float]:
    chance = random.Random(1)
    began = time.perf_counter()
    with Catalog(data_dir) as catalog:
        figures = {"open": time.perf_counter() - began}
        now = _FIRST_DAY + dt.timedelta(days=_DAYS)
        since = now - dt.timedelta(days=_DAYS)
        steps = queries.steps(catalog, since, now)
        asked: dict[str, Callable[[], Any]] = {
            "session lookup": lambda: catalog.events(chance.choice(ids), limit=200),
            "overview": lambda: queries.overview(catalog, since),
            "per day": lambda: queries.sessions_over_time(catalog, since, steps.width),
            "latency per day": lambda: queries.latency_over_time(catalog, since, steps.width),
        }
        for name, ask in asked.items():
            figures[name] = statistics.median(_timed(ask))
    return figures


def _timed(ask: Callable[[], Any]) -> Iterator[float]:
    ask()  # footers are read once
    for _ in range(_RUNS):
        began = time.perf_counter()
        ask()
        yield time.perf_counter() - began
