"""`recorder slo`: how objectives stand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from recorder.cli import output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption, open_catalog

if TYPE_CHECKING:
    from recorder.analytics.slo import Report

EXAMPLES = (
    ("recorder slo", "the objectives of ./slo.toml"),
    ("recorder slo --slo ./voice.toml --json", "of another file, for a program"),
    ("recorder slo --indicators", "what can be an objective"),
)

MISSED: Final = 12
ALERTING: Final = 11
HEADINGS: Final = ("OBJECTIVE", "STATE", "GOOD", "GOAL", "N", "BUDGET LEFT", "BURN RATE", "ALERT")
NUMBERS: Final = frozenset({2, 3, 4, 5})
STYLES: Final = {"met": "green", "missed": "bold red", "no data": "dim"}


def slo(
    *,
    data: DataOption = DEFAULT_DATA,
    slo: Annotated[Path, typer.Option(envvar="RECORDER_SLO", metavar="FILE", help="The objectives, as TOML.")] = Path(
        "slo.toml"
    ),
    indicators: Annotated[
        bool, typer.Option("--indicators", envvar="RECORDER_INDICATORS", help="List what can be an objective instead.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how service level objectives stand: the share that was good, the error budget left, and how fast it burns.

    The exit code is 12 when an objective is missed, else 11 when one burns so fast that an alert fires.
    """
    from recorder.analytics.slo import INDICATORS, evaluate_all, load_slos

    if indicators:
        output.print_table(("INDICATOR", "WHAT"), [(name, each.what) for name, each in INDICATORS.items()])
        return
    slos = load_slos(slo)
    with open_catalog(data) as catalog:
        reports = evaluate_all(slos, catalog.query, datetime.now(UTC))
    if as_json:
        output.print_json(reports)
    else:
        output.print_table(HEADINGS, [_cells(report) for report in reports], right=NUMBERS)
    if any(report.state == "missed" for report in reports):
        raise typer.Exit(MISSED)
    if any(report.alerting for report in reports):
        raise typer.Exit(ALERTING)


def _cells(report: Report) -> list[str | Text]:
    return [
        output.printable(report.name),
        Text(report.state, STYLES[report.state]),
        _percent(report.good_ratio, 2),
        _percent(report.objective, 2),
        output.number(report.spans[0].n),
        _percent(report.budget_left, 0),
        ", ".join(f"{each.window} {each.burn_rate:.1f}" for each in report.spans if each.burn_rate is not None) or "–",
        Text("firing", "bold red") if report.alerting else "–",
    ]


def _percent(share: float | None, digits: int) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %"
