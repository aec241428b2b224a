"""Running the models, and their checks, over rows that are in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recorder.analytics.engine.connection import cleaned, quoted
from recorder.analytics.engine.relations import apart, event_types
from recorder.analytics.registry import Column, Model, ModelError, built_in_models, stored_models
from recorder.store.keys import keyring

# The SQL in this module is put together from model files, column names and paths that are our own, quoted where they
# could be anything; values of users travel as parameters.
# ruff: noqa: S608

_SESSION = "session_id"
_WORTHWHILE = frozenset({"column_lifetime", "filter_pushdown", "unused_columns"})
"""Optimizers that cost less than they save, however few events there are."""

FEW_EVENTS = 150_000
"""Up to so many, models are made without optimizing their queries, and those without rows not at all."""

MANY_EVENTS = 400_000
"""From so many on, each thread makes the models of a part of the sessions: planning them once more takes less than
threads lose that wait for each other in every sort and join."""

_MOST_SLICES = 1000


def run_models(
    events: pa.Table,
    *,
    models: Mapping[str, Model] | None = None,
    threads: int | None = None,
    took: dict[str, float] | None = None,
) -> dict[str, pa.Table]:
    """Run every model over whole sessions.

    Args:
        events: rows of `schema.EVENTS`, audio appends included; any number of sessions, in any order.
        models: in order of dependency; the built-in ones if None.
        threads: how many may be used; if None, one for few events, else as many as there are cores.
        took: is told how many seconds each model took, in all threads that worked alone together.

    Returns:
        The rows of each model that is neither internal nor a view: the declared columns, ordered by the model's key.

    Raises:
        ModelError: a model's query fails, or does not give the columns that its description declares.
    """
    known = built_in_models() if models is None else models
    chosen = {name: model for name, model in known.items() if not model.view}
    few = threads is None and events.num_rows <= FEW_EVENTS
    numbered, session_ids = _numbered(events)
    parts = _parts(numbered, (threads or os.cpu_count() or 1) if events.num_rows >= MANY_EVENTS else 1)
    alone = len(parts) == 1
    database = (
        _hasty_database(os.getpid(), _may_spill())
        if few
        else _database(os.getpid(), threads if alone else 1, _may_spill())
    )

    def made(part: pa.Table) -> tuple[dict[str, pa.Table], dict[str, float]]:
        with database.cursor() as connection:
            return _tables(connection, part, chosen, few=few)

    if alone:
        results = [made(parts[0])]
    else:
        with ThreadPoolExecutor(len(parts)) as pool:
            results = list(pool.map(made, parts))
    if took is not None:
        took.update({name: sum(seconds[name] for _, seconds in results) for name in chosen})
    return {
        name: _named(pa.concat_tables([tables[name] for tables, _ in results]), session_ids) for name in results[0][0]
    }


def _parts(numbered: pa.Table, count: int) -> list[pa.Table]:
    """The events in so many parts of whole sessions, in order of these, nearly as long as each other.

    Parts are slices: where sessions are not one after the other, there is one part only.
    """
    if count == 1:
        return [numbered]
    numbers = numbered.column(_SESSION).to_numpy()
    up_to = np.bincount(numbers).cumsum()
    of_row = ((up_to - 1) * count // len(numbers)).astype(np.int32)[numbers]
    begins = np.flatnonzero(np.diff(of_row, prepend=-1))
    if len(begins) > _MOST_SLICES:
        return [numbered]
    slices: dict[int, list[pa.Table]] = {}
    for begin, end in zip(begins, [*begins[1:], len(numbers)], strict=True):
        slices.setdefault(int(of_row[begin]), []).append(numbered.slice(begin, end - begin))
    return [pa.concat_tables(slices[part]) for part in sorted(slices)]


def _tables(
    connection: duckdb.DuckDBPyConnection, numbered: pa.Table, chosen: Mapping[str, Model], *, few: bool
) -> tuple[dict[str, pa.Table], dict[str, float]]:
    """The rows of each model that is shown, and how many seconds each model took."""
    took = {}
    connection.execute("SET TimeZone = 'UTC'")
    for name, rows in {"events": numbered, **apart(numbered), "event_types": event_types()}.items():
        connection.register(name, rows)
    empty = set()
    for model in chosen.values():
        began = time.perf_counter()
        if not _make(connection, model, look_first=few):
            empty.add(model.name)
        took[model.name] = time.perf_counter() - began
    rows = {
        model.name: _no_rows(model) if model.name in empty else _rows(connection, model)
        for model in chosen.values()
        if not model.internal
    }
    return rows, took


def _numbered(events: pa.Table) -> tuple[pa.Table, pa.Array]:
    """The events with numbers for their sessions' ids, and the ids by number.

    Every join, group and window of the models is by session, and a number takes a third of the time of a text. The
    numbers are in the order of the ids, so that rows come out in the same order.
    """
    coded = events.column(_SESSION).combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):  # of no rows
        coded = pa.array([], pa.string()).dictionary_encode()
    order = pc.sort_indices(coded.dictionary).to_numpy()
    numbers = np.empty(len(order), dtype=np.int32)
    numbers[order] = np.arange(len(order), dtype=np.int32)
    column = pa.array(numbers[coded.indices.to_numpy()])
    place = events.schema.get_field_index(_SESSION)
    return events.set_column(place, _SESSION, column), coded.dictionary.take(pa.array(order))


def _named(rows: pa.Table, session_ids: pa.Array) -> pa.Table:
    """The rows with the ids that the numbers stand for."""
    place = rows.schema.get_field_index(_SESSION)
    if place < 0:
        return rows
    return rows.set_column(place, pa.field(_SESSION, pa.string()), session_ids.take(rows.column(place)))


def _make(connection: duckdb.DuckDBPyConnection, model: Model, *, look_first: bool) -> bool:
    """Make a model's table; whether it can have rows, if that was looked at."""
    try:
        skip = look_first and bool(model.only_if) and connection.execute(_condition(model)).fetchone() is None
        connection.execute(_empty_creation(model) if skip else _creation(model))
    except duckdb.Error as error:
        raise ModelError(model.name, cleaned(str(error))) from error
    return not skip


def _rows(connection: duckdb.DuckDBPyConnection, model: Model) -> pa.Table:
    return connection.sql(f"FROM {quoted(model.name)}").to_arrow_table()


@cache
def _no_rows(model: Model) -> pa.Table:
    with _database(os.getpid(), None, _may_spill()).cursor() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(_empty_creation(model))
        return _rows(connection, model)


def run_checks(tables: Mapping[str, pa.Table]) -> dict[str, list[dict[str, Any]]]:
    """Run the stored models' checks on their rows.

    Args:
        tables: the rows of every stored model, as `run_models` gives them.

    Returns:
        `model.check` → the rows that break it; checks that hold are left out.
    """
    with _database(os.getpid(), None, _may_spill()).cursor() as connection:
        for name, rows in tables.items():
            connection.register(name, rows)
        broken = {
            f"{model.name}.{check.name}": connection.sql(check.sql).to_arrow_table().to_pylist()
            for model in stored_models().values()
            for check in model.all_checks()
        }
    return {name: rows for name, rows in broken.items() if rows}


def _new_database(config: dict[str, Any], *, spill: bool) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect(config=config)
    if not spill:
        database.execute("SET temp_directory = ''")
    return database


def _may_spill() -> bool:
    """Whether DuckDB may write what does not fit into memory to disk: it does so in clear."""
    return not keyring().held


@cache
def _database(process: int, threads: int | None, spill: bool) -> duckdb.DuckDBPyConnection:  # noqa: ARG001 (a fork)
    """An empty database in memory, opened once in a process: opening takes longer than some models."""
    return _new_database({} if threads is None else {"threads": threads}, spill=spill)


@cache
def _hasty_database(process: int, spill: bool) -> duckdb.DuckDBPyConnection:  # noqa: ARG001 (as in `_database`)
    """The same for few events: planning the models takes longer than running them, and optimizing a third of that."""
    database = _new_database({"threads": 1}, spill=spill)
    known = (str(name) for (name,) in database.execute("FROM duckdb_optimizers()").fetchall())
    database.execute(f"SET disabled_optimizers = '{','.join(name for name in known if name not in _WORTHWHILE)}'")
    return database


@cache
def _creation(model: Model) -> duckdb.Statement:
    """The statement that makes the model's table: parsed once, since parsing takes a quarter of a small session's time.

    The table has the declared columns and types, ordered by the model's key; an internal one is as its query gives it.
    """
    query = model.query
    if model.columns:
        columns = ", ".join(
            f"CAST({quoted(column.name)} AS {_type(column)}) AS {column.name}" for column in model.columns
        )
        query = f"SELECT {columns} FROM ({model.query}\n) ORDER BY {', '.join(quoted(name) for name in model.key)}"
    return duckdb.extract_statements(f"CREATE TEMP TABLE {quoted(model.name)} AS {query}")[0]


@cache
def _empty_creation(model: Model) -> duckdb.Statement:
    """The statement that makes the model's table without rows."""
    columns = ", ".join(f"{quoted(column.name)} {_type(column)}" for column in model.columns)
    return duckdb.extract_statements(f"CREATE TEMP TABLE {quoted(model.name)} ({columns})")[0]


def _type(column: Column) -> str:
    """What a column is while the models run: see `_numbered`."""
    return "INTEGER" if column.name == _SESSION else column.type


@cache
def _condition(model: Model) -> duckdb.Statement:
    """The statement that gives a row if the model may have any."""
    return duckdb.extract_statements(f"SELECT 1 {model.only_if} LIMIT 1")[0]
