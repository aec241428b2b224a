"""Running rules: what they find, in one state of the store."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import duckdb
import polars as pl

from recorder.analytics.engine.connection import errors, literal, quoted, refuse_all_but_reading
from recorder.analytics.registry import shown_models
from recorder.analytics.rules import Rule, RuleError
from recorder.analytics.sandbox import relations
from recorder.errors import QueryError

# ruff: noqa: S608 - made of names of our own, quoted

_NO_RULE = Rule("none", "info", "", "", "SELECT '' AS session_id, [] AS positions, '' AS message LIMIT 0", {}, "")


def findings(
    cursor: duckdb.DuckDBPyConnection,
    rules: Sequence[Rule],
    session_ids: Sequence[str] | None,
    *,
    views: Collection[str],
) -> pl.DataFrame:
    """What rules find; see `Engine.run_rules`.

    Args:
        cursor: of the engine's database, outside any transaction.
        rules: which.
        session_ids: whose sessions; all if None.
        views: names of what rules can read.

    Raises:
        RuleError: a rule's query fails, or asks for more than reading.
    """
    rules = rules or [_NO_RULE]
    cursor.execute("BEGIN TRANSACTION")
    try:
        for statement in _narrowing(cursor, rules, session_ids, views):
            cursor.execute(statement)
        found = [_rule_rows(cursor, rule) for rule in rules]
    finally:
        cursor.execute("ROLLBACK")
    return pl.concat(found).sort("rank", "session_id", pl.col("positions").list.first(), "rule").drop("rank")


def _narrowing(
    cursor: duckdb.DuckDBPyConnection,
    rules: Sequence[Rule],
    session_ids: Sequence[str] | None,
    views: Collection[str],
) -> Iterator[str]:
    """Statements that put these sessions' rows in front of all: they end with the transaction."""
    named: set[str] = set()
    for rule in rules:
        with _blaming(rule), errors():
            named |= relations(refuse_all_but_reading(cursor, rule.query))
    keep = "" if session_ids is None else f" WHERE session_id IN ({', '.join(map(literal, session_ids)) or 'NULL'})"
    for name in sorted(named.intersection(views)):
        kind = "TABLE" if name in shown_models() else "VIEW"  # events are too many to hold
        yield f"CREATE TEMP {kind} {quoted(name)} AS SELECT * FROM memory.main.{quoted(name)}{keep}"


def _rule_rows(cursor: duckdb.DuckDBPyConnection, rule: Rule) -> pl.DataFrame:
    with _blaming(rule), errors():
        rows: pl.DataFrame = cursor.sql(rule.findings).pl()
        return rows


@contextmanager
def _blaming(rule: Rule) -> Iterator[None]:
    try:
        yield
    except QueryError as error:
        raise RuleError(rule.path, error.message) from error
