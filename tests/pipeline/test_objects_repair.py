"""A store in a bucket is checked and mended there, from any machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorder.errors import DamagedManifestError
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.erase import erase
from recorder.pipeline.repair import repair
from recorder.pipeline.verify import verify
from recorder.store import copies, keys, manifests
from tests.pipeline.buckets import Open
from tests.pipeline.machines import everywhere, in_bucket, messages, mirror, names, read_ids, rows, sealed
from tests.pipeline.scan import found
from tests.pipeline.test_erase import words

VIEWS = ("sessions", "responses", "events", "parts", "audio")


def flip(data_dir: Path, name: str) -> None:
    """One bit of an object."""
    content = bytearray(mirror(data_dir).bucket.get(name))
    content[len(content) // 2] ^= 1
    mirror(data_dir).bucket.overwrite(name, bytes(content))


def object_of(data_dir: Path, data_set: str, session_id: str = "") -> str:
    return min(name for name in names(data_dir, f"segments/{data_set}/") if session_id in name)


@everywhere
def test_whoever_has_a_sound_copy_puts_it_back(opened: Open) -> None:
    here, there, elsewhere = (opened(machine) for machine in "abc")
    sealed(here, 1, 2)
    mirror(here).push()
    before, objects = rows(here, *VIEWS), names(here)
    events, audio = object_of(here, "events"), object_of(here, "audio")
    manifest = min(names(here, "manifests/"))
    flip(here, events)
    flip(here, manifest)
    mirror(here).bucket.delete([audio])

    assert {(problem.kind, problem.file) for problem in verify(here)} == {
        ("file_damaged", events), ("file_missing", audio), ("manifest_damaged", manifest)
    }  # fmt: skip
    report = repair(here)

    assert sorted(report.restored) == sorted([events, audio, manifest])
    assert (report.manifests, report.rebuilt, report.set_aside, report.removed, report.left) == ([], [], [], [], [])
    assert names(here) == objects
    assert rows(there, *VIEWS) == before
    assert not list(verify(elsewhere))


def test_what_is_damaged_here_comes_from_the_bucket(opened: Open) -> None:
    here = opened("a")
    (one,) = sealed(here, 1)
    mirror(here).push()
    wanted, name = messages(here, one), object_of(here, "events")
    (here / name).write_bytes(bytes(len((here / name).read_bytes())))
    assert [(problem.kind, problem.file) for problem in verify(here)] == [("file_damaged", name)]

    assert repair(here).restored == [name]

    assert messages(here, one) == wanted
    assert not list(verify(here))


@everywhere
@pytest.mark.parametrize("compacted", [False, True])
def test_a_manifest_that_nobody_has_whole_is_written_anew(opened: Open, *, compacted: bool) -> None:
    here, there, elsewhere = (opened(machine) for machine in "abc")
    ids = sealed(here, 1, 2)
    mirror(here).push()
    if compacted:
        compact(here, grace_seconds=0)
    before, wanted = rows(here, *VIEWS), messages(here, ids[0])
    name = min(names(here, "manifests/"))
    flip(here, name)
    with pytest.raises(DamagedManifestError), Catalog(there):
        pass
    assert [(problem.kind, problem.file) for problem in verify(there)] == [("manifest_damaged", name)]

    report = repair(there)

    assert (report.manifests, report.set_aside) == ([name], [])
    assert {problem.kind for problem in report.left} == {"quarantined"}
    assert name not in names(here, "manifests/")
    assert f"quarantine/repair/{name}" in names(here)
    for machine in (elsewhere, here):
        mirror(machine).pull()
        assert rows(machine, *VIEWS) == before
        assert messages(machine, ids[0]) == wanted
    named = {file.path for each in manifests.list_manifests(elsewhere) for file in each.files}
    assert names(here, "segments/") == named


@everywhere
@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_session_whose_manifest_is_gone_comes_back_once_no_upload_can_bring_it(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, compacted: bool, encrypted: bool
) -> None:
    if encrypted:
        (tmp_path / "store.key").write_text("ab" * 32)
        monkeypatch.setenv(keys.KEY_FILE, str(tmp_path / "store.key"))
    here, there, elsewhere, late = (opened(machine) for machine in "abcd")
    sealed(late, 1)
    ids = sealed(here, 1, 2)
    mirror(here).push()
    if compacted:
        compact(here, grace_seconds=0)
    before, wanted = rows(here, *VIEWS), messages(here, ids[0])
    objects = names(here, "segments/")
    gone = min(names(here, "manifests/"))
    lost = {file.path for file in manifests.decode(mirror(here).bucket.get(gone), gone).files}
    mirror(here).bucket.delete([gone])

    if not compacted:  # of rewriting, no upload can be under way but our own
        assert sorted((problem.kind, problem.file) for problem in verify(there)) == [
            ("orphan", name) for name in sorted(lost)
        ]
        assert repair(there).recovered == []
        assert names(here, "segments/") == objects
        monkeypatch.setattr(copies, "UPLOAD_SECONDS", -60.0)
    assert sorted((problem.kind, problem.file) for problem in verify(there)) == [
        ("manifest_missing", name) for name in sorted(lost)
    ]

    report = repair(there)

    assert report.recovered == (ids if compacted else ids[:1])
    assert report.left == []
    mirror(late).pull()
    assert mirror(late).push() == 0
    for machine in (elsewhere, here, late):
        mirror(machine).pull()
        assert rows(machine, *VIEWS) == before
        assert messages(machine, ids[0]) == wanted
    named = {file.path for each in manifests.list_manifests(elsewhere) for file in each.files}
    assert names(here, "segments/") == named
    assert repair(here).recovered == []


@everywhere
def test_data_files_of_what_is_there_already_go_once_no_upload_can_need_them(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = opened("a"), opened("b")
    (one,) = sealed(here, 1)
    mirror(here).push()
    stray = f"segments/events/date=2026-01-31/compact-{'0' * 32}.00000.parquet"
    junk = stray.replace("000.parquet", "001.parquet")
    mirror(here).bucket.create(stray, mirror(here).bucket.get(object_of(here, "events", one)))
    mirror(here).bucket.create(junk, b"no data file")
    monkeypatch.setattr(copies, "UPLOAD_SECONDS", -60.0)

    report = repair(there)

    assert sorted(report.removed) == [stray, junk]
    assert {problem.kind for problem in report.left} == {"quarantined"}
    assert mirror(here).bucket.get(f"quarantine/repair/{junk}") == b"no data file"
    assert not {stray, junk, f"quarantine/repair/{stray}"} & names(here)
    assert read_ids(here) == [one]


@everywhere
def test_a_session_that_nobody_has_whole_is_set_aside_for_all_and_can_be_erased(opened: Open, tmp_path: Path) -> None:
    here, there, elsewhere = (opened(machine) for machine in "abc")
    one, two = sealed(here, 1, 2)
    mirror(here).push()
    broken, derived = object_of(here, "events", one), object_of(here, "sessions", two)
    flip(here, broken)
    flip(here, derived)
    damaged = mirror(here).bucket.get(broken)

    report = repair(there)

    assert (report.set_aside, report.rebuilt) == ([one], [two])
    assert read_ids(elsewhere) == [two]
    assert mirror(here).bucket.get(f"quarantine/repair/{broken}") == damaged
    assert {problem.kind for problem in verify(elsewhere)} == {"quarantined"}
    assert (elsewhere / "quarantine" / "repair" / broken).read_bytes() == damaged

    erase(elsewhere, [one])
    mirror(here).pull()
    in_bucket(here, tmp_path / "bucket")
    assert not found(words(one, 1), tmp_path / "bucket", elsewhere)
    assert found(words(two, 2), tmp_path / "bucket")
