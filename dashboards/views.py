"""What each page shows: the answers of `queries`, arranged for its template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import urlencode

import plotly.graph_objects as go

from dashboards import queries
from dashboards.figures import over_time
from dashboards.figures.rows import TimelineRows
from dashboards.figures.timeline import timeline
from dashboards.found import Finder, counted, grouped
from dashboards.queries import PERIODS, Queryable, SessionFilter, parsed, records, rows_of
from dashboards.theme import Scheme
from recorder.analytics.slo import Slo, evaluate_all
from recorder.pipeline.catalog import Catalog
from recorder.projection.kept import kept_words

PAGE_SIZE: Final = 50
RECENT: Final = 8
MOST_POINTS: Final = 400
LOOKED_AT: Final = 50
"""Recent sessions in which the overview looks for findings."""

ChartName = Literal["sessions", "latency", "tokens", "interruptions", "cost", "cost_per_minute"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the session list was asked for; its fields are the address's parameters."""

    q: str = ""
    model: str = ""
    status: str = ""
    period: str = "all"
    sort: str = "-opened_at"
    page: int = 1

    def link(self, **changes: Any) -> str:
        """The address of the list with some of it changed."""
        plain = asdict(Asked())
        differs = {key: value for key, value in (asdict(self) | changes).items() if value != plain[key]}
        return "/sessions" + ("?" + urlencode(differs) if differs else "")

    @property
    def filtered(self) -> bool:
        """Whether anything but the order and the page was asked for."""
        return bool(self.q or self.model or self.status or self.period != "all")


def since(period: str, now: datetime) -> datetime | None:
    """When a period began; None for all time."""
    length = PERIODS[period]
    return now - length if length else None


def overview(catalog: Queryable, period: str | None, now: datetime) -> dict[str, Any]:
    """The overview of a period; unasked, of the one that shows most."""
    period = period or _fitting_period(catalog, now)
    totals = queries.overview(catalog, since(period, now))
    chosen = SessionFilter(since=since(period, now))
    recent, _ = queries.list_sessions(catalog, chosen, limit=RECENT)
    ever = totals["sessions"] if period == "all" else queries.list_sessions(catalog, SessionFilter(), limit=1)[1]
    return {"period": period, "totals": totals, "recent": recent, "ever": ever, "version": _version(totals, now)}


def _fitting_period(catalog: Queryable, now: datetime) -> str:
    """The last day, or the last hour if all of the day is in it; all time if nothing is, or if nothing is older."""
    ever, day, hour = (
        queries.list_sessions(catalog, SessionFilter(since=since(name, now)), limit=1)[1]
        for name in ("all", "24h", "1h")
    )
    return "all" if not day or hour == ever else "1h" if hour == day else "24h"


def _version(totals: dict[str, Any], now: datetime) -> str:
    """Changes when the charts do: with the numbers, and every minute as time moves on."""
    numbers = (totals["sessions"], totals["responses"], totals["interruptions"], totals["total_tokens"])
    return f"{'-'.join(map(str, numbers))}-{now:%d%H%M}"


def chart(catalog: Queryable, name: ChartName, period: str, scheme: Scheme, now: datetime) -> go.Figure:
    """One of the overview's charts."""
    first = since(period, now)
    steps = queries.steps(catalog, first, now)
    if name == "latency":
        rows = queries.latency_over_time(catalog, first, steps.width)
        points = queries.latency_points(catalog, first, MOST_POINTS)
        return over_time.latency(rows, points, steps, scheme)
    if name == "interruptions":
        return over_time.interruptions(queries.interruptions_over_time(catalog, first, steps.width), steps, scheme)
    draw = {
        "sessions": over_time.sessions,
        "tokens": over_time.tokens,
        "cost": over_time.cost,
        "cost_per_minute": over_time.cost_per_minute,
    }[name]
    return draw(queries.sessions_over_time(catalog, first, steps.width), steps, scheme)


def session_list(catalog: Queryable, asked: Asked, now: datetime) -> dict[str, Any]:
    """One page of the session list."""
    chosen = SessionFilter(
        q=asked.q.strip() or None,
        model=asked.model or None,
        status=asked.status or None,
        since=since(asked.period, now),
    )
    offset = (asked.page - 1) * PAGE_SIZE
    rows, total = queries.list_sessions(catalog, chosen, sort=asked.sort, limit=PAGE_SIZE, offset=offset)
    pages = max(1, -(-total // PAGE_SIZE))
    return {
        "asked": asked,
        "rows": rows,
        "total": total,
        "first": offset + 1,
        "pages": pages,
        "models": queries.models(catalog),
    }


def session(catalog: Queryable, session_id: str) -> dict[str, Any]:
    """A session's page."""
    facts = records(rows_of(catalog, "sessions", session_id, "session_id"))[0]
    facts["labels"] = parsed(facts["labels"]) or {}
    return {
        "session": facts,
        "wasted": queries.wasted_usd(catalog, session_id) if facts["interruption_count"] else None,
        "overhead": queries.overhead(catalog, session_id),
        "pacing": records(rows_of(catalog, "pacing", session_id, "session_id")),
        "kept": kept_words(facts),
        "items": [_with_heard(item) for item in queries.transcript(catalog, session_id)],
        "responses": records(rows_of(catalog, "responses", session_id, "response_no")),
        "types": queries.event_types(catalog, session_id),
        "running": facts["status"] == "running",
        **_details(catalog, session_id),
    }


def _details(catalog: Queryable, session_id: str) -> dict[str, Any]:
    """What a session's page shows only where there is any."""
    return {
        "errors": records(rows_of(catalog, "errors", session_id, "error_no")),
        "tool_calls": records(rows_of(catalog, "tool_calls", session_id, "tool_call_no")),
        "mcp_calls": records(rows_of(catalog, "mcp_calls", session_id, "mcp_call_no")),
        "contexts": queries.contexts(catalog, session_id),
        "transcription_failures": queries.transcription_failures(catalog, session_id),
        "rate_limits": queries.rate_limits(catalog, session_id),
    }


def objectives(catalog: Queryable, slos: Sequence[Slo], now: datetime) -> dict[str, Any]:
    """How the objectives stand, those that alert and those that are missed first."""
    reports = evaluate_all(slos, catalog.query, now)
    return {"reports": sorted(reports, key=lambda row: (not row.alerting, row.state != "missed"))}


def session_findings(catalog: Catalog, finder: Finder, session_id: str) -> dict[str, Any]:
    """What the rules find in one session."""
    facts = records(rows_of(catalog, "stored.sessions", session_id, "session_id"))
    rows = finder.find(catalog, facts)
    return {"session": facts[0], "groups": grouped(rows), "counts": counted(rows)}


def recent_findings(catalog: Catalog, finder: Finder, period: str, now: datetime) -> dict[str, Any]:
    """What the rules find in the last sessions of a period."""
    recent, _ = queries.list_sessions(catalog, SessionFilter(since=since(period, now)), limit=LOOKED_AT)
    rows = finder.find(catalog, recent) if recent else []
    names = {row["session_id"]: row["server_session_id"] or row["session_id"] for row in recent}
    return {"groups": grouped(rows), "counts": counted(rows), "names": names}


def _with_heard(item: dict[str, Any]) -> dict[str, Any]:
    """Part an item's text into what was heard and the unheard tail."""
    text, tail = item["text"] or "", item["unheard_text"] or ""
    split = len(text) - len(tail) if tail and text.endswith(tail) else len(text)
    return item | {"heard_text": text[:split], "tail": text[split:]}


def timeline_figure(catalog: Queryable, session_id: str, scheme: Scheme) -> go.Figure:
    """A session's swim lanes."""
    marks = queries.timeline_marks(catalog, session_id)

    def of(table: str, order: str) -> list[dict[str, Any]]:
        return records(rows_of(catalog, table, session_id, order))

    rows = TimelineRows(
        timed=marks["monotonic_ns"].count() > 0,
        speech=of("speech", "speech_no"),
        turns=of("turns", "turn_no"),
        responses=of("responses", "response_no"),
        tool_calls=of("tool_calls", "position"),
        interruptions=of("interruptions", "interruption_no"),
        errors=of("errors", "error_no"),
        contexts=queries.contexts(catalog, session_id),
        marks=marks,
        runs=queries.timeline_runs(catalog, session_id),
    )
    return timeline(rows, scheme)
