"""DuckDB, and nothing else of it anywhere: running the models, and SQL over what is stored and what runs.

`run_models` makes the derived tables of whole sessions. `Engine` serves queries over segment files and running
sessions alike, for trusted SQL and, in a sandbox, for anybody's.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import polars as pl
import pyarrow as pa

from recorder.analytics import drift
from recorder.analytics.prices import Price, PriceRange, price_ranges
from recorder.analytics.registry import Model, ModelError, built_in_models, shown_models, stored_models
from recorder.analytics.rules import Rule, RuleError
from recorder.analytics.sandbox import objection, relations
from recorder.analytics.views import view_statements
from recorder.errors import QueryError
from recorder.protocol.event_types import VOCABULARY
from recorder.store import schema
from recorder.store.stored_form import CLOCK, RECORDED_AT
from recorder.store.stored_form import SQL as RECORDED_AT_SQL
from recorder.store.upcast import SQL

# The SQL in this module is put together from model files, column names and paths that are our own, quoted where they
# could be anything; values of users travel as parameters.
# ruff: noqa: S608

DEFAULT_MEMORY = "1GB"
_NO_RULE = Rule("none", "info", "", "", "SELECT '' AS session_id, [] AS positions, '' AS message LIMIT 0", {}, "")
FEW_EVENTS = 50_000
"""Up to so many, models are made without optimizing their queries, and those without rows not at all."""
_EVENT_SETS = ("events", "appends")
_ARROW_TYPES = {
    "string": "VARCHAR",
    "binary": "BLOB",
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "timestamp[ns, tz=UTC]": "TIMESTAMPTZ_NS",
}


def run_models(
    events: pa.Table, *, models: Mapping[str, Model] | None = None, threads: int | None = None
) -> dict[str, pa.Table]:
    """Run every model over whole sessions.

    Args:
        events: rows of `schema.EVENTS`, audio appends included; any number of sessions, in any order.
        models: in order of dependency; the built-in ones if None.
        threads: how many threads DuckDB may use; if None, one for few events, else all cores.

    Returns:
        The rows of each model that is neither internal nor a view: the declared columns, ordered by the model's key.

    Raises:
        ModelError: a model's query fails, or does not give the columns that its description declares.
    """
    known = built_in_models() if models is None else models
    chosen = {name: model for name, model in known.items() if not model.view}
    few = threads is None and events.num_rows <= FEW_EVENTS
    with (_hasty_database(os.getpid()) if few else _database(os.getpid(), threads)).cursor() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("events", events)
        connection.register("event_types", _event_types())
        empty = {model.name for model in chosen.values() if not _make(connection, model, look_first=few)}
        return {
            model.name: _no_rows(model) if model.name in empty else _rows(connection, model)
            for model in chosen.values()
            if not model.internal
        }


def _make(connection: duckdb.DuckDBPyConnection, model: Model, *, look_first: bool) -> bool:
    """Make a model's table; whether it can have rows, if that was looked at."""
    try:
        skip = look_first and bool(model.only_if) and connection.execute(_condition(model)).fetchone() is None
        connection.execute(_empty_creation(model) if skip else _creation(model))
    except duckdb.Error as error:
        raise ModelError(model.name, _cleaned(str(error))) from error
    return not skip


def _rows(connection: duckdb.DuckDBPyConnection, model: Model) -> pa.Table:
    return connection.sql(f"FROM {_name(model.name)}").to_arrow_table()


@cache
def _no_rows(model: Model) -> pa.Table:
    with _database(os.getpid(), None).cursor() as connection:
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
    with _database(os.getpid(), None).cursor() as connection:
        for name, rows in tables.items():
            connection.register(name, rows)
        broken = {
            f"{model.name}.{check.name}": connection.sql(check.sql).to_arrow_table().to_pylist()
            for model in stored_models().values()
            for check in model.all_checks()
        }
    return {name: rows for name, rows in broken.items() if rows}


@cache
def _database(process: int, threads: int | None) -> duckdb.DuckDBPyConnection:  # noqa: ARG001 (no sharing after a fork)
    """An empty database in memory, opened once: opening takes longer than some models."""
    return duckdb.connect(config={} if threads is None else {"threads": threads})


@cache
def _hasty_database(process: int) -> duckdb.DuckDBPyConnection:  # noqa: ARG001 (as in `_database`)
    """The same for few events: planning the models takes longer than running them, and optimizing a third of that."""
    database = duckdb.connect(config={"threads": 1})
    optimizers = ",".join(str(name) for (name,) in database.execute("FROM duckdb_optimizers()").fetchall())
    database.execute(f"SET disabled_optimizers = '{optimizers}'")
    return database


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
        self._connection = duckdb.connect(config=config)
        self._writing = threading.Lock()
        self._files: dict[str, list[Path]] = {}
        self._by_name: set[str] = set()
        self._lock_down(directories)
        self._columns = _view_columns()
        with self._cursor() as cursor:
            cursor.register("incoming", _event_types())
            cursor.execute("CREATE TABLE event_types AS FROM incoming")
            cursor.execute("CREATE SCHEMA live")
            cursor.execute("CREATE SCHEMA stored")
            for table, rows in (("prices", _price_rows(prices)), ("stored.price_ranges", _price_ranges(prices))):
                cursor.register("incoming", rows)
                cursor.execute(f"CREATE TABLE {table} AS FROM incoming")
            for data_set, columns in self._columns.items():
                typed = ", ".join(f"CAST(NULL AS {kind}) AS {_name(name)}" for name, kind in columns.items())
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
    ) -> None:
        """Replace files and live rows of data sets, all at once: no query sees a part of it.

        Args:
            files: data set → its segment files. Data sets: events, appends, parts, audio, and the stored models.
            live: data set → its rows of running sessions. Columns that they lack are NULL.
            by_name: data sets some of whose files lack columns, as older versions wrote them; the columns are
                matched file by file then, which opens every file.

        Raises:
            QueryError: rows or files do not fit; nothing was changed.
        """
        with self._writing, self._cursor() as cursor, _errors():
            cursor.execute("BEGIN TRANSACTION")
            try:
                for data_set, rows in (live or {}).items():
                    self._replace_live(cursor, data_set, rows)
                for data_set, paths in (files or {}).items():
                    self._files[data_set] = list(paths)
                    (self._by_name.add if data_set in (by_name or ()) else self._by_name.discard)(data_set)
                for view in {_view(data_set) for data_set in files or {}}:
                    cursor.execute(f"CREATE OR REPLACE VIEW {_place(view)} AS {self._view_query(view)}")
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    def query(self, sql: str, parameters: Sequence[object] | None = None) -> pl.DataFrame:
        """Run trusted SQL.

        Args:
            sql: one SELECT; `?` stands for parameters.
            parameters: their values.

        Raises:
            QueryError: the SQL fails.
        """
        with self._cursor() as cursor, _errors():
            rows: pl.DataFrame = cursor.sql(sql, params=list(parameters or ())).pl()
            return rows

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
        with self._cursor() as cursor, _errors():
            sql = sql.encode("utf-8", "replace").decode()  # lone surrogates, which DuckDB cannot take
            text = _explained(sql)
            _refuse_all_but_reading(cursor, sql if text is None else text)
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            with _alarm(cursor, timeout_seconds):
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
        rules = rules or [_NO_RULE]
        with self._cursor() as cursor:
            cursor.execute("BEGIN TRANSACTION")
            try:
                for statement in self._narrowing(cursor, rules, session_ids):
                    cursor.execute(statement)
                found = [_rule_rows(cursor, rule) for rule in rules]
            finally:
                cursor.execute("ROLLBACK")
        return pl.concat(found).sort("rank", "session_id", pl.col("positions").list.first(), "rule").drop("rank")

    def _narrowing(
        self, cursor: duckdb.DuckDBPyConnection, rules: Sequence[Rule], session_ids: Sequence[str] | None
    ) -> Iterator[str]:
        """Statements that put these sessions' rows in front of all: they end with the transaction."""
        named: set[str] = set()
        for rule in rules:
            with _blaming(rule), _errors():
                named |= relations(_refuse_all_but_reading(cursor, rule.query))
        keep = "" if session_ids is None else f" WHERE session_id IN ({', '.join(map(_text, session_ids)) or 'NULL'})"
        for name in sorted(named & (self._columns.keys() | shown_models().keys() | {"drift"})):
            kind = "TABLE" if name in shown_models() else "VIEW"  # events are too many to hold
            yield f"CREATE TEMP {kind} {_name(name)} AS SELECT * FROM memory.main.{_name(name)}{keep}"

    def _lock_down(self, directories: Sequence[Path]) -> None:
        """Nothing but the directories can be read, and no later statement can change that."""
        allowed = ", ".join(_text(str(path.resolve())) for path in directories)
        for setting in (
            "TimeZone = 'UTC'",
            "temp_directory = ''",
            "parquet_metadata_cache = true",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            f"allowed_directories = [{allowed}]",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._connection.execute(f"SET GLOBAL {setting}")

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._connection.cursor() as cursor:
            yield cursor

    def _replace_live(self, cursor: duckdb.DuckDBPyConnection, data_set: str, rows: pa.Table) -> None:
        cursor.register("incoming", rows)
        cursor.execute(f"DELETE FROM {_live(data_set)}")
        cursor.execute(f"INSERT INTO {_live(data_set)} BY NAME FROM incoming")
        cursor.unregister("incoming")

    def _view_query(self, view: str) -> str:
        data_sets = _EVENT_SETS if view == "events" else (view,)
        columns = ", ".join(_name(name) for name in self._columns[view])
        sources = [self._files_query(data_set, columns) for data_set in data_sets if self._files.get(data_set)]
        sources += [f"SELECT {columns} FROM {_live(data_set)}" for data_set in data_sets]
        return " UNION ALL ".join(sources)

    def _files_query(self, data_set: str, columns: str) -> str:
        paths = ", ".join(_text(str(path.resolve())) for path in self._files[data_set])
        of_events = data_set in _EVENT_SETS
        if data_set not in self._by_name:
            chosen = (
                columns.replace(_name(RECORDED_AT), f"{RECORDED_AT_SQL} AS {RECORDED_AT}") if of_events else columns
            )
            return f"SELECT {chosen} FROM read_parquet([{paths}], hive_partitioning = false)"
        found = f"FROM read_parquet([{paths}], hive_partitioning = false, union_by_name = true)"
        made = {name: sql for (whose, name), sql in SQL.items() if whose == data_set}
        made |= {RECORDED_AT: RECORDED_AT_SQL} if of_events else {}
        upcast = ", ".join(f"coalesce({name}, {sql}) AS {name}" for name, sql in made.items())
        every = "*" + (f" REPLACE ({upcast})" if upcast else "")
        typed = f"SELECT *{f', CAST(NULL AS BIGINT) AS {CLOCK}' if of_events else ''} FROM {_live(data_set)} LIMIT 0"
        return f"SELECT {columns} FROM (SELECT {every} FROM ({found} UNION ALL BY NAME ({typed})))"


def _rule_rows(cursor: duckdb.DuckDBPyConnection, rule: Rule) -> pl.DataFrame:
    with _blaming(rule), _errors():
        rows: pl.DataFrame = cursor.sql(rule.findings).pl()
        return rows


@contextmanager
def _blaming(rule: Rule) -> Iterator[None]:
    try:
        yield
    except QueryError as error:
        raise RuleError(rule.path, error.message) from error


def _event_types() -> pa.Table:
    """One row per event name; a name that both sides use stands once."""
    rows = {row.name: row for row in VOCABULARY}.values()
    columns = {name: [getattr(row, name) for row in rows] for name in ("name", "canonical", "direction", "family")}
    return pa.table({**columns, "fields": [list(row.paths()) for row in rows]})


def _price_rows(prices: Sequence[Price]) -> pa.Table:
    """The relation `prices`: amounts as exact decimals."""
    kinds = {"model": pa.string(), "rank": pa.int64(), "valid_from": pa.date32()}
    kinds |= {name: pa.string() for name in ("provider", "source", "currency")}
    return pa.table(
        {
            name: pa.array([getattr(price, name) for price in prices], kinds.get(name, pa.decimal128(18, 6)))
            for name in Price.__struct_fields__
        }
    )


def _price_ranges(prices: Sequence[Price]) -> pa.Table:
    """The relation `stored.price_ranges`: amounts as whole numbers."""
    kinds = dict.fromkeys(("first_name", "end_name", "billed_by", "price_model", "price_source"), pa.string())
    kinds |= dict.fromkeys(("first_day", "end_day", "price_valid_from"), pa.date32())
    ranges = list(price_ranges(prices))
    return pa.table(
        {
            name: pa.array([getattr(one, name) for one in ranges], kinds.get(name, pa.int64()))
            for name in PriceRange.__struct_fields__
        }
    )


@cache
def _creation(model: Model) -> duckdb.Statement:
    """The statement that makes the model's table: parsed once, since parsing takes a quarter of a small session's time.

    The table has the declared columns and types, ordered by the model's key; an internal one is as its query gives it.
    """
    query = model.query
    if model.columns:
        columns = ", ".join(f"CAST({_name(column.name)} AS {column.type}) AS {column.name}" for column in model.columns)
        query = f"SELECT {columns} FROM ({model.query}\n) ORDER BY {', '.join(_name(name) for name in model.key)}"
    return duckdb.extract_statements(f"CREATE TEMP TABLE {_name(model.name)} AS {query}")[0]


@cache
def _empty_creation(model: Model) -> duckdb.Statement:
    """The statement that makes the model's table without rows."""
    columns = ", ".join(f"{_name(column.name)} {column.type}" for column in model.columns)
    return duckdb.extract_statements(f"CREATE TEMP TABLE {_name(model.name)} ({columns})")[0]


@cache
def _condition(model: Model) -> duckdb.Statement:
    """The statement that gives a row if the model may have any."""
    return duckdb.extract_statements(f"SELECT 1 {model.only_if} LIMIT 1")[0]


def _view_columns() -> dict[str, dict[str, str]]:
    """Data set → column → DuckDB type."""
    events = {field.name: _ARROW_TYPES[str(field.type)] for field in schema.EVENTS}
    parts = {field.name: _ARROW_TYPES[str(field.type)] for field in schema.PARTS}
    audio = {field.name: _ARROW_TYPES[str(field.type)] for field in schema.AUDIO}
    tables = {name: {column.name: column.type for column in model.columns} for name, model in stored_models().items()}
    return {"events": events, "appends": events, "parts": parts, "audio": audio, **tables}


def _view(data_set: str) -> str:
    return "events" if data_set in _EVENT_SETS else data_set


def _place(view: str) -> str:
    """Where the union of files and live rows is: models' are behind the views that add to them."""
    return f"stored.{_name(view)}" if view in stored_models() else _name(view)


def _live(data_set: str) -> str:
    return f"live.{_name(data_set)}"


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _explained(sql: str) -> str | None:
    """What `sql` explains, or None if it is no EXPLAIN."""
    words = [start for start, kind in duckdb.tokenize(sql) if kind != duckdb.token_type.comment]
    named = sql.encode()
    if not words or not named[words[0] :].lower().startswith(b"explain"):
        return None
    analyzes = len(words) > 1 and named[words[1] :].lower().startswith(b"analyze")
    rest = words[2:] if analyzes else words[1:]
    return named[rest[0] :].decode() if rest else ""


def _refuse_all_but_reading(cursor: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """The statement's syntax tree, if it does but read."""
    statements = duckdb.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError(f"one statement at a time, not {len(statements)}")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        name = "PIVOT as a statement" if kind == duckdb.StatementType.MULTI else kind.name.replace("_", " ")
        raise QueryError(f"{name} is not allowed here: queries only read")
    ((text,),) = cursor.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()  # all of it: the cursor goes on
    tree = json.loads(text)
    refusal = str(tree.get("error_message", "the query cannot be checked")) if tree.get("error") else objection(tree)
    if refusal:
        raise QueryError(refusal, hint="Read the views: events, parts, audio, sessions, responses, turns, items, …")
    return tree


@contextmanager
def _alarm(cursor: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    """Interrupt what runs on `cursor` after that time."""
    alarm = threading.Timer(seconds, cursor.interrupt)
    alarm.daemon = True
    alarm.start()
    try:
        yield
    except duckdb.InterruptException as error:
        raise QueryError(
            f"the query was stopped after {seconds:g} s", hint="Narrow it down, for example by session_id or date."
        ) from error
    finally:
        alarm.cancel()


@contextmanager
def _errors() -> Iterator[None]:
    """DuckDB's errors as ours, in its words without its ornaments."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise QueryError(
            "the query needs more memory than queries may take", hint="Read fewer columns or rows."
        ) from error
    except duckdb.Error as error:
        raise QueryError(_cleaned(str(error))) from error


def _cleaned(message: str) -> str:
    """The message without the class of the error and the picture of the statement."""
    words = re.sub(r"^\w[\w ]* Error: ", "", message.split("\nLINE ", maxsplit=1)[0])
    return " ".join(words.split())
