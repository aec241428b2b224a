"""Sealing: what journals hold becomes Parquet files, and the journals are dropped.

    decode → tables → models → data files → manifest → unlink the journal

A session that has ended is sealed whole. One that still runs is sealed in parts, each decoded from where the one before
it ended; at its end, its last rows and the derived ones of the whole session are written, and one manifest takes the
place of the parts'. The manifest is the commit. A crash before it leaves a journal, and perhaps files that nobody reads
and the next attempt writes over; a crash after it leaves a journal that the next attempt only drops.
"""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Final

import msgspec

from recorder.errors import DamagedManifestError, EncryptionKeyError, MissingPartError, NewerFormatError, StoreError
from recorder.pipeline.commit import JOURNALS, Closing, Part, commit, commit_parts
from recorder.pipeline.decoding import JournalDecoder, resume_of
from recorder.protocol import checkpoint
from recorder.store import layout, manifests, session_tables
from recorder.store.journal import finished
from recorder.store.journal_files import CLOSED, RUNNING, JournalFile, by_session, journal_name, list_journals
from recorder.store.manifests import Manifest
from recorder.store.session_tables import SessionTables

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with how many are done, and of how many."""

_NOT_THE_JOURNALS_FAULT: Final = (OSError, MemoryError, NewerFormatError, DamagedManifestError, EncryptionKeyError)
_BATCH_JOURNALS: Final = 64
_BATCH_BYTES: Final = 16 << 20


class SealReport(msgspec.Struct):
    """What `seal_all` did.

    Attributes:
        sealed: ids of the sessions that are sealed now.
        parts: how many parts of running sessions are, too.
        quarantined: by session id, why its journal cannot be sealed; it lies in DATA/quarantine.
        postponed: by session id, what stood in the way (a full disk, a damaged manifest); its journal stays.
        left: how many journals there was no time for.
        events: by direction, how many messages were sealed.
    """

    sealed: list[str] = []
    parts: int = 0
    quarantined: dict[str, str] = {}
    postponed: dict[str, str] = {}
    left: int = 0
    events: dict[str, int] = {}


def seal_journal(data_dir: Path, journal: JournalFile) -> str:
    """Seal one journal: of a session that has ended, or of one that goes on in a further part.

    Doing so again, or twice at once, changes nothing.

    Args:
        data_dir: the store.
        journal: one to which nothing more is written.

    Returns:
        The session's id.

    Raises:
        StoreError: the journal holds no session, or another one than its name says; or the part before it is missing.
        NewerFormatError: a newer version wrote the journal.
        OSError: the disk is full, or fails.
    """
    _seal(data_dir, [journal])
    return journal.session_id


def seal_all(
    data_dir: Path,
    progress: Progress | None = None,
    *,
    skip: Collection[str] = (),
    enough: Callable[[], bool] = lambda: False,
) -> SealReport:
    """Seal all that is finished in a store. What cannot be sealed is moved to the quarantine.

    Args:
        data_dir: the store.
        progress: told after each batch of journals.
        skip: ids of sessions that are left alone.
        enough: asked before each batch: whether to leave the rest to the next time.
    """
    sessions = by_session(journal for journal in list_journals(data_dir) if journal.session_id not in skip)
    waiting = {session_id: finished(journals) for session_id, journals in sessions.items()}
    report = SealReport(left=sum(map(len, waiting.values())))
    total = report.left
    for batch in _batches(waiting):
        if enough():
            break
        _seal_or_set_aside(data_dir, batch, report)
        report.left -= len(batch)
        if progress:
            progress(total - report.left, total)
    return report


def _batches(waiting: Mapping[str, Sequence[JournalFile]]) -> Iterator[list[JournalFile]]:
    """Journals to be sealed at once, in an order in which a session's parts come one after the other."""
    ended = [journals[-1] for journals in waiting.values() if journals and journals[-1].closed]
    yield from _batches_of(journal for journal in ended if len(waiting[journal.session_id]) == 1)
    for turn in zip_longest(*waiting.values()):  # of each session one part at a time
        yield from _batches_of(journal for journal in turn if journal is not None and not journal.closed)
    yield from _batches_of(journal for journal in ended if len(waiting[journal.session_id]) > 1)


def _batches_of(journals: Iterable[JournalFile]) -> Iterator[list[JournalFile]]:
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
    tables: list[SessionTables]
    if journals[0].closed:
        sessions = [session for journal in journals if (session := _closing(data_dir, journal)) is not None]
        commit(data_dir, sessions)
        tables = [session.tables for session in sessions]
    else:
        parts = [part for journal in journals if (part := _part(data_dir, journal)) is not None]
        commit_parts(data_dir, parts)
        tables = [part.tables for part in parts]
    for journal in journals:
        if journal.closed:
            manifests.remove_parts(data_dir, journal.session_id, journal.part)
        journal.path.unlink(missing_ok=True)
    layout.sync_directories(journal.path.parent for journal in journals)
    return sum((one.messages for one in tables), Counter[str]())


def _part(data_dir: Path, journal: JournalFile) -> Part | None:
    """What is to be written of a session that goes on; None if it is sealed already."""
    found = _decode(data_dir, journal)
    if found is None:
        return None
    _sync_next(journal)
    tables, decoder, before = found
    return Part(tables, journal.part, before, checkpoint.encode(decoder.checkpoint()))


def _sync_next(journal: JournalFile) -> None:
    """A power cut must not leave us with neither the part that is about to be dropped nor the one that goes on."""
    following = journal.path.with_name(journal_name(journal.session_id, journal.part + 1))
    with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile: whoever did so has synced it
        layout.sync_file(following)
    layout.sync_directory(journal.path.parent)


def _closing(data_dir: Path, journal: JournalFile) -> Closing | None:
    """What is to be written at a session's end; None if it is sealed already."""
    found = _decode(data_dir, journal)
    if found is None:
        return None
    parts = [manifests.find_part(data_dir, journal.session_id, part) for part in range(journal.part)]
    if None in parts:
        if _is_sealed(data_dir, journal):
            return None  # another sealer was faster
        raise MissingPartError(str(journal.path))
    return Closing(found[0], tuple(part for part in parts if part is not None), journal.path)


def _decode(data_dir: Path, journal: JournalFile) -> tuple[SessionTables, JournalDecoder, Manifest | None] | None:
    """A journal as tables, how its decoder ended, and the part that it went on from; None if it is sealed already."""
    if _is_sealed(data_dir, journal):
        return None
    before = None if journal.part == 0 else manifests.find_part(data_dir, journal.session_id, journal.part - 1)
    try:
        if journal.part and before is None:
            raise MissingPartError(str(journal.path))
        decoder = JournalDecoder(resume_of(before))
        tables = session_tables.collect(journal.session_id, chain.from_iterable(decoder.read(journal, finished=True)))
    except (FileNotFoundError, StoreError):
        if _is_sealed(data_dir, journal):
            return None  # another sealer was faster
        raise
    if decoder.session_id != journal.session_id:
        raise StoreError(f"{journal.path} does not hold the session that it is named after")
    return tables, decoder, before


def _is_sealed(data_dir: Path, journal: JournalFile) -> bool:
    path = manifests.find(data_dir, journal.session_id)
    if path is None:
        return not journal.closed and manifests.find_part(data_dir, journal.session_id, journal.part) is not None
    if journal.part and journal.part >= manifests.read(path).sessions[journal.session_id].get(JOURNALS, 1):
        raise StoreError(f"{journal.path} belongs to a session that was sealed without it")
    return True


def _seal_or_set_aside(data_dir: Path, journals: Sequence[JournalFile], report: SealReport) -> None:
    journals = [journal for journal in journals if journal.session_id not in report.postponed]
    if not journals:
        return
    try:
        messages = _seal(data_dir, journals)
    except Exception as error:  # noqa: BLE001 - whatever a journal can provoke must not stop the others
        if len(journals) > 1:
            for journal in journals:
                _seal_or_set_aside(data_dir, [journal], report)
        elif isinstance(error, _NOT_THE_JOURNALS_FAULT) or (
            isinstance(error, MissingPartError) and layout.is_rewritten(data_dir)  # `repair` may be about to find it
        ):
            report.postponed[journals[0].session_id] = str(error) or type(error).__name__
            log.warning("not sealed yet: %s", error, extra={"session_id": journals[0].session_id})
        else:
            report.quarantined.setdefault(journals[0].session_id, str(error) or type(error).__name__)
            quarantine_journal(data_dir, journals[0], error)
    else:
        report.sealed += [journal.session_id for journal in journals if journal.closed]
        report.parts += sum(not journal.closed for journal in journals)
        report.events = dict(messages + Counter(report.events))


def quarantine_journal(data_dir: Path, journal: JournalFile, error: Exception) -> None:
    """Move a journal out of the way, beside a text that says why, and under what name it is tried again.

    It is never deleted. The parts of a session that come after it follow it there once they are finished, since
    where they go on is not known.
    """
    room = layout.quarantine(data_dir)
    layout.make_directory(room)
    with layout.locked(data_dir):
        name = journal.path.name.removesuffix(CLOSED).removesuffix(RUNNING)
        target, number = room / f"{name}.journal", 1
        while target.exists():
            number += 1
            target = room / f"{name}.{number}.journal"
        if not journal.path.exists():
            return  # another sealer was faster
        why = f"To be tried again as journal/{journal.path.name}\n\n" + "".join(traceback.format_exception(error))
        layout.write_file(target.with_suffix(".txt"), lambda file: file.write(why.encode(errors="backslashreplace")))
        journal.path.rename(target)
        layout.sync_directories([room, journal.path.parent])
    # Not the error's own words: they may be the conversation's.
    told = {"session_id": journal.session_id}
    log.error(
        "cannot be sealed (%s): its journal is now %s, why is beside it", type(error).__name__, target, extra=told
    )
