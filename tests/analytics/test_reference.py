from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from recorder.analytics.engine import Engine
from recorder.analytics.reference import reference
from recorder.analytics.registry import shown_models

DOCS = Path(__file__).parents[2] / "docs"

FORMULA: Final = re.compile(r"[→÷×−+]|\b(sum|median|percentile|longest|least|told|likewise|as in)\b", re.IGNORECASE)
"""What says how a number is made: an operation, or that it is as another place has it."""


def test_the_page_is_what_the_models_say() -> None:
    how = "write it anew: docs/metrics.md is recorder.analytics.reference.reference()"
    assert (DOCS / "metrics.md").read_text(encoding="utf-8") == reference(), how


@pytest.mark.parametrize("name", shown_models())
def test_every_table_and_column_is_described(name: str) -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    model = shown_models()[name]
    section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
    for column in model.shown_columns:
        assert f"`{column.name}`" in section
        assert len(column.description) > 5, column.name
    assert model.grain
    assert model.caveats
    assert model.example
    assert model.caveats.strip() in section
    assert model.example.strip() in section


def test_every_measure_has_its_formula() -> None:
    measures = [
        (model.name, column.name, column.description)
        for model in shown_models().values()
        for column in model.shown_columns
        if column.type == "DOUBLE" or column.type.startswith("DECIMAL") or column.unit == "tokens"
    ]
    assert len(measures) > 100
    assert [measure for measure in measures if not FORMULA.search(measure[2])] == []


def test_units_are_those_of_the_names() -> None:
    units = {"_seconds": "s", "_ms": "ms", "at_ns": "ns", "_tokens": "tokens", "_bytes": "bytes"}
    for model in shown_models().values():
        for column in model.shown_columns:
            for suffix, unit in units.items():
                assert not column.name.endswith(suffix) or column.unit == unit, (model.name, column.name)


@pytest.mark.parametrize("name", shown_models())
def test_examples_run(name: str) -> None:
    with Engine() as engine:
        engine.query_user(shown_models()[name].example)
