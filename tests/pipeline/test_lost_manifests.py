"""A manifest that vanished takes nothing with it: what it named is kept, told of, found, erased."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from recorder.pipeline import compact as compacting
from recorder.pipeline.compact import compact
from recorder.pipeline.erase import erase, find
from recorder.pipeline.prune import prune
from recorder.pipeline.rebuild import rebuild
from recorder.pipeline.redact_store import redact
from recorder.pipeline.repair import repair
from recorder.pipeline.replace import listed
from recorder.pipeline.seal import seal_all
from recorder.pipeline.verify import verify
from recorder.store import manifests
from tests.pipeline.buckets import Open
from tests.pipeline.machines import everywhere, in_bucket, mirror, names, sealed
from tests.pipeline.machines import messages as read
from tests.pipeline.scan import found
from tests.pipeline.test_erase import talk, words

YOUNG = 1_790_000_000_000_000_000


@pytest.fixture
def ids(data_dir: Path) -> list[str]:
    """Three sessions of one date, compacted; and another one, of another date."""
    made = sealed(data_dir, 1, 2, 3)
    compact(data_dir, grace_seconds=0)
    return made


@pytest.fixture
def other(data_dir: Path, ids: list[str], new_journal: Callable[..., Any]) -> str:
    assert ids
    journal = talk(new_journal(4, opened_at_ns=YOUNG), 4).closed()
    seal_all(data_dir)
    return str(journal.session_id)


def lose_compacted(data_dir: Path) -> list[Path]:
    """Have the compacted manifest vanish; the files that it named."""
    (path,) = data_dir.glob("manifests/*/compact-*.json")
    lost = [data_dir / file.path for file in manifests.read(path).files]
    path.unlink()
    return lost


REWRITING: dict[str, Callable[[Path, str], object]] = {
    "compact": lambda data_dir, _: compact(data_dir, grace_seconds=0),
    "prune": lambda data_dir, _: prune(data_dir, audio_older_than=timedelta(0)),
    "erase": lambda data_dir, other: erase(data_dir, find(data_dir, [other])),
    "redact": lambda data_dir, other: redact(data_dir, [other], mutes=[]),
    "rebuild": lambda data_dir, _: rebuild(data_dir, grace_seconds=0),
}


@pytest.mark.parametrize("how", REWRITING)
def test_what_a_vanished_manifest_named_outlives_all_rewriting(
    data_dir: Path, ids: list[str], other: str, how: str
) -> None:
    before = [read(data_dir, each) for each in ids]
    lose_compacted(data_dir)

    REWRITING[how](data_dir, other)
    repair(data_dir)

    if how != "prune":  # which takes the audio
        assert [read(data_dir, each) for each in ids] == before
    assert set(ids) <= listed(data_dir).sessions.keys()


def test_it_is_told_of(data_dir: Path, ids: list[str]) -> None:
    lost = lose_compacted(data_dir)
    assert compact(data_dir).unnamed == sorted(path.relative_to(data_dir).as_posix() for path in lost)
    told = {(each.kind, each.file, each.sessions) for each in verify(data_dir)}
    assert told == {("manifest_missing", path.relative_to(data_dir).as_posix(), tuple(ids)) for path in lost}


def test_what_replaced_files_that_are_gone_already_is_not_taken_for_a_leftover(data_dir: Path) -> None:
    """A sweep was broken off before it removed the manifests of the old files, and the new manifest vanished."""
    ids = sealed(data_dir, 1, 2, 3)
    compact(data_dir)
    old = {file.path for manifest in listed(data_dir).replaced.values() for file in manifest.files}
    before = [read(data_dir, each) for each in ids]
    lost = lose_compacted(data_dir)
    for path in old:
        (data_dir / path).unlink()

    assert len(compact(data_dir, dates=[]).unnamed) == len(lost)
    repair(data_dir)

    kept = {path.name for path in data_dir.rglob("*.parquet")}
    assert {path.name for path in lost} <= kept
    assert before


def test_a_leftover_of_a_broken_off_compaction_goes(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = sealed(data_dir, 1, 2, 3)
    monkeypatch.setattr(compacting, "commit", lambda *_: None)  # killed before it
    compact(data_dir)
    monkeypatch.undo()
    assert list(data_dir.glob("segments/*/*/compact-*"))

    assert compact(data_dir, dates=[]).unnamed == []

    assert not list(data_dir.glob("segments/*/*/compact-*"))
    assert sorted(listed(data_dir).sessions) == ids


def test_what_it_held_can_be_erased(data_dir: Path, ids: list[str]) -> None:
    one, two, three = ids
    before = read(data_dir, three)
    lose_compacted(data_dir)

    erase(data_dir, find(data_dir, [two]))

    assert not found(words(two, 2), data_dir)
    assert sorted(listed(data_dir).sessions) == [one, three]
    assert read(data_dir, three) == before


def test_what_was_old_in_it_is_pruned(data_dir: Path, ids: list[str]) -> None:
    lose_compacted(data_dir)
    assert prune(data_dir, older_than=timedelta(days=30)).sessions == ids
    assert not found([word for number, each in enumerate(ids, 1) for word in words(each, number)], data_dir)


def test_what_was_erased_meanwhile_does_not_come_back(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken-off compaction's files turn up after the erasure: from a backup, or in another machine's workspace."""
    one, two, three = sealed(data_dir, 1, 2, 3)
    monkeypatch.setattr(compacting, "commit", lambda *_: None)
    compact(data_dir)
    monkeypatch.undo()
    left = list(data_dir.glob("segments/*/*/compact-*"))
    for path in left:
        path.rename(tmp_path / path.parent.parent.name)
    erase(data_dir, [two])
    for path in left:
        (tmp_path / path.parent.parent.name).rename(path)

    assert repair(data_dir).recovered == []

    assert not found(words(two, 2), data_dir)
    assert sorted(listed(data_dir).sessions) == [one, three]


@everywhere
def test_in_a_bucket(opened: Open, tmp_path: Path) -> None:
    """Its files stay there; and a session that they hold can be erased, from any machine."""
    here, there = opened("a"), opened("b")
    one, two, three = sealed(here, 1, 2, 3)
    mirror(here).push()
    compact(here, grace_seconds=0)
    before = read(here, two)
    (gone,) = names(here, "manifests/")
    mirror(here).bucket.delete([gone])
    objects = names(here, "segments/")

    for machine in (here, there):
        told = {(each.kind, each.file, each.sessions) for each in verify(machine)}
        assert told == {("manifest_missing", name, (one, two, three)) for name in objects}
        compact(machine, grace_seconds=0)
        assert names(here, "segments/") == objects
    assert prune(there, older_than=timedelta(days=36_500)).sessions == []
    assert read(here, two) == before
    erase(there, find(there, [two]))

    mirror(here).pull()
    in_bucket(here, tmp_path / "bucket")
    assert not found(words(two, 2), tmp_path / "bucket", here, there)
    assert sorted(listed(here).sessions) == [one, three]


@everywhere
def test_what_another_machine_was_about_to_compact_does_not_bring_an_erased_session_back(
    opened: Open, tmp_path: Path
) -> None:
    here, there = opened("a"), opened("b")
    one, two, three = sealed(here, 1, 2, 3)
    mirror(here).push()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recorder.pipeline.replace.remote_of", lambda _: None)  # killed before the upload
        patch.setattr(type(mirror(here)), "push", lambda *_, **__: 0)
        compact(here, grace_seconds=0)

    erase(there, [two])
    mirror(here).pull()
    mirror(here).push()

    mirror(there).pull()
    compact(here, grace_seconds=0)
    in_bucket(here, tmp_path / "bucket")
    assert not found(words(two, 2), tmp_path / "bucket", here, there)
    for machine in (here, there):
        assert sorted(listed(machine).sessions) == [one, three]
        assert not list(verify(machine))
