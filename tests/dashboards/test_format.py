from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import format as shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0 ms"),
        (0.0004, "0 ms"),
        (0.64, "640 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (4.214, "4.21 s"),
        (9.996, "10.0 s"),
        (59.96, "60.0 s"),
        (59.996, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (3725, "1 h 02 min"),
    ],
)
def test_durations_keep_three_figures_and_never_show_sixty_seconds(value: float | None, text: str) -> None:
    assert shown.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0 µs"),
        (4.84e-5, "48 µs"),
        (0.0009994, "999 µs"),
        (0.0009996, "1.0 ms"),
        (0.009949, "9.9 ms"),
        (0.00996, "10 ms"),
        (4.214, "4.21 s"),
    ],
)
def test_short_durations_are_shown_in_smaller_units(value: float | None, text: str) -> None:
    assert shown.fine_seconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0, "0"), (1234567, "1\u202f234\u202f567")])
def test_counts_have_thin_spaces(value: float | None, text: str) -> None:
    assert shown.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (9999, "9\u202f999"), (12_340, "12.3\u202fk"), (4_100_000, "4.1\u202fM")]
)
def test_tiles_get_short_counts(value: float | None, text: str) -> None:
    assert shown.short_count(value) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, ""),
        (0, "0:00.00"),
        (4_214_999_999, "0:04.21"),
        (61_500_000_000, "1:01.50"),
        (3_723_400_000_000, "1:02:03.40"),
    ],
)
def test_places_in_a_session(ns: int | None, text: str) -> None:
    assert shown.clock(ns) == text


@given(st.integers(min_value=0, max_value=10**15))
def test_a_clock_never_shows_sixty_seconds(ns: int) -> None:
    assert not shown.clock(ns).endswith("60.00")


def test_moments_are_utc_whatever_zone_they_came_in() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert shown.moment(at) == "2026-01-02 01:04:05 UTC"
    assert shown.iso(at.astimezone(UTC)) == "2026-01-02T01:04:05+00:00"
    assert shown.moment(None) == "–"


def test_json_is_set_out_and_other_text_left_alone() -> None:
    assert shown.pretty('{"a":1}') == '{\n  "a": 1\n}'
    assert shown.pretty("{broken") == "{broken"
    assert shown.pretty("7") == "7"
    assert shown.pretty(None) == ""


def test_long_ids_keep_their_ends() -> None:
    assert shown.short_id("sess_E6U0wu9FmdwQ0Lgv9ESYH") == "sess_E6U0wu9FmdwQ0Lgv9ESYH"
    assert shown.short_id("019aa000-7c1e-7a5c-84d3-25160c5c7fd0") == "019aa000…5c7fd0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "$0.00"),
        (Decimal("1e-9"), "< $0.000001"),
        (Decimal("0.000146040000"), "$0.000146"),
        (0.0123, "$0.0123"),
        (1234.5, "$1,234.50"),
    ],
)
def test_small_amounts_keep_their_figures_and_unknown_ones_are_no_zero(
    value: Decimal | float | None, text: str
) -> None:
    assert shown.usd(value) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"), [(1, 8, "12\u202f%"), (0, 3, "0\u202f%"), (0, 0, "–"), (None, 3, "–"), (1, None, "–")]
)
def test_a_share_of_nothing_is_unknown(part: float | None, whole: float | None, text: str) -> None:
    assert shown.share(part, whole) == text
