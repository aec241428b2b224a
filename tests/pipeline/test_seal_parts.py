"""Sessions that are sealed in parts while they run: whatever the cuts and crashes, the same rows, once."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.analytics.engine import run_models
from recorder.errors import StoreError
from recorder.pipeline import commit, seal
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.decoding import JournalDecoder, decode_journal, resume_of
from recorder.pipeline.seal import seal_all, seal_journal
from recorder.protocol.batch import one_by_one
from recorder.protocol.envelope import RecordedEvent, RecordKind
from recorder.store import layout, segments
from recorder.store.journal import JournalWriter, encode_frame, read_journal
from recorder.store.journal_files import by_session, list_journals
from recorder.store.manifests import Manifest, ManifestCache
from recorder.store.schema import events_table
from tests.drawing import examples
from tests.pipeline.conftest import Journal
from tests.pipeline.crashing import CrashError, crash_at
from tests.pipeline.test_seal import STEPS


def cache_of(data_dir: Path) -> ManifestCache:
    cache = ManifestCache(data_dir)
    cache.refresh()
    return cache


def sealed(data_dir: Path, session_id: str) -> Manifest:
    return cache_of(data_dir).sessions[session_id]


def rows(data_dir: Path, session_id: str) -> dict[str, Any]:
    """All that a store has of a session, by data set, whatever its files; audio as it was said."""
    files = sealed(data_dir, session_id).files
    tables = {name: segments.read(data_dir, files, name) for name in {file.data_set for file in files}}
    found: dict[str, Any] = {name: table.to_pylist() for name, table in tables.items() if table is not None}
    del found["audio"]
    for row in found["parts"]:
        del row["block_position"], row["block_offset"]  # a block ends where a part does
    found["recorded"] = stored(data_dir, session_id)
    return found


def running(data_dir: Path) -> Journal:
    """A session with one sealed part and another that is finished."""
    journal = Journal(data_dir)
    journal.turn().roll()
    seal_all(data_dir)
    journal.client({"type": "response.create"}).roll()
    return journal


def test_parts_of_a_running_session_are_sealed_and_their_journals_go(data_dir: Path) -> None:
    journal = running(data_dir)
    journal.client({"type": "response.cancel"})

    report = seal_all(data_dir)

    assert (report.parts, report.sealed, report.left) == (1, [], 0)
    assert report.events == {"client": 1}
    assert [file.path.name for file in list_journals(data_dir)] == [f"{journal.session_id}.00002.journal"]
    cache = cache_of(data_dir)
    assert cache.sessions == {}
    first, second = cache.parts[journal.session_id]
    assert (first.name, first.part) == (f"{journal.session_id}.00000", 0)
    assert {file.data_set for file in first.files} == {"events", "appends", "parts", "audio"}
    assert [(file.data_set, file.rows) for file in second.files] == [("events", 1)]
    assert second.sessions[journal.session_id]["event_count"] == 1
    assert first.date == second.date == "2026-01-31"
    assert seal_all(data_dir) == seal.SealReport()


def test_at_the_close_one_manifest_takes_the_place_of_the_parts(data_dir: Path) -> None:
    journal = running(data_dir)
    parts = [f"{journal.session_id}.0000{number}" for number in range(2)]
    journal.client({"type": "response.cancel"}).closed()

    report = seal_all(data_dir)

    assert (report.parts, report.sealed) == (1, [journal.session_id])
    assert list_journals(data_dir) == []
    cache = cache_of(data_dir)
    assert cache.parts == {}
    assert cache.replaced == {}
    manifest = cache.sessions[journal.session_id]
    assert manifest.replaces == tuple(parts)
    named = [Path(file.path).stem for file in manifest.files if file.data_set == "events"]
    assert named == [*parts, journal.session_id]
    assert manifest.sessions[journal.session_id]["event_count"] == 15
    assert manifest.sessions[journal.session_id]["server_session_id"].startswith("sess_")
    with Catalog(data_dir) as catalog:
        assert catalog.query("SELECT status, event_count FROM sessions").rows() == [("closed", 15)]
        assert [event.position for event in catalog.recorded_events(journal.session_id)] == list(range(15))
        assert catalog.events(journal.session_id, after=10, limit=3)["position"].to_list() == [11, 12, 13]


def records(data_dir: Path) -> list[tuple[int, int, int, bytes]]:
    """A whole session's records: position, time, kind, data; some cut in mid-message."""
    Journal(data_dir).turn().closed()
    (file,) = list_journals(data_dir)
    found: list[tuple[int, int, int, bytes]] = []
    for record in read_journal(file.path):
        pieces = [record.data]
        if record.kind in (RecordKind.CLIENT_BYTES, RecordKind.SERVER_BYTES):
            middle = len(record.data) // 2
            pieces = [record.data[:middle], record.data[middle:]]
        found += [(len(found) * 40 + at, record.at_ns, record.kind, piece) for at, piece in enumerate(pieces)]
    file.path.unlink()
    return found


def write(data_dir: Path, session: Sequence[tuple[int, int, int, bytes]], cuts: set[int], seals: set[int]) -> None:
    """Record a session in parts; the sealer comes by now and then."""
    layout.create(data_dir)
    writer = JournalWriter(data_dir, Journal(data_dir.parent / "name").session_id)
    for number, (position, at_ns, kind, data) in enumerate(session):
        if number in cuts and number:
            done, writer = writer, writer.roll()
            done.close(finished=True)
        if number in seals:
            seal_all(data_dir)
        writer.write(encode_frame(position, at_ns, kind, data))
        writer.last_position = position
    writer.close(finished=True)
    seal_all(data_dir)


@pytest.mark.hypothesis
def test_whatever_the_cuts_the_rows_are_those_of_one_seal(tmp_path: Path) -> None:
    session = records(tmp_path / "source")
    session_id = Journal(tmp_path / "name").session_id
    write(tmp_path / "whole", session, set(), set())
    expected = rows(tmp_path / "whole", session_id)
    assert {"events", "appends", "sessions", "responses", "turns"} < expected.keys()
    places = st.sets(st.integers(1, len(session) - 1), max_size=6)

    @settings(max_examples=examples(10))
    @given(cuts=places, seals=places)
    def any_cuts(cuts: set[int], seals: set[int]) -> None:
        write(tmp_path / "cut", session, cuts, seals)
        assert rows(tmp_path / "cut", session_id) == expected
        shutil.rmtree(tmp_path / "cut")

    any_cuts()


def test_a_crash_at_any_step_of_sealing_parts_loses_and_doubles_nothing(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(data_dir)
    journal.turn().roll().client({"type": "response.create"}).roll().client({"type": "response.cancel"}).closed()
    session_id = journal.session_id
    originals = {file.path.name: file.path.read_bytes() for file in list_journals(data_dir)}
    derived = {"sessions": run_models(events_table(decode_journal(list_journals(data_dir)[0].path)))["sessions"]}
    monkeypatch.setattr(commit, "run_models", lambda _: derived)  # the same rows each time, sooner
    monkeypatch.setattr(os, "fsync", lambda _: None)
    seal_all(data_dir)
    expected = stored(data_dir, session_id)

    number, crashed = 0, True
    while crashed:
        number += 1
        store = tmp_path / f"store{number}"
        layout.create(store)
        for name, content in originals.items():
            (store / "journal" / name).write_bytes(content)
        with pytest.MonkeyPatch.context() as patch:
            crash_at(patch, number, STEPS)
            with contextlib.suppress(CrashError):
                seal_all(store)
                crashed = False
        assert shown(store, session_id) == [event.position for event in expected], f"after a crash at step {number}"
        report = seal_all(store)
        assert (report.quarantined, report.postponed) == ({}, {})
        assert stored(store, session_id) == expected, f"differs after a crash at step {number}"
        assert list_journals(store) == []
        names = {path.name for path in (store / "segments").rglob("*.parquet")}
        listed = {Path(file.path).name for file in sealed(store, session_id).files}
        assert names == listed
        assert [path.stem for path in (store / "manifests").rglob("*.json")] == [session_id]
        shutil.rmtree(store)
    assert number > 60


def stored(data_dir: Path, session_id: str) -> list[RecordedEvent]:
    files = sealed(data_dir, session_id).files
    cut, audio = segments.read_parts(data_dir, files), segments.read_audio(data_dir, files)
    return list(segments.recorded_events(segments.read_events(data_dir, files), cut, audio))


def shown(data_dir: Path, session_id: str) -> list[int]:
    """The positions that a reader sees."""
    cache = cache_of(data_dir)
    if session_id in cache.sessions:
        return [event.position for event in stored(data_dir, session_id)]
    journals = by_session(list_journals(data_dir)).get(session_id, [])
    parts = cache.parts.get(session_id, [])
    files = [file for part in parts for file in part.files]
    positions = segments.read_events(data_dir, files)["position"].to_pylist() if files else []
    decoder = JournalDecoder(resume_of(parts[-1] if parts else None))
    left = [journal for journal in journals if journal.part >= len(parts)]
    return positions + [event.position for batch in decoder.read_all(left) for event in one_by_one(batch)]


def test_a_part_that_cannot_be_sealed_is_set_aside_and_those_after_it_follow(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = running(data_dir)
    journal.client({"type": "response.cancel"}).roll().client({"type": "response.create"})
    session_id = journal.session_id

    def broken(*_: object) -> Any:
        raise RuntimeError("boom")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seal, "commit_parts", broken)
        assert seal_all(data_dir).quarantined == {session_id: "boom"}
    room = data_dir / "quarantine"
    aside = sorted(path.name for path in room.iterdir())
    assert aside == [f"{session_id}.0000{n}.{kind}" for n in (1, 2) for kind in ("journal", "txt")]
    assert f"journal/{session_id}.00001.journal" in (room / aside[1]).read_text()
    assert "not sealed" in (room / aside[3]).read_text()
    with Catalog(data_dir) as catalog:  # provisional: what is there, and that something is missing
        types = catalog.events(session_id)["type"].to_list()
    assert (len(types), types[-2:]) == (14, ["recorder.gap", "response.create"])
    journal.closed()
    assert seal_all(data_dir).quarantined.keys() == {session_id}
    assert list_journals(data_dir) == []

    for path in room.glob("*.journal"):
        name = path.with_suffix(".txt").read_text().splitlines()[0].rpartition("/")[2]
        path.rename(data_dir / "journal" / name)
    report = seal_all(data_dir)

    assert (report.parts, report.sealed) == (2, [session_id])
    assert [event.position for event in stored(data_dir, session_id)] == list(range(16))


def test_a_closed_session_waits_in_quarantine_for_its_missing_part(data_dir: Path) -> None:
    journal = running(data_dir)
    aside = list_journals(data_dir)[0].path
    aside.rename(data_dir / "kept")
    journal.closed()

    (problem,) = seal_all(data_dir).quarantined.values()

    assert "goes on from a part that is not sealed" in problem


def test_a_journal_of_a_session_that_was_sealed_without_it_is_not_dropped(data_dir: Path) -> None:
    journal = running(data_dir)
    journal.closed()
    seal_all(data_dir)
    stray = data_dir / "journal" / f"{journal.session_id}.00007.closed.journal"
    stray.write_bytes(b"RTJRNL\x00\x01")

    (problem,) = seal_all(data_dir).quarantined.values()

    assert "was sealed without it" in problem
    again = data_dir / "journal" / f"{journal.session_id}.00001.closed.journal"
    again.write_bytes(b"RTJRNL\x00\x01")
    assert seal_all(data_dir).sealed == [journal.session_id]
    assert not again.exists()


def test_a_full_disk_lets_all_parts_of_a_session_wait(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = running(data_dir)
    journal.client({"type": "response.cancel"}).closed()

    def full(*_: object) -> Any:
        raise OSError(errno.ENOSPC, "no space left")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "write", full)
        report = seal_all(data_dir)
    assert report.postponed.keys() == {journal.session_id}
    assert not report.quarantined
    assert len(list_journals(data_dir)) == 2
    assert seal_all(data_dir).sealed == [journal.session_id]


def test_a_part_under_a_wrong_name_is_not_sealed(data_dir: Path) -> None:
    running(data_dir)
    layout.create(data_dir)
    other = Journal(data_dir, 2)
    other.turn().roll()
    wrong = list_journals(data_dir)[-2]._replace(session_id=other.session_id[:-1] + "9")
    with pytest.raises(StoreError, match="does not hold the session"):
        seal_journal(data_dir, wrong)


def test_there_may_be_no_time_and_sessions_to_be_left_alone(data_dir: Path) -> None:
    journals = [Journal(data_dir, number).turn().closed() for number in (1, 2)]

    assert seal_all(data_dir, enough=lambda: True).left == 2
    assert seal_all(data_dir, skip={journals[0].session_id}).sealed == [journals[1].session_id]
    assert len(list_journals(data_dir)) == 1


def test_the_events_are_those_of_the_journals(data_dir: Path, tmp_path: Path) -> None:
    session = records(tmp_path / "source")
    whole = tmp_path / "whole.journal"
    whole.write_bytes(b"RTJRNL\x00\x01" + b"".join(encode_frame(*one) for one in session))

    write(data_dir, session, {3, 9, 10}, {10})

    assert stored(data_dir, Journal(tmp_path / "x").session_id) == list(decode_journal(whole))
