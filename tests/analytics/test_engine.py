from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recorder.analytics.engine import Engine, run_checks, run_models
from recorder.analytics.registry import shown_models
from recorder.errors import QueryError
from recorder.store import schema
from recorder.store.stored_form import shrink

Build = Callable[..., pa.Table]
CASE = Path(__file__).parent / "cases" / "sessions" / "whole_call" / "input.jsonl"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine([tmp_path], threads=2) as engine:
        yield engine


def _file(folder: Path, name: str, table: pa.Table) -> Path:
    pq.write_table(shrink(table), folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


def test_without_files_every_view_is_empty_and_typed(engine: Engine) -> None:
    for name, model in shown_models().items():
        rows = engine.query(f"SELECT * FROM {name}")
        assert rows.columns == [column.name for column in model.shown_columns]
        assert rows.height == 0
    assert engine.query("FROM events").columns == schema.EVENTS.names
    assert engine.query("FROM parts").columns == schema.PARTS.names
    assert engine.query("FROM sessions").schema["opened_at"] == pl.Datetime("us", "UTC")
    assert engine.query("SELECT canonical FROM event_types WHERE name = 'response.audio.delta'").item() == (
        "response.output_audio.delta"
    )


def test_files_appends_and_live_rows_are_one_view(engine: Engine, tmp_path: Path, build: Build) -> None:
    is_append = pa.compute.equal(build(CASE)["type"], "input_audio_buffer.append").fill_null(False)
    sealed, running = build(CASE, "sealed"), build(CASE, "running")
    engine.update(
        files={
            "events": [_file(tmp_path, "events", sealed.filter(pa.compute.invert(is_append)))],
            "appends": [_file(tmp_path, "appends", sealed.filter(is_append))],
            "sessions": [_file(tmp_path, "sessions", run_models(sealed)["sessions"])],
        },
        live={"events": running, "sessions": run_models(running)["sessions"]},
    )
    counted = engine.query(
        "SELECT session_id, count(*) AS n, max(position) AS last FROM events GROUP BY ALL ORDER BY 1"
    )
    assert counted.rows() == [("running", 29, 28), ("sealed", 29, 28)]
    opened = engine.query("SELECT opened_at, model FROM sessions WHERE session_id = ?", ["sealed"])
    assert opened.rows() == [(datetime(2027, 1, 15, 8, tzinfo=UTC), "gpt-realtime-2")]
    engine.set_files("sessions", [])
    engine.set_live("sessions", run_models(running)["sessions"].slice(0, 0))
    assert engine.query("FROM sessions").height == 0


def test_files_of_older_versions_lack_columns(engine: Engine, tmp_path: Path, build: Build) -> None:
    sessions = run_models(build(CASE))["sessions"]
    older = _file(tmp_path, "older", sessions.drop_columns(["voice", "labels"]))
    engine.set_files("sessions", [older], by_name=True)
    assert engine.query("SELECT voice, labels, model FROM sessions").rows() == [(None, None, "gpt-realtime-2")]
    engine.set_files("sessions", [_file(tmp_path, "newer", sessions), older], by_name=True)
    assert engine.query("SELECT voice FROM sessions ORDER BY voice").rows() == [("marin",), (None,)]


def test_an_update_that_fails_changes_nothing(engine: Engine, build: Build) -> None:
    events = build(CASE)
    engine.set_live("events", events)
    with pytest.raises(QueryError):
        engine.update(live={"events": events.slice(0, 1), "sessions": pa.table({"no_such_column": [1]})})
    assert engine.query("SELECT count(*) FROM events").item() == events.num_rows


def test_readers_never_see_half_an_update(engine: Engine, tmp_path: Path, build: Build) -> None:
    """A session moves between live rows and files; whoever looks meanwhile finds it exactly once."""
    sessions = run_models(build(CASE))["sessions"]
    sealed = [_file(tmp_path, "sessions", sessions)]
    engine.set_live("sessions", sessions)
    seen: list[int] = []
    stopping = threading.Event()

    def read() -> None:
        while not stopping.is_set():
            seen.append(engine.query("SELECT count(*) FROM sessions").item())

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(30):
        engine.update(files={"sessions": sealed}, live={"sessions": sessions.slice(0, 0)})
        engine.update(files={"sessions": []}, live={"sessions": sessions})
    stopping.set()
    for reader in readers:
        reader.join()
    assert set(seen) == {1}


def test_errors_are_one_line_in_our_own_class(engine: Engine) -> None:
    with pytest.raises(QueryError) as caught:
        engine.query("SELECT nope FROM sessions")
    assert caught.value.message.startswith('Referenced column "nope" not found')
    assert "\n" not in caught.value.message
    with pytest.raises(QueryError, match='Table with name sesions does not exist! Did you mean "sessions"'):
        engine.query("FROM sesions")


def test_checks_find_what_breaks_a_rule(build: Build) -> None:
    tables = run_models(build(CASE))
    assert run_checks(tables) == {}
    doubled = tables | {"sessions": pa.concat_tables([tables["sessions"]] * 2)}
    assert run_checks(doubled) == {"sessions.key_is_unique": [{"session_id": "session-1", "n": 2}]}
