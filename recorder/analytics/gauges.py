"""Figures of the last minutes as gauges for Prometheus, by model: what `recorder stats` says, cut short if long.

A model's name is whatever a client asked for, so that there could be any number: of each figure those models are shown
that most of it is about, at most `MOST_MODELS`, and in all at most `MOST_SAMPLES` rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from recorder.analytics.stats import Queryable, measure
from recorder.store.counters import Metric
from recorder.store.exposition import Sample

PREFIX: Final = "recorder_recent_"
MOST_MODELS: Final = 20
MOST_SAMPLES: Final = 400
MOST_CHARACTERS: Final = 100
_BY_MODEL: Final = ("model",)

Row = dict[str, Any]


class Gauge(NamedTuple):
    """One metric: a figure of an aggregate, or several as quantiles of one.

    Attributes:
        metric: how it is exposed.
        aggregate: whose figures.
        columns: quantile → figure; "" where there is but one.
        by: what the aggregate is grouped by.
        labels: names of the samples' labels.
    """

    metric: Metric
    aggregate: str
    columns: Mapping[str, str]
    by: tuple[str, ...]
    labels: tuple[str, ...]


def _gauge(
    name: str, words: str, aggregate: str, columns: str | Mapping[str, str], *more: str, by: tuple[str, ...] = _BY_MODEL
) -> Gauge:
    """A gauge by model; `more` are the labels that the aggregate is always grouped by."""
    several = {"": columns} if isinstance(columns, str) else columns
    labels = (*by, *more, *(() if "" in several else ("quantile",)))
    return Gauge(Metric(f"{PREFIX}{name}", words, "gauge"), aggregate, several, by, labels)


GAUGES: Final = (
    _gauge("sessions", "Sessions.", "sessions", "n", by=("model", "status")),
    _gauge("session_minutes", "How long these took so far, added up.", "sessions", "minutes"),
    _gauge(
        "latency_seconds",
        "How long callers wait: percentiles of each kind of wait.",
        "latency",
        {"0.5": "p50_seconds", "0.95": "p95_seconds", "0.99": "p99_seconds"},
        "metric",
    ),
    _gauge("latency_samples", "Of how many values these are.", "latency", "n", "metric"),
    _gauge("responses", "Responses.", "responses", "n"),
    _gauge("response_failure_ratio", "Share of those that failed or never ended.", "responses", "failure_ratio"),
    _gauge("response_stall_ratio", "Share of the spoken ones that stalled.", "responses", "stall_ratio"),
    _gauge("interruption_ratio", "Share of the spoken ones that were cut into.", "interruptions", "interruption_ratio"),
    _gauge("truncate_fault_ratio", "Share of the interruptions whose truncate is missing or wrong.", "interruptions",
           "truncate_fault_ratio"),
    _gauge("context_truncation_ratio", "How often the server dropped old turns.", "context", "truncation_ratio"),
    _gauge("cache_bust_ratio", "How often the server lost its cache.", "context", "cache_bust_ratio"),
    _gauge("errors", "Error events of the server.", "errors", "n"),
    _gauge("input_tokens", "Tokens read, cached ones included.", "usage", "input_tokens"),
    _gauge("cached_tokens", "Of these, from the cache.", "usage", "cached_tokens"),
    _gauge("output_tokens", "Tokens written.", "usage", "output_tokens"),
    _gauge("cache_hit_ratio", "Cached tokens as a share of those read.", "usage", "cache_hit_ratio"),
    _gauge("cost_usd", "What it cost, as far as there are prices.", "cost", "cost_usd"),
    _gauge("cost_per_minute_usd", "That by the minute of conversation.", "cost", "cost_per_minute_usd"),
    _gauge("unpriced", "Rows of usage without a price.", "cost", "unpriced"),
    _gauge("tool_calls", "Function calls.", "tools", "n"),
    _gauge("tool_calls_unanswered", "Of these, never answered.", "tools", "unanswered"),
    _gauge(
        "tool_execution_seconds",
        "How long the client took to answer them: percentiles.",
        "tools",
        {"0.5": "execution_p50_seconds", "0.95": "execution_p95_seconds", "0.99": "execution_p99_seconds"},
    ),
    _gauge("rate_limit_lowest_ratio", "The least that was left of a limit, as a share of it.", "limits", "lowest_ratio",
           "limit"),
)  # fmt: skip
"""All that `samples` gives."""


def samples(store: Queryable, since: datetime) -> Iterator[tuple[Metric, list[Sample]]]:
    """Every gauge's samples. What is NULL has none.

    Args:
        store: what is asked.
        since: only sessions opened then or later count.
    """
    asked = dict.fromkeys((gauge.aggregate, gauge.by) for gauge in GAUGES)
    rows = {(name, by): _kept(measure(store, name, by=by, since=since).to_dicts()) for name, by in asked}
    for gauge in GAUGES:
        yield gauge.metric, list(_samples(gauge, rows[gauge.aggregate, gauge.by]))


def _kept(rows: list[Row]) -> list[Row]:
    """The rows of the models that most of it is about, in the order that they came in."""
    counts: Counter[str | None] = Counter()
    for row in rows:
        counts[row["model"]] += row["n"]
    kept = {model for model, _ in counts.most_common(MOST_MODELS)}
    return [row for row in rows if row["model"] in kept][:MOST_SAMPLES]


def _samples(gauge: Gauge, rows: list[Row]) -> Iterator[Sample]:
    seen = set()
    for row in rows:
        labels = tuple((name, _label(row[name])) for name in gauge.labels if name != "quantile")
        if labels in seen:  # what was cut short, or is missing here and empty there
            continue
        seen.add(labels)
        for quantile, column in gauge.columns.items():
            if row[column] is not None:
                yield Sample((*labels, ("quantile", quantile)) if quantile else labels, float(row[column]))


def _label(value: str | None) -> str:
    return (value or "")[:MOST_CHARACTERS]
