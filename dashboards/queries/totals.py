# ruff: noqa: S608 - what is put into SQL are names and conditions of our own; what callers say are parameters
"""Many sessions in sum, and over time.

`stored.<table>` is a table without its costs, which are reckoned when they are read: it answers faster.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import polars as pl

from dashboards.queries.base import Queryable, records

PERIODS: Final[dict[str, timedelta | None]] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "all": None,
}

BUCKETS_SECONDS: Final = (60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400)
"""Widths that a chart over time may be cut into; the narrowest that gives at most `MOST_BUCKETS` is taken."""

MOST_BUCKETS: Final = 60

_LATENCIES: Final = """
    count({column}) AS {name}_n,
    quantile_cont({column}, [0.5, 0.95, 0.99])[1] AS {name}_p50,
    CASE WHEN count({column}) >= 20 THEN quantile_cont({column}, [0.5, 0.95, 0.99])[2] END AS {name}_p95,
    CASE WHEN count({column}) >= 100 THEN quantile_cont({column}, [0.5, 0.95, 0.99])[3] END AS {name}_p99"""
"""Written so that each column is sorted once."""

_FIRST_AUDIO: Final = _LATENCIES.format(column="r.time_to_first_audio_seconds", name="first_audio")
_VOICE_TO_VOICE: Final = _LATENCIES.format(column="r.voice_to_voice_seconds", name="voice_to_voice")

_COST: Final = """
    sum(cost_usd)::DOUBLE AS cost_usd,
    count(*) FILTER (cost_usd IS NULL AND total_tokens IS NOT NULL) AS unpriced,
    count(cost_usd) AS priced,
    sum(cost_usd) FILTER (duration_seconds > 0)::DOUBLE
        / nullif(sum(duration_seconds) FILTER (cost_usd IS NOT NULL AND duration_seconds > 0), 0) * 60
        AS cost_per_minute_usd"""

_PACE: Final = """
    median(pace) AS pace_p50,
    count(pace_without_gaps) AS paced,
    count(*) FILTER (pace_without_gaps NOT BETWEEN 0.9 AND 1.1) AS off_pace"""

_SUMMED: Final = """
    session_id, status, opened_at, duration_seconds, response_count, turn_count, interruption_count, tool_call_count,
    error_count, input_tokens, cached_tokens, output_tokens, total_tokens, cost_usd"""

_CUT_INTO: Final = "concat(session_id, '/', coalesce(response_id, item_id, CAST(position AS VARCHAR)))"
"""The response that an interruption cuts into."""

_TALK: Final = f"""
    FROM (SELECT session_id, NULL AS cut FROM stored.responses WHERE NOT coalesce(out_of_band, false) AND audio_ms > 0
          UNION ALL
          SELECT session_id, {_CUT_INTO}
          FROM stored.interruptions WHERE NOT coalesce(out_of_band, false))"""
"""Spoken responses, whose `cut` is NULL, and interruptions, whose `cut` is the response that they cut into."""
_SPOKEN: Final = "count(*) FILTER (cut IS NULL)"
_INTERRUPTED: Final = "count(DISTINCT cut)"


def overview(catalog: Queryable, since: datetime | None) -> dict[str, Any]:
    """The totals of all sessions opened since then, or of all: sessions, tokens, cost, latencies with their n.

    `cost_usd` sums the sessions that have a price, `unpriced` counts those with usage and none; `cost_per_minute_usd`
    is of the priced ones with times. `interrupted` and `spoken` are as in the aggregate `interruptions`; `pace_p50`,
    `paced` (sessions with a pace) and `off_pace` (those off real time by more than a tenth) as in `pacing`.
    """
    return records(
        catalog.query(
            f"""
            WITH chosen AS (SELECT {_SUMMED}
                FROM sessions WHERE $1::TIMESTAMPTZ IS NULL OR opened_at >= $1::TIMESTAMPTZ),
            answered AS (SELECT {_FIRST_AUDIO}, {_VOICE_TO_VOICE}, count(*) FILTER (r.audio_ms > 0) AS spoken
                FROM stored.responses r SEMI JOIN chosen USING (session_id) WHERE NOT coalesce(r.out_of_band, false)),
            cut_into AS (SELECT count(DISTINCT {_CUT_INTO}) AS interrupted
                FROM stored.interruptions SEMI JOIN chosen USING (session_id) WHERE NOT coalesce(out_of_band, false)),
            streamed AS (SELECT {_PACE} FROM stored.pacing SEMI JOIN chosen USING (session_id))
            SELECT count(*) AS sessions, count(*) FILTER (status = 'running') AS live,
                   count(*) FILTER (opened_at IS NULL) AS untimed,
                   coalesce(sum(duration_seconds), 0.0) AS duration_seconds,
                   coalesce(sum(response_count), 0)::BIGINT AS responses, coalesce(sum(turn_count), 0)::BIGINT AS turns,
                   coalesce(sum(interruption_count), 0)::BIGINT AS interruptions,
                   coalesce(sum(tool_call_count), 0)::BIGINT AS tool_calls,
                   coalesce(sum(error_count), 0)::BIGINT AS errors,
                   sum(input_tokens)::BIGINT AS input_tokens, sum(cached_tokens)::BIGINT AS cached_tokens,
                   sum(output_tokens)::BIGINT AS output_tokens, sum(total_tokens)::BIGINT AS total_tokens,
                   {_COST},
                   (SELECT interrupted FROM cut_into) AS interrupted, (SELECT answered FROM answered) AS latency,
                   (SELECT streamed FROM streamed) AS pacing
            FROM chosen
            """,
            [since],
        ).unnest("latency", "pacing")
    )[0]


class Steps(NamedTuple):
    """How time is cut up in a chart: from `start` to `end` (Unix seconds) in steps of `width` seconds."""

    start: float
    end: float
    width: int


def steps(catalog: Queryable, since: datetime | None, now: datetime) -> Steps:
    """The steps of a chart from the one of `since`, or of the first session, to the one of `now`, all of them whole."""
    first = since or catalog.query("SELECT min(opened_at) FROM stored.sessions").item() or now
    start, end = first.timestamp(), now.timestamp()
    width = next((width for width in BUCKETS_SECONDS if end - start <= width * MOST_BUCKETS), BUCKETS_SECONDS[-1])
    return Steps(start // width * width, (end // width + 1) * width, width)


def sessions_over_time(catalog: Queryable, since: datetime | None, width: int) -> pl.DataFrame:
    """Per step: `bucket` (Unix seconds), sessions, tokens, cached ones apart, and cost.

    Costs (cost_usd, cost_per_minute_usd) are NULL where nothing has a price; `priced` and `unpriced` count sessions.
    """
    return catalog.query(
        f"""
        SELECT {_bucket("opened_at", width)} AS bucket, count(*) AS sessions, {_COST},
               sum(input_tokens - coalesce(cached_tokens, 0))::BIGINT AS uncached_input_tokens,
               sum(cached_tokens)::BIGINT AS cached_input_tokens, sum(output_tokens)::BIGINT AS output_tokens
        FROM sessions WHERE opened_at IS NOT NULL AND ($1::TIMESTAMPTZ IS NULL OR opened_at >= $1::TIMESTAMPTZ)
        GROUP BY bucket ORDER BY bucket
        """,
        [since],
    )


def interruptions_over_time(catalog: Queryable, since: datetime | None, width: int) -> pl.DataFrame:
    """Per step: `bucket` (Unix seconds), interruptions, and how many of the spoken responses were interrupted."""
    return catalog.query(
        f"""
        SELECT {_bucket("s.opened_at", width)} AS bucket, count(cut) AS interruptions,
               {_INTERRUPTED} AS interrupted, {_SPOKEN} AS spoken
        {_TALK} JOIN stored.sessions s USING (session_id)
        WHERE s.opened_at IS NOT NULL AND ($1::TIMESTAMPTZ IS NULL OR s.opened_at >= $1::TIMESTAMPTZ)
        GROUP BY bucket ORDER BY bucket
        """,
        [since],
    )


def latency_over_time(catalog: Queryable, since: datetime | None, width: int) -> pl.DataFrame:
    """Per step: `bucket` (Unix seconds), first_audio_n, _p50, _p95, _p99; NULL where n is too small to say."""
    return catalog.query(
        f"""
        SELECT {_bucket("s.opened_at", width)} AS bucket, {_FIRST_AUDIO}
        FROM stored.responses r JOIN stored.sessions s USING (session_id)
        WHERE {_TIMED_RESPONSES} GROUP BY bucket ORDER BY bucket
        """,
        [since],
    )


def latency_points(catalog: Queryable, since: datetime | None, most: int) -> pl.DataFrame:
    """The responses behind the percentiles if there are at most `most`, else none.

    Columns: at_seconds (Unix time of the trigger), seconds, session_id, response_no, position.
    """
    return catalog.query(
        f"""
        SELECT epoch(s.opened_at) + coalesce(r.trigger_at_ns, r.created_at_ns, 0) / 1e9 AS at_seconds,
               r.time_to_first_audio_seconds AS seconds, r.session_id, r.response_no, r.created_position AS position
        FROM stored.responses r JOIN stored.sessions s USING (session_id)
        WHERE {_TIMED_RESPONSES} AND r.time_to_first_audio_seconds IS NOT NULL
        QUALIFY count(*) OVER () <= {most} ORDER BY at_seconds
        """,
        [since],
    )


_TIMED_RESPONSES: Final = (
    "NOT coalesce(r.out_of_band, false) AND s.opened_at IS NOT NULL "
    "AND ($1::TIMESTAMPTZ IS NULL OR s.opened_at >= $1::TIMESTAMPTZ)"
)


def _bucket(column: str, width: int) -> str:
    return f"CAST(floor(epoch({column}) / {width}) AS BIGINT) * {width}"
