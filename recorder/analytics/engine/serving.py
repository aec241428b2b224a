"""SQL over what is stored and what runs: the views, and who may ask them what."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import polars as pl
import pyarrow as pa

from recorder.analytics import drift
from recorder.analytics.engine.connection import (
    alarm,
    errors,
    explained,
    locked_down,
    quoted,
    refuse_all_but_reading,
)
from recorder.analytics.engine.files import files_query
from recorder.analytics.engine.finding import findings
from recorder.analytics.engine.relations import (
    EVENT_SETS,
    event_types,
    price_ranges_table,
    price_rows,
    view_columns,
)
from recorder.analytics.prices import Price
from recorder.analytics.registry import shown_models, stored_models
from recorder.analytics.rules import Rule
from recorder.analytics.views import view_statements

# The SQL in this module is put together from model files, column names and paths that are our own, quoted where they
# could be anything; values of users travel as parameters.
# ruff: noqa: S608

DEFAULT_MEMORY = "1GB"


class Engine:
    """SQL over segment files and running sessions.

    Views: `events` (with the appends), `parts`, `audio`, `event_types`, `prices`, and one per shown model. Each is the
    union of its files and its live rows; one without either is empty and typed. Safe for use from several threads: a
    query sees either all or nothing of an update.
    """

    def __init__(
        self,
        directories: Sequence[Path] = (),
        *,
        prices: Sequence[Price] = (),
        threads: int | None = None,
        memory_limit: str = DEFAULT_MEMORY,
    ) -> None:
        """Open an engine.

        Args:
            directories: where segment files may lie; no other file can be opened, by no query.
            prices: what costs are reckoned with.
            threads: how many threads DuckDB may use; all cores if None.
            memory_limit: what queries may take in all, in DuckDB's words.
        """
        config: dict[str, Any] = {"memory_limit": memory_limit, "python_enable_replacements": False}
        if threads is not None:
            config["threads"] = threads
        self._connection = locked_down(config, directories)
        self._writing = threading.Lock()
        self._files: dict[str, list[Path]] = {}
        self._by_name: set[str] = set()
        self._beside: dict[str, list[str]] = {}
        self._once_live: set[str] = set()
        self._columns = view_columns()
        with self._cursor() as cursor:
            cursor.register("incoming", event_types())
            cursor.execute("CREATE TABLE event_types AS FROM incoming")
            cursor.execute("CREATE SCHEMA live")
            cursor.execute("CREATE SCHEMA stored")
            for table, rows in (("prices", price_rows(prices)), ("stored.price_ranges", price_ranges_table(prices))):
                cursor.register("incoming", rows)
                cursor.execute(f"CREATE TABLE {table} AS FROM incoming")
            for data_set, columns in self._columns.items():
                typed = ", ".join(f"CAST(NULL AS {kind}) AS {quoted(name)}" for name, kind in columns.items())
                cursor.execute(f"CREATE TABLE {_live(data_set)} AS SELECT {typed} LIMIT 0")
        self.update(files=dict.fromkeys(self._columns, ()))
        with self._cursor() as cursor:
            cursor.execute(f"CREATE VIEW drift AS {drift.VIEW}")
            for statement in view_statements():
                cursor.execute(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the engine; its queries fail from now on."""
        self._connection.close()

    def set_files(self, data_set: str, paths: Sequence[Path], *, by_name: bool = False) -> None:
        """Replace a data set's files; see `update`."""
        self.update(files={data_set: paths}, by_name={data_set} if by_name else None)

    def set_live(self, data_set: str, rows: pa.Table) -> None:
        """Replace a data set's rows of running sessions; see `update`."""
        self.update(live={data_set: rows})

    def update(
        self,
        *,
        files: Mapping[str, Sequence[Path]] | None = None,
        live: Mapping[str, pa.Table] | None = None,
        by_name: set[str] | None = None,
        beside: Mapping[str, Sequence[pa.dataset.Dataset]] | None = None,
    ) -> None:
        """Replace files and live rows of data sets, all at once: no query sees a part of it.

        Args:
            files: data set → its segment files. Data sets: events, appends, parts, audio, and the stored models.
            live: data set → its rows of running sessions. Columns that they lack are NULL.
            by_name: data sets some of whose files lack columns, as older versions wrote them; the columns are
                matched file by file then, which opens every file.
            beside: data set, one that `files` names → its rows that DuckDB cannot read itself, as Arrow data sets.

        Raises:
            QueryError: rows or files do not fit; nothing was changed.
        """
        with self.changing() as cursor:
            self._show_live(cursor, live or {})
            self._show_files(cursor, files or {}, by_name or set(), beside or {})

    def query(self, sql: str, parameters: Sequence[object] | None = None) -> pl.DataFrame:
        """Run trusted SQL.

        Args:
            sql: one SELECT; `?` stands for parameters.
            parameters: their values.

        Raises:
            QueryError: the SQL fails.
        """
        with self._cursor() as cursor, errors():
            rows: pl.DataFrame = cursor.sql(sql, params=list(parameters or ())).pl()
            return rows

    def table(self, relation: str) -> pa.Table:
        """All rows of a view, or of a table of the engine's own.

        Raises:
            QueryError: a file cannot be read.
        """
        with self._cursor() as cursor, errors():
            return cursor.sql(f"FROM {relation}").to_arrow_table()

    def relations(self, sql: str) -> set[str]:
        """Names of the views that a query reads, in lower case; more than those where it cannot be told."""
        with self._cursor() as cursor:
            try:
                names = {str(name).lower() for name in cursor.get_table_names(sql)}
            except (duckdb.Error, UnicodeError):
                names = set(re.findall(r"\w+", sql.lower()))
        return names | ({"events"} if "drift" in names else set())

    def query_user(self, sql: str, *, max_rows: int = 10_000, timeout_seconds: float = 30.0) -> pl.DataFrame:
        """Run SQL of unknown origin: it can read the views, and nothing else.

        Args:
            sql: one SELECT, WITH, VALUES, FROM, DESCRIBE, SHOW, SUMMARIZE, or EXPLAIN of one of these.
            max_rows: further rows are left out.
            timeout_seconds: the query is stopped after that time.

        Raises:
            QueryError: the SQL fails, asks for more than reading, or takes too long or too much memory.
        """
        with self._cursor() as cursor, errors():
            sql = sql.encode("utf-8", "replace").decode()  # lone surrogates, which DuckDB cannot take
            text = explained(sql)
            refuse_all_but_reading(cursor, sql if text is None else text)
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            with alarm(cursor, timeout_seconds):
                if text is not None:
                    return pl.DataFrame(cursor.execute(sql).fetchall(), schema=["kind", "plan"], orient="row")
                rows: pl.DataFrame = cursor.sql(sql).limit(max_rows).pl()
                return rows

    def run_rules(self, rules: Sequence[Rule], session_ids: Sequence[str] | None = None) -> pl.DataFrame:
        """What rules find, in one state of the store.

        Each relation that they read is read once, for these sessions alone.

        Args:
            rules: which.
            session_ids: whose sessions; all if None.

        Returns:
            `session_id`, `rule`, `severity`, `title`, `positions` (list of int), `message`, `advice`: the worst first,
            then by session and position.

        Raises:
            RuleError: a rule's query fails, or asks for more than reading.
        """
        with self._cursor() as cursor:
            return findings(cursor, rules, session_ids, views=self._columns.keys() | shown_models().keys() | {"drift"})

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._connection.cursor() as cursor:
            yield cursor

    @contextmanager
    def changing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A transaction of the only writer: queries that begin later see all that it does, others nothing."""
        with self._writing, self._cursor() as cursor, errors():
            cursor.execute("BEGIN TRANSACTION")
            try:
                yield cursor
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    def _show_live(self, cursor: duckdb.DuckDBPyConnection, live: Mapping[str, pa.Table]) -> None:
        for data_set, rows in live.items():
            self._replace_live(cursor, data_set, rows)

    def _show_files(
        self,
        cursor: duckdb.DuckDBPyConnection,
        files: Mapping[str, Sequence[Path]],
        by_name: set[str],
        beside: Mapping[str, Sequence[pa.dataset.Dataset]],
    ) -> None:
        for data_set, paths in files.items():
            self._files[data_set] = list(paths)
            self._replace_beside(cursor, data_set, beside.get(data_set, ()))
            (self._by_name.add if data_set in by_name else self._by_name.discard)(data_set)
        for view in {_view(data_set) for data_set in files}:
            cursor.execute(f"CREATE OR REPLACE VIEW {_place(view)} AS {self._view_query(view)}")

    def _replace_live(self, cursor: duckdb.DuckDBPyConnection, data_set: str, rows: pa.Table) -> None:
        if data_set in self._once_live:
            cursor.execute(f"DELETE FROM {_live(data_set)}")
        if rows.num_rows:
            self._once_live.add(data_set)
            cursor.register("incoming", rows)
            cursor.execute(f"INSERT INTO {_live(data_set)} BY NAME FROM incoming")
            cursor.unregister("incoming")

    def _replace_beside(
        self, cursor: duckdb.DuckDBPyConnection, data_set: str, data_sets: Sequence[pa.dataset.Dataset]
    ) -> None:
        """Views of Arrow data sets, which keep these for as long as any query may read them."""
        if not data_sets and not self._beside.get(data_set):
            self._beside[data_set] = []
            return
        for name in self._beside.get(data_set, ()):
            cursor.execute(f"DROP VIEW IF EXISTS {name}")
        names = [f"arrow {data_set} {number}" for number in range(len(data_sets))]
        cursor.execute("USE stored")  # where such views are made
        for name, rows in zip(names, data_sets, strict=True):
            cursor.from_arrow(rows).create_view(name)
        cursor.execute("USE main")
        self._beside[data_set] = [f"stored.{quoted(name)}" for name in names]

    def _view_query(self, view: str) -> str:
        data_sets = EVENT_SETS if view == "events" else (view,)
        columns = ", ".join(quoted(name) for name in self._columns[view])
        filled = [data_set for data_set in data_sets if self._files.get(data_set) or self._beside.get(data_set)]
        sources = [self._of_files(data_set, columns) for data_set in filled]
        sources += [f"SELECT {columns} FROM {_live(data_set)}" for data_set in data_sets]
        return " UNION ALL ".join(sources)

    def _of_files(self, data_set: str, columns: str) -> str:
        typed = f"FROM {_live(data_set)}" if data_set in self._by_name else None
        return files_query(data_set, self._files[data_set], columns, typed, beside=self._beside[data_set])


def _view(data_set: str) -> str:
    return "events" if data_set in EVENT_SETS else data_set


def _place(view: str) -> str:
    """Where the union of files and live rows is: models' are behind the views that add to them."""
    return f"stored.{quoted(view)}" if view in stored_models() else quoted(view)


def _live(data_set: str) -> str:
    return f"live.{quoted(data_set)}"
