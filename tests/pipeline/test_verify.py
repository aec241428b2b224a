"""A store is checked and mended: every byte of every file matters."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.analytics.engine import run_models
from recorder.errors import StoreError
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.drain import Drain
from recorder.pipeline.erase import erase
from recorder.pipeline.imports import import_files
from recorder.pipeline.problems import Problem
from recorder.pipeline.prune import prune
from recorder.pipeline.rebuild import rebuild
from recorder.pipeline.repair import repair
from recorder.pipeline.seal import quarantine_journal, seal_all
from recorder.pipeline.verify import verify
from recorder.protocol.envelope import RecordKind
from recorder.store import keys, layout, manifests, parquet
from recorder.store.journal import encode_frame, read_journal
from recorder.store.journal_files import by_session, list_journals
from recorder.store.spool import list_spools
from tests.drawing import examples
from tests.pipeline.conftest import Journal
from tests.pipeline.rings import Store

IDS = [f"019c1410-7c00-7000-8000-{number:012x}" for number in (1, 2, 3)]
DATA = ("events", "appends", "parts", "audio")
NOT_CHECKED = {".txt", ".lock"}
"""Why a journal is in quarantine, for people; and locks, which are empty."""


@pytest.fixture
def store(data_dir: Path, new_journal: Callable[..., Any]) -> Path:
    """Three sessions, the last one sealed in two parts."""
    for number in (1, 2):
        new_journal(number).turn().closed()
    journal = new_journal(3).turn().roll()
    seal_all(data_dir)
    journal.server({"type": "response.done", "response": {"id": "resp_9"}}).closed()
    seal_all(data_dir)
    return data_dir


def kinds(problems: list[Problem]) -> list[str]:
    return sorted(problem.kind for problem in problems)


def messages(data_dir: Path) -> dict[str, list[bytes]]:
    with Catalog(data_dir) as catalog:
        ids = catalog.query("SELECT session_id FROM sessions ORDER BY ALL")["session_id"].to_list()
        return {each: [event.message() for event in catalog.recorded_events(each)] for each in ids}


def derived(data_dir: Path) -> list[Any]:
    with Catalog(data_dir) as catalog:
        return [
            catalog.query(f"SELECT * FROM {name} ORDER BY ALL").rows() for name in ("sessions", "responses", "usage")
        ]


def files(data_dir: Path) -> list[Path]:
    return sorted(path for room in ("segments", "manifests") for path in (data_dir / room).rglob("*") if path.is_file())


def test_a_sound_store_has_no_problems(store: Path) -> None:
    told: list[tuple[int, int]] = []

    assert list(verify(store, progress=lambda done, of: told.append((done, of)))) == []
    assert told == [(1, 3), (2, 3), (3, 3)]
    compact(store, grace_seconds=0)
    assert list(verify(store)) == []


@pytest.mark.hypothesis
@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("encrypted", [False, True])
def test_any_byte_of_any_file_that_is_flipped_is_found(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, compacted: bool, encrypted: bool
) -> None:
    if encrypted:
        (tmp_path / "store.key").write_text("ab" * 32)
        monkeypatch.setenv(keys.KEY_FILE, str(tmp_path / "store.key"))
    written = every_kind_of_file(data_dir, compacted=compacted)
    before = set(verify(data_dir, quick=True))
    everything = {path for path in data_dir.rglob("*") if path.is_file() and path.stat().st_size}
    paths = sorted(path for path in everything if path.suffix not in NOT_CHECKED and path.name != keys.MARKER)
    kinds_of_file = {path.relative_to(data_dir).parts[:2] for path in paths}
    assert {("segments", name) for name in (*DATA, "sessions", "responses")} < kinds_of_file
    assert {parts[0] for parts in kinds_of_file} == {
        "segments", "manifests", "journal", "quarantine", "spool", "audit.jsonl",
    }  # fmt: skip

    def flipped(path: Path, place: float, bit: int) -> None:
        sound = path.read_bytes()
        at = int(place * (len(sound) - written.get(path, 0)))
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << bit]) + sound[at + 1 :])
        try:
            found = set(verify(data_dir, quick=True)) - before
        finally:
            path.write_bytes(sound)
        assert {problem.file for problem in found} == {path.relative_to(data_dir).as_posix()}, (path, at)
        if layout.is_session_id(path.name[:36]):
            assert {one for problem in found for one in problem.sessions} == {path.name[:36]}
        elif path.suffix == ".parquet":
            assert IDS[0] in {one for problem in found for one in problem.sessions}

    for number, path in enumerate(paths):  # each kind of file, wherever chance leads
        for place in (0.0, number / len(paths), 0.999999):
            flipped(path, place, number % 8)
    settings(max_examples=examples(25))(
        given(path=st.sampled_from(paths), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))(flipped)
    )()
    assert set(verify(data_dir, quick=True)) == before


def every_kind_of_file(data_dir: Path, *, compacted: bool) -> dict[Path, int]:
    """A store with all that there can be; and of what is still written, how long its last record or block is.

    That one may be on its way, so what is wrong with it cannot be told yet.
    """
    for number in (1, 2):
        Journal(data_dir, number).turn().closed()
    seal_all(data_dir)
    if compacted:
        compact(data_dir, grace_seconds=0)
    several = Journal(data_dir, 3).turn().roll()
    seal_all(data_dir)
    several.server({"type": "response.done", "response": {"id": "resp_9"}}).roll().client({"type": "response.create"})
    Journal(data_dir, 4).turn().closed()
    quarantine_journal(data_dir, Journal(data_dir, 5).turn().closed().file, ValueError())
    Journal(data_dir, 6).turn()
    for number in (7, 8):
        erase(data_dir, [Journal(data_dir, number).turn().closed().session_id], reason="asked for")
    recorded = Store(data_dir.parent)
    recorded.open(9)
    to_spools = Drain(data_dir, recorded.ring_dir)
    to_spools.drain()
    (spool,) = list_spools(data_dir)
    sound = spool.path.stat().st_size
    recorded.say(9, RecordKind.CLIENT_BYTES, b"on its way")
    to_spools.drain()
    to_spools.close()
    recorded.ring.close()
    running = [parts[-1].path for parts in by_session(list_journals(data_dir)).values() if not parts[-1].closed]
    lasts = {path: list(read_journal(path))[-1] for path in running}
    last_block = {spool.path: spool.path.stat().st_size - sound}
    return {path: len(encode_frame(0, one.at_ns, one.kind, one.data)) for path, one in lasts.items()} | last_block


def test_a_file_that_is_cut_or_gone(store: Path) -> None:
    cut, gone = [path for path in files(store) if "/events/" in str(path)][:2]
    cut.write_bytes(cut.read_bytes()[:-1])
    gone.unlink()

    found = {problem.file: problem for problem in verify(store)}

    assert found[cut.relative_to(store).as_posix()].kind == "file_damaged"
    assert found[gone.relative_to(store).as_posix()].kind == "file_missing"


def test_what_nobody_names_and_what_is_not_sealed(store: Path, new_journal: Callable[..., Any]) -> None:
    stray = store / layout.segment_path("events", "2026-01-31", "019c1410-7c00-7000-8000-0000000000ff")
    stray.write_bytes(b"x")
    (store / "manifests" / "date=2026-01-31" / ".a.json.tmp").write_bytes(b"x")
    new_journal(9).turn().closed()
    broken = new_journal(8).turn().closed().file.path
    data = bytearray(broken.read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)

    assert kinds(list(verify(store))) == ["journal_damaged", "journal_unsealed", "orphan", "orphan"]


def test_files_of_a_manifest_that_cannot_be_read_are_not_taken_for_leftovers(store: Path) -> None:
    compact(store, grace_seconds=0)
    (path,) = (path for path in files(store) if path.suffix == ".json")
    sound = path.read_bytes()
    (store / layout.segment_path("events", "2026-02-01", IDS[0])).parent.mkdir()
    (store / layout.segment_path("events", "2026-02-01", IDS[0])).write_bytes(b"of another day")
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_bytes(b"")

    for content, kind in ((sound[:-2], "manifest_damaged"), (b'{"format_version": 99}', "newer")):
        path.write_bytes(content)
        assert kinds(list(verify(store))) == [kind, "orphan", "orphan"]


def test_derived_rows_of_another_time_are_found_and_made_anew(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = derived(store)
    models = run_models

    def poorer(events: Any, **options: Any) -> Any:
        return {
            name: rows.slice(0, 0) if name == "responses" else rows for name, rows in models(events, **options).items()
        }

    monkeypatch.setattr("recorder.pipeline.rebuild.run_models", poorer)
    rebuild(store, grace_seconds=0)
    monkeypatch.undo()

    stale = list(verify(store))
    assert {(problem.kind, problem.problem) for problem in stale} == {
        ("derived_stale", "responses: not what the models give now")
    }
    assert sorted(one for problem in stale for one in problem.sessions) == IDS

    report = rebuild(store, grace_seconds=0)
    assert (report.sessions, report.unchanged) == (3, 0)
    assert derived(store) == wanted
    assert list(verify(store)) == []
    assert rebuild(store, grace_seconds=0).unchanged == 3
    assert list(verify(store)) == []


def test_only_what_was_named_is_rebuilt(store: Path) -> None:
    told: list[tuple[int, int]] = []

    rebuild(store, [IDS[1]], progress=lambda done, of: told.append((done, of)))

    assert told == [(1, 1)]


def test_nothing_is_done_where_nothing_is_wrong(store: Path) -> None:
    before = {path: path.read_bytes() for path in files(store)}

    report = repair(store)

    assert (report.manifests, report.rebuilt, report.set_aside, report.removed, report.left) == ([], [], [], [], [])
    assert {path: path.read_bytes() for path in files(store)} == before


@pytest.mark.parametrize("compacted", [False, True])
def test_a_damaged_manifest_is_written_anew(store: Path, *, compacted: bool) -> None:
    if compacted:
        compact(store, grace_seconds=0)
    wanted, rows = messages(store), derived(store)
    for path in files(store):
        if path.suffix == ".json":
            path.write_bytes(path.read_bytes().replace(b'"event_count": ', b'"event_count": 1'))
    with pytest.raises(StoreError):
        messages(store)

    report = repair(store)

    assert len(report.manifests) == (1 if compacted else 3)
    assert report.left == [] or {problem.kind for problem in report.left} == {"quarantined"}
    assert messages(store) == wanted
    assert derived(store) == rows


@pytest.mark.parametrize("compacted", [False, True])
def test_damaged_derived_files_are_made_anew(store: Path, *, compacted: bool) -> None:
    if compacted:
        compact(store, grace_seconds=0)
    wanted, rows = messages(store), derived(store)
    for path in files(store):
        if path.parent.parent.name not in {*DATA, "manifests"}:
            path.write_bytes(b"no parquet")

    report = repair(store)

    assert sorted(report.rebuilt) == IDS
    assert (report.set_aside, report.left) == ([], [])
    assert messages(store) == wanted
    assert derived(store) == rows


@pytest.mark.parametrize("data_set", DATA)
def test_a_session_that_lacks_something_is_set_aside_and_the_others_stay(store: Path, data_set: str) -> None:
    wanted = messages(store)
    (path,) = [
        path for path in files(store) if path.parent.parent.name == data_set and path.name == f"{IDS[0]}.parquet"
    ]
    sound = path.read_bytes()
    path.write_bytes(sound[: len(sound) // 2])

    report = repair(store)

    assert report.set_aside == [IDS[0]]
    assert {problem.kind for problem in report.left} == {"quarantined"}
    assert messages(store) == {key: value for key, value in wanted.items() if key != IDS[0]}
    kept = store / "quarantine" / "repair" / path.relative_to(store)
    assert kept.read_bytes() == sound[: len(sound) // 2]


@pytest.mark.parametrize("data_set", DATA)
def test_of_a_compacted_file_nothing_is_kept_that_is_not_whole(store: Path, data_set: str) -> None:
    compact(store, grace_seconds=0)
    (path,) = [path for path in files(store) if path.parent.parent.name == data_set]
    path.unlink()

    report = repair(store)

    assert sorted(report.set_aside) == IDS
    assert messages(store) == {}


def test_what_was_left_by_a_crash_goes_and_what_was_lost_comes_back(store: Path) -> None:
    wanted = messages(store)
    stray = store / layout.segment_path("events", "2026-01-31", "compact-" + "0" * 32)
    shutil.copy(store / layout.segment_path("events", "2026-01-31", IDS[0]), stray)
    (store / layout.manifest_path("2026-01-31", IDS[1])).unlink()

    report = repair(store)

    assert not stray.exists()
    assert messages(store) == wanted
    assert report.left == []


@pytest.mark.parametrize("compacted", [False, True])
def test_what_was_set_aside_can_be_erased(store: Path, *, compacted: bool) -> None:
    if compacted:
        compact(store, grace_seconds=0)
    path = next(path for path in files(store) if path.parent.parent.name == "events")
    path.write_bytes(path.read_bytes()[:-1])
    repair(store)
    assert IDS[0].encode() in b"".join(path.read_bytes() for path in (store / "quarantine").rglob("*.json"))

    erase(store, [IDS[0]])

    assert not [path for path in store.rglob("*") if path.is_file() and IDS[0].encode() in path.read_bytes()]
    assert not [path for path in (store / "quarantine").rglob("*") if path.is_file()]


@pytest.mark.parametrize("compacted", [False, True])
def test_what_was_lost_comes_back_by_all_its_names_and_as_old_as_it_was(
    tmp_path: Path, store: Path, *, compacted: bool
) -> None:
    untimed = tmp_path / "untimed.jsonl"
    untimed.write_text('{"dir":"server","event":{"type":"session.created","session":{"id":"sess_import"}}}\n')
    import_files(store, [untimed])
    if compacted:
        compact(store, grace_seconds=0)
    paths = [path for path in files(store) if path.suffix == ".json"]
    before = {key: facts for path in paths for key, facts in manifests.read(path).sessions.items()}
    for path in paths:
        path.unlink()

    assert sorted(repair(store).recovered) == sorted(before)

    after = {key: facts for each in manifests.list_manifests(store) for key, facts in each.sessions.items()}
    for key, facts in before.items():
        for name in ("opened_at_ns", "server_session_id", "source", "event_count"):
            assert after[key][name] == facts[name], name
    with Catalog(store) as catalog:
        assert catalog.resolve("sess_import") in before
    assert prune(store, older_than=timedelta(days=1), now_ns=time.time_ns(), dry_run=True).sessions == IDS


def test_what_was_lost_without_its_audio_comes_back_without_it(store: Path) -> None:
    compact(store, grace_seconds=0)
    prune(store, audio_older_than=timedelta(0))
    wanted, kept = derived(store), [path for path in files(store) if path.suffix == ".parquet"]
    assert not [path for path in kept if path.parent.parent.name == "audio"]
    for path in files(store):
        if path.suffix == ".json":
            path.unlink()

    report = repair(store)

    assert (sorted(report.recovered), report.set_aside, report.left) == (IDS, [], [])
    assert derived(store) == wanted


def test_what_a_newer_version_left_without_a_manifest_stays(store: Path) -> None:
    stray = store / layout.segment_path("events", "2026-01-31", "019c1410-7c00-7000-8000-0000000000ff")
    table = pq.read_table(store / layout.segment_path("events", "2026-01-31", IDS[0]), partitioning=None)
    pq.write_table(table.replace_schema_metadata({parquet.VERSION_KEY: "99"}), stray)
    content = stray.read_bytes()

    report = repair(store)

    assert (report.recovered, report.removed) == ([], [])
    assert [problem.file for problem in report.left] == [stray.relative_to(store).as_posix()]
    assert stray.read_bytes() == content
