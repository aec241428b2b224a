"""What went on in one session beside the talking: its context and cache, its limits, what failed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from dashboards.queries.base import Queryable, records, rows_of


def contexts(catalog: Queryable, session_id: str) -> list[dict[str, Any]]:
    """The responses before which old turns were dropped or the cache was lost, in order.

    `context_truncated`, `cache_bust` and what belongs to them as in the table `contexts`; `at_ns` is when the response
    was created.
    """
    return records(
        catalog.query(
            """
            SELECT c.response_no, c.position, r.created_at_ns AS at_ns, c.input_tokens, c.expected_input_tokens,
                   c.context_truncated, c.dropped_tokens, c.cached_tokens, c.previous_cached_tokens, c.cache_bust,
                   c.cache_bust_cause, c.extra_cost_usd
            FROM contexts c LEFT JOIN stored.responses r USING (session_id, response_no)
            WHERE session_id = ? AND (c.context_truncated OR c.cache_bust) ORDER BY c.response_no
            """,
            [session_id],
        )
    )


def overhead(catalog: Queryable, session_id: str) -> dict[str, Any]:
    """What the proxy added: rows of `proxy_overhead` as `client` and `server`, and `worst_seconds`; {} if unknown."""
    rows = {row["direction"]: row for row in records(rows_of(catalog, "proxy_overhead", session_id, "direction"))}
    longest = [row["max_seconds"] for row in rows.values() if row["max_seconds"] is not None]
    unknown = {"p50_seconds": None}
    told = {side: rows.get(side, unknown) for side in ("client", "server")}
    return {**told, "worst_seconds": max(longest, default=None)} if rows else {}


def rate_limits(catalog: Queryable, session_id: str) -> list[dict[str, Any]]:
    """Each rate limit that the server told of: `name`, `limit_value`, and where least was left of it."""
    return records(
        catalog.query(
            """
            SELECT name, arg_min(limit_value, remaining_ratio) AS limit_value, min(remaining_ratio) AS remaining_ratio,
                   arg_min(remaining_value, remaining_ratio) AS remaining_value,
                   arg_min(reset_seconds, remaining_ratio) AS reset_seconds,
                   arg_min(position, remaining_ratio) AS position, arg_min(at_ns, remaining_ratio) AS at_ns
            FROM rate_limits WHERE session_id = ? AND remaining_ratio IS NOT NULL GROUP BY name ORDER BY name
            """,
            [session_id],
        )
    )


def transcription_failures(catalog: Queryable, session_id: str) -> list[dict[str, Any]]:
    """Transcriptions that failed, with what was said of it."""
    return records(
        catalog.query(
            """
            SELECT item_id, model, coalesce(end_position, position) AS position, end_at_ns AS at_ns, error_type,
                   error_code, error_message
            FROM transcriptions WHERE session_id = ? AND status = 'failed' ORDER BY transcription_no
            """,
            [session_id],
        )
    )


def wasted_usd(catalog: Queryable, session_id: str) -> Decimal | None:
    """What the answers cost that nobody heard, each once; None where one of them has no price."""
    frame = catalog.query(
        """
        SELECT CASE WHEN count(*) = count(cost) THEN sum(cost) END FROM (
            SELECT arg_min(wasted_cost_usd, position) AS cost
            FROM interruptions WHERE session_id = ? AND NOT coalesce(out_of_band, false) GROUP BY item_id)
        """,
        [session_id],
    )
    amount = frame.item()
    return None if amount is None else Decimal(amount)
