"""Putting one manifest in the place of others, and removing what was replaced.

    new data files → new manifest, which names those it replaces → (grace) → old data files → old manifests

A crash before the new manifest leaves files that nobody reads; one after it leaves replaced ones, which the next
`sweep` removes. What is wanted, rows gone or files merged, holds from the moment of the one rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from recorder import __version__
from recorder.errors import StoreError
from recorder.pipeline.leftovers import Elsewhere, is_compacted
from recorder.store import layout, manifests, segments
from recorder.store.manifests import GRACE_SECONDS, Manifest, ManifestCache
from recorder.store.merge import Edit, Unit, merge, sessions_in
from recorder.store.schema import FORMAT_VERSION
from recorder.store.segments import SegmentFile
from recorder.store.workspace import remote_of

AUDIO_REMOVED: Final = "audio_removed"
"""The fact of a session whose audio was removed."""

_DIGITS: Final = 32
_UNFINISHED: Final = ".tmp"


class Change(NamedTuple):
    """What is to be different about stored sessions. An id stands in one of the three at most.

    Attributes:
        removed: sessions that go.
        edits: by data set, what becomes of rows of the sessions in `facts`; one whose edit is None loses its rows.
        facts: by session, what its facts have in addition.
        instead: by session and data set, rows that take the place of all that it has.
    """

    removed: frozenset[str] = frozenset()
    edits: Mapping[str, Edit | None] = {}
    facts: Mapping[str, Mapping[str, Any]] = {}
    instead: Mapping[str, Mapping[str, Any]] = {}

    def gone(self, data_set: str) -> frozenset[str]:
        """Sessions whose rows in a data set go."""
        edited = self.facts.keys() if data_set in self.edits and self.edits[data_set] is None else frozenset()
        return self.removed | self.instead.keys() | edited

    def edited(self, data_set: str) -> frozenset[str]:
        """Sessions whose rows in a data set change."""
        return frozenset(self.facts if self.edits.get(data_set) is not None else ())


class Swept(NamedTuple):
    """What `sweep` removed, and what it did not.

    Attributes:
        files: how many data files.
        bytes: their size.
        unnamed: those that stay though no manifest names them, for they may be the only ones that hold their rows.
    """

    files: int
    bytes: int
    unnamed: list[str]


def listed(data_dir: Path) -> ManifestCache:
    """Every manifest there is now.

    Raises:
        StoreError: one is damaged, or of a newer version.
    """
    cache = ManifestCache(data_dir)
    cache.refresh()
    return cache


def new_name(*held: object) -> str:
    """The name of a manifest by what it holds: the same for the same."""
    digest = hashlib.sha256(msgspec.json.encode(held, order="sorted")).hexdigest()
    return layout.COMPACT + digest[:_DIGITS]


def units_of(manifest: Manifest) -> dict[str, list[Unit]]:
    """A manifest's files by data set, so that no two units share a session."""
    by_data_set: dict[str, list[SegmentFile]] = {}
    for file in manifest.files:
        by_data_set.setdefault(file.data_set, []).append(file)
    if manifest.name.startswith(layout.COMPACT):
        return {data_set: [Unit((file,)) for file in files] for data_set, files in by_data_set.items()}
    return {data_set: [Unit(tuple(files), manifest.only)] for data_set, files in by_data_set.items()}


def changed(data_dir: Path, manifest: Manifest, change: Change) -> Manifest:
    """The manifest that takes the place of another; its data files are written, itself is not.

    Files without rows that change are kept as they are. The caller holds `layout.rewriting`.

    Raises:
        StoreError: a file is missing or damaged.
    """
    sessions = {key: {**facts, **change.facts.get(key, {})} for key, facts in manifest.sessions.items()}
    sessions = {key: facts for key, facts in sessions.items() if key not in change.removed}
    digests = [file.sha256 for file in manifest.files]
    name = new_name(manifest.name, digests, sorted(sessions.items()), sorted(change.instead), sorted(change.edits))
    files: list[SegmentFile] = []
    for data_set, units in units_of(manifest).items():
        gone, edited = change.gone(data_set), change.edited(data_set)
        edit = _limited(change.edits.get(data_set), edited)
        count = 0
        for unit in units:
            whose = {unit.only} if unit.only is not None else sessions_in(data_dir, unit.files[0])
            if whose <= gone:
                continue
            if whose & (gone | edited) or len(unit.files) > 1:
                new = merge(data_dir, manifest.date, name, data_set, [unit], without=gone, edit=edit, first=count)
                files += new
                count += len(new)
            else:
                files += unit.files
    tables: dict[str, list[Any]] = {}
    for rows in change.instead.values():
        for data_set, table in rows.items():
            tables.setdefault(data_set, []).append(table)
    files += segments.write(data_dir, manifest.date, name, {key: segments.concat(each) for key, each in tables.items()})
    return Manifest(
        FORMAT_VERSION, name, manifest.date, __version__, sessions, tuple(files), (manifest.name,), at_once=True
    )


def _limited(edit: Edit | None, session_ids: frozenset[str]) -> Edit | None:
    if edit is None:
        return None
    return lambda whose, rows: edit(whose, rows) if whose in session_ids else rows


def commit(data_dir: Path, replacements: Sequence[Manifest], *, lost: bool = False) -> None:
    """Have manifests take the place of those that they replace. The caller holds `layout.rewriting`.

    Args:
        data_dir: the store.
        replacements: their data files are written.
        lost: whether what they replace is lost: should it turn up after all, it does not count.

    Raises:
        StoreError: what they replace is not there any more; nothing was changed.
    """
    with layout.locked(data_dir):
        for manifest in replacements:
            for name in manifest.replaces:
                if not lost and not _path(data_dir, manifest.date, name).exists():
                    raise StoreError(f"the manifest {name} is gone", hint="Try again.")
        layout.sync_directories((data_dir / file.path).parent for each in replacements for file in each.files)
        layout.sync_directories(manifests.write(data_dir, manifest) for manifest in replacements)
    remote = remote_of(data_dir)
    if remote is not None:
        remote.push()


def sweep(data_dir: Path, *, grace_seconds: float = GRACE_SECONDS) -> Swept:
    """Remove manifests that were replaced, the data files that only they name, and what broken-off rewriting left.

    Of the last, nothing goes of which it is not seen that its rows are elsewhere: its manifest may be lost. The caller
    holds `layout.rewriting`.

    Args:
        data_dir: the store.
        grace_seconds: how long ago they must have been replaced, unless by a manifest that says `at_once`.

    Raises:
        StoreError: a manifest is damaged, or of a newer version.
    """
    with layout.locked(data_dir):
        garbage = _garbage(data_dir, listed(data_dir), grace_seconds)
        begun = set(_begun(data_dir)) - garbage.named - garbage.files
        paths = garbage.files | {path for path in begun if path.endswith(_UNFINISHED)}
        size = _remove([data_dir / path for path in paths])
        for manifest in garbage.manifests:
            _remove([_path(data_dir, manifest.date, manifest.name)])
    elsewhere = Elsewhere(data_dir, listed(data_dir))  # whoever seals need not wait for it
    unnamed = sorted(begun - paths)
    needless = [path for path in unnamed if elsewhere.has_all_of(data_dir / path)]
    size += _remove([data_dir / path for path in needless])
    remote = remote_of(data_dir)
    if remote is not None:
        garbage = _garbage(remote.known, listed(remote.known), grace_seconds)
        remote.drop(garbage.manifests, garbage.files)
    return Swept(len(paths) + len(needless), size, [path for path in unnamed if path not in needless])


class _Garbage(NamedTuple):
    """What a store need not keep.

    Attributes:
        manifests: the oldest first: whatever is left, what replaced it is there.
        files: data files that only they name.
        named: those that others name.
    """

    manifests: list[Manifest]
    files: set[str]
    named: set[str]


def _garbage(data_dir: Path, cache: ManifestCache, grace_seconds: float) -> _Garbage:
    parts = [part for parts in cache.parts.values() for part in parts]
    due = _due(data_dir, cache, grace_seconds)
    left = [each for each in (*cache.counting, *parts, *cache.replaced.values()) if each not in due]
    named = {file.path for manifest in left for file in manifest.files}
    files = {file.path for manifest in due for file in manifest.files} - named
    hollow = [each for each in left if not each.sessions and not set(each.replaces) & {one.name for one in left}]
    return _Garbage([*due, *hollow], files, named)


def _due(data_dir: Path, cache: ManifestCache, grace_seconds: float) -> list[Manifest]:
    """The replaced manifests whose time has come, those before the ones that replaced them."""
    everything = {each.name: each for each in (*cache.counting, *cache.replaced.values())}
    until = time.time() - grace_seconds
    asked = [
        each
        for each in everything.values()
        if each.at_once or grace_seconds <= 0 or _path(data_dir, each.date, each.name).stat().st_mtime <= until
    ]
    waiting = {name: cache.replaced[name] for each in asked for name in each.replaces if name in cache.replaced}
    while before := [
        everything[name] for each in waiting.values() for name in each.replaces if name in everything.keys() - waiting
    ]:
        waiting |= {each.name: each for each in before}
    there = everything.keys() | {part.name for parts in cache.parts.values() for part in parts}
    due: list[Manifest] = []
    while ready := [each for each in waiting.values() if not there & set(each.replaces)]:
        due += ready
        for each in ready:
            del waiting[each.name]
        there -= {each.name for each in ready}
    return due


def _begun(data_dir: Path) -> Iterator[str]:
    """Files that only the holder of the lock can have written: those of compaction, and unfinished ones."""
    for room in ("segments", "manifests"):
        for folder, _, names in os.walk(data_dir / room):
            for name in names:
                path = Path(folder, name)
                if is_compacted(path) or (name.startswith(".") and name.endswith(_UNFINISHED)):
                    yield path.relative_to(data_dir).as_posix()


def _remove(paths: Sequence[Path]) -> int:
    """Remove files; how many bytes they had."""
    size = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
            path.unlink()
    layout.sync_directories(path.parent for path in paths if path.parent.is_dir())
    return size


def _path(data_dir: Path, date: str, name: str) -> Path:
    return data_dir / layout.manifest_path(date, name)
