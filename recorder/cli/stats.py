"""`recorder stats`: figures over many sessions."""

from __future__ import annotations

import csv
import sys
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from recorder.cli import completing, output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption, PricesOption, open_catalog
from recorder.cli.options import since as parse_moment
from recorder.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from recorder.analytics.stats import Aggregate, Queryable

EXAMPLES = (
    ("recorder stats --since 7d", "the figures of a week, each with its course"),
    ("recorder stats latency --by model,day --since 30d", "how long callers wait, by model and day"),
    ("recorder stats cost --by label:team --json", "what each team spent, for a program"),
    ("recorder stats tools --wide", "all figures of the tools"),
    ("recorder stats interruptions --by upstream --csv > cuts.csv", "a file for a spreadsheet"),
)

TREND_DAYS: Final = 30
BARS: Final = "▁▂▃▄▅▆▇█"

Days = dict[date, float | None]


def stats(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            autocompletion=completing.statistics,
            help="sessions, latency, responses, interruptions, usage, cost, context, tools, mcp, transcription, "
            "errors, limits, pacing, or proxy; an overview if absent.",
            show_default=False,
        ),
    ] = None,
    *,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="What to group by, with commas or several times: model, day, upstream, status, label:KEY …; `none`.",
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Opened since: `30m`, `2h`, `7d`, or a date or time.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Opened before: likewise.")] = None,
    wide: Annotated[bool, typer.Option("--wide", help="All figures, not only the main ones.")] = False,
    data: DataOption = DEFAULT_DATA,
    prices: PricesOption = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", envvar="RECORDER_STATS_CSV", help="Print CSV with a line of headings.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show figures over many sessions: percentiles with their n, rates, sums, each with its course over the days.

    Without a name, an overview. A dash is what cannot be had, like a 95th percentile of fewer than 20 values.
    """
    from recorder.analytics.stats import aggregate, measure
    from recorder.cli.stats_overview import print_overview

    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other", hint="Choose one.")
    now = datetime.now(UTC)
    period = {"since": _moment(since, now), "until": _moment(until, now, "--until")}
    with open_catalog(data, prices) as catalog:
        if name is None:
            if by:
                raise UsageError("--by needs a name", hint="recorder stats latency --by model")
            print_overview(catalog, period, as_json=as_json, as_csv=as_csv)
            _note_unpriced(catalog, period)
            return
        chosen = aggregate(name)
        dimensions = _dimensions(by)
        frame = measure(catalog, name, by=dimensions, **period)
        if as_json:
            output.print_json(frame.iter_rows(named=True))
        elif as_csv:
            print_csv(frame.columns, frame.rows())
        else:
            _print_table(catalog, chosen, frame, period, wide=wide)
        if any(column.unit.startswith("USD") for column in chosen.columns):
            _note_unpriced(catalog, period)


def _moment(text: str | None, now: datetime, option: str = "--since") -> datetime | None:
    return None if text is None else parse_moment(text, now, option)


def _dimensions(by: list[str] | None) -> list[str] | None:
    if not by:
        return None
    names = [name.strip() for names in by for name in names.split(",") if name.strip()]
    return [] if names == ["none"] else names


def print_csv(headings: list[str], rows: list[tuple[Any, ...]]) -> None:
    """Print CSV: numbers as they are, what is unknown empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(headings)
    for row in rows:
        writer.writerow(output.csv_text(value) if isinstance(value, str) else value for value in row)


def _print_table(
    catalog: Queryable, chosen: Aggregate, frame: pl.DataFrame, period: dict[str, datetime | None], *, wide: bool
) -> None:
    figures = [column for column in chosen.columns if wide or column.name in chosen.brief]
    dimensions = [name for name in frame.columns if name not in {column.name for column in chosen.columns}]
    courses = {} if "day" in dimensions else _courses(catalog, chosen, dimensions, period)
    headings = [*dimensions, *(column.name for column in figures)]
    rows = []
    for row in frame.iter_rows(named=True):
        key = tuple(row[name] for name in dimensions)
        cells = [output.plain(value) for value in key]
        cells += [cell(row[column.name], column.unit) for column in figures]
        rows.append(cells + ([sparkline(courses.get(key, {}))] if courses else []))
    titles = [heading(name) for name in headings] + ([f"{heading(chosen.trend)} BY DAY"] if courses else [])
    right = frozenset(range(len(dimensions), len(headings)))
    if output.fits(titles, rows):
        output.print_table(titles, rows, right=right, shrink=frozenset(range(len(dimensions))))
    else:
        output.print_records(titles, rows)
    if not rows:
        output.note("nothing to show")


def _courses(
    catalog: Queryable, chosen: Aggregate, dimensions: list[str], period: dict[str, datetime | None]
) -> dict[tuple[Any, ...], Days]:
    """Each group's main figure by day; nothing where all is of one day."""
    from recorder.analytics.stats import measure

    frame = measure(catalog, chosen.name, by=[*dimensions, "day"], **period)
    courses: dict[tuple[Any, ...], Days] = {}
    for row in frame.iter_rows(named=True):
        if row["day"] is not None:
            courses.setdefault(tuple(row[name] for name in dimensions), {})[row["day"]] = row[chosen.trend]
    days = {day for course in courses.values() for day in course}
    if len(days) < 2:
        return {}
    last = max(days)
    shown = [last - timedelta(days=age) for age in range(min((last - min(days)).days + 1, TREND_DAYS))][::-1]
    return {key: {day: course.get(day) for day in shown} for key, course in courses.items()}


def sparkline(course: Days) -> str:
    """A figure by day as bars from 0 to its largest value; blank where a day has none."""
    values = [None if value is None else float(value) for value in course.values()]
    top = max((value for value in values if value is not None), default=0.0)
    return "".join(
        " " if value is None else BARS[round(max(value, 0) / top * (len(BARS) - 1)) if top > 0 else 0]
        for value in values
    )


def heading(name: str) -> str:
    """`P50 S` of `p50_seconds`: units are short, and said by the values."""
    return name.removesuffix("_seconds").removesuffix("_usd").replace("_", " ").upper()


def cell(value: Any, unit: str) -> str:
    """A figure to read, by its unit."""
    if value is None:
        return "–"
    if unit == "s":
        return output.seconds(value)
    if unit.startswith("USD"):
        return output.usd(value)
    if unit == "ratio":
        return f"{value:.1%}"
    return output.number(value) if isinstance(value, int) else output.number(value, 1 if abs(value) >= 10 else 2)


def _note_unpriced(catalog: Queryable, period: dict[str, datetime | None]) -> None:
    from recorder.analytics.stats import sessions_to_rebuild, unpriced_models

    if count := sessions_to_rebuild(catalog, **period):
        output.note(f"{count} sessions were sealed by a version without costs: `recorder rebuild` adds them")
    if models := unpriced_models(catalog, **period):
        output.note(f"no price for {', '.join(models)}: not in the costs; give one in a file (--prices; docs/cost.md)")
