# ruff: noqa: S608 - what is put into SQL are names and conditions of our own; what callers say are parameters
"""One session as a picture: its transcript, and what a timeline is drawn from.

Times are `*_ns`, nanoseconds since the session opened, or `*_position`; times are NULL where a recording has none.
"""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from dashboards.queries.base import Queryable, records

MOST_MARKS: Final = 3000
"""Marks on a timeline beyond which it is thinned out: a browser draws no more of them smoothly."""

_STREAM: Final = "(type LIKE '%.delta' OR type LIKE '%.append')"
"""Types that come many times a second; a timeline shows them as runs."""


def transcript(catalog: Queryable, session_id: str) -> list[dict[str, Any]]:
    """The conversation's items in order, each with its turn's times, its tool call and what cut it off."""
    return records(
        catalog.query(
            """
            WITH said AS (
                SELECT item_id, min(started_at_ns) AS started_at_ns, any_value(modality) AS modality,
                       any_value(text) AS text, max(audio_ms) AS audio_ms, max(heard_ms) AS heard_ms,
                       bool_or(interrupted) AS interrupted
                FROM turns WHERE session_id = $1 GROUP BY item_id),
            cut AS (
                SELECT item_id, arg_min(unheard_text, position) AS unheard_text, min(position) AS cut_position,
                       arg_min(unheard_ms, position) AS unheard_ms
                FROM interruptions WHERE session_id = $1 GROUP BY item_id),
            called AS (
                SELECT call_id, any_value(name) AS tool, any_value(arguments) AS arguments,
                       any_value(arguments_valid) AS arguments_valid, any_value(output) AS output,
                       any_value(execution_seconds) AS execution_seconds, bool_or(unanswered) AS unanswered,
                       min(started_at_ns) AS called_at_ns
                FROM tool_calls WHERE session_id = $1 GROUP BY call_id)
            SELECT i.item_no, i.item_id, i.role, i.type, i.status, coalesce(i.text, said.text) AS text, i.call_id,
                   i.out_of_band, i.created_position, i.deleted_position, i.truncated_position, i.heard_estimated,
                   said.modality, said.audio_ms, said.heard_ms, said.interrupted,
                   coalesce(said.started_at_ns, called.called_at_ns, events.monotonic_ns) AS at_ns,
                   cut.unheard_text, cut.unheard_ms, cut.cut_position,
                   coalesce(called.tool, i.name) AS tool, called.arguments, called.arguments_valid, called.output,
                   called.execution_seconds, called.unanswered
            FROM items i LEFT JOIN events ON events.session_id = $1 AND events.position = i.created_position
                 LEFT JOIN said ON said.item_id = i.item_id LEFT JOIN cut ON cut.item_id = i.item_id
                 LEFT JOIN called ON i.type = 'function_call' AND called.call_id = i.call_id
            WHERE i.session_id = $1
              AND NOT (i.type = 'function_call_output' AND i.call_id IN (SELECT call_id FROM called))
            ORDER BY i.item_no
            """,
            [session_id],
        )
    )


def timeline_marks(catalog: Queryable, session_id: str) -> pl.DataFrame:
    """The events that a timeline shows one by one, thinned evenly to about `MOST_MARKS` (errors and gaps all stay).

    Columns: position, monotonic_ns, direction, type, item_id, response_id, total (before thinning).
    """
    return catalog.query(
        f"""
        SELECT position, monotonic_ns, direction, type, item_id, response_id, total FROM (
            SELECT position, monotonic_ns, direction, type, item_id, response_id,
                   row_number() OVER (ORDER BY position) AS nth, count(*) OVER () AS total
            FROM events WHERE session_id = ? AND coalesce(opcode, 1) NOT IN (9, 10)
                          AND NOT coalesce({_STREAM}, false))
        WHERE nth % greatest(1, CAST(ceil(total / {MOST_MARKS}) AS BIGINT)) = 0
           OR type = 'error' OR (type = 'recorder.gap' AND direction = 'recorder')
        ORDER BY position
        """,
        [session_id],
    )


def timeline_runs(catalog: Queryable, session_id: str) -> pl.DataFrame:
    """Deltas and appends drawn together: a run ends where the next is a second (untimed: 50 positions) away.

    Columns: direction, type, response_id, first_position, last_position, start_ns, end_ns, n, audio_ms.
    """
    return catalog.query(
        f"""
        WITH stream AS (
            SELECT direction, type, response_id, position, monotonic_ns, audio_ms,
                   position - lag(position) OVER one AS steps, monotonic_ns - lag(monotonic_ns) OVER one AS pause_ns
            FROM events WHERE session_id = ? AND {_STREAM}
            WINDOW one AS (PARTITION BY direction, type, response_id ORDER BY position)),
        numbered AS (
            SELECT *, sum(CASE WHEN steps IS NULL OR coalesce(pause_ns > 1e9, steps > 50) THEN 1 ELSE 0 END) OVER (
                PARTITION BY direction, type, response_id ORDER BY position ROWS UNBOUNDED PRECEDING) AS run
            FROM stream)
        SELECT direction, type, response_id, min(position) AS first_position, max(position) AS last_position,
               min(monotonic_ns) AS start_ns, max(monotonic_ns) AS end_ns, count(*) AS n, sum(audio_ms) AS audio_ms
        FROM numbered GROUP BY direction, type, response_id, run ORDER BY first_position
        """,
        [session_id],
    )
