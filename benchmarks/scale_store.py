"""Stores of any size for `python -m benchmarks scale`: one made-up call, again and again, thirty days of it.

The call is decoded and run through the models; its rows are then written under other ids of sessions, events, items
and responses, and other times, which also differ by up to a millisecond from row to row. The texts of its messages
stay as they are, so files compress better than those of real calls. Without audio. Each day is written in four pieces,
which `recorder compact` then puts together.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.storage import made_up_call
from recorder import __version__
from recorder.analytics.engine import run_models
from recorder.pipeline.compact import compact
from recorder.store import layout, manifests, segments, session_tables
from recorder.store.manifests import Manifest
from recorder.store.schema import FORMAT_VERSION

DAYS: Final = 30
FIRST_DAY: Final = dt.datetime(2026, 1, 1, 9, tzinfo=dt.UTC)

_MODEL: Final = "gpt-realtime"
_PIECES: Final = 4
_WITHOUT: Final = frozenset({"parts", "audio"})
_OF_EVENTS: Final = frozenset({"events", "appends"})
_IDS: Final = frozenset({"event_id", "response_id", "item_id", "call_id", "previous_item_id"})
_DAY_NS: Final = 86_400 * 10**9
_JITTER_NS: Final = 10**6

Tables = dict[str, pa.Table]


class Template:
    """A call of two minutes: its rows by data set, and when it opened."""

    def __init__(self) -> None:
        events = made_up_call(minutes=2.0)
        collected = session_tables.collect(events[0].session_id, events)
        stored = {name: rows for name, rows in collected.data_sets().items() if name not in _WITHOUT}
        self.tables: Tables = stored | {name: _named(rows) for name, rows in run_models(collected.events()).items()}
        self.events = collected.count
        opened_ns = events[0].recorded_at_ns
        assert opened_ns is not None
        self.opened_ns = opened_ns


def _named(rows: pa.Table) -> pa.Table:
    """The made-up call names no model, so that it would have no costs."""
    place = rows.schema.get_field_index("model")
    model = pa.array([_MODEL] * rows.num_rows, pa.string())
    return rows if place < 0 else rows.set_column(place, rows.schema.field(place), model)


def fill(data_dir: Path, template: Template, size: int, *, compacted: bool) -> list[str]:
    """Write a store of so many events.

    Args:
        data_dir: where; made if missing.
        template: what is repeated.
        size: how many events, about.
        compacted: whether as compaction leaves it, or as the sealer does, each session in files of its own.

    Returns:
        The ids of its sessions.
    """
    layout.create(data_dir)
    random = np.random.default_rng(1)
    a_day = max(1, round(size / template.events / DAYS))
    found: list[str] = []
    for day in range(DAYS):
        date = FIRST_DAY + dt.timedelta(days=day)
        opened = [int(date.timestamp()) * 10**9 + number * 10**9 for number in range(a_day)]
        for some in np.array_split(opened, min(_PIECES, a_day) if compacted else a_day):
            times = some.tolist()
            ids = [_identity(at_ns, random) for at_ns in times]
            copies = _Copies(ids, times, template.opened_ns, random)
            rows = {name: copies.of(name, each) for name, each in template.tables.items()}
            _write(data_dir, f"{date:%Y-%m-%d}", rows, dict(zip(ids, times, strict=True)))
            found += ids
    if compacted:
        compact(data_dir, grace_seconds=0)
    return found


def _identity(at_ns: int, random: np.random.Generator) -> str:
    return str(uuid.UUID(int=(at_ns // 10**6 << 80) | 7 << 76 | 2 << 62 | int(random.integers(1 << 62))))


class _Copies(NamedTuple):
    """A call's rows as those of other sessions at other times."""

    ids: list[str]
    times: list[int]
    opened_ns: int
    random: np.random.Generator

    def of(self, name: str, rows: pa.Table) -> pa.Table:
        """All copies of the call's rows of a data set."""
        which = np.repeat(np.arange(len(self.ids)), rows.num_rows)
        begins = np.asarray(self.times, dtype=np.int64)[which]
        jitter = self.random.integers(0, _JITTER_NS if name in _OF_EVENTS else 1, len(which))
        many = pa.concat_tables([rows] * len(self.ids)).combine_chunks()
        made: dict[str, Callable[[Any], Any]] = {
            "session_id": lambda _: _words(which, self.ids),
            "date": lambda column: pa.array((begins // _DAY_NS).astype(np.int32)).cast(column.type),
            "monotonic_ns": lambda column: pc.add(column, pa.array(jitter)),
        } | dict.fromkeys(_IDS, lambda column: pc.binary_join_element_wise(column, _words(which, self._marks), "_"))
        for place, field in enumerate(rows.schema):
            column = many.column(place)
            if pa.types.is_timestamp(field.type):
                moved = pc.add(column.cast(pa.int64()), pa.array(begins - self.opened_ns + jitter))
                many = many.set_column(place, field, moved.cast(field.type))
            elif field.name in made:
                many = many.set_column(place, field, made[field.name](column))
        return many

    @property
    def _marks(self) -> list[str]:
        return [each[-8:] for each in self.ids]


def _words(which: Any, words: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(which), pa.array(words)).cast(pa.string())


def _write(data_dir: Path, date: str, rows: Tables, opened: dict[str, int]) -> None:
    name = next(iter(opened)) if len(opened) == 1 else f"{layout.COMPACT}{uuid.uuid4().hex}"
    files = segments.write(data_dir, date, name, rows)
    count = sum(rows[each].num_rows for each in _OF_EVENTS) // len(opened)
    facts = {
        each: {"opened_at_ns": at_ns, "sealed_at_ns": at_ns, "event_count": count} for each, at_ns in opened.items()
    }
    manifests.write(data_dir, Manifest(FORMAT_VERSION, name, date, __version__, facts, files))


def data_files(data_dir: Path) -> Iterator[Path]:
    """All data files of a store."""
    yield from data_dir.glob("segments/*/*/*.parquet")
