from datetime import UTC, datetime, timedelta

import pytest

from dashboards import views
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
