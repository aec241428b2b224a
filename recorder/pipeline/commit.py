"""Commits: rows become data files, and then a manifest says that they count.

    tables → (models) → data files → manifest

A crash before the manifest leaves files that nobody reads and that the next attempt writes over.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from recorder import __version__
from recorder.analytics.engine import run_models
from recorder.protocol.envelope import SESSION_OPENED, RecordedEvent
from recorder.store import encrypted, keys, layout, manifests, segments, session_tables
from recorder.store.manifests import Manifest
from recorder.store.schema import FORMAT_VERSION
from recorder.store.session_tables import SessionTables

_NS: Final = 1_000_000_000
JOURNALS: Final = "journals"
"""The fact of a closed session that says in how many journals it was recorded, where they were several."""


class Closing(NamedTuple):
    """A session that has ended.

    Attributes:
        tables: its rows, without those of its sealed parts.
        parts: the manifests of its sealed parts, in order.
        journal: what the rows were read from; once it is gone, the session was sealed or erased meanwhile.
    """

    tables: SessionTables
    parts: tuple[Manifest, ...] = ()
    journal: Path | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether nobody has removed it meanwhile; to be asked under the lock."""
        return self.journal is None or self.journal.exists()

    def events(self, data_dir: Path) -> Any:
        """All its events: what the models see."""
        files = [file for part in self.parts for file in part.files]
        if not files:
            return self.tables.events()
        return segments.concat([segments.read_events(data_dir, files), self.tables.events()])


class Part(NamedTuple):
    """A part of a session that goes on.

    Attributes:
        tables: its rows.
        number: which part, from 0.
        before: the manifest of the part before it.
        resume: where decoding goes on after it.
    """

    tables: SessionTables
    number: int
    before: Manifest | None
    resume: bytes


def write_segments(data_dir: Path, sessions: Iterable[Iterable[RecordedEvent]]) -> list[str]:
    """Store whole sessions that have no journal, in one go: many small ones cost little more than one.

    Args:
        data_dir: the store.
        sessions: each one's events in the order of their positions, none empty.

    Returns:
        The ids of those that were new to the store.
    """
    closing = []
    for events in sessions:
        rows = iter(events)
        first = next(rows)
        closing.append(Closing(session_tables.collect(first.session_id, _chain(first, rows))))
    return commit(data_dir, closing)


def _chain(first: RecordedEvent, rest: Iterator[RecordedEvent]) -> Iterator[RecordedEvent]:
    yield first
    yield from rest


def commit(data_dir: Path, sessions: Sequence[Closing]) -> list[str]:
    """Run the models over whole sessions, and write their data files, then their manifests.

    Returns:
        The ids of those that were not sealed before.
    """
    if not sessions:
        return []
    ids = [session.tables.session_id for session in sessions]
    derived = {
        name: segments.split(table, ids)
        for name, table in run_models(segments.concat(session.events(data_dir) for session in sessions)).items()
    }
    layout.create(data_dir)
    with layout.locked(data_dir):
        sealed = manifests.find_all(data_dir, ids)
        fresh = [each for each in sessions if each.tables.session_id not in sealed and each.is_wanted]
        written = []
        for session in fresh:
            own = {name: table[session.tables.session_id] for name, table in derived.items()}
            written.append(_write_files(data_dir, session, own))
        _write_manifests(data_dir, written)
    return [manifest.name for manifest in written]


def commit_parts(data_dir: Path, parts: Sequence[Part]) -> None:
    """Write parts of sessions that go on: their rows, without derived ones. Those that are there already are left out.

    Args:
        data_dir: the store.
        parts: of different sessions.
    """
    with layout.locked(data_dir):
        sealed = manifests.find_all(data_dir, (part.tables.session_id for part in parts))
        written = [
            _write_part(data_dir, part)
            for part in parts
            if part.tables.session_id not in sealed
            and manifests.find_part(data_dir, part.tables.session_id, part.number) is None
        ]
        _write_manifests(data_dir, written)


def _write_part(data_dir: Path, part: Part) -> Manifest:
    tables, before = part.tables, part.before
    session_id, now_ns = tables.session_id, time.time_ns()
    opened_ns = before.sessions[session_id]["opened_at_ns"] if before else opened_at_ns(tables)
    facts = {session_id: {"opened_at_ns": opened_ns, "sealed_at_ns": now_ns, "event_count": tables.count}}
    date = before.date if before else _date(opened_ns, now_ns)
    name = layout.part_name(session_id, part.number)
    files = segments.write(data_dir, date, name, tables.data_sets())
    resume = encrypted.seal(part.resume, keys.for_writing(data_dir), name)
    return Manifest(FORMAT_VERSION, name, date, __version__, facts, files, part=part.number, resume=resume)


def _write_manifests(data_dir: Path, written: Sequence[Manifest]) -> None:
    layout.sync_directories((data_dir / file.path).parent for manifest in written for file in manifest.files)
    layout.sync_directories(manifests.write(data_dir, manifest) for manifest in written)


def _write_files(data_dir: Path, closing: Closing, derived: Mapping[str, Any]) -> Manifest:
    tables, parts = closing.tables, closing.parts
    session_id, now_ns = tables.session_id, time.time_ns()
    opened_ns = parts[0].sessions[session_id]["opened_at_ns"] if parts else opened_at_ns(tables)
    date = parts[0].date if parts else _date(opened_ns, now_ns)
    session: dict[str, Any] = next(iter(segments.rows(derived["sessions"])), {})
    facts = {
        "opened_at_ns": opened_ns,
        "sealed_at_ns": now_ns,
        "server_session_id": session.get("server_session_id"),
        "source": session.get("source"),
        "event_count": tables.count + sum(part.sessions[session_id]["event_count"] for part in parts),
    }
    if parts:
        facts[JOURNALS] = len(parts) + 1
    files = (file for part in parts for file in part.files)
    own = segments.write(data_dir, date, session_id, tables.data_sets() | dict(derived))
    replaces = tuple(part.name for part in parts)
    return Manifest(FORMAT_VERSION, session_id, date, __version__, {session_id: facts}, (*files, *own), replaces)


def _date(opened_ns: int | None, now_ns: int) -> str:
    return datetime.fromtimestamp((now_ns if opened_ns is None else opened_ns) // _NS, UTC).strftime("%Y-%m-%d")


def opened_at_ns(tables: SessionTables) -> int | None:
    """When a session opened: by its own word, or, where damage took that, by its version 7 id.

    Returns:
        Unix nanoseconds; None for imports without dates.
    """
    first = tables.first
    if first is not None and first.direction == "recorder" and first.type == SESSION_OPENED:
        said = msgspec.json.decode(first.payload or "{}").get("opened_at_ns")
        return said if isinstance(said, int) else None
    identity = uuid.UUID(tables.session_id)
    return (identity.int >> 80) * 1_000_000 if identity.version == 7 else None
