"""How the rows of data files come into SQL: the one place that names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recorder.analytics.engine.connection import literal, quoted
from recorder.analytics.engine.relations import EVENT_SETS
from recorder.store.stored_form import CLOCK, RECORDED_AT
from recorder.store.stored_form import SQL as RECORDED_AT_SQL
from recorder.store.upcast import SQL

# ruff: noqa: S608 - made of column names and paths of our own, quoted


def files_query(
    data_set: str, paths: Sequence[Path], columns: str, typed: str | None = None, *, beside: Sequence[str] = ()
) -> str:
    """A SELECT of a data set's rows in files.

    Args:
        data_set: which.
        paths: its files that DuckDB reads itself.
        columns: which columns, as a list in SQL.
        beside: relations with the rows of its other files.
        typed: where some of the files lack columns, as older versions wrote them: a relation with all of them. The
            columns are matched file by file then, which opens every file.

    `paths` or `beside` must have one at least.
    """
    named = ", ".join(literal(str(path.resolve())) for path in paths)
    of_events = data_set in EVENT_SETS
    if typed is None:
        chosen = columns.replace(quoted(RECORDED_AT), f"{RECORDED_AT_SQL} AS {RECORDED_AT}") if of_events else columns
        scans = [f"read_parquet([{named}], hive_partitioning = false)"] if paths else []
        return " UNION ALL ".join(f"SELECT {chosen} FROM {scan}" for scan in (*scans, *beside))
    scans = [f"read_parquet([{named}], hive_partitioning = false, union_by_name = true)"] if paths else []
    found = " UNION ALL BY NAME ".join(f"FROM {scan}" for scan in (*scans, *beside))
    made = {name: sql for (whose, name), sql in SQL.items() if whose == data_set}
    made |= {RECORDED_AT: RECORDED_AT_SQL} if of_events else {}
    upcast = ", ".join(f"coalesce({name}, {sql}) AS {name}" for name, sql in made.items())
    every = "*" + (f" REPLACE ({upcast})" if upcast else "")
    none = f"SELECT *{f', CAST(NULL AS BIGINT) AS {CLOCK}' if of_events else ''} {typed} LIMIT 0"
    return f"SELECT {columns} FROM (SELECT {every} FROM ({found} UNION ALL BY NAME ({none})))"
