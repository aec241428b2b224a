"""Whether a store is what it says: every file's digest, every session's positions, messages and derived rows.

    manifests → their data files → each session's events, messages and models → what no manifest names → journals

Nothing is changed. What is found names the file and the sessions concerned; `repair` mends what can be mended.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from recorder.analytics.engine import run_checks, run_models
from recorder.analytics.registry import stored_models
from recorder.errors import (
    AudioRemovedError,
    DamagedManifestError,
    DamagedObjectError,
    EncryptionKeyError,
    NewerFormatError,
    ObjectGoneError,
    StoreError,
)
from recorder.pipeline.leftovers import Elsewhere, is_compacted, whose
from recorder.pipeline.problems import Kind, Problem, kind_of, named_after
from recorder.pipeline.replace import AUDIO_REMOVED
from recorder.pipeline.verify_unsealed import journal_problems, spool_problems
from recorder.store import audit, beside, copies, layout, lease, manifests, segments
from recorder.store.journal_files import list_journals
from recorder.store.manifests import Manifest, ManifestCache
from recorder.store.remote import Mirror
from recorder.store.workspace import remote_of

Progress = Callable[[int, int], None]
_MOST_NAMED: Final = 20
_BATCH_EVENTS: Final = 200_000
_TEMPORARY: Final = ".tmp"


class _Place(NamedTuple):
    """A manifest's file, and what it holds."""

    path: Path
    manifest: Manifest


def verify(data_dir: Path, *, quick: bool = False, progress: Progress | None = None) -> Iterator[Problem]:
    """Check a whole store, or as much of it as can be read.

    Args:
        data_dir: the store. Recording, sealing and compaction may go on meanwhile.
        quick: only digests and what belongs to whom; not whether messages can be read and models still give the same.
        progress: told after each manifest.

    Raises:
        StoreError: there is no such directory; or the object store is away.
    """
    layout.require(data_dir)
    remote = remote_of(data_dir)
    if remote is not None:
        with contextlib.suppress(DamagedManifestError, NewerFormatError):  # said below, of the copy here
            remote.pull()
        with contextlib.suppress(EncryptionKeyError):  # what others set aside cannot be had then
            beside.pull(remote)
            for each in beside.damaged(remote):
                kind: Kind = "audit_damaged" if each.is_audit else "quarantine_damaged"
                yield Problem(kind, each.name, named_after(Path(each.name)), each.problem)
        for name in copies.changed_manifests(remote):
            yield Problem("manifest_damaged", name, named_after(Path(name)), "in the bucket it is not what was written")
    places: list[_Place] = []
    for path in _manifest_files(data_dir):
        try:
            places.append(_Place(path, manifests.read(path)))
        except FileNotFoundError:
            continue
        except (DamagedManifestError, NewerFormatError) as error:
            yield Problem(
                kind_of(error, "manifest_damaged"), _relative(data_dir, path), named_after(path), error.message
            )
    replaced = {name for place in places for name in place.manifest.replaces}
    counting = [place for place in places if place.manifest.name not in replaced]
    yield from _doubled(data_dir, counting)
    for done, place in enumerate(counting, 1):
        yield from _of_manifest(data_dir, place, quick=quick)
        if progress:
            progress(done, len(counting))
    yield from _orphans(data_dir)
    if lines := audit.damaged(data_dir):
        where = _relative(data_dir, audit.path(data_dir))
        yield Problem("audit_damaged", where, (), f"not what was written: line {', '.join(map(str, lines))}")
    yield from spool_problems(data_dir)
    yield from journal_problems(data_dir, {one for place in counting for one in place.manifest.sessions})


def _manifest_files(data_dir: Path) -> list[Path]:
    found = sorted(layout.manifests(data_dir).glob("date=*/*.json"))
    return [path for path in found if not path.name.startswith(".")]


def _relative(data_dir: Path, path: Path) -> str:
    return path.relative_to(data_dir).as_posix()


def _doubled(data_dir: Path, counting: Iterable[_Place]) -> Iterator[Problem]:
    first: dict[str, Path] = {}
    for place in counting:
        if place.manifest.part is not None:
            continue
        for session_id in place.manifest.sessions:
            if session_id in first:
                other = _relative(data_dir, first[session_id])
                said = f"session {session_id} is in {other}, too"
                yield Problem("session_doubled", _relative(data_dir, place.path), (session_id,), said)
            first.setdefault(session_id, place.path)


def _of_manifest(data_dir: Path, place: _Place, *, quick: bool) -> Iterator[Problem]:
    broken = list(damaged_files(data_dir, place.manifest))
    if broken and not place.path.exists():
        return  # replaced, and removed, while we looked
    yield from broken
    data = {"events", "appends", "parts", "audio"}
    whole = not any(
        file.data_set in data for problem in broken for file in place.manifest.files if file.path == problem.file
    )
    if whole and not quick:
        yield from _of_sessions(data_dir, place, derived=not broken)


def damaged_files(data_dir: Path, manifest: Manifest) -> Iterator[Problem]:
    """A manifest's data files that are missing, or not as it says."""
    ids = tuple(islice(manifest.sessions, _MOST_NAMED))
    remote = remote_of(data_dir)
    for file in manifest.files:
        path = data_dir / file.path
        try:
            if remote is not None:
                copies.check(remote, manifest, file)
            size, digest = path.stat().st_size, segments.digest(path)
        except (FileNotFoundError, ObjectGoneError):
            yield Problem("file_missing", file.path, ids, "it is missing")
            continue
        except DamagedObjectError:
            yield Problem("file_damaged", file.path, ids, "its content is not what was written")
            continue
        except OSError as error:
            yield Problem("file_damaged", file.path, ids, f"it cannot be read: {error.strerror}")
            continue
        if size != file.bytes:
            yield Problem("file_damaged", file.path, ids, f"it has {size:,} bytes instead of {file.bytes:,}")
        elif digest != file.sha256:
            yield Problem("file_damaged", file.path, ids, "its content is not what was written")


def _of_sessions(data_dir: Path, place: _Place, *, derived: bool) -> Iterator[Problem]:
    manifest, where = place.manifest, _relative(data_dir, place.path)
    for ids in batches(manifest):
        tables = {one: segments.read_events(data_dir, manifest.files, session_id=one) for one in ids}
        for session_id in ids:
            if (found := session_problem(data_dir, manifest, session_id)) is not None:
                yield Problem(found[0], where, (session_id,), found[1])
        if derived and manifest.part is None:
            yield from _of_models(data_dir, manifest, where, ids, segments.concat(tables.values()))


def batches(manifest: Manifest) -> Iterator[list[str]]:
    """A manifest's sessions in groups that models can run over at once."""
    group: list[str] = []
    size = 0
    for session_id, facts in manifest.sessions.items():
        group.append(session_id)
        size += int(facts.get("event_count") or 0)
        if size >= _BATCH_EVENTS:
            yield group
            group, size = [], 0
    if group:
        yield group


def session_problem(data_dir: Path, manifest: Manifest, session_id: str) -> tuple[Kind, str] | None:
    """What is wrong with a session's events and messages, or None.

    Args:
        data_dir: the store.
        manifest: that holds it.
        session_id: whose.
    """
    files = manifest.files
    try:
        events = segments.read_events(data_dir, files, session_id=session_id)
        positions = events["position"].to_pylist()
        if (wrong := _positions_wrong(manifest, session_id, positions)) is not None:
            return "events_wrong", wrong
        parts = segments.read_parts(data_dir, files, session_id=session_id)
        audio = segments.read_audio(data_dir, files, session_id=session_id)
        whole = not manifest.sessions[session_id].get(AUDIO_REMOVED)
        for event in segments.recorded_events(events, parts, audio, whole=whole):
            event.message()
    except (StoreError, AudioRemovedError, ValueError) as error:
        return "message_damaged", f"a message cannot be read: {error}"
    return None


def _positions_wrong(manifest: Manifest, session_id: str, positions: list[int]) -> str | None:
    count = manifest.sessions[session_id].get("event_count")
    if manifest.part is None and positions != list(range(len(positions))):
        missing = sorted(set(range(len(positions))) - set(positions))
        return f"position {missing[0]} is missing or doubled" if missing else "a position is doubled"
    if count is not None and len(positions) != count:
        return f"{len(positions):,} events instead of {count:,}"
    return None


def _of_models(data_dir: Path, manifest: Manifest, where: str, ids: list[str], events: Any) -> Iterator[Problem]:
    now = {name: segments.split(rows, ids) for name, rows in run_models(events).items()}
    for session_id in ids:
        stale = [
            name for name, rows in now.items() if not _same(data_dir, manifest, name, session_id, rows[session_id])
        ]
        if stale:
            said = f"{', '.join(stale)}: not what the models give now"
            yield Problem("derived_stale", where, (session_id,), said)
        broken = run_checks({name: rows[session_id] for name, rows in now.items()})
        for check, rows in broken.items():
            yield Problem("check_failed", where, (session_id,), f"{check}: {len(rows)} rows break it")


def _same(data_dir: Path, manifest: Manifest, name: str, session_id: str, wanted: Any) -> bool:
    stored = segments.read(data_dir, manifest.files, name, session_id=session_id)
    if stored is None:
        return bool(wanted.num_rows == 0)
    if set(stored.column_names) != set(wanted.column_names) or stored.num_rows != wanted.num_rows:
        return False
    key = [(column, "ascending") for column in stored_models()[name].key]
    left, right = (rows.select(wanted.column_names).cast(wanted.schema).sort_by(key) for rows in (stored, wanted))
    return all(left[column].to_pylist() == right[column].to_pylist() for column in wanted.column_names)


def _orphans(data_dir: Path) -> Iterator[Problem]:
    here = find_orphans(data_dir)
    lost = dict(_lost(data_dir, here))
    for path in here:
        what: Kind = "manifest_missing" if path in lost else "orphan"
        said = "no manifest names it" + (", and no other holds what is in it" if path in lost else "")
        yield Problem(what, _relative(data_dir, path), lost.get(path, named_after(path)), said)
    remote = remote_of(data_dir)
    if remote is not None:
        yield from _unnamed_in_bucket(remote, set(here))


def _unnamed_in_bucket(remote: Mirror, here: Collection[Path]) -> Iterator[Problem]:
    rewriting = remote.bucket.exists(lease.NAME)
    for file in copies.unnamed(remote):
        path = remote.data_dir / file.name
        compacted, settled = is_compacted(path), copies.is_settled(file)
        if path in here or (compacted and rewriting and not settled):  # some machine is about to name it
            continue
        if not compacted and not settled:
            said = "no manifest in the bucket names it; its upload may be under way"
            yield Problem("orphan", file.name, named_after(path), said)
            continue
        with tempfile.TemporaryDirectory(dir=remote.temporary) as room:
            copy = Path(room, file.name)
            copy.parent.mkdir(parents=True)
            with contextlib.suppress(ObjectGoneError), copy.open("wb") as target:
                remote.bucket.fetch(file.name, target)
            lost = dict(_lost(remote.data_dir, [copy]))
        said = "no manifest in the bucket names it" + (", and no other holds what is in it" if lost else "")
        kind: Kind = "manifest_missing" if lost else "orphan"
        yield Problem(kind, file.name, lost.get(copy, named_after(path)), said)


def _lost(data_dir: Path, orphans: Iterable[Path]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Data files that hold sessions which are nowhere else, and these."""
    cache = ManifestCache(data_dir)
    try:
        cache.refresh()
    except StoreError:  # said above: who knows what it names
        return
    elsewhere = Elsewhere(data_dir, cache)
    to_come = {journal.session_id for journal in list_journals(data_dir)}
    for path in orphans:
        with contextlib.suppress(StoreError, EncryptionKeyError, OSError):
            alone = sorted(each for each in whose(path) if each not in to_come and not elsewhere.has(each))
            if alone:
                yield path, tuple(alone[:_MOST_NAMED])


def find_orphans(data_dir: Path, *, rewriting: bool = False) -> list[Path]:
    """Files among the data files and manifests that no manifest names, and nobody is about to name.

    Takes the lock for a moment: whoever writes files holds it until their manifest is written. What compaction and the
    like write meanwhile is told by its name. Where a date has a manifest that cannot be read, any of its data files may
    be named there: only unfinished ones count then.

    Args:
        data_dir: the store.
        rewriting: whether the caller holds `layout.rewriting`.
    """
    being_written = not rewriting and layout.is_rewritten(data_dir)
    with layout.locked(data_dir):
        named: set[Path] = set()
        unknown: set[str] = set()
        for path in _manifest_files(data_dir):
            try:
                named |= {data_dir / file.path for file in manifests.read(path).files}
            except FileNotFoundError:
                continue
            except StoreError:
                unknown.add(path.parent.name)  # its files are of the same date
        found = [
            path
            for room in ("segments", "manifests")
            for path in sorted((data_dir / room).rglob("*"))
            if path.is_file()
            and (
                path.name.endswith(_TEMPORARY)
                or (room == "segments" and path not in named and path.parent.name not in unknown)
            )
        ]
    return [path for path in found if not (being_written and path.name.lstrip(".").startswith(layout.COMPACT))]
