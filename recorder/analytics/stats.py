"""Aggregates over many sessions: one folder each, `aggregates/<name>/{query.sql, aggregate.yaml}`.

The SQL is portable: typed tables, standard functions, no engine's own. It reads derived tables (`stored.<model>`, and
views where something is added), and the relation `chosen`: the sessions asked for, with what they can be grouped by. A
few words in it are filled in:

    $select, $exprs, $names      what is grouped by, as columns: defined, as expressions, by name; each with its comma
    $group, $group_names         GROUP BY these, or nothing
    $p50(x), $p95(x), $p99(x)    percentiles, NULL below 1, 20 and 100 values
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import polars as pl
import yaml

from recorder.analytics.registry import Column
from recorder.errors import UsageError

# ruff: noqa: S608 - names and expressions of our own files; what users say are parameters

LABEL: Final = "label:"
"""What a label is called by: `label:team`."""

COMMON: Final = {
    "day": "chosen.day",
    "model": "chosen.model",
    "upstream": "chosen.upstream",
    "status": "chosen.status",
    "source": "chosen.source",
    "session": "chosen.session_id",
}
"""What every aggregate can be grouped by, beside labels."""

_FOLDER: Final = Path(__file__).parent / "aggregates"
_LEAST: Final = {"50": 1, "95": 20, "99": 100}
_LABEL_SQL: Final = "json_extract_string(labels, ?)"  # the one place that is DuckDB's own


class Queryable(Protocol):
    """What is asked: a catalog, or anything that answers SQL as it does."""

    def query(self, sql: str, parameters: list[Any] | None = None) -> pl.DataFrame:
        """Rows of trusted SQL."""
        ...


class _Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `aggregate.yaml` holds."""

    title: str
    description: str
    columns: tuple[Column, ...]
    by: tuple[str, ...]
    trend: str
    brief: tuple[str, ...]
    dimensions: dict[str, str] = {}
    always: str | None = None
    values: tuple[str, ...] = ()
    order: str | None = None
    caveats: str = ""


class Aggregate(msgspec.Struct, frozen=True):
    """One aggregate as loaded.

    Attributes:
        name: the folder's name.
        query: its SQL, with words to fill in.
        title: for people.
        columns: its figures, in order.
        by: what it is grouped by where nobody says.
        trend: the figure that is drawn over days.
        brief: the figures of the table for people.
        dimensions: what it can be grouped by: the common ones, some with expressions of their own, and its own.
        always: a dimension that it is grouped by in any case: its figures would mean nothing together.
        values: that dimension's values in their order, if not the alphabet's.
        order: the figure by which rows are ordered, largest first, where they are not by day.
        caveats: what the figures cannot tell.
    """

    name: str
    query: str
    title: str
    description: str
    columns: tuple[Column, ...]
    by: tuple[str, ...]
    trend: str
    brief: tuple[str, ...]
    dimensions: dict[str, str]
    always: str | None
    values: tuple[str, ...]
    order: str | None
    caveats: str


@cache
def aggregates() -> dict[str, Aggregate]:
    """All aggregates by name."""
    return {path.name: _load(path) for path in sorted(_FOLDER.iterdir()) if path.is_dir()}


def aggregate(name: str) -> Aggregate:
    """The aggregate of that name.

    Raises:
        UsageError: there is none.
    """
    known = aggregates()
    if name not in known:
        raise UsageError(f"there are no statistics called {name!r}", hint=f"There are: {', '.join(known)}.")
    return known[name]


def measure(
    store: Queryable,
    name: str,
    *,
    by: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pl.DataFrame:
    """An aggregate's figures.

    Args:
        store: what is asked.
        name: of the aggregate.
        by: dimensions: names, or `label:KEY`; the aggregate's own choice if None.
        since: only sessions opened then or later. Sessions without times fall out, as with `until`.
        until: only sessions opened before.

    Returns:
        One row a group, with the dimensions' columns before the figures'; without dimensions, exactly one row.

    Raises:
        UsageError: there is no such aggregate or dimension.
    """
    chosen = aggregate(name)
    dimensions = dimensions_of(chosen, by)
    sql, values = compose(chosen, dimensions, since=since, until=until)
    names = {f"by_{number}": dimension for number, dimension in enumerate(dimensions, 1)}
    return store.query(sql, values).rename(names)


def dimensions_of(chosen: Aggregate, by: Sequence[str] | None) -> tuple[str, ...]:
    """What the aggregate is grouped by: what was asked for, once each, and what it is always grouped by.

    Raises:
        UsageError: it cannot be grouped so.
    """
    wanted = [*dict.fromkeys(chosen.by if by is None else by)]
    for dimension in wanted:
        key = dimension.removeprefix(LABEL)
        if dimension.startswith(LABEL) and key and not re.search(r'["\\]', key):
            continue
        if dimension not in chosen.dimensions:
            known = ", ".join([*chosen.dimensions, f"{LABEL}KEY"])
            raise UsageError(f"{chosen.name} cannot be grouped by {dimension!r}", hint=f"By: {known}.")
    if chosen.always and chosen.always not in wanted:
        wanted.append(chosen.always)
    return tuple(wanted)


def compose(
    chosen: Aggregate, dimensions: Sequence[str], *, since: datetime | None, until: datetime | None
) -> tuple[str, list[Any]]:
    """The aggregate's SQL and its parameters. Dimensions are called `by_1`, `by_2`, … in it."""
    labels = [dimension.removeprefix(LABEL) for dimension in dimensions if dimension.startswith(LABEL)]
    condition, moments = _opened(since, until)
    label_columns = "".join(f", {_LABEL_SQL} AS label_{number}" for number, _ in enumerate(labels, 1))
    sql = (
        "WITH chosen AS (SELECT session_id, date AS day, model, upstream, status, source, duration_seconds"
        f"{label_columns} FROM stored.sessions WHERE {condition}) "
        f"SELECT * FROM ({_filled(chosen, dimensions)}) AS measured{_order(chosen, dimensions)}"
    )
    return sql, [*(f'$."{key}"' for key in labels), *moments]


def unpriced_models(store: Queryable, *, since: datetime | None = None, until: datetime | None = None) -> list[str]:
    """The models that were billed in these sessions and have no price, most used first."""
    condition, moments = _opened(since, until)
    rows = store.query(
        f"WITH chosen AS (SELECT session_id FROM stored.sessions WHERE {condition}) "
        "SELECT costs.model FROM costs JOIN chosen USING (session_id) "
        "WHERE costs.price_model IS NULL AND costs.model IS NOT NULL "
        "GROUP BY costs.model ORDER BY count(*) DESC, costs.model",
        moments,
    )
    return [str(model) for model in rows["model"]]


def sessions_to_rebuild(store: Queryable, *, since: datetime | None = None, until: datetime | None = None) -> int:
    """How many sessions tell of tokens and have no rows of `usage`: sealed before there was that table, so uncosted."""
    condition, moments = _opened(since, until)
    rows = store.query(
        f"WITH chosen AS (SELECT session_id FROM stored.sessions WHERE total_tokens > 0 AND {condition}) "
        "SELECT count(*) AS n FROM chosen "
        "WHERE NOT EXISTS (SELECT 1 FROM stored.usage AS usage WHERE usage.session_id = chosen.session_id)",
        moments,
    )
    return int(rows.item())


def _opened(since: datetime | None, until: datetime | None) -> tuple[str, list[Any]]:
    """A condition over sessions, and its parameters."""
    terms = [("opened_at >= ?", since), ("opened_at < ?", until)]
    given = [(term, moment) for term, moment in terms if moment is not None]
    return " AND ".join(term for term, _ in given) or "true", [moment for _, moment in given]


def _filled(chosen: Aggregate, dimensions: Sequence[str]) -> str:
    labels = iter(range(1, len(dimensions) + 1))
    expressions = [
        f"chosen.label_{next(labels)}" if dimension.startswith(LABEL) else chosen.dimensions[dimension]
        for dimension in dimensions
    ]
    names = [f"by_{number}" for number, _ in enumerate(dimensions, 1)]
    words = {
        "select": "".join(f"{sql} AS {name}, " for sql, name in zip(expressions, names, strict=True)),
        "exprs": "".join(f"{sql}, " for sql in expressions),
        "names": "".join(f"{name}, " for name in names),
        "group": f"GROUP BY {', '.join(expressions)}" if names else "",
        "group_names": f"GROUP BY {', '.join(names)}" if names else "",
    }

    def fill(found: re.Match[str]) -> str:
        word, value = found.groups()
        if value is None:
            return words[word]
        share = word.removeprefix("p")
        percentile = f"percentile_cont(0.{share}) WITHIN GROUP (ORDER BY {value})"
        return f"CASE WHEN count({value}) >= {_LEAST[share]} THEN {percentile} END"

    return re.sub(r"\$(\w+)(?:\(([\w.]+)\))?", fill, chosen.query)


def _order(chosen: Aggregate, dimensions: Sequence[str]) -> str:
    ranks = " ".join(f"WHEN '{value}' THEN {place}" for place, value in enumerate(chosen.values))
    keys = [
        f"CASE by_{number} {ranks} END" if dimension == chosen.always and ranks else f"by_{number} NULLS LAST"
        for number, dimension in enumerate(dimensions, 1)
    ]
    if chosen.order and "day" not in dimensions:
        keys.insert(0, f"{chosen.order} DESC")
    return f" ORDER BY {', '.join(keys)}" if keys else ""


def _load(folder: Path) -> Aggregate:
    said = msgspec.convert(yaml.safe_load((folder / "aggregate.yaml").read_text(encoding="utf-8")), _Description)
    query = (folder / "query.sql").read_text(encoding="utf-8").strip()
    facts = {name: getattr(said, name) for name in said.__struct_fields__}
    return Aggregate(name=folder.name, query=query, **{**facts, "dimensions": COMMON | said.dimensions})
