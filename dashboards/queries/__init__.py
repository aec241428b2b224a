"""Every question that pages and the API ask of a store, as SQL over its views: in one place.

Functions take an open catalog (anything with its `query`) and return polars frames, or rows as plain dicts.
"""

from dashboards.queries.base import Queryable, parsed, records, rows_of
from dashboards.queries.details import contexts, overhead, rate_limits, transcription_failures, wasted_usd
from dashboards.queries.events import EventFilter, event_types, list_events
from dashboards.queries.picture import timeline_marks, timeline_runs, transcript
from dashboards.queries.sessions import SORTS, SessionFilter, Sort, list_sessions, models
from dashboards.queries.totals import (
    PERIODS,
    Steps,
    interruptions_over_time,
    latency_over_time,
    latency_points,
    overview,
    sessions_over_time,
    steps,
)

__all__ = [
    "PERIODS",
    "SORTS",
    "EventFilter",
    "Queryable",
    "SessionFilter",
    "Sort",
    "Steps",
    "contexts",
    "event_types",
    "interruptions_over_time",
    "latency_over_time",
    "latency_points",
    "list_events",
    "list_sessions",
    "models",
    "overhead",
    "overview",
    "parsed",
    "rate_limits",
    "records",
    "rows_of",
    "sessions_over_time",
    "steps",
    "timeline_marks",
    "timeline_runs",
    "transcript",
    "transcription_failures",
    "wasted_usd",
]
