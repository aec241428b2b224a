from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from recorder.errors import DamagedManifestError, NewerFormatError, StoreError
from recorder.store import layout, manifests
from recorder.store.manifests import Manifest, ManifestCache
from recorder.store.segments import SegmentFile

FILE = SegmentFile("events", "segments/events/date=2026-01-31/x.parquet", 3, 99, "00")


def manifest(number: int, date: str = "2026-01-31") -> Manifest:
    session_id = f"0197f1a2-0000-7000-8000-{number:012x}"
    return Manifest(2, session_id, date, "1.2.3", {session_id: {"source": "proxy", "opened_at_ns": 5}}, (FILE,))


def part(number: int, part_no: int) -> Manifest:
    whole = manifest(number)
    name = layout.part_name(whole.name, part_no)
    return msgspec.structs.replace(whole, name=name, part=part_no, resume=bytes([part_no, 255]))


def compacted(*held: Manifest) -> Manifest:
    sessions = {key: facts for each in held for key, facts in each.sessions.items()}
    names = tuple(each.name for each in held)
    return Manifest(2, "compact-0123abcd", held[0].date, "1.2.3", sessions, (FILE,), names)


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
    path = manifests.find(data_dir, manifest(1).name)
    assert path == data_dir / "manifests/date=2026-01-31" / f"{manifest(1).name}.json"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_session_is_found_whatever_its_date(data_dir: Path) -> None:
    manifests.write(data_dir, manifest(1, "2025-12-31"))
    manifests.write(data_dir, manifest(2, "2026-01-31"))

    assert manifests.find(data_dir, manifest(2).name) is not None
    assert manifests.find(data_dir, manifest(3).name) is None


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
    assert cache.sessions.keys() == {manifest(1).name, manifest(2).name}

    (data_dir / layout.manifest_path("2026-01-31", manifest(1).name)).unlink()
    assert cache.refresh()
    assert cache.sessions.keys() == {manifest(2).name}


def test_a_replaced_manifest_is_read_again(data_dir: Path) -> None:
    manifests.write(data_dir, manifest(1))
    cache = ManifestCache(data_dir)
    cache.refresh()
    newer = Manifest(2, manifest(1).name, "2026-01-31", "9.9.9", {manifest(1).name: {}}, ())
    manifests.write(data_dir, newer)
    path = manifests.find(data_dir, newer.name)
    assert path is not None
    os.utime(path, ns=(1, 1))

    assert cache.refresh()
    assert cache.sessions[newer.name] == newer


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


def test_parts_are_known_as_such_and_in_order(data_dir: Path) -> None:
    for each in (part(1, 1), part(1, 0), manifest(2)):
        manifests.write(data_dir, each)
    cache = ManifestCache(data_dir)
    cache.refresh()

    assert cache.sessions == {manifest(2).name: manifest(2)}
    assert cache.counting == [manifest(2)]
    assert cache.parts == {manifest(1).name: [part(1, 0), part(1, 1)]}
    assert manifests.find(data_dir, manifest(1).name) is None


def test_a_whole_session_takes_the_place_of_its_parts(data_dir: Path) -> None:
    parts = [part(1, 0), part(1, 1)]
    for each in parts:
        manifests.write(data_dir, each)
    whole = msgspec.structs.replace(manifest(1), replaces=tuple(each.name for each in parts))
    manifests.write(data_dir, whole)
    cache = ManifestCache(data_dir)
    cache.refresh()

    assert (cache.counting, cache.parts) == ([whole], {})
    assert cache.replaced == {each.name: each for each in parts}


def test_what_a_compacted_manifest_replaces_does_not_count_any_more(data_dir: Path) -> None:
    held = [manifest(1), manifest(2)]
    for each in [*held, compacted(*held), manifest(3)]:
        manifests.write(data_dir, each)
    cache = ManifestCache(data_dir)
    cache.refresh()

    assert cache.sessions == {
        held[0].name: compacted(*held),
        held[1].name: compacted(*held),
        manifest(3).name: manifest(3),
    }
    assert cache.replaced.keys() == {each.name for each in held}
    assert manifests.list_manifests(data_dir) == [manifest(3), compacted(*held)]


def test_a_compacted_session_is_found_when_its_own_manifest_has_gone(data_dir: Path) -> None:
    held = [manifest(1), manifest(2)]
    for each in [*held, compacted(*held)]:
        manifests.write(data_dir, each)
    room = data_dir / "manifests/date=2026-01-31"
    (room / f"{held[0].name}.json").unlink()

    found = manifests.find_all(data_dir, [held[0].name, held[1].name, manifest(3).name])

    assert found == {held[0].name: room / "compact-0123abcd.json", held[1].name: room / f"{held[1].name}.json"}


def test_a_manifest_that_goes_while_it_is_listed_is_passed_over(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (manifest(1), manifest(2)):
        manifests.write(data_dir, each)
    read = manifests.read

    def racing(path: Path) -> Manifest:
        if manifest(1).name in path.name:
            path.unlink()
        return read(path)

    monkeypatch.setattr(manifests, "read", racing)

    assert manifests.list_manifests(data_dir) == [manifest(2)]


def test_manifests_of_version_1_are_read(data_dir: Path) -> None:
    day = data_dir / "manifests/date=2026-01-31"
    day.mkdir()
    name = manifest(1).name
    (day / f"{name}.json").write_text(
        f"""{{"format_version": 1, "session_id": "{name}", "date": "2026-01-31", "recorder_version": "0.1", "files": [
            {{"data_set": "events", "path": "segments/events/date=2026-01-31/{name}.parquet", "rows": 3, "bytes": 99,
              "sha256": "00", "columns": "aa"}}], "facts": {{"source": "proxy", "event_count": 3}}}}"""
    )

    (found,) = manifests.list_manifests(data_dir)

    file = SegmentFile("events", f"segments/events/date=2026-01-31/{name}.parquet", 3, 99, "00", "aa")
    facts = {"source": "proxy", "event_count": 3}
    assert found == Manifest(1, name, "2026-01-31", "0.1", {name: facts}, (file,))


@pytest.mark.parametrize("name", ["x", "../x", "compact-", f"{manifest(1).name}.1", f"{manifest(1).name}.00001/x"])
def test_what_is_no_name_becomes_no_path(name: str) -> None:
    with pytest.raises(StoreError, match="is not a session id"):
        layout.manifest_path("2026-01-31", name)


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


def test_parts_that_were_replaced_while_they_were_listed_are_looked_for_again(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [part(1, 0), part(1, 1)]
    for each in parts:
        manifests.write(data_dir, each)
    whole = msgspec.structs.replace(manifest(1), replaces=tuple(each.name for each in parts))
    read = manifests.read

    def racing(path: Path) -> Manifest:
        if path.stem.endswith(".00000"):
            manifests.write(data_dir, whole)
            manifests.remove_parts(data_dir, whole.name, 2)
        return read(path)

    monkeypatch.setattr(manifests, "read", racing)
    cache = ManifestCache(data_dir)
    cache.refresh()

    assert (cache.sessions, cache.parts) == ({whole.name: whole}, {})
    assert [path.stem for path in (data_dir / "manifests").rglob("*.json")] == [whole.name]


def test_a_manifest_that_is_no_text_is_damaged(data_dir: Path) -> None:
    path = data_dir / layout.manifest_path("2026-01-31", manifest(1).name)
    manifests.write(data_dir, manifest(1))
    content = path.read_bytes()
    at = content.index(b"2026")
    path.write_bytes(content[:at] + bytes([content[at] | 0x80]) + content[at + 1 :])
    with pytest.raises(DamagedManifestError):
        manifests.read(path)
