"""Each definition of the metrics worked by hand: sessions in, and in many tables what must come out.

The arithmetic stands beside the numbers. `handworked/<case>.jsonl` is a session in the form of `cases`,
`handworked/<case>.yaml` names rows by table, in order, with the columns that the case is about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest
import yaml

from recorder.analytics.engine import Engine, run_models
from recorder.analytics.prices import Price
from recorder.analytics.registry import shown_models

FOLDER: Final = Path(__file__).parent / "handworked"
CASES: Final = sorted(path.stem for path in FOLDER.glob("*.jsonl"))
EXPECTED: Final[dict[str, dict[str, list[dict[str, Any]]]]] = {
    name: yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")) for name in CASES
}
CHECKS: Final = [(name, table) for name, tables in EXPECTED.items() for table in tables]

PRICES: Final = (
    Price(
        model="hand-voice",
        rank=0,
        provider="",
        source="by hand",
        input_text_usd=Decimal(4),
        input_audio_usd=Decimal(32),
        input_image_usd=Decimal(5),
        cached_text_usd=Decimal("0.4"),
        cached_audio_usd=Decimal("0.4"),
        cached_image_usd=Decimal("0.5"),
        output_text_usd=Decimal(16),
        output_audio_usd=Decimal(64),
    ),
    Price(
        model="hand-ears",
        rank=0,
        provider="",
        source="by hand",
        input_text_usd=Decimal("1.25"),
        input_audio_usd=Decimal(6),
        output_text_usd=Decimal(10),
    ),
    Price(model="hand-clock", rank=0, provider="", source="by hand", hour_usd=Decimal("0.36")),
)
"""USD per million tokens; `hand-clock` takes 36 cents an hour, which is 0.01 cents a second."""

WORDS: Final[dict[tuple[str, str], set[Any]]] = {
    ("sessions", "closed_by"): {"client", "upstream", "proxy", "lost"},
    ("responses", "trigger"): {"client", "vad", "idle_timeout", "unknown"},
    ("responses", "status"): {"completed", "cancelled", "incomplete", "failed", "dangling"},
    ("responses", "status_reason"): {"turn_detected", "client_cancelled", "max_output_tokens", "content_filter"},
    ("interruptions", "source"): {"server_vad", "client"},
    ("interruptions", "truncate_status"): {
        "ok", "missing", "beyond_audio", "rejected", "late", "not_needed", "server_truncated",
    },
    ("interruptions", "false_barge_in"): {True, False},
    ("contexts", "cache_bust_cause"): {"truncation", "config_change", "idle_expiry", "unknown"},
    ("errors", "cause_confidence"): {"exact", "inferred", "none"},
    ("usage", "kind"): {"response", "transcription", "session"},
    ("usage", "billed_by"): {"tokens", "seconds"},
    ("transcriptions", "status"): {"completed", "failed"},
    ("mcp_calls", "status"): {"completed", "failed"},
    ("tool_calls", "unanswered"): {True, False},
}  # fmt: skip
"""What the definitions name, by table and column."""

NUMERIC: Final = {"BIGINT", "INTEGER", "DOUBLE"}

Build = Callable[..., pa.Table]


@pytest.fixture(scope="module")
def engine(build: Build) -> Iterator[Engine]:
    """All cases at once."""
    with Engine(prices=PRICES) as engine:
        engine.update(live=run_models(pa.concat_tables([build(FOLDER / f"{name}.jsonl", name) for name in CASES])))
        yield engine


def _found(value: object) -> object:
    return round(value, 9) if isinstance(value, float) else value


def _wanted(column: str, value: object) -> object:
    return Decimal(value) if isinstance(value, str) and column.endswith("_usd") else value


@pytest.mark.parametrize(("case", "table"), CHECKS, ids=["-".join(check) for check in CHECKS])
def test_the_model_gives_what_was_worked_by_hand(engine: Engine, case: str, table: str) -> None:
    order = ", ".join(shown_models()[table].key)
    rows = engine.query(f"SELECT * FROM {table} WHERE session_id = ? ORDER BY {order}", [case]).to_dicts()
    expected = EXPECTED[case][table]
    found = [{name: _found(row[name]) for name in want} for want, row in zip(expected, rows, strict=False)]
    assert found == [{name: _wanted(name, value) for name, value in want.items()} for want in expected]
    assert len(rows) == len(expected)


def test_every_number_was_worked_by_hand() -> None:
    """Every numeric column that readers see has a value, other than NULL, in some case."""
    worked = {
        (table, name)
        for tables in EXPECTED.values()
        for table, rows in tables.items()
        for row in rows
        for name, value in row.items()
        if value is not None
    }
    numbers = {
        (model.name, column.name)
        for model in shown_models().values()
        for column in model.shown_columns
        if column.type in NUMERIC or column.type.startswith("DECIMAL")
    }
    assert numbers - worked == set()


@pytest.mark.parametrize(("table", "column"), WORDS, ids=[".".join(place) for place in WORDS])
def test_every_word_of_the_definitions_was_worked_by_hand(table: str, column: str) -> None:
    worked = {row.get(column) for tables in EXPECTED.values() for row in tables.get(table, ())}
    assert WORDS[table, column] <= worked
