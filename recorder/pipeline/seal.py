"""Sealing: a finished session's journal becomes Parquet files, and is then dropped.

    decode → tables → models → data files → manifest → unlink the journal

The manifest is the commit. A crash before it leaves a journal, and perhaps files that nobody reads and the next
attempt writes over; a crash after it leaves a journal that the next attempt only drops.
"""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from recorder import __version__
from recorder.analytics.engine import run_models
from recorder.errors import NewerFormatError, StoreError
from recorder.protocol.decode import SessionDecoder
from recorder.protocol.envelope import SESSION_OPENED, RecordedEvent
from recorder.store import layout, manifests, segments
from recorder.store.journal import JournalFile, list_journals, read_journal
from recorder.store.manifests import Manifest
from recorder.store.schema import FORMAT_VERSION
from recorder.store.segments import SessionTables

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with how many are done, and of how many."""

_NS: Final = 1_000_000_000
_BATCH_JOURNALS: Final = 64
_BATCH_BYTES: Final = 16 << 20


class SealReport(msgspec.Struct):
    """What `seal_all` did.

    Attributes:
        sealed: ids of the sessions that are sealed now.
        quarantined: by session id, why its journal cannot be sealed; it lies in DATA/quarantine.
        postponed: by session id, what stood in the way (a full disk, say); its journal lies where it was.
        events: by direction, how many messages the sealed sessions have.
    """

    sealed: list[str] = []
    quarantined: dict[str, str] = {}
    postponed: dict[str, str] = {}
    events: dict[str, int] = {}


def decode_journal(path: Path) -> Iterator[RecordedEvent]:
    """A journal's events, whether its session still runs or not."""
    decoder = SessionDecoder()
    for record in read_journal(path):
        yield from decoder.feed(record)


def seal_journal(data_dir: Path, journal: JournalFile) -> str:
    """Seal one finished session. Doing so again, or twice at once, changes nothing.

    Args:
        data_dir: the store.
        journal: the session's, closed.

    Returns:
        The session's id.

    Raises:
        StoreError: the journal holds no session, or another one than its name says.
        NewerFormatError: a newer version wrote the journal.
        OSError: the disk is full, or fails.
    """
    _seal(data_dir, [journal])
    return journal.session_id


def seal_all(data_dir: Path, progress: Progress | None = None) -> SealReport:
    """Seal every finished session of a store. One that cannot be sealed is moved to the quarantine.

    Args:
        data_dir: the store.
        progress: told after each batch of journals.
    """
    report = SealReport()
    closed = [journal for journal in list_journals(data_dir) if journal.closed]
    done = 0
    for batch in _batches(closed):
        _seal_or_set_aside(data_dir, batch, report)
        done += len(batch)
        if progress:
            progress(done, len(closed))
    return report


def _batches(journals: Iterable[JournalFile]) -> Iterator[list[JournalFile]]:
    """Small journals together, since models cost little more for many sessions than for one; large ones alone."""
    batch: list[JournalFile] = []
    room = _BATCH_BYTES
    for journal in journals:
        size = 0
        with contextlib.suppress(FileNotFoundError):  # another sealer was faster
            size = journal.path.stat().st_size
        if batch and (size > room or len(batch) == _BATCH_JOURNALS):
            yield batch
            batch, room = [], _BATCH_BYTES
        batch.append(journal)
        room -= size
    if batch:
        yield batch


def _seal(data_dir: Path, journals: Sequence[JournalFile]) -> Counter[str]:
    """Seal, and tell by direction how many messages that were."""
    sessions = [tables for journal in journals if (tables := _read(data_dir, journal)) is not None]
    commit(data_dir, sessions)
    for journal in journals:
        journal.path.unlink(missing_ok=True)
    layout.sync_directories(journal.path.parent for journal in journals)
    return sum((tables.messages for tables in sessions), Counter())


def _read(data_dir: Path, journal: JournalFile) -> SessionTables | None:
    """A journal's session as tables; None if it is sealed already."""
    if manifests.find(data_dir, journal.session_id) is not None:
        return None
    try:
        tables = segments.collect(journal.session_id, decode_journal(journal.path))
    except FileNotFoundError:
        if manifests.find(data_dir, journal.session_id) is None:
            raise
        return None  # another sealer was faster
    if tables.first is None or tables.first.session_id != journal.session_id:
        raise StoreError(f"{journal.path} does not hold the session that it is named after")
    return tables


def _seal_or_set_aside(data_dir: Path, journals: Sequence[JournalFile], report: SealReport) -> None:
    try:
        messages = _seal(data_dir, journals)
    except Exception as error:  # noqa: BLE001 - whatever a journal can provoke must not stop the others
        if len(journals) > 1:
            for journal in journals:
                _seal_or_set_aside(data_dir, [journal], report)
        elif isinstance(error, OSError | MemoryError | NewerFormatError):  # not the journal's fault
            report.postponed[journals[0].session_id] = str(error) or type(error).__name__
            log.warning("not sealed yet: %s", error, extra={"session_id": journals[0].session_id})
        else:
            report.quarantined[journals[0].session_id] = str(error) or type(error).__name__
            quarantine_journal(data_dir, journals[0], error)
    else:
        report.sealed += [journal.session_id for journal in journals]
        report.events = dict(messages + Counter(report.events))


def quarantine_journal(data_dir: Path, journal: JournalFile, error: Exception) -> None:
    """Move a journal out of the way, beside a text that says why. It is never deleted.

    Moved back to its place in DATA/journal as `<session>.closed.journal`, it is tried again.
    """
    room = layout.quarantine(data_dir)
    layout.make_directory(room)
    with layout.locked(data_dir):
        target, number = room / f"{journal.session_id}.journal", 1
        while target.exists():
            number += 1
            target = room / f"{journal.session_id}.{number}.journal"
        if not journal.path.exists():
            return  # another sealer was faster
        why = "".join(traceback.format_exception(error))
        layout.write_file(target.with_suffix(".txt"), lambda file: file.write(why.encode(errors="backslashreplace")))
        journal.path.rename(target)
        layout.sync_directories([room, journal.path.parent])
    # Not the error's own words: they may be the conversation's.
    told = {"session_id": journal.session_id}
    log.error(
        "cannot be sealed (%s): its journal is now %s, why is beside it", type(error).__name__, target, extra=told
    )


def write_segments(data_dir: Path, sessions: Iterable[Iterable[RecordedEvent]]) -> list[str]:
    """Store whole sessions that have no journal, in one go: many small ones cost little more than one.

    Args:
        data_dir: the store.
        sessions: each one's events in the order of their positions, none empty.

    Returns:
        The ids of those that were new to the store.
    """
    tables = []
    for events in sessions:
        rows = iter(events)
        first = next(rows)
        tables.append(segments.collect(first.session_id, _chain(first, rows)))
    return commit(data_dir, tables)


def _chain(first: RecordedEvent, rest: Iterator[RecordedEvent]) -> Iterator[RecordedEvent]:
    yield first
    yield from rest


def commit(data_dir: Path, sessions: Sequence[SessionTables]) -> list[str]:
    """Run the models over sessions, and write their data files, then their manifests.

    Returns:
        The ids of those that were not sealed before.
    """
    if not sessions:
        return []
    ids = [tables.session_id for tables in sessions]
    derived = {
        name: segments.split(table, ids)
        for name, table in run_models(segments.concat(tables.events() for tables in sessions)).items()
    }
    layout.create(data_dir)
    with layout.locked(data_dir):
        sealed = manifests.find_all(data_dir, ids)
        fresh = [tables for tables in sessions if tables.session_id not in sealed]
        written = [
            _write_files(data_dir, tables, {name: table[tables.session_id] for name, table in derived.items()})
            for tables in fresh
        ]
        layout.sync_directories((data_dir / file.path).parent for manifest in written for file in manifest.files)
        layout.sync_directories(manifests.write(data_dir, manifest) for manifest in written)
    return [manifest.name for manifest in written]


def _write_files(data_dir: Path, tables: SessionTables, derived: Mapping[str, Any]) -> Manifest:
    session_id, opened_ns = tables.session_id, opened_at_ns(tables)
    now_ns = time.time_ns()
    date = datetime.fromtimestamp((now_ns if opened_ns is None else opened_ns) // _NS, UTC).strftime("%Y-%m-%d")
    session: dict[str, Any] = next(iter(segments.rows(derived["sessions"])), {})
    facts = {
        "opened_at_ns": opened_ns,
        "sealed_at_ns": now_ns,
        "server_session_id": session.get("server_session_id"),
        "source": session.get("source"),
        "event_count": tables.events().num_rows,
    }
    files = segments.write(data_dir, date, session_id, tables.data_sets() | dict(derived))
    return Manifest(FORMAT_VERSION, session_id, date, __version__, {session_id: facts}, files)


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
