"""Mending a store: what can be made anew is, sessions that cannot be read whole are set aside, nothing is deleted.

    damaged manifests    → set aside; written anew from the data files that nobody names any more
    derived files        → made anew from the events
    events, parts, audio → sessions that lack something are set aside in DATA/quarantine; the others stay
    orphans              → those of sessions that are there already go

What it does, `verify` has found before; a store in which nothing is wrong stays as it is. Of an object store, sound
copies in the workspace take the place of damaged objects first, and the other way round.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any, Final

import msgspec

from recorder import __version__
from recorder.errors import DamagedManifestError, ObjectGoneError, StoreError
from recorder.pipeline import replace
from recorder.pipeline.commit import opened_at_ns
from recorder.pipeline.problems import Problem
from recorder.pipeline.rebuild import with_new_rows
from recorder.pipeline.verify import damaged_files, find_orphans, session_problem, verify
from recorder.store import copies, encrypted, layout, manifests, segments, session_tables
from recorder.store.journal_files import list_journals
from recorder.store.manifests import Manifest
from recorder.store.schema import FORMAT_VERSION
from recorder.store.segments import SegmentFile
from recorder.store.workspace import remote_of

_DATA: Final = frozenset({"events", "appends", "parts", "audio"})


class RepairReport(msgspec.Struct):
    """What was done.

    Attributes:
        restored: files of an object store of which a sound copy took the place of a damaged or missing one.
        manifests: files of manifests that were written anew.
        rebuilt: sessions whose derived rows were made anew.
        set_aside: sessions that are in DATA/quarantine now.
        removed: files that nobody read.
        left: what is still not as it should be.
    """

    restored: list[str] = []
    manifests: list[str] = []
    rebuilt: list[str] = []
    set_aside: list[str] = []
    removed: list[str] = []
    left: list[Problem] = []


def repair(data_dir: Path) -> RepairReport:
    """Mend what can be mended.

    Args:
        data_dir: the store. Recording, sealing and reading may go on meanwhile.

    Raises:
        StoreError: there is no such directory, or a newer version wrote something in it; or the object store is away.
    """
    layout.require(data_dir)
    layout.create(data_dir)
    report = RepairReport()
    remote = remote_of(data_dir)
    with layout.rewriting(data_dir, mending=True):
        if remote is not None:
            report.restored = copies.put_right(remote)
        _set_damaged_manifests_aside(data_dir, report)
        _adopt_orphans(data_dir, report)
        if remote is not None:  # not before what takes their place is there
            remote.bucket.delete([*report.manifests, *report.removed])
        _keep_one_of_two(data_dir, report)
        for manifest in replace.listed(data_dir).counting:
            _mend(data_dir, manifest, report)
        replace.sweep(data_dir, grace_seconds=0)
    report.left = list(verify(data_dir))
    return report


def _quarantined(data_dir: Path, path: Path, *, move: bool) -> None:
    """A file's copy in the quarantine, under the path that it has in the store; the first one stays."""
    target = layout.quarantine(data_dir) / "repair" / path.relative_to(data_dir)
    layout.make_directory(target.parent)
    if path.exists() and not target.exists():
        (shutil.move if move else shutil.copy2)(path, target)
    elif move:
        path.unlink(missing_ok=True)
    layout.sync_directories([target.parent, path.parent])


def _set_damaged_manifests_aside(data_dir: Path, report: RepairReport) -> None:
    for path in sorted(layout.manifests(data_dir).glob("date=*/*.json")):
        try:
            manifests.read(path)
        except FileNotFoundError:
            continue
        except DamagedManifestError:
            _have_its_files(data_dir, path)
            with layout.locked(data_dir):
                _quarantined(data_dir, path, move=True)
            report.manifests.append(path.relative_to(data_dir).as_posix())


def _have_its_files(data_dir: Path, manifest: Path) -> None:
    """Of an object store: what a manifest that cannot be read may have named, as far as can be told."""
    remote = remote_of(data_dir)
    if remote is None:
        return
    text = manifest.read_bytes()
    for each in list(remote.bucket.list("segments/")):
        is_its_own = PurePath(each.name).name.startswith(f"{manifest.stem}.") or each.name.encode() in text
        if is_its_own and not (data_dir / each.name).exists():
            remote.fetch_as_it_is(each.name)
    (remote.known / manifest.relative_to(data_dir)).unlink(missing_ok=True)


def _adopt_orphans(data_dir: Path, report: RepairReport) -> None:
    """Data files that nobody names: sessions that are nowhere else get a manifest again; what is left goes.

    What no sealed session and no journal has is kept, in the quarantine: of a part, say, whose manifest was damaged.
    """
    cache = replace.listed(data_dir)
    journals = list_journals(data_dir)
    present = cache.sessions.keys() | cache.parts.keys() | {journal.session_id for journal in journals}
    to_come = {layout.part_name(each.session_id, each.part) for each in journals}
    to_come |= {each.session_id for each in journals if each.closed}
    by_date: dict[str, list[Path]] = {}
    for path in find_orphans(data_dir, rewriting=True):
        by_date.setdefault(path.parent.name.removeprefix("date="), []).append(path)
    for date, paths in sorted(by_date.items()):
        files = [file for path in paths if (file := _described(data_dir, path)) is not None]
        recovered = _recovered(data_dir, date, files, present)
        named = {file.path for file in recovered.files} if recovered else set()
        there = cache.sessions.keys() | (recovered.sessions.keys() if recovered else set())
        needless = {
            file.path
            for file in files
            if file.data_set not in _DATA
            or PurePath(file.path).stem in to_come
            or there >= set(_session_ids(data_dir, file))
        }
        if recovered:
            replace.commit(data_dir, [recovered])
        for path in paths:
            where = path.relative_to(data_dir).as_posix()
            if where in named:
                continue
            with layout.locked(data_dir):
                if where in needless or path.suffix == ".tmp":
                    path.unlink(missing_ok=True)
                else:
                    _quarantined(data_dir, path, move=True)
            report.removed.append(where)


def _described(data_dir: Path, path: Path) -> SegmentFile | None:
    """A data file as a manifest would name it; None if it cannot be read."""
    if path.suffix != ".parquet":
        return None
    where, data_set = path.relative_to(data_dir).as_posix(), path.parent.parent.name
    bare = segments.described(data_dir, data_set, where, rows=0, columns=(), key_id=encrypted.key_id_of(path))
    try:
        rows = segments.read(data_dir, [bare], data_set)
    except StoreError:
        return None
    assert rows is not None
    return msgspec.structs.replace(bare, rows=rows.num_rows, columns=segments.digest_names(rows.column_names))


def _recovered(data_dir: Path, date: str, files: Sequence[SegmentFile], present: Iterable[str]) -> Manifest | None:
    """A manifest of the whole sessions among the files, with derived rows of now."""
    held = {file.path: Counter(_session_ids(data_dir, file)) for file in files if file.data_set in _DATA}
    kept = tuple(file for file in files if file.path in held and not held[file.path].keys() & set(present))
    found = sum((held[file.path] for file in kept if file.data_set in {"events", "appends"}), Counter[str]())
    if not found:
        return None  # left by a crash, and there again since
    sessions = {each: _facts(data_dir, kept, each, count) for each, count in sorted(found.items())}
    name = replace.new_name("recovered", date, sorted(file.sha256 for file in kept))
    bare = Manifest(FORMAT_VERSION, name, date, __version__, sessions, kept)
    whole = {each: facts for each, facts in sessions.items() if session_problem(data_dir, bare, each) is None}
    if not whole:
        return None
    change = replace.Change(removed=frozenset(sessions.keys() - whole.keys()))
    reduced = replace.changed(data_dir, bare, change) if change.removed else bare
    made = with_new_rows(data_dir, msgspec.structs.replace(reduced, replaces=()))
    return msgspec.structs.replace(made or reduced, replaces=())


def _session_ids(data_dir: Path, file: SegmentFile) -> list[str]:
    rows = segments.read(data_dir, [file], file.data_set)
    return [] if rows is None else rows["session_id"].to_pylist()


def _facts(data_dir: Path, files: Sequence[SegmentFile], session_id: str, count: int) -> dict[str, Any]:
    first = segments.read_events(data_dir, files, session_id=session_id, until=0)
    tables = session_tables.collect(session_id, segments.recorded_events(first, segments.read_parts(data_dir, [])))
    return {"opened_at_ns": opened_at_ns(tables), "event_count": count}


def _keep_one_of_two(data_dir: Path, report: RepairReport) -> None:
    seen: set[str] = set()
    for manifest in replace.listed(data_dir).counting:
        doubled = seen & manifest.sessions.keys()
        seen |= manifest.sessions.keys()
        if doubled:
            replace.commit(data_dir, [replace.changed(data_dir, manifest, replace.Change(removed=frozenset(doubled)))])
            report.removed += sorted(doubled)


def _mend(data_dir: Path, manifest: Manifest, report: RepairReport) -> None:
    broken = {problem.file for problem in damaged_files(data_dir, manifest)}
    damaged = [file for file in manifest.files if file.path in broken]
    if any(file.data_set in _DATA for file in damaged):
        manifest = _without(data_dir, manifest, damaged, report)
        if not manifest.sessions:
            return
    made = with_new_rows(data_dir, manifest, anyway=bool(damaged))
    if made is not None:
        replace.commit(data_dir, [made])
        report.rebuilt += sorted(manifest.sessions)


def _without(data_dir: Path, manifest: Manifest, damaged: Sequence[SegmentFile], report: RepairReport) -> Manifest:
    """The manifest that takes its place without the sessions that cannot be read whole; they are set aside."""
    rest = tuple(file for file in manifest.files if file not in damaged and file.data_set in _DATA)
    reduced = msgspec.structs.replace(manifest, files=rest)
    bad = frozenset(one for one in manifest.sessions if _lacks(data_dir, reduced, one, damaged))
    remote = remote_of(data_dir)
    for file in manifest.files if len(bad) == len(manifest.sessions) else damaged:
        if remote is not None and not (data_dir / file.path).exists():
            with contextlib.suppress(ObjectGoneError):
                remote.fetch_as_it_is(file.path)
        _quarantined(data_dir, data_dir / file.path, move=False)
    _quarantined(data_dir, data_dir / layout.manifest_path(manifest.date, manifest.name), move=False)
    made = replace.changed(data_dir, reduced, replace.Change(removed=bad))
    replace.commit(data_dir, [made])
    report.set_aside += sorted(bad)
    return made


def _lacks(data_dir: Path, reduced: Manifest, session_id: str, damaged: Sequence[SegmentFile]) -> bool:
    """Whether a session lacks something without the damaged files.

    Nothing but the rows of `parts` themselves says which messages have any, so a session that may have had some in a
    damaged file counts as lacking. In a manifest of several sessions, one file holds all that a session has.
    """
    if reduced.only is not None or session_problem(data_dir, reduced, session_id) is not None:
        return True
    if not any(file.data_set == "parts" for file in damaged):
        return False
    if segments.read_parts(data_dir, reduced.files, session_id=session_id).num_rows:
        return False
    events = segments.read_events(data_dir, reduced.files, session_id=session_id)
    return any(
        row["audio_ms"] is not None or (row["opcode"] and row["payload"] is None) or "image" in (row["payload"] or "")
        for row in segments.rows(events.select(["audio_ms", "opcode", "payload"]))
    )
