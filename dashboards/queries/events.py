# ruff: noqa: S608 - what is put into SQL are names and conditions of our own; what callers say are parameters
"""The events of one session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from dashboards.queries.base import Queryable, records


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events of a session.

    Attributes:
        direction: who sent them.
        types: names, or patterns with `*`; any of them.
        exclude: names, or patterns with `*`; none of them.
    """

    direction: str | None = None
    types: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def where(self) -> tuple[str, list[Any]]:
        """A condition over `events`, and its parameters."""
        terms, values = ["true"], list[Any]()
        if self.direction:
            terms.append("direction = ?")
            values.append(self.direction)
        if self.types:
            terms.append("(" + " OR ".join(["coalesce(type, '') GLOB ?"] * len(self.types)) + ")")
            values.extend(_glob(name) for name in self.types)
        for name in self.exclude:
            terms.append("NOT coalesce(type, '') GLOB ?")
            values.append(_glob(name))
        return " AND ".join(terms), values


def _glob(name: str) -> str:
    """Only `*` is a wildcard: the other signs of GLOB stand for themselves."""
    return "".join(f"[{sign}]" if sign in "?[" else sign for sign in name)


def list_events(
    catalog: Queryable,
    session_id: str,
    chosen: EventFilter,
    *,
    after: int = -1,
    before: int | None = None,
    limit: int = 200,
    max_payload_bytes: int = 65_536,
) -> pl.DataFrame:
    """Events in order of position, with `payload_bytes`; a longer payload than `max_payload_bytes` is left out.

    With `before`, the last `limit` events below it; else the first `limit` events above `after`.
    """
    condition, values = chosen.where()
    side, edge, order = ("<", before, "DESC") if before is not None else (">", after, "ASC")
    return catalog.query(
        f"""
        SELECT * REPLACE (CASE WHEN strlen(payload) <= ? THEN payload END AS payload),
               strlen(payload) AS payload_bytes
        FROM events WHERE session_id = ? AND position {side} ? AND {condition}
        ORDER BY position {order} LIMIT ?
        """,
        [max_payload_bytes, session_id, edge, *values, limit],
    ).sort("position")


def event_types(catalog: Queryable, session_id: str) -> list[dict[str, Any]]:
    """The types of a session's events with their counts: `type`, `direction`, `n`."""
    return records(
        catalog.query(
            "SELECT type, direction, count(*) AS n FROM events WHERE session_id = ? AND type IS NOT NULL "
            "GROUP BY ALL ORDER BY type, direction",
            [session_id],
        )
    )
