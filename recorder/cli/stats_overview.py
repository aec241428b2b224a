"""The overview of `recorder stats`: a figure a line, with its course over the days."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from recorder.cli import output

if TYPE_CHECKING:
    from recorder.analytics.stats import Queryable


class Figure(NamedTuple):
    """One line: a column of an aggregate; where that is always grouped, of the row that `only` names."""

    title: str
    aggregate: str
    column: str
    only: str | None = None


FIGURES: Final = (
    Figure("sessions", "sessions", "n"),
    Figure("minutes", "sessions", "minutes"),
    Figure("turns", "sessions", "turns"),
    Figure("voice to voice p50", "latency", "p50_seconds", "voice_to_voice"),
    Figure("voice to voice p95", "latency", "p95_seconds", "voice_to_voice"),
    Figure("first audio p50", "latency", "p50_seconds", "first_audio"),
    Figure("first audio p95", "latency", "p95_seconds", "first_audio"),
    Figure("responses", "responses", "n"),
    Figure("responses that failed", "responses", "failure_ratio"),
    Figure("responses that stalled", "responses", "stall_ratio"),
    Figure("responses interrupted", "interruptions", "interruption_ratio"),
    Figure("truncates at fault", "interruptions", "truncate_fault_ratio"),
    Figure("tool calls", "tools", "n"),
    Figure("tool execution p50", "tools", "execution_p50_seconds"),
    Figure("errors", "errors", "n"),
    Figure("tokens", "usage", "total_tokens"),
    Figure("cache hits", "usage", "cache_hit_ratio"),
    Figure("cost", "cost", "cost_usd"),
    Figure("cost per minute", "cost", "cost_per_minute_usd"),
    Figure("cost of what was not heard", "interruptions", "wasted_cost_usd"),
)


def print_overview(
    catalog: Queryable, period: dict[str, datetime | None], *, as_json: bool = False, as_csv: bool = False
) -> None:
    """Print the overview of a period; as JSON or CSV, with the values of each day."""
    from recorder.cli.stats import cell, print_csv, sparkline

    rows = _figures(catalog, period)
    if as_json:
        output.print_json(rows)
        return
    if as_csv:
        print_csv(["figure", "value", "unit"], [(row["figure"], row["value"], row["unit"]) for row in rows])
        return
    cells = [
        [
            row["figure"],
            cell(row["value"], row["unit"]),
            output.number(row["n"]) if row["n"] is not None else "",
            sparkline(row["by_day"]) if len(row["by_day"]) > 1 else "",
        ]
        for row in rows
    ]
    output.print_table(("FIGURE", "VALUE", "N", "BY DAY"), cells, right=frozenset({1, 2}), shrink=frozenset({0}))


def _figures(catalog: Queryable, period: dict[str, datetime | None]) -> list[dict[str, Any]]:
    """Each figure over all and by day. Percentiles come with the number of values that they are of."""
    from recorder.analytics.stats import aggregate, measure

    names = dict.fromkeys(figure.aggregate for figure in FIGURES)
    whole = {name: measure(catalog, name, by=[], **period).to_dicts() for name in names}
    daily = {name: measure(catalog, name, by=["day"], **period).to_dicts() for name in names}
    days = sorted({row["day"] for row in daily["sessions"] if row["day"] is not None})[-30:]
    rows = []
    for figure in FIGURES:
        of = aggregate(figure.aggregate)
        unit = next(column.unit for column in of.columns if column.name == figure.column)
        total = next((row for row in whole[of.name] if figure.only in (None, row.get(of.always or ""))), {})
        course = {
            row["day"]: row[figure.column] for row in daily[of.name] if figure.only in (None, row.get(of.always or ""))
        }
        rows.append(
            {
                "figure": figure.title,
                "value": total.get(figure.column),
                "unit": unit,
                "n": _count(total, figure.column),
                "by_day": {day: course.get(day) for day in days},
            }
        )
    return rows


def _count(row: dict[str, Any], column: str) -> int | None:
    """How many values a percentile is of: `execution_n` of `execution_p50_seconds`, `n` of `p50_seconds`."""
    before, percentile, _ = column.rpartition("p50") if "p50" in column else column.rpartition("p95")
    return row.get(f"{before}n", row.get("n")) if percentile else None
