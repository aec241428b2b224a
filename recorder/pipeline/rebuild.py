"""Derived rows made anew from the stored events, by the models of now. Events, audio and messages stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from recorder import __version__
from recorder.analytics.engine import run_models
from recorder.analytics.registry import stored_models
from recorder.pipeline import replace
from recorder.pipeline.verify import batches
from recorder.store import layout, segments
from recorder.store.manifests import Manifest
from recorder.store.schema import FORMAT_VERSION
from recorder.store.segments import SegmentFile

Progress = Callable[[int, int], None]
_DATA: frozenset[str] = frozenset({"events", "appends", "parts", "audio"})


class RebuildReport(msgspec.Struct):
    """What was done.

    Attributes:
        sessions: whose derived rows were made anew.
        unchanged: how many manifests had just these rows already.
    """

    sessions: int = 0
    unchanged: int = 0


def rebuild(
    data_dir: Path,
    session_ids: Collection[str] | None = None,
    *,
    progress: Progress | None = None,
    grace_seconds: float | None = None,
) -> RebuildReport:
    """Run the models over closed sessions again, and put what they give in the place of the stored rows.

    Reading, recording and sealing go on meanwhile; killed at any point, each session has its old rows or its new ones.
    Sessions that share a manifest with a chosen one are rebuilt with it.

    Args:
        data_dir: the store.
        session_ids: which; all if None.
        progress: told after each manifest.
        grace_seconds: how long replaced files stay for those who read them; the usual time if None.

    Raises:
        StoreError: a manifest or an event file is missing or damaged.
    """
    layout.require(data_dir)
    report = RebuildReport()
    with layout.rewriting(data_dir):
        counting = replace.listed(data_dir).counting
        chosen = [each for each in counting if session_ids is None or each.sessions.keys() & set(session_ids)]
        for done, manifest in enumerate(chosen, 1):
            rebuilt = with_new_rows(data_dir, manifest)
            if rebuilt is None:
                report.unchanged += 1
            else:
                replace.commit(data_dir, [rebuilt])
                report.sessions += len(manifest.sessions)
            if progress:
                progress(done, len(chosen))
        if grace_seconds is None:
            replace.sweep(data_dir)
        else:
            replace.sweep(data_dir, grace_seconds=grace_seconds)
    return report


def with_new_rows(data_dir: Path, manifest: Manifest, *, anyway: bool = False) -> Manifest | None:
    """The manifest that holds the same events with derived rows of now, its files written; None if it is that already.

    The caller holds `layout.rewriting`.

    Args:
        data_dir: the store.
        manifest: of closed sessions.
        anyway: also if its files, as it names them, have these rows.

    Raises:
        StoreError: an event file is missing or damaged.
    """
    tables = _derived(data_dir, manifest)
    kept = tuple(file for file in manifest.files if file.data_set in _DATA)
    name = replace.new_name("rebuilt", manifest.name, [file.sha256 for file in manifest.files], __version__)
    files = segments.write(data_dir, manifest.date, name, tables)
    old = {file.data_set: file for file in manifest.files if file.data_set not in _DATA}
    new = {file.data_set: file for file in files}
    if not anyway and len(old) == len(manifest.files) - len(kept) and _same(data_dir, old, new):
        for file in files:
            (data_dir / file.path).unlink()
        return None
    sessions = manifest.sessions
    return Manifest(FORMAT_VERSION, name, manifest.date, __version__, sessions, (*kept, *files), (manifest.name,))


def _derived(data_dir: Path, manifest: Manifest) -> dict[str, Any]:
    """Rows of each model, ordered by session and key."""
    found: dict[str, list[Any]] = {}
    for ids in batches(manifest):
        events = segments.concat(segments.read_events(data_dir, manifest.files, session_id=one) for one in ids)
        for name, rows in run_models(events).items():
            found.setdefault(name, []).append(rows)
    return {name: _ordered(name, rows) for name, rows in found.items()}


def _ordered(name: str, rows: Sequence[Any]) -> Any:
    return segments.concat(rows).sort_by([(column, "ascending") for column in stored_models()[name].key])


def _same(data_dir: Path, old: Mapping[str, SegmentFile], new: Mapping[str, SegmentFile]) -> bool:
    """Whether files hold the same, encrypted with the same key."""
    return old.keys() == new.keys() and all(_same_rows(data_dir, old[name], new[name]) for name in new)


def _same_rows(data_dir: Path, old: SegmentFile, new: SegmentFile) -> bool:
    if not new.key_id or old.key_id != new.key_id:
        return old.sha256 == new.sha256
    one, other = (segments.read(data_dir, [file], file.data_set) for file in (old, new))  # no ciphertext comes twice
    return one is not None and one.equals(other)
