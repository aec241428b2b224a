from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from recorder.errors import StoreError, UsageError
from recorder.formats import jsonl
from recorder.pipeline import imports
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.commit import write_segments
from recorder.pipeline.imports import ImportResult, find_files, import_files
from recorder.pipeline.seal import seal_all
from recorder.store import manifests

REAL = Path(__file__).parents[3] / "shared" / "real" / "openai_ga"
REAL_FILES = sorted(REAL.glob("*.jsonl"))
needs_real = pytest.mark.skipif(not REAL_FILES, reason="the real recordings are not beside this checkout")

CREATED = {"dir": "server", "event": {"type": "session.created", "session": {"id": "sess_1", "model": "gpt-realtime"}}}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


def number(n: int) -> dict[str, Any]:
    return {"dir": "client", "event": {"type": "response.create", "event_id": f"event_{n}"}}


def statuses(results: list[ImportResult]) -> list[str]:
    return [result.status for result in results]


def test_a_file_becomes_a_session(data_dir: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "call.jsonl", CREATED, number(1))

    (result,) = import_files(data_dir, [path])

    assert (result.status, result.file) == ("imported", str(path))
    with Catalog(data_dir) as catalog:
        (row,) = catalog.query("SELECT * FROM sessions").to_dicts()
        assert (row["session_id"], row["source"], row["status"]) == (result.session_id, "import", "closed")
        assert (row["server_session_id"], row["event_count"], row["opened_at"]) == ("sess_1", 4, None)
        assert catalog.resolve("last") == catalog.resolve("sess_1") == result.session_id


def test_importing_again_adds_nothing(data_dir: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", CREATED)
    copy = write(tmp_path / "b.jsonl", CREATED)

    assert statuses(import_files(data_dir, [path, copy])) == ["imported", "present"]
    assert statuses(import_files(data_dir, [copy])) == ["present"]
    assert len(manifests.list_manifests(data_dir)) == 1


def test_untimed_files_lie_under_the_day_of_import_timed_ones_under_their_own(data_dir: Path, tmp_path: Path) -> None:
    timed = write(tmp_path / "t.jsonl", CREATED | {"ts": "2020-02-29T23:59:59.5Z"})
    untimed = write(tmp_path / "u.jsonl", CREATED)
    before = datetime.now(UTC).date().isoformat()

    import_files(data_dir, [timed, untimed])

    dates = {manifest.date for manifest in manifests.list_manifests(data_dir)}
    assert dates in ({"2020-02-29", before}, {"2020-02-29", datetime.now(UTC).date().isoformat()})
    with Catalog(data_dir) as catalog:  # an import without dates counts as opened when it was imported
        assert catalog.events(catalog.resolve("last"))["recorded_at"].null_count() == 3


def test_a_wrong_file_stores_nothing_and_stops_nothing(data_dir: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"dir": "client", "event": {}}\n{"dir": "client", "ev')
    files = [
        write(tmp_path / "a.jsonl", number(1)),
        bad,
        tmp_path / "none.jsonl",
        write(tmp_path / "b.jsonl", number(2)),
    ]

    results = import_files(data_dir, files)

    assert statuses(results) == ["imported", "failed", "failed", "imported"]
    assert (results[1].line, results[1].error) == (2, "the file ends in the middle of this line: is it complete?")
    assert (results[2].line, results[2].error) == (None, "no such file")
    assert len(manifests.list_manifests(data_dir)) == 2


def test_directories_are_walked(tmp_path: Path) -> None:
    room = tmp_path / "logs"
    files = [write(room / "b.jsonl"), write(room / "deep" / "a.NDJSON"), write(room / "a.jsonl")]
    write(room / ".hidden.jsonl")
    write(room / "expected.json")
    named = write(tmp_path / "anything.txt")

    assert find_files([room, named, named]) == [files[2], files[0], files[1], named]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no \.flow, \.flows, \.har, \.jsonl, \.ndjson file under"):
        find_files([tmp_path / "empty"])


def test_links_that_go_in_circles_are_not_followed(tmp_path: Path) -> None:
    room = tmp_path / "logs"
    write(room / "a.jsonl")
    (room / "self").symlink_to(room)

    assert find_files([room]) == [room / "a.jsonl"]


def test_many_files_go_in_batches(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_BATCH_FILES", 3)
    files = [write(tmp_path / f"{n}.jsonl", number(n)) for n in range(7)]
    told: list[tuple[int, int]] = []

    results = import_files(data_dir, files, lambda done, total: told.append((done, total)))

    assert statuses(results) == ["imported"] * 7
    assert told == [(n, 7) for n in range(1, 8)]
    assert len({manifest.name for manifest in manifests.list_manifests(data_dir)}) == 7


def test_one_that_breaks_a_model_does_not_spoil_its_batch(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [write(tmp_path / f"{n}.jsonl", number(n)) for n in range(3)]
    real = write_segments

    def picky(store: Path, sessions: Any) -> list[str]:
        made = [list(events) for events in sessions]
        if any(event.event_id == "event_1" for events in made for event in events):
            raise RuntimeError("a model broke")
        return real(store, made)

    monkeypatch.setattr(imports, "write_segments", picky)

    results = import_files(data_dir, files)

    assert statuses(results) == ["imported", "failed", "imported"]
    assert results[1].error == "a model broke"


def test_a_store_that_cannot_be_written_is_said(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(imports, "write_segments", full)
    with pytest.raises(StoreError, match="No space left"):
        import_files(data_dir, [write(tmp_path / "a.jsonl", number(1))])


def exported(catalog: Catalog, session_id: str, path: Path) -> Path:
    with path.open("wb") as file:
        jsonl.export(catalog.recorded_events(session_id), file)
    return path


def test_an_export_is_the_identical_session_in_another_store(
    data_dir: Path, tmp_path: Path, new_journal: Callable[..., Any]
) -> None:
    journal = new_journal().turn().closed()
    seal_all(data_dir)
    other = tmp_path / "other"
    with Catalog(data_dir) as catalog:
        path = exported(catalog, journal.session_id, tmp_path / "export.jsonl")
        assert statuses(import_files(data_dir, [path])) == ["present"]
        assert statuses(import_files(other, [path])) == ["imported"]
        with Catalog(other) as copy:
            assert copy.recorded_events(journal.session_id) == catalog.recorded_events(journal.session_id)
            for view in ("events", "parts", "sessions", "responses", "turns", "items"):
                query = f"SELECT * FROM {view} ORDER BY ALL"
                assert copy.query(query).equals(catalog.query(query)), view


def test_a_session_that_is_being_recorded_is_not_imported_beside(
    data_dir: Path, tmp_path: Path, new_journal: Callable[..., Any]
) -> None:
    journal = new_journal().turn()
    with Catalog(data_dir) as catalog:
        path = exported(catalog, journal.session_id, tmp_path / "export.jsonl")

    assert statuses(import_files(data_dir, [path])) == ["present"]
    assert manifests.list_manifests(data_dir) == []


@needs_real
def test_real_recordings(data_dir: Path) -> None:
    results = import_files(data_dir, REAL_FILES)

    assert statuses(results) == ["imported"] * 3
    with Catalog(data_dir) as catalog:
        for path, result in zip(REAL_FILES, results, strict=True):
            assert result.session_id is not None
            lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
            events = catalog.recorded_events(result.session_id)[1:-1]
            assert [event.direction for event in events] == [line["dir"] for line in lines]
            assert [msgspec.json.decode(event.message()) for event in events] == [line["event"] for line in lines]
            assert all(event.message() in path.read_bytes() for event in events)
        sessions = catalog.query("SELECT * FROM sessions ORDER BY total_tokens")
        assert sessions["total_tokens"].to_list() == [40, 201, 205]
        assert sessions["response_count"].to_list() == [1, 2, 1]
        assert sessions["tool_call_count"].to_list() == [0, 1, 0]
        assert sessions["cached_tokens"].to_list() == [0, 64, 0]
        assert sessions["model"].to_list() == ["gpt-realtime"] * 3
        assert sessions["status"].to_list() == ["closed"] * 3
        spoken = catalog.query("SELECT text FROM turns WHERE session_id = ? ORDER BY turn_no", [results[1].session_id])
        assert spoken["text"].to_list() == ["Say a short greeting.", "Hi there!"]


@needs_real
def test_real_recordings_survive_export_and_import(data_dir: Path, tmp_path: Path) -> None:
    results = import_files(data_dir, REAL_FILES)
    other = tmp_path / "other"
    with Catalog(data_dir) as catalog:
        exports = [exported(catalog, str(r.session_id), tmp_path / f"{n}.jsonl") for n, r in enumerate(results)]
        assert [r.session_id for r in import_files(other, exports)] == [r.session_id for r in results]
        with Catalog(other) as copy:
            for view in ("events", "parts", "sessions", "items", "tool_calls", "speech"):
                query = f"SELECT * FROM {view} ORDER BY ALL"
                left, right = catalog.query(query), copy.query(query)
                assert isinstance(left, pl.DataFrame)
                assert left.equals(right), view
