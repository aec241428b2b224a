from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from recorder.cli.events import Moment, iso_time, parse_moment
from recorder.cli.options import duration, since
from recorder.errors import UsageError

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", datetime(2026, 3, 10, 11, 58, 30, tzinfo=UTC)),
        ("30m", datetime(2026, 3, 10, 11, 30, tzinfo=UTC)),
        ("2h", datetime(2026, 3, 10, 10, 0, tzinfo=UTC)),
        ("7d", datetime(2026, 3, 3, 12, 0, tzinfo=UTC)),
        ("1w", datetime(2026, 3, 3, 12, 0, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T18:00+02:00", datetime(2026, 1, 31, 16, 0, tzinfo=UTC)),
    ],
)
def test_since(text: str, moment: datetime) -> None:
    assert since(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "7", "-7d", "999999w", "2026-13-01"])
def test_since_refuses_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        since(text, NOW)


@pytest.mark.parametrize(("text", "minutes"), [("90s", 1.5), (" 30m ", 30), ("1w", 10_080)])
def test_durations(text: str, minutes: float) -> None:
    assert duration("--span", text) == timedelta(minutes=minutes)


@pytest.mark.parametrize("text", ["", "0m", "-5m", "5", "2026-01-31", "999999w"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match=r"--span .* is no time span"):
        duration("--span", text)


def test_moments() -> None:
    assert parse_moment("42") == Moment(position=42)
    assert parse_moment("+3.5") == Moment(seconds=3.5)
    assert parse_moment("+12s") == Moment(seconds=12.0)
    noon = 1_769_860_800_500_000_000
    assert parse_moment("2026-01-31T12:00:00.5") == Moment(at_ns=noon)
    assert parse_moment("2026-01-31 13:00:00.5+01:00") == Moment(at_ns=noon)


@pytest.mark.parametrize(
    "text", ["", "-1", "3.5", "+", "+x", "٤٢", "1e3", "+1e3", "9" * 30, "2026-01-31", "2026-01-32T12:00"]
)
def test_moments_refuse_anything_else(text: str) -> None:
    with pytest.raises(UsageError, match="no moment"):
        parse_moment(text)


def test_iso_times_keep_nanoseconds() -> None:
    assert iso_time(1_790_000_000_000_000_007) == "2026-09-21T14:13:20.000000007Z"
