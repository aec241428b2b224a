from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.frames import Opcode

from recorder.analytics.engine import run_models
from recorder.errors import NewerFormatError, StoreError
from recorder.pipeline import commit, seal
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.commit import write_segments
from recorder.pipeline.decoding import decode_journal
from recorder.pipeline.seal import seal_all, seal_journal
from recorder.protocol.envelope import RecordedEvent, RecordKind
from recorder.store import layout, manifests, segments, session_tables
from recorder.store.journal_files import list_journals
from recorder.store.manifests import Manifest
from recorder.store.schema import events_table
from tests.pipeline.crashing import CrashError, crash_at


def sealed(data_dir: Path, session_id: str) -> Manifest:
    path = manifests.find(data_dir, session_id)
    assert path is not None
    return manifests.read(path)


def stored(data_dir: Path, session_id: str) -> list[RecordedEvent]:
    files = sealed(data_dir, session_id).files
    rows, parts = segments.read_events(data_dir, files), segments.read_parts(data_dir, files)
    return list(segments.recorded_events(rows, parts, segments.read_audio(data_dir, files)))


def contents(data_dir: Path) -> dict[str, bytes]:
    """Every data file; and of manifests what does not depend on when they were written."""
    found = {str(path.relative_to(data_dir)): path.read_bytes() for path in data_dir.rglob("*.parquet")}
    for manifest in manifests.list_manifests(data_dir):
        sessions = {key: facts | {"sealed_at_ns": 0} for key, facts in manifest.sessions.items()}
        found[manifest.name] = msgspec.json.encode(msgspec.structs.replace(manifest, sessions=sessions))
    return found


def test_a_journal_becomes_files_and_goes(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    journal = new_journal().turn().closed()
    events = list(decode_journal(journal.file.path))

    assert seal_journal(data_dir, journal.file) == journal.session_id

    assert list_journals(data_dir) == []
    assert stored(data_dir, journal.session_id) == events
    manifest = sealed(data_dir, journal.session_id)
    assert (manifest.date, manifest.format_version) == ("2026-01-31", 2)
    assert {"events", "appends", "parts", "sessions", "responses"} <= {file.data_set for file in manifest.files}
    assert all((data_dir / file.path).stat().st_size == file.bytes for file in manifest.files)
    assert manifest.sessions[journal.session_id]["source"] == "proxy"
    assert manifest.sessions[journal.session_id]["opened_at_ns"] == 1_769_860_800_000_000_000
    assert manifest.sessions[journal.session_id]["event_count"] == len(events)


def test_messages_come_back_byte_for_byte(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    journal = new_journal().turn().closed()
    seal_journal(data_dir, journal.file)

    messages = [event.message() for event in stored(data_dir, journal.session_id)]

    assert b'{ "type":"input_audio_buffer.append", "audio":"AAECAwQF" }' in messages
    assert b'{"type":"input_audio_buffer.append","audio":"AAECAw\\/F"}' in messages
    assert b"\x00\xff\x01" in messages
    assert "no JSON at all é".encode() in messages


def test_an_undecodable_message_is_told_from_a_binary_one(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    journal = new_journal().accepted()
    journal.server(b"\x00\x01", Opcode.BINARY).server(b"{\xff}").closed()
    seal_journal(data_dir, journal.file)

    with Catalog(data_dir) as catalog:
        rows = catalog.query("SELECT opcode, payload, problem FROM events WHERE opcode IS NOT NULL ORDER BY position")
    assert rows.rows() == [(2, None, None), (1, None, "invalid UTF-8 at byte 1")]


def test_sealing_again_changes_nothing(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    journal = new_journal().turn().closed()
    copy = journal.file.path.read_bytes()
    seal_journal(data_dir, journal.file)
    before = contents(data_dir)

    file = list_journals(data_dir)
    assert file == []
    path = data_dir / "journal" / f"{journal.session_id}.closed.journal"
    path.write_bytes(copy)
    assert seal_all(data_dir).sealed == [journal.session_id]

    assert contents(data_dir) == before
    assert list_journals(data_dir) == []


def test_running_sessions_are_left_alone(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    running = new_journal(1).turn()
    new_journal(2).turn().closed()

    assert len(seal_all(data_dir).sealed) == 1
    assert [file.session_id for file in list_journals(data_dir)] == [running.session_id]


STEPS = [(os, name) for name in ("fsync", "rename", "replace", "unlink", "mkdir", "open")]
"""What reaches the disk."""


def test_a_crash_at_any_step_loses_and_doubles_nothing(
    tmp_path: Path, data_dir: Path, new_journal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = new_journal().turn().closed()
    original = journal.file.path.read_bytes()
    derived = run_models(events_table(decode_journal(journal.file.path)))
    monkeypatch.setattr(commit, "run_models", lambda _: derived)  # the same rows each time, sooner
    seal_journal(data_dir, journal.file)
    expected = contents(data_dir)

    number = 0
    crashed = True
    while crashed:
        number += 1
        store = tmp_path / f"store{number}"
        layout.create(store)
        path = store / "journal" / journal.file.path.name.replace(".journal", ".closed.journal")
        path.write_bytes(original)
        with pytest.MonkeyPatch.context() as patch:
            crash_at(patch, number, STEPS)
            with contextlib.suppress(CrashError):
                seal_all(store)
                crashed = False
        listed = {manifest.name for manifest in manifests.list_manifests(store)}
        assert path.exists() or listed == {journal.session_id}, f"lost at step {number}"
        seal_all(store)
        assert contents(store) == expected, f"differs after a crash at step {number}"
        assert list_journals(store) == []
    assert number > 30


def test_two_sealers_at_once(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    journals = [new_journal(number).turn().closed() for number in range(1, 7)]
    barrier = threading.Barrier(2)
    reports: list[seal.SealReport] = []

    def run() -> None:
        barrier.wait()
        reports.append(seal_all(data_dir))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    ids = {journal.session_id for journal in journals}
    assert {manifest.name for manifest in manifests.list_manifests(data_dir)} == ids
    assert [report.quarantined | report.postponed for report in reports] == [{}, {}]
    assert list_journals(data_dir) == []
    for manifest in manifests.list_manifests(data_dir):
        for file in manifest.files:
            assert segments.digest(data_dir / file.path) == file.sha256


def test_what_cannot_be_sealed_is_set_aside_with_its_reason(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    good = new_journal(1).turn().closed()
    layout.create(data_dir)
    (data_dir / "journal" / "nonsense.closed.journal").write_bytes(b"what is this")
    empty = data_dir / "journal" / f"{good.session_id[:-1]}9.closed.journal"
    empty.write_bytes(b"RTJRNL\x00\x01")

    report = seal_all(data_dir)

    assert report.sealed == [good.session_id]
    assert report.quarantined.keys() == {"nonsense", empty.name.removesuffix(".closed.journal")}
    room = data_dir / "quarantine"
    assert (room / "nonsense.journal").read_bytes() == b"what is this"
    assert "is not a journal" in (room / "nonsense.txt").read_text()
    assert list_journals(data_dir) == []


def test_the_quarantine_never_overwrites(data_dir: Path) -> None:
    layout.create(data_dir)
    for content in (b"one", b"two"):
        (data_dir / "journal" / "x.closed.journal").write_bytes(content)
        seal_all(data_dir)

    assert (data_dir / "quarantine" / "x.journal").read_bytes() == b"one"
    assert (data_dir / "quarantine" / "x.2.journal").read_bytes() == b"two"


def test_a_journal_under_a_wrong_name_is_set_aside(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    journal = new_journal(1).turn().closed()
    wrong = journal.file.path.with_name(journal.session_id[:-1] + "7.closed.journal")
    journal.file.path.rename(wrong)

    (problem,) = seal_all(data_dir).quarantined.values()
    assert "does not hold the session" in problem


def test_a_broken_model_does_not_lose_a_journal(
    data_dir: Path, new_journal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = new_journal().turn().closed()

    def broken(events: object) -> Any:
        raise RuntimeError("boom")

    monkeypatch.setattr(commit, "run_models", broken)

    assert seal_all(data_dir).quarantined == {journal.session_id: "boom"}
    monkeypatch.undo()
    set_aside = data_dir / "quarantine" / f"{journal.session_id}.journal"
    set_aside.rename(data_dir / "journal" / f"{journal.session_id}.closed.journal")
    assert seal_all(data_dir).sealed == [journal.session_id]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space left"), MemoryError()])
def test_a_full_disk_is_not_the_journals_fault(
    data_dir: Path, new_journal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    journal = new_journal().turn().closed()

    def full(*_: object) -> Any:
        raise error

    monkeypatch.setattr(segments, "write", full)
    report = seal_all(data_dir)
    assert report.postponed.keys() == {journal.session_id}
    assert not report.quarantined
    monkeypatch.undo()
    assert seal_all(data_dir).sealed == [journal.session_id]


def test_a_newer_journal_stays_where_it_is(data_dir: Path) -> None:
    layout.create(data_dir)
    path = data_dir / "journal" / "019c1410-7c00-7000-8000-000000000001.closed.journal"
    path.write_bytes(b"RTJRNL\x00\x02")

    report = seal_all(data_dir)

    assert list(report.postponed) == [path.name.removesuffix(".closed.journal")]
    assert path.exists()
    with pytest.raises(NewerFormatError):
        seal_journal(data_dir, list_journals(data_dir)[0])


def test_an_opening_that_damage_took_is_dated_by_the_id(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    tables = session_tables.SessionTables("019c1410-7c00-7000-8000-000000000001")
    tables.add([RecordedEvent(tables.session_id, 0, "recorder", None, None, "recorder.gap")])

    assert commit.opened_at_ns(tables) == 0x019C14107C00 * 1_000_000


def test_progress_is_told(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    for number in (1, 2):
        new_journal(number).turn().closed()
    told: list[tuple[int, int]] = []

    seal_all(data_dir, lambda done, total: told.append((done, total)))

    assert told == [(2, 2)]


def test_many_sessions_are_written_in_one_go(data_dir: Path, new_journal: Callable[..., Any], tmp_path: Path) -> None:
    journals = [new_journal(number).turn().closed() for number in (1, 2, 3)]
    sessions = [list(decode_journal(journal.file.path)) for journal in journals]
    other = tmp_path / "other"

    written = write_segments(other, sessions)

    assert written == [journal.session_id for journal in journals]
    assert write_segments(other, sessions) == []
    assert write_segments(other, []) == []
    seal_all(data_dir)
    assert contents(other) == contents(data_dir)


def test_a_session_whose_end_is_missing_is_sealed_too(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    journal = new_journal().accepted()
    journal.client({"type": "response.create"})
    journal.record(RecordKind.GAP, b'{"direction":"server","bytes":12,"reason":"ring full"}')
    journal.finish()

    seal_journal(data_dir, journal.file)

    assert [event.type for event in stored(data_dir, journal.session_id)][-1] == "recorder.gap"


def test_only_a_store_can_be_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot use"):
        layout.create(tmp_path / "file")
