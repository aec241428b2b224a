from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from dashboards import queries, views
from dashboards.queries import SessionFilter
from dashboards.views import Asked

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_link_to_the_list_says_only_what_differs() -> None:
    assert Asked().link() == "/sessions"
    assert Asked(q="a&b=c", page=3).link(page=1) == "/sessions?q=a%26b%3Dc"
    assert Asked(model="m").link(sort="tokens", page=2) == "/sessions?model=m&sort=tokens&page=2"


def test_order_and_page_are_no_filters() -> None:
    assert not Asked(sort="tokens", page=4).filtered
    assert Asked(period="24h").filtered
    assert Asked(q="x").filtered


@pytest.mark.parametrize(("period", "since"), [("1h", NOW - timedelta(hours=1)), ("all", None)])
def test_periods_begin_where_they_say(period: str, since: datetime | None) -> None:
    assert views.since(period, NOW) == since


@pytest.mark.parametrize(
    ("ages_in_hours", "period"),
    [([], "all"), ([None], "all"), ([0.1, 0.9], "all"), ([0.1, 100], "1h"), ([0.1, 5], "24h"), ([100], "all")],
)
def test_the_overview_begins_with_the_period_that_fits(
    monkeypatch: pytest.MonkeyPatch, ages_in_hours: list[float | None], period: str
) -> None:
    def listed(_: object, chosen: SessionFilter, **__: object) -> tuple[pl.DataFrame, int]:
        ages = [None if age is None else NOW - timedelta(hours=age) for age in ages_in_hours]
        since = chosen.since
        return pl.DataFrame(), sum(since is None or (age is not None and age >= since) for age in ages)

    monkeypatch.setattr(queries, "list_sessions", listed)
    assert views._fitting_period(None, NOW) == period  # type: ignore[arg-type]


@pytest.mark.parametrize("minutes", [0, 29, 59])
def test_a_chart_ends_with_a_whole_step_so_that_the_last_bar_is_not_cut(minutes: int) -> None:
    now = NOW + timedelta(minutes=minutes)
    chosen = queries.steps(None, now - timedelta(days=1), now)  # type: ignore[arg-type]
    assert chosen.end - now.timestamp() == chosen.width - now.timestamp() % chosen.width
    assert (chosen.start % chosen.width, chosen.end % chosen.width) == (0, 0)
    assert chosen.start <= now.timestamp() - 86_400 < chosen.start + chosen.width
