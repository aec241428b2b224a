"""Pruning: what is older than its time goes, whole sessions or only their audio."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from recorder.errors import UsageError
from recorder.pipeline.adopt import sweep_all
from recorder.pipeline.remove import Stored, remove, stored_sessions
from recorder.pipeline.replace import AUDIO_REMOVED, Change, changed, commit, listed, sweep
from recorder.store import audit, edits, layout
from recorder.store.manifests import Manifest

Progress = Callable[[int, int], None]
"""Called with how many manifests are done, and of how many."""

_WITH_AUDIO: Final = frozenset({"appends", "audio", "parts"})
_VERSION_WITH_TIME: Final = 7


class PruneReport(msgspec.Struct):
    """What `prune` did, or would do.

    Attributes:
        sessions: ids of the sessions that are gone.
        audio_sessions: ids of those that lost their audio alone.
        events: how many sealed events the first had.
        bytes: how much smaller the data files are; None of a dry run.
    """

    sessions: list[str]
    audio_sessions: list[str]
    events: int = 0
    bytes: int | None = None


def prune(
    data_dir: Path,
    progress: Progress | None = None,
    *,
    older_than: timedelta | None = None,
    audio_older_than: timedelta | None = None,
    now_ns: int | None = None,
    dry_run: bool = False,
) -> PruneReport:
    """Remove what is older than its time. A session is as old as its opening; one without times, as its import.

    Sessions that still run stay as they are. Killed at any point, it can be called again.

    Args:
        data_dir: the store.
        progress: told as audio is removed.
        older_than: the age from which sessions go.
        audio_older_than: the age from which their audio goes.
        now_ns: Unix nanoseconds; the clock's if None.
        dry_run: only tell what would be done.

    Raises:
        UsageError: neither age was given.
        StoreError: a file is missing or damaged.
        OSError: the disk is full, or fails.
    """
    if older_than is None and audio_older_than is None:
        raise UsageError("prune what?", hint="Give --older-than, --audio-older-than, or both: 30d, say.")
    layout.require(data_dir)
    now_ns = time.time_ns() if now_ns is None else now_ns
    with layout.rewriting(data_dir):
        sweep_all(data_dir)  # what a removal that was broken off has left
        there = stored_sessions(data_dir)
        gone = [key for key, each in there.items() if not each.is_running and _is_older(key, each, older_than, now_ns)]
        muted = [
            key
            for key, each in there.items()
            if key not in gone
            and each.facts is not None
            and not each.facts.get(AUDIO_REMOVED)
            and _is_older(key, each, audio_older_than, now_ns)
        ]
        with_audio = _with_audio(data_dir, muted)
        report = PruneReport(gone, with_audio, sum(there[key].events for key in gone))
        if dry_run or not (gone or with_audio):
            return report
        before = _size(data_dir)
        if gone:
            remove(data_dir, gone)
        _remove_audio(data_dir, frozenset(with_audio), progress)
        report.bytes = before - _size(data_dir)
        audit.append(data_dir, audit.Entry("prune", len(gone), report.events, len(with_audio)))
    return report


def _is_older(session_id: str, stored: Stored, age: timedelta | None, now_ns: int) -> bool:
    return age is not None and now_ns - _opened_ns(session_id, stored) >= age // timedelta(microseconds=1) * 1000


def _opened_ns(session_id: str, stored: Stored) -> int:
    """When a session opened, in Unix nanoseconds; of one without times, when it came here."""
    facts = [stored.facts] if stored.facts is not None else [part.sessions[session_id] for part in stored.parts]
    for each in facts:
        if each.get("opened_at_ns") is not None:
            return int(each["opened_at_ns"])
        return int(each.get("sealed_at_ns", 0))
    identity = uuid.UUID(session_id) if layout.is_session_id(session_id) else None
    if identity is not None and identity.version == _VERSION_WITH_TIME:
        return (identity.int >> 80) * 1_000_000
    paths = [*(journal.path for journal in stored.journals), *stored.others]
    return max((path.stat().st_mtime_ns for path in paths if path.exists()), default=time.time_ns())


def _size(data_dir: Path) -> int:
    cache = listed(data_dir)
    return sum({file.path: file.bytes for each in cache.counting for file in each.files}.values())


def _with_audio(data_dir: Path, session_ids: Collection[str]) -> list[str]:
    """Those of the sessions that may have audio."""
    sessions = listed(data_dir).sessions
    return [key for key in session_ids if any(file.data_set in _WITH_AUDIO for file in sessions[key].files)]


def _remove_audio(data_dir: Path, ids: frozenset[str], progress: Progress | None) -> None:
    concerned = [manifest for manifest in listed(data_dir).counting if ids & manifest.sessions.keys()]
    for number, manifest in enumerate(concerned, 1):
        commit(data_dir, [changed(data_dir, manifest, _without_audio(data_dir, manifest, ids))])
        if progress:
            progress(number, len(concerned))
    sweep(data_dir)


def _without_audio(data_dir: Path, manifest: Manifest, ids: frozenset[str]) -> Change:
    positions: dict[str, Any] = {}

    def events(session_id: str, rows: Any) -> Any:
        if session_id not in positions:
            positions.clear()  # sessions come one after the other
            positions[session_id] = edits.audio_positions(data_dir, manifest.files, session_id)
        return edits.events_without_audio(rows, positions[session_id])

    def parts(_: str, rows: Any) -> Any:
        return edits.parts_without_audio(rows)

    facts = {key: {AUDIO_REMOVED: True} for key in ids & manifest.sessions.keys()}
    return Change(edits={"events": events, "appends": events, "parts": parts, "audio": None}, facts=facts)
