from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from recorder.analytics.engine import Engine
from recorder.analytics.slo import INDICATORS, Burn, Report, Slo, SloFileError, evaluate, load_slos

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as opened:
        yield opened


def sessions(engine: Engine, *rows: dict[str, Any]) -> None:
    """Sessions that ran: each `hours` before now, with what else is said of it."""
    filled = [
        {"session_id": f"s{number}", "status": "closed", "labels": "{}", "model": "m"}
        | {"opened_at": NOW - timedelta(hours=row.pop("hours"))}
        | row
        for number, row in enumerate(rows)
    ]
    names = sorted({name for row in filled for name in row})
    columns = {name: [row.get(name) for row in filled] for name in names}
    times = pa.array(columns.pop("opened_at"), pa.timestamp("us", tz="UTC"))
    engine.update(live={"sessions": pa.table({**columns, "opened_at": times})})


def judged(engine: Engine, **slo: Any) -> Report:
    settings: dict[str, Any] = {"name": "n", "indicator": "errors", "at_most": 0, "objective": 0.9, "alerts": ()} | slo
    return evaluate(Slo(**settings), engine.query, NOW)


def test_the_share_of_good_ones_against_the_goal(engine: Engine) -> None:
    sessions(engine, *({"hours": hours, "error_count": int(hours < 2)} for hours in range(1, 21)))

    report = judged(engine)

    assert (report.spans[0].n, report.spans[0].bad) == (20, 1)
    assert (report.state, report.good_ratio) == ("met", 0.95)
    assert report.spans[0].burn_rate == pytest.approx(0.5)
    assert report.budget_left == pytest.approx(0.5)
    assert judged(engine, objective=0.96).state == "missed"
    assert judged(engine, objective=0.96).budget_left == pytest.approx(-0.25)
    assert judged(engine, at_most=1).good_ratio == 1
    assert judged(engine, at_most=None, at_least=1).spans[0].bad == 19


def test_what_is_just_good_enough_is_met(engine: Engine) -> None:
    sessions(engine, *({"hours": hours, "error_count": int(hours <= 17)} for hours in range(1, 51)))

    report = judged(engine, objective=0.66)  # 1 - 17/50 is 0.6599999999999999 in floats

    assert (report.state, report.good_ratio) == ("met", 0.66)


@pytest.mark.parametrize(("objective", "bad", "rate"), [(0.95, 250, 20.0), (0.99, 36, 14.4), (0.9, 175, 7.0)])
def test_a_rate_that_is_just_reached_fires(engine: Engine, objective: float, bad: int, rate: float) -> None:
    sessions(engine, *({"hours": 0.5, "error_count": int(number < bad)} for number in range(250)))

    report = judged(engine, objective=objective, alerts=(Burn("1h", "1h", rate),))

    assert (report.spans[0].burn_rate, report.alerting) == (rate, True)


def test_only_what_lies_in_the_window_counts(engine: Engine) -> None:
    sessions(
        engine,
        {"hours": 1, "error_count": 0},
        {"hours": 3, "error_count": 1},
        {"hours": -1, "error_count": 1},
        {"hours": 2, "error_count": 1, "status": "running"},
    )

    assert judged(engine, window="2h").good_ratio == 1
    assert judged(engine, window="4h").good_ratio == 0.5


def test_what_is_unknown_does_not_count(engine: Engine) -> None:
    sessions(engine, {"hours": 1, "error_count": None})

    report = judged(engine)

    assert (report.state, report.good_ratio, report.budget_left) == ("no data", None, None)


def test_columns_and_labels_choose(engine: Engine) -> None:
    sessions(
        engine,
        {"hours": 1, "error_count": 0, "model": "a", "labels": '{"team": "x"}'},
        {"hours": 1, "error_count": 1, "model": "b", "labels": '{"team": "y", "a.b": "z"}'},
    )

    assert judged(engine, where={"model": "a"}).good_ratio == 1
    assert judged(engine, where={"label:team": "y"}).good_ratio == 0
    assert judged(engine, where={"label:a.b": "z"}).spans[0].n == 1
    assert judged(engine, where={"model": "a", "label:team": "y"}).state == "no data"
    assert judged(engine, where={"model": "' OR true --"}).state == "no data"


def test_an_alert_needs_both_windows(engine: Engine) -> None:
    burns = (Burn("6h", "1h", 5.0),)
    sessions(engine, *({"hours": 0.5 + hours, "error_count": 1} for hours in range(6)))
    assert judged(engine, alerts=burns).alerting

    sessions(engine, *({"hours": 0.5 + hours, "error_count": int(hours > 0)} for hours in range(6)))
    report = judged(engine, alerts=burns)
    assert not report.alerting
    assert [(each.window, each.n, each.bad) for each in report.spans] == [("7d", 6, 5), ("6h", 6, 5), ("1h", 1, 0)]


@pytest.mark.parametrize("name", sorted(INDICATORS))
def test_every_indicator_can_be_asked_for(engine: Engine, name: str) -> None:
    sessions(engine, {"hours": 24 * 30, "error_count": 0})

    assert judged(engine, indicator=name).state == "no data"


def test_latencies_are_placed_at_their_moment_in_the_session(engine: Engine) -> None:
    sessions(engine, {"hours": 2, "error_count": 0})
    hour_ns = 3600 * 10**9
    rows = pa.table(
        {
            "session_id": ["s0", "s0", "s0"],
            "trigger_at_ns": [0, int(1.5 * hour_ns), int(1.6 * hour_ns)],
            "time_to_first_audio_seconds": [9.0, 1.0, 2.0],
            "out_of_band": [False, False, False],
        }
    )
    engine.update(live={"responses": rows})

    report = judged(engine, indicator="first_audio_seconds", at_most=1.5, window="1h")

    assert (report.spans[0].n, report.spans[0].bad) == (2, 1)


GOOD = """
[[slo]]
name = "first audio"
indicator = "first_audio_seconds"
at_most = 1.5
objective = 0.95
where = {model = "m", "label:team" = "x"}
alerts = [{long = "1h", short = "5m", rate = 14.4}]
"""


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "slo.toml"
    path.write_text(GOOD)

    (slo,) = load_slos(path)

    assert (slo.name, slo.at_most, slo.window, slo.alerts) == ("first audio", 1.5, "7d", (Burn("1h", "5m", 14.4),))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD + GOOD, "its name stands twice"),
        (GOOD.replace("first_audio_seconds", "speed"), "unknown indicator 'speed'; there are first_audio_seconds"),
        (GOOD.replace("at_most", "at_least") + "at_most = 2", "say one of at_most and at_least"),
        (GOOD.replace('"5m"', '"5 minutes"'), "'5 minutes' is no length of time"),
        (GOOD.replace("model =", "colour ="), "where: 'colour' is none of"),
        (
            GOOD.replace("0.95", "95"),
            "slo 'first audio': objective = 95 is no share; say one between 0 and 1, such as 0.95",
        ),
        (GOOD.replace("0.95", "1"), "objective = 1 is no share"),
        (GOOD.replace("0.95", "0.0"), "objective = 0 is no share"),
        (GOOD.replace("0.95", "nan"), "objective = nan is no share"),
        (GOOD.replace("1.5", "nan"), "at_most = nan is no number to compare with"),
        (GOOD.replace("at_most = 1.5", "at_least = inf"), "at_least = inf is no number to compare with"),
        (GOOD.replace("14.4", "inf"), "rate = inf is no number to compare with"),
        (GOOD.replace("0.95", '"95 %"'), "Expected `float`, got `str` - at `$.slo[0].objective`"),
        (GOOD.replace("14.4", "0"), "Expected `float` > 0.0 - at `$.slo[0].alerts[0].rate`"),
        (GOOD + "goal = 1", "unknown field `goal`"),
        ("slo = []", "no [[slo]] in it"),
        ("[[slo]", "Expected"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "slo.toml"
    path.write_text(text)

    with pytest.raises(SloFileError) as caught:
        load_slos(path)

    assert caught.value.path == str(path)
    assert problem in caught.value.problem


def test_reports_are_json(engine: Engine) -> None:
    sessions(engine, {"hours": 1, "error_count": 0})

    assert msgspec.json.decode(msgspec.json.encode(judged(engine)))["state"] == "met"


def test_the_page_names_every_indicator() -> None:
    page = (Path(__file__).parents[2] / "docs" / "slo.md").read_text(encoding="utf-8")

    assert [name for name in INDICATORS if f"| `{name}` | {INDICATORS[name].what} |" not in page] == []
