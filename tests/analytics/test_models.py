"""Each case folder: a session in, the rows of one model out, worked by hand from the definitions."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pytest
import yaml

from recorder.analytics.engine import run_models, running
from recorder.analytics.engine.relations import apart
from recorder.analytics.registry import built_in_models, stored_models

CASES = Path(__file__).parent / "cases"
FOLDERS = sorted(path.parent for path in CASES.glob("*/*/input.jsonl"))

Build = Callable[..., pa.Table]


def _rounded(value: object) -> object:
    return round(value, 9) if isinstance(value, float) else value


@pytest.fixture(scope="module")
def sessions(build: Build) -> dict[Path, pa.Table]:
    return {folder: build(folder / "input.jsonl", f"{folder.parent.name}/{folder.name}") for folder in FOLDERS}


@pytest.fixture(scope="module")
def results(sessions: dict[Path, pa.Table]) -> dict[str, pa.Table]:
    """All cases at once, their rows shuffled: sessions must not touch each other, and only positions give order."""
    mixed = pa.concat_tables(sessions.values())
    order = list(range(mixed.num_rows))
    random.Random(7).shuffle(order)
    return run_models(mixed.take(order), threads=2)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_model_gives_the_expected_rows(folder: Path, results: dict[str, pa.Table]) -> None:
    session_id = f"{folder.parent.name}/{folder.name}"
    rows = [row for row in results[folder.parent.name].to_pylist() if row["session_id"] == session_id]
    expected: list[dict[str, Any]] = yaml.safe_load((folder / "expected.yaml").read_text(encoding="utf-8"))
    found = [{name: _rounded(row[name]) for name in want} for want, row in zip(expected, rows, strict=False)]
    assert found == expected
    assert len(rows) == len(expected)


def test_a_model_that_may_be_skipped_has_rows_only_where_it_says(sessions: dict[Path, pa.Table]) -> None:
    every = {name: msgspec.structs.replace(model, internal=False) for name, model in built_in_models().items()}
    tables = run_models(pa.concat_tables(sessions.values()), models=every, threads=2)
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        for name, model in every.items():
            if model.only_if:
                may_have = connection.execute(f"SELECT DISTINCT session_id {model.only_if}").fetchall()
                assert may_have, name
                assert set(tables[name]["session_id"].to_pylist()) <= {session_id for (session_id,) in may_have}, name


@pytest.mark.parametrize("threads", [2, 3])
def test_parts_of_the_sessions_made_side_by_side_give_the_same_rows(
    threads: int, sessions: dict[Path, pa.Table], results: dict[str, pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from `MANY_EVENTS` on: sessions that come in any order, and events of one that do not come together."""
    monkeypatch.setattr(running, "MANY_EVENTS", 1)
    tables = list(sessions.values())
    random.Random(11).shuffle(tables)
    events = pa.concat_tables([table.slice(1) for table in tables] + [table.slice(0, 1) for table in tables])
    assert len(running._parts(running._numbered(events)[0], threads)) == threads
    assert run_models(events, threads=threads) == results


def test_events_of_sessions_all_mixed_are_taken_at_once(monkeypatch: pytest.MonkeyPatch, build: Build) -> None:
    monkeypatch.setattr(running, "_MOST_SLICES", 3)
    events = pa.concat_tables([build(FOLDERS[0] / "input.jsonl", session_id) for session_id in ("a", "b")])
    assert len(running._parts(running._numbered(events)[0], 2)) == 2
    mixed = events.take(
        [
            row
            for pair in zip(*[range(n, n + len(events) // 2) for n in (0, len(events) // 2)], strict=True)
            for row in pair
        ]
    )
    assert len(running._parts(running._numbered(mixed)[0], 2)) == 1


def test_appends_deltas_and_other_events_divide_all_events(sessions: dict[Path, pa.Table]) -> None:
    events = pa.concat_tables(sessions.values())
    parts = apart(events)
    keys = {
        name: set(zip(*rows.select(["session_id", "position"]).to_pydict().values(), strict=True))
        for name, rows in parts.items()
    }
    assert sum(map(len, keys.values())) == len(set.union(*keys.values())) == len(events)
    assert set(parts["deltas"]["type"].to_pylist()) <= {
        "response.output_audio.delta",
        "response.audio.delta",
        "response.output_audio_transcript.delta",
        "response.audio_transcript.delta",
        "response.output_text.delta",
        "response.text.delta",
    }
    assert len(keys["appends"]) > 500
    assert len(keys["deltas"]) > 100
    assert not {None, ""} & {*parts["deltas"]["response_id"].to_pylist(), *parts["deltas"]["item_id"].to_pylist()}


def test_every_model_has_cases() -> None:
    for name in stored_models():
        assert len([folder for folder in FOLDERS if folder.parent.name == name]) >= 5, name


def test_a_session_alone_gives_the_same_rows_as_among_others(
    sessions: dict[Path, pa.Table], results: dict[str, pa.Table]
) -> None:
    for folder in FOLDERS[::6]:
        for name, alone in run_models(sessions[folder]).items():
            session_id = f"{folder.parent.name}/{folder.name}"
            among_others = [row for row in results[name].to_pylist() if row["session_id"] == session_id]
            assert alone.to_pylist() == among_others, (folder, name)


def test_columns_are_the_declared_ones_and_rows_are_in_order(results: dict[str, pa.Table]) -> None:
    for name, table in results.items():
        model = stored_models()[name]
        assert table.column_names == [column.name for column in model.columns]
        keys = [tuple(row.values()) for row in table.select(list(model.key)).to_pylist()]
        assert keys == sorted(keys)


def test_no_events_give_empty_tables_with_the_same_types(results: dict[str, pa.Table], build: Build) -> None:
    empty = run_models(build(FOLDERS[0] / "input.jsonl").slice(0, 0))
    assert {name: table.schema for name, table in empty.items()} == {
        name: table.schema for name, table in results.items()
    }
    assert all(table.num_rows == 0 for table in empty.values())


def test_threads_do_not_touch_each_other(sessions: dict[Path, pa.Table], results: dict[str, pa.Table]) -> None:
    with ThreadPoolExecutor(4) as pool:
        chosen = [sessions[folder] for folder in FOLDERS[::4]]
        counts = list(pool.map(lambda events: run_models(events)["items"].num_rows, chosen))
    names = [f"{folder.parent.name}/{folder.name}" for folder in FOLDERS[::4]]
    assert counts == [results["items"]["session_id"].to_pylist().count(name) for name in names]
