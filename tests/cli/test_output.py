from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.cli import output


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\r\nb\tc\x07", "a\\r\\nb\\tc\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("abc\u202edef", "abc\\u202edef"),
        ("\ud800", "\\ud800"),
        ("Grüße, 世界 👩\u200d🚀", "Grüße, 世界 👩\u200d🚀"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert output.printable(text) == shown


@given(st.text())
def test_printable_leaves_nothing_that_commands_a_terminal(text: str) -> None:
    shown = output.printable(text)
    hidden = {"Cc", "Cs", "Zl", "Zp"}
    assert not any(unicodedata.category(character) in hidden for character in shown)
    assert output.printable(shown) == shown


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=8,
)


@given(JSON_VALUES)
def test_json_means_the_same_and_commands_nothing(value: object) -> None:
    text = output.to_json(value)
    assert json.loads(text) == value
    assert not any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text)


def test_json_knows_times_and_no_numbers() -> None:
    value = {"at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "nan": float("nan")}
    assert output.to_json(value) == '{"at":"2026-01-02T03:04:05Z","nan":null}'


@pytest.mark.parametrize("rows", [[], [{"a": 1}], [{"a": 1}, {"a": None}]])
def test_json_lists_are_valid(rows: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json(rows)
    assert json.loads(capsys.readouterr().out) == rows


@given(
    columns=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 30)), min_size=1, max_size=8),
    room=st.integers(1, 200),
)
def test_the_widest_columns_give_way(columns: list[tuple[int, int]], room: int) -> None:
    widths = [max(width, least) for width, least in columns]
    least = [min(width, room) for _, width in columns]
    narrowed = output._narrowed(widths, least, room)
    assert all(low <= now <= before for low, now, before in zip(least, narrowed, widths, strict=True))
    assert sum(narrowed) <= max(room, sum(least))
    if sum(widths) <= room:
        assert narrowed == widths


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "–"), (0.0, "0 ms"), (0.34, "340 ms"), (12.34, "12.3 s"), (245.0, "4:05"), (3723.4, "1:02:03")],
)
def test_durations(value: float | None, words: str) -> None:
    assert output.seconds(value) == words
