from __future__ import annotations

from pathlib import Path

import pytest

from recorder.analytics.engine import run_models
from recorder.analytics.registry import ModelError, built_in_models, load_models, stored_models
from recorder.errors import RecorderError
from recorder.store import schema

DESCRIPTION = "description: d\ngrain: g\nkey: [a]\ncolumns: [{name: a, type: BIGINT, description: d}]\n"


def _write(folder: Path, name: str, description: str, query: str | None = "SELECT 1 AS a") -> None:
    (folder / name).mkdir()
    (folder / name / "model.yaml").write_text(description)
    if query is not None:
        (folder / name / "query.sql").write_text(query)


def test_models_come_after_those_they_depend_on() -> None:
    names = list(built_in_models())
    for model in built_in_models().values():
        assert all(names.index(needed) < names.index(model.name) for needed in model.depends_on)


def test_the_stored_models_are_these() -> None:
    known = {"items", "responses", "turns", "interruptions", "sessions", "tool_calls", "speech", "usage", "errors"}
    known |= {"transcriptions", "mcp_calls", "rate_limits", "pacing", "contexts", "input_signals"}
    assert known <= set(stored_models())
    assert "wire_events" not in stored_models()


def test_a_folder_of_own_models_runs(tmp_path: Path) -> None:
    _write(tmp_path, "b_totals", DESCRIPTION + "depends_on: [z_rows]\n", "-- twice\nSELECT n * 2 AS a FROM z_rows;\n")
    _write(
        tmp_path, "z_rows", "description: d\ngrain: g\nkey: [n]\ninternal: true\n", "SELECT count(*) AS n FROM events"
    )
    tables = run_models(schema.EVENTS.empty_table(), models=load_models(tmp_path))
    assert {name: table.to_pylist() for name, table in tables.items()} == {"b_totals": [{"a": 0}]}


@pytest.mark.parametrize(
    ("description", "problem"),
    [
        ("", "Expected `object`"),
        ("description: [", "model.yaml"),
        ("description: d\n", "missing required field `grain`"),
        (DESCRIPTION + "colour: red\n", "unknown field `colour`"),
        (DESCRIPTION.replace("type: BIGINT, ", ""), "missing required field `type`"),
        ("description: d\ngrain: g\nkey: [a]\n", "names no columns"),
        ("description: d\ngrain: g\nkey: [a]\ninternal: true\nonly_if: FROM events\n", "names no columns"),
        (DESCRIPTION.replace("[a]", "[b]"), "key column 'b' is not among its columns"),
        (DESCRIPTION.replace("}]", "}, {name: a, type: BIGINT, description: d}]"), "names a column twice"),
        (DESCRIPTION + "depends_on: [other]\n", "depends on 'other', which does not exist"),
        (DESCRIPTION + "depends_on: [broken]\n", "depends on itself"),
    ],
)
def test_a_broken_description_is_named(tmp_path: Path, description: str, problem: str) -> None:
    _write(tmp_path, "broken", description)
    with pytest.raises(ModelError, match="model 'broken'") as caught:
        load_models(tmp_path)
    assert problem in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.model == "broken"


def test_a_missing_query_is_named(tmp_path: Path) -> None:
    _write(tmp_path, "broken", DESCRIPTION, query=None)
    with pytest.raises(ModelError, match=r"cannot read .*query\.sql: No such file"):
        load_models(tmp_path)


@pytest.mark.parametrize(
    ("query", "problem"),
    [("SELECT nope AS a", "nope"), ("SELECT 'x' AS a", "'x'"), ("SELEC", "SELEC"), ("SELECT 1 AS b", "a")],
)
def test_a_query_that_fails_names_its_model(tmp_path: Path, query: str, problem: str) -> None:
    _write(tmp_path, "broken", DESCRIPTION, query)
    with pytest.raises(RecorderError, match="model 'broken'") as caught:
        run_models(schema.EVENTS.empty_table(), models=load_models(tmp_path))
    assert problem in caught.value.message
