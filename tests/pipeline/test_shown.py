"""Rows in memory: the same answers as from files, through everything that changes a store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recorder.analytics.engine import Engine, KeepingEngine
from recorder.analytics.registry import built_in_models, shown_models, stored_models
from recorder.errors import QueryError, SessionNotFoundError, StoreError
from recorder.pipeline import shown
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.erase import erase
from recorder.pipeline.imports import import_files
from recorder.pipeline.rebuild import rebuild
from recorder.pipeline.seal import seal_all

SAMPLES = Path(__file__).parents[2] / "sample_logs" / "v1"
TABLES = [
    *(f"stored.{name}" for name in stored_models()),
    *shown_models(),
    *(model.name for model in built_in_models().values() if model.view and not model.internal),
]


def told(catalog: Catalog) -> dict[str, Any]:
    rows = {name: catalog.query(f"SELECT * FROM {name} ORDER BY ALL") for name in TABLES}
    return {name: (frame.schema, frame.rows()) for name, frame in rows.items()}


def same_as_fresh(kept: Catalog) -> bool:
    """Whether a catalog that keeps rows says what one says that has just looked into the files."""
    kept.refresh()
    assert isinstance(kept._shown.engine, KeepingEngine)
    with Catalog(kept.data_dir) as fresh:
        expected = told(fresh)
    found = told(kept)
    assert found.keys() == expected.keys()
    assert {name for name in found if found[name] != expected[name]} == set()
    return True


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("shown") / "data"
    results = import_files(data_dir, [SAMPLES / f"{name}.jsonl" for name in ("barge_in", "tool_call", "voice_turn")])
    assert all(result.error is None for result in results)
    return data_dir


@pytest.fixture
def store(imported: Path, tmp_path: Path) -> Path:
    """Sessions with costs, an interruption and a tool call, each in files of its own."""
    return Path(shutil.copytree(imported, tmp_path / "data"))


def test_the_same_rows_from_memory_and_from_files(store: Path) -> None:
    with Catalog(store, keep=True) as kept:
        assert same_as_fresh(kept)
        assert kept.query("SELECT count(cost_usd) > 0 FROM sessions").item()
        assert kept.query("SELECT count(*) > 0 FROM kept.sessions").item()


def test_what_is_imported_erased_and_put_together_later(store: Path) -> None:
    ids = Catalog(store).query("SELECT session_id FROM sessions ORDER BY 1")["session_id"].to_list()
    with Catalog(store, keep=True) as kept:
        erase(store, ids[:1])
        assert same_as_fresh(kept)
        assert ids[0] not in kept.query("SELECT session_id FROM sessions")["session_id"].to_list()
        compact(store, grace_seconds=0)
        assert same_as_fresh(kept)
        import_files(store, [SAMPLES / "text_turn.jsonl"])
        assert same_as_fresh(kept)
        erase(store, ids[1:2])
        rebuild(store)
        assert same_as_fresh(kept)


def test_running_sessions(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    journal = new_journal(1).turn()
    with Catalog(data_dir, keep=True) as kept:
        assert same_as_fresh(kept)
        assert kept.query("SELECT status FROM sessions")["status"].to_list() == ["running"]
        journal.turn().roll().turn()
        seal_all(data_dir)
        assert same_as_fresh(kept)
        journal.closed()
        new_journal(2).turn()
        assert same_as_fresh(kept)
        seal_all(data_dir)
        assert same_as_fresh(kept)
        assert kept.query("SELECT status FROM sessions ORDER BY 1")["status"].to_list() == ["closed", "running"]


def test_too_many_rows_stay_in_their_files(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Catalog(store, keep=True) as kept:
        expected = told(kept)
        monkeypatch.setattr(shown, "KEPT_ROWS", 5)
        erase(store, kept.query("SELECT session_id FROM sessions LIMIT 1")["session_id"].to_list())
        kept.refresh()
        assert type(kept._shown.engine) is Engine
        assert len(told(kept)["sessions"][1]) == len(expected["sessions"][1]) - 1
    with Catalog(store, keep=True) as never:
        assert type(never._shown.engine) is Engine
        assert never.query("SELECT count(*) FROM sessions").item() > 0


def test_too_many_files_are_not_read_to_begin_with(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Catalog(store, keep=True) as kept:
        monkeypatch.setattr(shown, "KEPT_FILES", 5)
        compact(store, grace_seconds=0)
        assert same_as_fresh(kept)
    with Catalog(store, keep=True) as never:
        assert type(never._shown.engine) is Engine
        assert never.query("SELECT count(*) FROM sessions").item() > 0


def test_a_damaged_file_of_a_model_hides_nothing_else(store: Path) -> None:
    with Catalog(store) as catalog:
        catalog._shown.engine._files["turns"][-1].write_bytes(b"PAR1 and then nothing")
    with Catalog(store, keep=True) as kept:
        assert type(kept._shown.engine) is Engine
        assert kept.query("SELECT count(*) FROM sessions").item() > 0
        with pytest.raises(QueryError):
            kept.query("FROM turns")


def test_sessions_without_times_cost_what_they_cost_today(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Catalog(store, keep=True) as kept:
        assert not kept._shown.is_of_yesterday
        untimed = kept.query("SELECT count(*) FROM sessions WHERE opened_at IS NULL").item()
        monkeypatch.setattr(shown, "_today", lambda: "2999-01-01")
        assert kept._shown.is_of_yesterday == (untimed > 0)
        assert same_as_fresh(kept)
        assert not kept._shown.is_of_yesterday


@pytest.mark.parametrize("keep", [False, True])
def test_files_that_go_between_a_look_and_a_question(store: Path, keep: bool) -> None:
    with Catalog(store, keep=keep) as catalog:
        ids = catalog.query("SELECT session_id FROM sessions ORDER BY 1")["session_id"].to_list()
        before = catalog.query("SELECT session_id, count(*) AS n FROM events GROUP BY ALL ORDER BY 1").rows()
        message = catalog.message(ids[1], 1)
        compact(store, grace_seconds=0)
        assert catalog.query("SELECT session_id, count(*) AS n FROM events GROUP BY ALL ORDER BY 1").rows() == before
        erase(store, ids[:1])
        assert catalog.message(ids[1], 1) == message
        assert catalog.query_user("SELECT count(*) FROM events").item() == sum(n for _, n in before[1:])
        erase(store, ids[1:2])
        with pytest.raises(SessionNotFoundError):
            catalog.events(ids[1])
        assert ids[1] not in catalog.query("SELECT session_id FROM sessions")["session_id"].to_list()
        erase(store, ids[2:3])
        with pytest.raises(SessionNotFoundError):
            catalog.recorded_events(ids[2])


def test_a_file_that_is_lost_is_told(store: Path) -> None:
    with Catalog(store) as catalog:
        for path in (store / "segments" / "events").glob("*/*.parquet"):
            path.unlink()
        session_id = catalog.query("SELECT session_id FROM sessions")["session_id"][0]
        with pytest.raises((QueryError, StoreError)):
            catalog.query("FROM events")
        with pytest.raises(StoreError, match="cannot read"):
            catalog.events(session_id)
