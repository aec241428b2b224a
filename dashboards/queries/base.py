# ruff: noqa: S608 - what is put into SQL are names and conditions of our own; what callers say are parameters
"""What every question shares: who is asked, and how rows leave for JSON and templates."""

from __future__ import annotations

import json
import math
from typing import Any, Protocol

import polars as pl


class Queryable(Protocol):
    """What is asked: `recorder.pipeline.catalog.Catalog`, or anything that answers SQL as it does."""

    def query(self, sql: str, parameters: list[Any] | None = None) -> pl.DataFrame:
        """Rows of trusted SQL."""
        ...


def records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts; what is not a number (NaN, ±∞) is None, as JSON has no such thing."""
    return [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        for row in frame.iter_rows(named=True)
    ]


def parsed(text: str | None) -> Any:
    """JSON text as a value; text that is no JSON as it is."""
    try:
        return None if text is None else json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


def rows_of(catalog: Queryable, table: str, session_id: str, order: str) -> pl.DataFrame:
    """A model's rows of one session. `table` and `order` are names from our own code, never a caller's."""
    return catalog.query(f"SELECT * FROM {table} WHERE session_id = ? ORDER BY {order}", [session_id])
