from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import Result

from recorder.analytics.stats import aggregates
from recorder.cli.stats import _courses, cell, heading, sparkline
from recorder.errors import UsageError

Run = Callable[..., Result]
DOCS = Path(__file__).parents[2] / "docs" / "stats.md"


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.exception
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_an_overview(run: Run) -> None:
    result = run("stats")
    lines = {line[:28].strip(): line[28:].split() for line in result.stdout.splitlines()[2:]}
    assert lines["sessions"] == ["3"]
    assert lines["tokens"] == ["150"]
    assert lines["voice to voice p95"][0] == "–"
    told = {row["figure"]: row for row in rows(run("stats", "--json"))}
    assert (told["tokens"]["value"], told["tokens"]["unit"]) == (150, "tokens")
    assert told["cost"]["value"] == pytest.approx((120 * 4 + 30 * 16) / 1e6)  # all of it text, as far as is told
    assert sum(told["sessions"]["by_day"].values()) == 2  # one has no times
    lines_of_csv = list(csv.reader(io.StringIO(run("stats", "--csv").stdout)))
    assert lines_of_csv[:2] == [["figure", "value", "unit"], ["sessions", "3", ""]]


def test_figures_as_table_json_and_csv(run: Run) -> None:
    told = rows(run("stats", "cost", "--by", "model,kind", "--json"))
    assert [(row["model"], row["kind"], row["n"], row["unpriced"]) for row in told] == [
        ("gpt-realtime", "response", 1, 0)
    ]
    table = run("stats", "cost").stdout.splitlines()
    assert table[0].split()[:4] == ["MODEL", "KIND", "N", "UNPRICED"]
    assert "$0.0010" in table[2]
    printed = list(csv.DictReader(io.StringIO(run("stats", "cost", "--csv").stdout)))
    assert printed[0]["cost_usd"] == "0.000960000000"
    assert printed[0]["audio_time_cost_usd"] == ""
    assert len(run("stats", "cost", "--wide").stdout.splitlines()[0]) > len(table[0])
    assert rows(run("stats", "sessions", "--by", "none", "--json"))[0]["n"] == 3


class TwoModels:
    """A store with sessions of two models on three of six days."""

    def query(self, sql: str, parameters: list[Any] | None = None) -> pl.DataFrame:
        days = [date(2026, 9, 1), date(2026, 9, 3), date(2026, 9, 6), None]
        return pl.DataFrame({"by_1": ["m", "m", "n", "n"], "by_2": days, "n": [1, 4, 2, 9]})


def test_the_main_figure_by_day(run: Run) -> None:
    courses = _courses(TwoModels(), aggregates()["sessions"], ["model"], {"since": None, "until": None})
    assert {key: sparkline(course) for key, course in courses.items()} == {("m",): "▃ █   ", ("n",): "     █"}
    assert "BY DAY" not in run("stats", "sessions").stdout  # all of it is of one day


def test_periods(run: Run) -> None:
    assert rows(run("stats", "sessions", "--by", "none", "--since", "2999-01-01", "--json"))[0]["n"] == 0
    assert rows(run("stats", "sessions", "--by", "none", "--until", "2999-01-01", "--json"))[0]["n"] == 2
    assert run("stats", "latency", "--since", "2999-01-01").stderr == "nothing to show\n"


def test_models_without_a_price_are_named_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[[price]]\nmodel = "*"\nvalid_from = 2999-01-01\nper_hour = 1\n')
    assert run("stats", "cost").stderr == ""
    odd = run("query", "SELECT count(*) AS n FROM costs WHERE price_model IS NULL", "--json")
    assert rows(odd)[0]["n"] == 0
    assert run("stats", "cost", "--prices", str(tmp_path / "own.toml")).stderr == ""  # the built-in one still holds


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nope"], "no statistics called 'nope'"),
        (["cost", "--by", "nope"], "cannot be grouped by 'nope'"),
        (["--by", "model"], "--by needs a name"),
        (["cost", "--json", "--csv"], "exclude each other"),
        (["cost", "--since", "then"], "is no time"),
    ],
)
def test_what_makes_no_sense(run: Run, arguments: list[str], problem: str) -> None:
    result = run("stats", *arguments)
    assert isinstance(result.exception, UsageError)
    assert problem in result.exception.message


@pytest.mark.parametrize("name", aggregates())
def test_every_documented_example_runs(run: Run, name: str) -> None:
    page = DOCS.read_text(encoding="utf-8").split(f"\n## {name}\n")[1]
    example = re.search(r"```\nrecorder (stats .*)\n```", page)
    assert example
    assert run(*example[1].split()).exit_code == 0


def test_a_course_as_bars() -> None:
    days = [date(2026, 9, day) for day in range(1, 6)]
    assert sparkline(dict(zip(days, [0.0, 1.0, None, 2.0, 4.0], strict=True))) == "▁▃ ▅█"
    assert sparkline({days[0]: 0.0, days[1]: 0.0}) == "▁▁"
    assert sparkline({days[0]: None}) == " "
    assert sparkline({}) == ""


def test_figures_by_their_units() -> None:
    told = [
        cell(0.25, "s"),
        cell(0.5, "ratio"),
        cell(1234.5, "USD"),
        cell(0.01, "USD/min"),
        cell(7, ""),
        cell(1.5, "min"),
    ]
    assert told == ["250 ms", "50.0%", "$1,234.50", "$0.0100", "7", "1.50"]
    assert cell(None, "s") == "–"
    assert heading("execution_p50_seconds") == "EXECUTION P50"
