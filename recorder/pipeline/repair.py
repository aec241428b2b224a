"""Mending a store: what can be made anew is, sessions that cannot be read whole are set aside, nothing is deleted.

    damaged manifests    → set aside; what they named has no manifest then
    derived files        → made anew from the events
    events, parts, audio → sessions that lack something are set aside in DATA/quarantine; the others stay
    data files alone     → sessions that are nowhere else get a manifest again (`adopt`); what is left goes

What it does, `verify` has found before; a store in which nothing is wrong stays as it is. Of an object store, sound
copies in the workspace take the place of damaged objects first, and the other way round.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path, PurePath

import msgspec

from recorder.errors import DamagedManifestError, ObjectGoneError
from recorder.pipeline import replace
from recorder.pipeline.adopt import DATA, adopt, set_aside
from recorder.pipeline.problems import Problem
from recorder.pipeline.rebuild import with_new_rows
from recorder.pipeline.verify import damaged_files, session_problem, verify
from recorder.store import beside, copies, layout, manifests, segments
from recorder.store.manifests import Manifest
from recorder.store.segments import SegmentFile
from recorder.store.workspace import remote_of


class RepairReport(msgspec.Struct):
    """What was done.

    Attributes:
        restored: files of an object store of which a sound copy took the place of a damaged or missing one.
        manifests: files of damaged manifests, of which what they named was looked for.
        recovered: sessions, running ones too, that no manifest named and one names again.
        rebuilt: sessions whose derived rows were made anew.
        set_aside: sessions that are in DATA/quarantine now.
        removed: files that nobody read.
        left: what is still not as it should be.
    """

    restored: list[str] = []
    manifests: list[str] = []
    recovered: list[str] = []
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
            report.restored = copies.put_right(remote) + beside.put_right(remote)
        _set_damaged_manifests_aside(data_dir, report)
        adopted = adopt(data_dir)
        report.recovered, report.removed = sorted(adopted.sessions), adopted.removed
        if remote is not None:  # not before what takes their place is there
            remote.bucket.delete({*report.manifests} - {*adopted.manifests})
        _keep_one_of_two(data_dir, report)
        for manifest in replace.listed(data_dir).counting:
            _mend(data_dir, manifest, report)
        replace.sweep(data_dir, grace_seconds=0)
    report.left = list(verify(data_dir))
    return report


def _set_damaged_manifests_aside(data_dir: Path, report: RepairReport) -> None:
    for path in sorted(layout.manifests(data_dir).glob("date=*/*.json")):
        try:
            manifests.read(path)
        except FileNotFoundError:
            continue
        except DamagedManifestError:
            _have_its_files(data_dir, path)
            with layout.locked(data_dir):
                set_aside(data_dir, path, move=True)
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
    if any(file.data_set in DATA for file in damaged):
        manifest = _without(data_dir, manifest, damaged, report)
        if not manifest.sessions:
            return
    made = with_new_rows(data_dir, manifest, anyway=bool(damaged))
    if made is not None:
        replace.commit(data_dir, [made])
        report.rebuilt += sorted(manifest.sessions)


def _without(data_dir: Path, manifest: Manifest, damaged: Sequence[SegmentFile], report: RepairReport) -> Manifest:
    """The manifest that takes its place without the sessions that cannot be read whole; they are set aside."""
    rest = tuple(file for file in manifest.files if file not in damaged and file.data_set in DATA)
    reduced = msgspec.structs.replace(manifest, files=rest)
    bad = frozenset(one for one in manifest.sessions if _lacks(data_dir, reduced, one, damaged))
    remote = remote_of(data_dir)
    for file in manifest.files if len(bad) == len(manifest.sessions) else damaged:
        if remote is not None and not (data_dir / file.path).exists():
            with contextlib.suppress(ObjectGoneError):
                remote.fetch_as_it_is(file.path)
        set_aside(data_dir, data_dir / file.path, move=False)
    set_aside(data_dir, data_dir / layout.manifest_path(manifest.date, manifest.name), move=False)
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
