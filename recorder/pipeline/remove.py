"""Removing whole sessions from a store, whatever state they are in, and leaving nothing of them in any file.

    journals, quarantine → manifests without them → what was replaced

The journals go first: a sealer that has read one commits nothing once it is gone. Killed in between, a session is
either found again, to be removed anew, or counts no more, and the next `sweep` removes the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from recorder import __version__
from recorder.errors import SessionRunningError
from recorder.pipeline.aside import quarantined
from recorder.pipeline.problems import named_after
from recorder.pipeline.replace import Change, changed, commit, listed, new_name, sweep
from recorder.store import copies, layout
from recorder.store.journal_files import JournalFile, by_session, list_journals
from recorder.store.manifests import Manifest, ManifestCache
from recorder.store.schema import FORMAT_VERSION
from recorder.store.workspace import remote_of


class Stored(NamedTuple):
    """What there is of a session.

    Attributes:
        journals: those not sealed yet, in order.
        parts: the manifests of sealed parts of a session that was never closed.
        facts: of a closed and sealed one; None of others.
        others: files in quarantine, and what broken-off work left.
    """

    journals: list[JournalFile]
    parts: list[Manifest]
    facts: Mapping[str, Any] | None
    others: list[Path]

    @property
    def is_running(self) -> bool:
        """Whether more of it may come."""
        return bool(self.journals) and not self.journals[-1].closed

    @property
    def events(self) -> int:
        """How many events are sealed."""
        of_parts = [facts["event_count"] for part in self.parts for facts in part.sessions.values()]
        return int(self.facts.get("event_count", 0)) if self.facts is not None else sum(of_parts)


def stored_sessions(data_dir: Path) -> dict[str, Stored]:
    """Everything that there is in a store, by session.

    Raises:
        StoreError: a manifest is damaged, or of a newer version.
    """
    journals, cache = by_session(list_journals(data_dir)), listed(data_dir)
    others = quarantined(data_dir).by_session
    return {
        key: Stored(journals.get(key, []), cache.parts.get(key, []), _facts(cache, key), others.get(key, []))
        for key in sorted(journals.keys() | cache.parts.keys() | cache.sessions.keys() | others.keys())
    }


def _facts(cache: ManifestCache, session_id: str) -> Mapping[str, Any] | None:
    manifest = cache.sessions.get(session_id)
    return None if manifest is None else manifest.sessions[session_id]


def remove(data_dir: Path, session_ids: Collection[str]) -> int:
    """Remove whole sessions, at once; readers that have their files open may finish what they do.

    The caller holds `layout.rewriting`.

    Args:
        data_dir: the store.
        session_ids: whole ids.

    Returns:
        How many sealed events they had.

    Raises:
        SessionRunningError: one of them still runs; nothing was removed.
        StoreError: a file is missing or damaged.
        OSError: the disk is full, or fails.
    """
    ids = frozenset(session_ids)
    with layout.locked(data_dir):
        stored = {key: each for key, each in stored_sessions(data_dir).items() if key in ids}
        running = [key for key, each in stored.items() if each.is_running]
        if running:
            raise SessionRunningError(running[0])
        events = sum(each.events for each in stored.values())
        unlink(path for each in stored.values() for path in (*(one.path for one in each.journals), *each.others))
    remote = remote_of(data_dir)
    if remote is not None:
        remote.bucket.delete(each.name for each in copies.unnamed(remote) if ids & {*named_after(Path(each.name))})
    cache = listed(data_dir)
    commit(data_dir, list(_without(data_dir, cache, ids)))
    sweep(data_dir)
    with layout.locked(data_dir):
        # A crash while they were sealed may have left files that no manifest ever named.
        unlink(path for path in data_dir.glob("segments/*/*/*.parquet") if path.name.partition(".")[0] in ids)
    return events


def _without(data_dir: Path, cache: ManifestCache, ids: frozenset[str]) -> Iterator[Manifest]:
    for manifest in cache.counting:
        gone = ids & manifest.sessions.keys()
        if gone:
            yield changed(data_dir, manifest, Change(removed=gone))
    for parts in (parts for key, parts in cache.parts.items() if key in ids):
        names = tuple(part.name for part in parts)
        yield Manifest(FORMAT_VERSION, new_name(names), parts[0].date, __version__, {}, (), names, at_once=True)


def unlink(paths: Iterable[Path]) -> None:
    """Remove files, and force that to the disk."""
    gone = list(paths)
    for path in gone:
        path.unlink(missing_ok=True)
    layout.sync_directories(path.parent for path in gone)
