"""Data files that no manifest names: what they hold and is nowhere else gets a manifest again.

    whole sessions        → a manifest, with derived rows of now
    parts of running ones → their manifests
    what is there already → goes
    all else              → the quarantine

Where decoding goes on after a part is read off its damaged manifest, if that still says so; else off the events, and
there is a gap after them.
"""

from __future__ import annotations

import base64
import binascii
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path, PurePath
from typing import Any, Final, NamedTuple

import msgspec

from recorder import __version__
from recorder.errors import NewerFormatError, ObjectGoneError, StoreError
from recorder.pipeline import replace
from recorder.pipeline.commit import opened_at_ns
from recorder.pipeline.decoding import resume_after
from recorder.pipeline.leftovers import Elsewhere, is_compacted
from recorder.pipeline.rebuild import with_new_rows
from recorder.pipeline.replace import AUDIO_REMOVED
from recorder.pipeline.verify import find_orphans, session_problem
from recorder.protocol import checkpoint
from recorder.store import copies, encrypted, keys, layout, manifests, segments, session_tables
from recorder.store.journal_files import list_journals
from recorder.store.manifests import Manifest, ManifestCache
from recorder.store.remote import Mirror
from recorder.store.schema import FORMAT_VERSION
from recorder.store.segments import SegmentFile
from recorder.store.workspace import remote_of

DATA: Final = frozenset({"events", "appends", "parts", "audio"})
_RESUME: Final = re.compile(rb'"resume"\s*:\s*"([A-Za-z0-9+/=]+)"')


class Adopted(NamedTuple):
    """What became of data files that nobody named.

    Attributes:
        sessions: ids of sessions, running ones too, that have a manifest again.
        manifests: files of manifests of parts, which lie where the damaged ones did.
        removed: files that are not where they were.
    """

    sessions: list[str]
    manifests: list[str]
    removed: list[str]


def set_aside(data_dir: Path, path: Path, *, move: bool) -> None:
    """Have a file's copy in the quarantine, under the path that it has in the store; the first one stays."""
    target = aside(data_dir, path.relative_to(data_dir).as_posix())
    layout.make_directory(target.parent)
    if path.exists() and not target.exists():
        (shutil.move if move else shutil.copy2)(path, target)
    elif move:
        path.unlink(missing_ok=True)
    layout.sync_directories([target.parent, path.parent])


def aside(data_dir: Path, name: str) -> Path:
    """Where a file of the store lies that was set aside."""
    return layout.quarantine(data_dir) / "repair" / name


def sweep_all(data_dir: Path) -> None:
    """`replace.sweep` and `adopt`: what is to be removed is looked for in files without a manifest, too.

    The caller holds `layout.rewriting`.

    Raises:
        StoreError: a manifest is damaged, or of a newer version.
    """
    replace.sweep(data_dir)
    adopt(data_dir)


def adopt(data_dir: Path) -> Adopted:
    """Have all data files named, or out of the way. The caller holds `layout.rewriting`; no manifest is damaged.

    What no sealed session and no journal has is kept, in the quarantine, unless it was erased.
    """
    remote = remote_of(data_dir)
    if remote is not None:
        _have_lost_files(remote)
    done = _adopt(data_dir)
    if remote is not None:  # not before what takes their place is there
        remote.bucket.delete({*done.removed} - {*done.manifests})
    return done


def _have_lost_files(remote: Mirror) -> None:
    """Of an object store: data files whose manifest nobody will bring any more. Who rewrites is nobody but us."""
    for each in copies.unnamed(remote):
        path = remote.data_dir / each.name
        if (copies.is_settled(each) or is_compacted(path)) and not path.exists():
            with suppress(ObjectGoneError):
                remote.fetch_as_it_is(each.name)


def _adopt(data_dir: Path) -> Adopted:
    cache = replace.listed(data_dir)
    elsewhere = Elsewhere(data_dir, cache)
    journals = list_journals(data_dir)
    to_come = {layout.part_name(each.session_id, each.part) for each in journals}
    to_come |= {each.session_id for each in journals if each.closed}
    running = cache.parts.keys() | {journal.session_id for journal in journals}
    by_date: dict[str, list[Path]] = {}
    for path in find_orphans(data_dir, rewriting=True):
        by_date.setdefault(path.parent.name.removeprefix("date="), []).append(path)
    done = Adopted([], [], [])
    for date, paths in sorted(by_date.items()):
        files = []
        for path in list(paths):
            try:
                file = _described(data_dir, path)
            except NewerFormatError:
                paths.remove(path)  # it stays for those who can read it
                continue
            if file is not None:
                files.append(file)
        parts = list(_parts(data_dir, date, [file for file in files if _stem(file) not in to_come], cache, running))
        recovered = _recovered(data_dir, date, files, cache.sessions.keys() | running, elsewhere)
        named = {file.path for each in (*parts, *([recovered] if recovered else [])) for file in each.files}
        back = recovered.sessions.keys() if recovered else set[str]()
        needless = {
            file.path
            for file in files
            if file.data_set not in DATA
            or _stem(file) in to_come
            or all(each in back or elsewhere.has(each) for each in set(_session_ids(data_dir, file)))
        }
        if recovered:
            replace.commit(data_dir, [recovered], lost=True)
            done.sessions.extend(recovered.sessions)
        for part in parts:
            done.manifests.append(_commit_part(data_dir, part))
            done.sessions.extend(part.sessions)
        for path in paths:
            where = path.relative_to(data_dir).as_posix()
            if where in named:
                continue
            with layout.locked(data_dir):
                if where in needless or path.suffix == ".tmp":
                    path.unlink(missing_ok=True)
                else:
                    set_aside(data_dir, path, move=True)
            done.removed.append(where)
    return done


def _stem(file: SegmentFile) -> str:
    return PurePath(file.path).stem


def _described(data_dir: Path, path: Path) -> SegmentFile | None:
    """A data file as a manifest would name it; None if it cannot be read.

    Raises:
        NewerFormatError: a newer version wrote it.
    """
    if path.suffix != ".parquet":
        return None
    where, data_set = path.relative_to(data_dir).as_posix(), path.parent.parent.name
    bare = segments.described(data_dir, data_set, where, rows=0, columns=(), key_id=encrypted.key_id_of(path))
    try:
        rows = segments.read(data_dir, [bare], data_set)
    except NewerFormatError:
        raise
    except StoreError:
        return None
    assert rows is not None
    return msgspec.structs.replace(bare, rows=rows.num_rows, columns=segments.digest_names(rows.column_names))


# Whole sessions


def _recovered(
    data_dir: Path, date: str, files: Sequence[SegmentFile], present: Iterable[str], elsewhere: Elsewhere
) -> Manifest | None:
    """A manifest of the whole sessions among the files, with derived rows of now, in the place of their own ones."""
    held = {file.path: Counter(_session_ids(data_dir, file)) for file in files if file.data_set in DATA}
    kept = tuple(file for file in files if file.path in held and not held[file.path].keys() & set(present))
    found = sum((held[file.path] for file in kept if file.data_set in {"events", "appends"}), Counter[str]())
    if not found:
        return None  # left by a crash, and there again since
    sessions = {each: _facts(data_dir, kept, each, events) for each, events in sorted(found.items())}
    name = replace.new_name("recovered", date, sorted(file.sha256 for file in kept))
    bare = Manifest(FORMAT_VERSION, name, date, __version__, sessions, kept)
    told = {each: _if_whole(data_dir, bare, each) for each in sessions if not elsewhere.erased(each)}
    whole = {each: facts for each, facts in told.items() if facts is not None}
    if not whole:
        return None
    change = replace.Change(removed=frozenset(sessions.keys() - whole.keys()))
    reduced = replace.changed(data_dir, bare, change) if change.removed else bare
    made = with_new_rows(data_dir, msgspec.structs.replace(reduced, replaces=()))
    assert made is not None  # it had none
    for row in segments.rows(segments.read(data_dir, made.files, "sessions")):
        whole[row["session_id"]] |= {name: row[name] for name in ("server_session_id", "source")}
    return msgspec.structs.replace(made, sessions=whole, replaces=tuple(sorted(whole)))


def _if_whole(data_dir: Path, bare: Manifest, session_id: str) -> dict[str, Any] | None:
    """What is to be said of a session, that its audio was removed on purpose, say; None of one that is not whole."""
    events = segments.read_events(data_dir, bare.files, session_id=session_id).select(["audio_ms", "redacted"])
    removed = all(row["redacted"] for row in segments.rows(events) if row["audio_ms"] is not None)
    for more in ({}, {AUDIO_REMOVED: True}) if removed else ({},):
        facts = bare.sessions[session_id] | more
        if session_problem(data_dir, msgspec.structs.replace(bare, sessions={session_id: facts}), session_id) is None:
            return facts
    return None


def _session_ids(data_dir: Path, file: SegmentFile) -> list[str]:
    rows = segments.read(data_dir, [file], file.data_set)
    return [] if rows is None else rows["session_id"].to_pylist()


def _facts(data_dir: Path, files: Sequence[SegmentFile], session_id: str, events: int) -> dict[str, Any]:
    sealed_at_ns = min((data_dir / file.path).stat().st_mtime_ns for file in files)
    opened = _opened_at_ns(data_dir, files, session_id)
    return {"opened_at_ns": opened, "sealed_at_ns": sealed_at_ns, "event_count": events}


def _opened_at_ns(data_dir: Path, files: Sequence[SegmentFile], session_id: str) -> int | None:
    first = segments.read_events(data_dir, files, session_id=session_id, until=0)
    tables = session_tables.collect(session_id, segments.recorded_events(first, segments.read_parts(data_dir, [])))
    return opened_at_ns(tables)


# Parts of sessions that still run


def _parts(
    data_dir: Path, date: str, files: Sequence[SegmentFile], cache: ManifestCache, running: Iterable[str]
) -> Iterable[Manifest]:
    """Manifests of the whole parts among the files, each of which goes on from the one before it."""
    lost: dict[str, list[SegmentFile]] = {}
    for file in files:
        if file.data_set in DATA:
            lost.setdefault(_stem(file), []).append(file)
    for session_id in sorted({name.partition(".")[0] for name in lost} & set(running) - cache.sessions.keys()):
        known = {part.name: part for part in cache.parts.get(session_id, ())}
        before: list[Manifest] = []
        for number in count():
            name = layout.part_name(session_id, number)
            part = known.get(name)
            if part is None and name in lost:
                part = _part(data_dir, date, session_id, before, tuple(lost[name]))
                if part is not None:
                    yield part
            if part is None:
                break
            before.append(part)


def _part(
    data_dir: Path, date: str, session_id: str, before: Sequence[Manifest], files: tuple[SegmentFile, ...]
) -> Manifest | None:
    """The manifest of a part; None if it does not hold all that its positions say."""
    base = sum(part.sessions[session_id]["event_count"] for part in before)
    events = segments.read_events(data_dir, files, session_id=session_id)
    if events["position"].to_pylist() != list(range(base, base + events.num_rows)):
        return None
    opened = before[0].sessions[session_id]["opened_at_ns"] if before else _opened_at_ns(data_dir, files, session_id)
    facts = {"opened_at_ns": opened, "sealed_at_ns": time.time_ns(), "event_count": events.num_rows}
    name = layout.part_name(session_id, len(before))
    bare = Manifest(FORMAT_VERSION, name, date, __version__, {session_id: facts}, files, part=len(before))
    if session_problem(data_dir, bare, session_id) is not None:
        return None
    resume = _resume_that_was(data_dir, bare, base + events.num_rows)
    if resume is None:
        everything = segments.read_events(data_dir, [file for part in (*before, bare) for file in part.files])
        bare_events = segments.recorded_events(everything, segments.read_parts(data_dir, []))
        resume = checkpoint.encode(resume_after(bare_events))
    return msgspec.structs.replace(bare, resume=encrypted.seal(resume, keys.for_writing(data_dir), name))


def _resume_that_was(data_dir: Path, part: Manifest, events: int) -> bytes | None:
    """Where decoding goes on as the damaged manifest says, if that is not what is damaged: it has a checksum."""
    path = aside(data_dir, layout.manifest_path(part.date, part.name))
    found = _RESUME.search(path.read_bytes()) if path.exists() else None
    with suppress(StoreError, binascii.Error):
        resume = encrypted.unseal(base64.b64decode(found[1], validate=True), part.name) if found else b""
        if checkpoint.decode(resume, part.name).events == events:
            return resume
    return None


def _commit_part(data_dir: Path, part: Manifest) -> str:
    """Have a part's manifest where it was, in the object store too; its file."""
    name = layout.manifest_path(part.date, part.name)
    with layout.locked(data_dir):
        layout.sync_directory(manifests.write(data_dir, part))
    remote = remote_of(data_dir)
    if remote is not None:
        content = (data_dir / name).read_bytes()
        remote.bucket.overwrite(name, content)
        remote.write(remote.known / name, content)
    return name
