"""A connection to DuckDB: what it may do, how text goes into SQL, and its errors as ours."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from recorder.analytics.sandbox import objection
from recorder.errors import QueryError, UnreadableFileError

_MISSING = "No such file or directory"
_NAMES = "`recorder query --schema` lists the views and their columns."


def locked_down(config: dict[str, Any], directories: Sequence[Path]) -> duckdb.DuckDBPyConnection:
    """An empty database in memory: nothing but the directories can be read, and no later statement can change that."""
    connection = duckdb.connect(config=config)
    allowed = ", ".join(literal(str(path.resolve())) for path in directories)
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
        connection.execute(f"SET GLOBAL {setting}")
    return connection


def quoted(identifier: str) -> str:
    """A name as SQL writes it."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text as SQL writes it."""
    return "'" + value.replace("'", "''") + "'"


def explained(sql: str) -> str | None:
    """What `sql` explains, or None if it is no EXPLAIN."""
    words = [start for start, kind in duckdb.tokenize(sql) if kind != duckdb.token_type.comment]
    named = sql.encode()
    if not words or not named[words[0] :].lower().startswith(b"explain"):
        return None
    analyzes = len(words) > 1 and named[words[1] :].lower().startswith(b"analyze")
    rest = words[2:] if analyzes else words[1:]
    return named[rest[0] :].decode() if rest else ""


def refuse_all_but_reading(cursor: duckdb.DuckDBPyConnection, sql: str) -> Any:
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
def alarm(cursor: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
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
        alarm.join()  # it holds the cursor


@contextmanager
def errors() -> Iterator[None]:
    """DuckDB's errors as ours, in its words without its ornaments."""
    try:
        yield
    except (duckdb.OutOfMemoryException, MemoryError) as error:  # Arrow raises the latter
        raise QueryError(
            "the query needs more memory than queries may take", hint="Read fewer columns or rows."
        ) from error
    except duckdb.IOException as error:
        raise UnreadableFileError(cleaned(str(error)), hint="`recorder verify` checks a store.") from error
    except duckdb.Error as error:
        kind = UnreadableFileError if _MISSING in str(error) else QueryError  # Arrow's errors come as they are
        unknown = isinstance(error, duckdb.CatalogException | duckdb.BinderException)
        raise kind(cleaned(str(error)), hint=_NAMES if unknown else "") from error


def cleaned(message: str) -> str:
    """The message without the class of the error and the picture of the statement."""
    words = re.sub(r"^\w[\w ]* Error: ", "", message.split("\nLINE ", maxsplit=1)[0])
    return " ".join(words.split())
