from __future__ import annotations

import os
from pathlib import Path

import pytest

from recorder.errors import NewerFormatError, StoreError
from recorder.store import layout, manifests
from recorder.store.manifests import Manifest, ManifestCache
from recorder.store.segments import SegmentFile

FILE = SegmentFile("events", "segments/events/date=2026-01-31/x.parquet", 3, 99, "00")


def manifest(number: int, date: str = "2026-01-31") -> Manifest:
    session_id = f"0197f1a2-0000-7000-8000-{number:012x}"
    return Manifest(1, session_id, date, "1.2.3", (FILE,), {"source": "proxy", "opened_at_ns": 5})


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    layout.create(tmp_path)
    return tmp_path


def age(data_dir: Path) -> None:
    """Make every directory old enough that its time stamp is trusted."""
    for path in (data_dir / "manifests").iterdir():
        os.utime(path, ns=(1, path.stat().st_mtime_ns - 10**10))


def test_what_is_written_is_read(data_dir: Path) -> None:
    manifests.write(data_dir, manifest(1))

    assert manifests.list_manifests(data_dir) == [manifest(1)]
    path = manifests.find(data_dir, manifest(1).session_id)
    assert path == data_dir / "manifests/date=2026-01-31" / f"{manifest(1).session_id}.json"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_session_is_found_whatever_its_date(data_dir: Path) -> None:
    manifests.write(data_dir, manifest(1, "2025-12-31"))
    manifests.write(data_dir, manifest(2, "2026-01-31"))

    assert manifests.find(data_dir, manifest(2).session_id) is not None
    assert manifests.find(data_dir, manifest(3).session_id) is None


def test_a_store_without_manifests_is_empty(tmp_path: Path) -> None:
    assert manifests.list_manifests(tmp_path) == []


def test_the_cache_takes_in_what_is_new_and_forgets_what_is_gone(data_dir: Path) -> None:
    cache = ManifestCache(data_dir)
    assert not cache.refresh()
    manifests.write(data_dir, manifest(1))
    assert cache.refresh()
    assert not cache.refresh()
    manifests.write(data_dir, manifest(2, "2026-02-01"))
    assert cache.refresh()
    assert cache.sessions.keys() == {manifest(1).session_id, manifest(2).session_id}

    (data_dir / layout.manifest_path("2026-01-31", manifest(1).session_id)).unlink()
    assert cache.refresh()
    assert cache.sessions.keys() == {manifest(2).session_id}


def test_a_replaced_manifest_is_read_again(data_dir: Path) -> None:
    manifests.write(data_dir, manifest(1))
    cache = ManifestCache(data_dir)
    cache.refresh()
    newer = Manifest(1, manifest(1).session_id, "2026-01-31", "9.9.9", ())
    manifests.write(data_dir, newer)
    path = manifests.find(data_dir, newer.session_id)
    assert path is not None
    os.utime(path, ns=(1, 1))

    assert cache.refresh()
    assert cache.sessions[newer.session_id] == newer


def test_an_old_unchanged_day_is_not_even_listed(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests.write(data_dir, manifest(1))
    age(data_dir)
    cache = ManifestCache(data_dir)
    cache.refresh()
    listed: list[str] = []
    scandir = os.scandir

    def spy(path: Path) -> object:
        listed.append(Path(path).name)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", spy)

    assert not cache.refresh()
    assert listed == ["manifests"]


def test_a_day_that_changes_twice_within_a_tick_is_seen(data_dir: Path) -> None:
    manifests.write(data_dir, manifest(1))
    cache = ManifestCache(data_dir)
    cache.refresh()
    day = data_dir / "manifests/date=2026-01-31"
    stamp = day.stat().st_mtime_ns
    manifests.write(data_dir, manifest(2))
    os.utime(day, ns=(stamp, stamp))  # as a coarse clock leaves it

    assert cache.refresh()
    assert len(cache.sessions) == 2


def test_temporary_and_foreign_files_are_no_manifests(data_dir: Path) -> None:
    manifests.write(data_dir, manifest(1))
    day = data_dir / "manifests/date=2026-01-31"
    (day / ".half.json.tmp").write_text("{")
    (day / "README").write_text("?")
    (data_dir / "manifests/notes").write_text("?")

    assert len(manifests.list_manifests(data_dir)) == 1


def test_a_newer_manifest_is_refused_even_if_its_form_changed(data_dir: Path) -> None:
    day = data_dir / "manifests/date=2026-01-31"
    day.mkdir()
    (day / "x.json").write_text('{"format_version": 7, "files": {"a": "b"}}')

    with pytest.raises(NewerFormatError, match=r"x\.json: format version 7 is newer"):
        manifests.list_manifests(data_dir)


def test_a_damaged_manifest_is_named(data_dir: Path) -> None:
    day = data_dir / "manifests/date=2026-01-31"
    day.mkdir()
    (day / "x.json").write_text('{"format_version": 1')

    with pytest.raises(StoreError, match=r"x\.json is damaged"):
        manifests.list_manifests(data_dir)
