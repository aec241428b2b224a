"""What lies aside in a data directory: quarantined files, bundles, what people put there."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from recorder.errors import SessionRunningError, StoreError
from recorder.pipeline import erase as erasing
from recorder.pipeline.bundle import write_bundle
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.erase import erase
from recorder.pipeline.imports import import_files
from recorder.pipeline.redact_store import redact
from recorder.pipeline.repair import repair
from recorder.pipeline.replace import listed
from recorder.store import keys, layout
from tests.pipeline.buckets import Open
from tests.pipeline.conftest import Journal
from tests.pipeline.machines import everywhere, in_bucket, messages, mirror, names, sealed
from tests.pipeline.scan import found
from tests.pipeline.test_erase import talk, words


def write(data_dir: Path, ids: list[str], path: Path) -> Path:
    with Catalog(data_dir) as catalog, path.open("wb") as file:
        write_bundle(catalog, ids, file)
    return path


def files(data_dir: Path, data_set: str) -> list[Path]:
    return sorted(data_dir.glob(f"segments/{data_set}/*/*.parquet"))


def aside(data_dir: Path, path: Path) -> Path:
    return layout.quarantine(data_dir) / "repair" / path.relative_to(data_dir)


def test_a_bundle_in_the_data_directory_loses_the_session(data_dir: Path, tmp_path: Path) -> None:
    one, two, three = sealed(data_dir, 1, 2, 3)
    before = messages(data_dir, three)
    (data_dir / "sent").mkdir()
    mixed = write(data_dir, [two, three], data_dir / "sent" / "calls.zip")
    alone = write(data_dir, [two], data_dir / "alone.zip")
    untouched = write(data_dir, [one], data_dir / "other.zip")
    content = untouched.read_bytes()

    report = erase(data_dir, [two])

    assert not found(words(two, 2), data_dir)
    with zipfile.ZipFile(mixed) as archive:
        archive.extractall(tmp_path / "unpacked")
    assert not found(words(two, 2), tmp_path / "unpacked")
    assert not alone.exists()
    assert untouched.read_bytes() == content
    assert [each.session_id for each in import_files(tmp_path / "new", [mixed])] == [three]
    assert messages(tmp_path / "new", three) == before
    assert (mixed.stat().st_mode & 0o777, report.bundles, report.strangers) == (
        0o600,
        ["alone.zip", "sent/calls.zip"],
        [],
    )


def test_killed_in_the_middle_it_can_be_told_again(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it is in a bundle, the store has it, and whoever is asked to erase it finds it."""
    one, two = sealed(data_dir, 1, 2)
    bundle = write(data_dir, [one, two], data_dir / "calls.zip")
    running = talk(Journal(data_dir, 3), 3).session_id
    with pytest.raises(SessionRunningError):
        erase(data_dir, [two, running])
    assert two.encode() in bundle.read_bytes()

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(erasing, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        erase(data_dir, [two])
    monkeypatch.undo()

    assert two.encode() not in bundle.read_bytes()
    assert two in listed(data_dir).sessions
    erase(data_dir, [two])
    assert not found(words(two, 2), data_dir)


def test_of_what_else_names_it_is_told(data_dir: Path) -> None:
    one, two = sealed(data_dir, 1, 2)
    notes, picture = data_dir / "notes" / "a.txt", data_dir / "picture.zip"
    notes.parent.mkdir()
    notes.write_text(f"{'x' * 3_000_000}see {two}, and {one}")
    with zipfile.ZipFile(picture, "w") as archive:
        archive.writestr(f"{two}.png", b"")
    (data_dir / "unnamed.txt").write_text("nothing")
    (data_dir / "elsewhere").symlink_to("/")

    assert erase(data_dir, [two]).strangers == ["notes/a.txt", "picture.zip"]
    assert notes.exists()


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("damaged", [False, True])
def test_what_was_set_aside_without_a_manifest_goes(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, damaged: bool, encrypted: bool
) -> None:
    """Only a look into it tells whose it is; where that is not possible, it is told of."""
    if encrypted:
        (tmp_path / "store.key").write_text("ab" * 32)
        monkeypatch.setenv(keys.KEY_FILE, str(tmp_path / "store.key"))
    _, two, _ = sealed(data_dir, 1, 2, 3)
    compact(data_dir, grace_seconds=0)
    for path in data_dir.glob("manifests/*/*.json"):
        path.unlink()
    (events,) = files(data_dir, "events")
    (parts,) = files(data_dir, "parts")
    events.unlink()  # so none of them is whole
    if damaged:
        parts.write_bytes(parts.read_bytes()[:-9])
    repair(data_dir)
    kept = aside(data_dir, parts)
    assert kept.exists()

    report = erase(data_dir, [two])

    assert damaged or not found(words(two, 2), data_dir)
    assert (kept.exists(), report.unread) == (damaged, [kept.relative_to(data_dir).as_posix()] if damaged else [])


@everywhere
def test_what_an_upload_left_in_the_bucket_goes_too(opened: Open, tmp_path: Path) -> None:
    here, there = opened("a"), opened("b")
    one, two = sealed(here, 1, 2)
    mirror(here).push()
    mirror(here).bucket.create(f"segments/turns/date=2026-01-30/{two}.parquet", b"secret-2")
    erase(there, [two])
    mirror(here).pull()
    in_bucket(here, tmp_path / "bucket")
    assert not found(words(two, 2), tmp_path / "bucket", here, there)
    assert [name for name in names(here, "segments/events/") if one in name]


def test_redacting_takes_what_was_set_aside_of_a_session_that_is_whole(data_dir: Path) -> None:
    one, _ = sealed(data_dir, 1, 2)
    (turns, _) = files(data_dir, "turns")
    (manifest,) = data_dir.glob(f"manifests/*/{one}.json")
    turns.write_bytes(turns.read_bytes() + b"my name is secret-1-b")
    manifest.write_bytes(manifest.read_bytes()[:-1] + b"secret-1-b")
    repair(data_dir)
    (data_dir / "quarantine" / f"{one}.txt").write_text("secret-1-b")
    assert found([b"secret-1-b"], data_dir / "quarantine")

    (report,) = redact(data_dir, [one], patterns=[re.compile("secret-1-b")])

    assert report.matches
    assert not found([b"secret-1-b"], data_dir)
    assert report.unquarantined


def test_redacting_is_refused_where_another_session_has_nothing_else(data_dir: Path) -> None:
    one, two = sealed(data_dir, 1, 2)
    compact(data_dir, grace_seconds=0)
    (parts,) = files(data_dir, "events")
    kept = aside(data_dir, parts)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(parts.read_bytes())
    erase(data_dir, [two])
    assert not kept.exists()
    kept.parent.mkdir(parents=True, exist_ok=True)
    sealed(data_dir, 3)
    third = files(data_dir, "events")
    kept.with_name(f"{'0' * 8}.json").write_text(f'{{"{one}": 1, "019c1410-7c00-7000-8000-0000000000ff": 2}}')
    before = {path: path.read_bytes() for path in third}

    with pytest.raises(StoreError, match="0000000ff") as error:
        redact(data_dir, [one], patterns=[re.compile("secret-1-b")])

    assert "quarantine/repair" in error.value.message
    assert {path: path.read_bytes() for path in files(data_dir, "events")} == before
    assert one in listed(data_dir).sessions
