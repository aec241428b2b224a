"""Sorting spools into the sessions' journals.

    DATA/spool/<ring>.<number>.spool ──► DATA/journal/<session>.journal ──► (closed) <session>.closed.journal
                                                  └──► (every `seal_seconds`) <session>.00001.journal, and so on

A spool goes when the journals have all of it and are on the disk. Killed before that, a sorter sorts some records
again; their ring positions let every journal take them once.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import dropwhile, zip_longest
from pathlib import Path
from typing import Final

import msgspec

from recorder.errors import NewerFormatError, StoreError
from recorder.protocol.envelope import RecordKind, gap_facts
from recorder.store.counters import JOURNAL_BYTES, JOURNAL_RECORDS, UNSORTED, Counters
from recorder.store.journal import Buffer, JournalWriter, encode_frame, frame_header, holds_frames, read_journal
from recorder.store.journal_files import JournalFile, by_session, journal_directory, list_journals
from recorder.store.layout import sync_directory
from recorder.store.ring import SUFFIX
from recorder.store.ring_reader import RingRecord, parse
from recorder.store.spool import Block, SpoolFile, SpoolTail, list_spools

log = logging.getLogger(__name__)

_STINT_SECONDS: Final = 120e-6
PART_BYTES: Final = 64 << 20
"""A journal of this size goes on in a next part, whatever its age: the sealer holds one in memory."""
_ROLLS_AT_ONCE: Final = 50  # half a millisecond each: what is to be shown live must not wait for them
_HAND_ON_AT_ONCE: Final = 256
_SYNCS_AT_ONCE: Final = 8
_DISPOSE_AT_ONCE: Final = 64
_LEAST_OPEN: Final = 64
_SPARE_FILES: Final = _HAND_ON_AT_ONCE + _DISPOSE_AT_ONCE + 64
_LOST: Final = {"closed_by": "lost", "status": None, "client_bytes": None, "server_bytes": None}


class _OpenedFacts(msgspec.Struct):
    session_id: str
    ring: str
    session_no: int


class Sorter:
    """Sorts what spools hold into journals. The caller holds the `SorterLock`.

    Args:
        data_dir: the store.
        ring_dir: where its workers' rings lie.
        counters: this process's; None counts for nobody.
        seal_seconds: a journal of this age goes on in a next part, so that the sealer can have it; 0: it does not.
    """

    def __init__(
        self, data_dir: Path, ring_dir: Path, counters: Counters | None = None, seal_seconds: float = 0.0
    ) -> None:
        self._data_dir = data_dir
        self._ring_dir = ring_dir
        self._counters = counters or Counters()
        self._seal_seconds = seal_seconds
        self._parts_fail = False
        self._began_at = 0.0  # the stint
        self._seen: set[str] = set()  # rings whose workers lived in our time
        self._tails: dict[Path, SpoolTail] = {}
        self._written: set[int] = set()  # of a block that could not be sorted to its end: whose records are in journals
        self._failed: tuple[str, int] | None = None  # and which block that was
        self._newer: set[Path] = set()  # spools of a newer version
        self._sorted: dict[str, int] = {}  # by ring, up to where in its life
        self._journals: dict[tuple[str, int], JournalWriter] = {}
        self._open: dict[JournalWriter, None] = {}  # those of them that have not been parked, the least used first
        self._most_open = max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_FILES, _LEAST_OPEN)
        self._closed: set[str] = set()  # sessions of which an earlier sorter had all
        self._unsynced: set[JournalWriter] = set()
        self._finished: list[JournalWriter] = []
        self._ended: list[tuple[str, int]] = []  # adopted journals that lack nothing but being handed on
        self._adopt_journals()

    def close(self) -> None:
        """Let go of spools and journals as they are; the next sorter goes on from there."""
        for tail in self._tails.values():
            tail.close()
        for writer in (*self._journals.values(), *self._finished):
            writer.close(finished=False)
        self._tails.clear()
        self._journals.clear()
        self._finished.clear()

    def _adopt_journals(self) -> None:
        """Go on with journals that an earlier sorter left."""
        for journals in by_session(list_journals(self._data_dir)).values():
            try:
                while len(journals) > 1 and not holds_frames(journals[-1].path):  # a power cut took what was in it
                    journals.pop().path.unlink()
                if journals[-1].closed:
                    self._closed.add(journals[-1].session_id)
                else:
                    self._adopt(journals[-1])
            except StoreError as error:  # of a newer version, say: it waits for whoever can read it
                log.error("%s. %s", error.message, error.hint)  # noqa: TRY400 - the words say it all

    def _adopt(self, journal: JournalFile) -> None:
        first = next(read_journal(journal.path), None)
        writer = JournalWriter(self._data_dir, journal.session_id, journal.part)
        if writer.is_empty:  # the disk was full, or its writer killed: what belongs in is still on the spool
            writer.close(finished=False)
            writer.path.unlink()
            return
        if first is None or first.kind != RecordKind.OPENED:
            told = {"session_id": journal.session_id}
            log.warning("the journal holds nothing that could be recovered", extra=told)
            writer.park()
            self._finished.append(writer)
            return
        facts = msgspec.json.decode(first.data, type=_OpenedFacts)
        self._journals[facts.ring, facts.session_no] = writer
        self._unsynced.add(writer)
        self._use(writer)
        if writer.ended:
            self._ended.append((facts.ring, facts.session_no))

    def sort(self) -> int:
        """Sort what the spools hold now, and remove those that are done with. Returns the number of records moved.

        Raises:
            OSError: journals cannot be written now; spools stay.
        """
        living = self._living()  # first: when a ring goes, all that it held is on its spools
        self._seen |= living
        spools = list_spools(self._data_dir)
        moved = 0
        done: list[Path] = []
        for spool, following in zip_longest(spools, spools[1:]):
            is_last = following is None or following.ring != spool.ring
            finished = not is_last or spool.ring not in living
            try:
                moved += self._sort_spool(spool, finished=finished)
            except NewerFormatError as error:  # it waits for whoever can read it
                if spool.path not in self._newer:
                    log.error("%s. %s", error.message, error.hint)  # noqa: TRY400 - the words say it all
                    self._newer.add(spool.path)
            except StoreError as error:
                log.error("%s", error.message)  # noqa: TRY400 - likewise
                spool.path.rename(spool.path.with_suffix(".unreadable"))
            else:
                done += [spool.path] if finished else []
            if len(done) >= _DISPOSE_AT_ONCE:
                self._hand_on()
                self._dispose_of(done)
                done.clear()
        for key in self._ended:  # not before the spools were sorted: they may hold them once more
            if key in self._journals:
                self._finish(key)
        self._ended.clear()
        for key in [key for key in self._journals if key[0] not in living]:
            self._close_as_lost(key)
        self._sorted = {ring: position for ring, position in self._sorted.items() if ring in living}
        self._begin_parts()
        self._hand_on()
        self._dispose_of(done)
        self._counters.set(UNSORTED, self._unsorted_bytes())
        return moved

    def _living(self) -> set[str]:
        try:
            names = [path.name for path in self._ring_dir.iterdir()]
        except FileNotFoundError:
            return set()
        return {name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX) and not name.startswith(".")}

    def _sort_spool(self, spool: SpoolFile, *, finished: bool) -> int:
        tail = self._tails.get(spool.path)
        if tail is None:
            tail = self._tails[spool.path] = SpoolTail(spool.path)
        moved = 0
        for block in tail.blocks(finished=finished):
            moved += self._sort_block(spool.ring, block)
        return moved

    def _sort_block(self, ring: str, block: Block) -> int:
        if block.position < 0:
            self._note_damage(ring, len(block.data))
            return 0
        by_session: dict[int, list[RingRecord]] = {}
        known = self._sorted.get(ring, 0)  # a recorder process that was killed may have left some twice
        for record in parse(block.position, block.data):
            if record.position >= known:
                by_session.setdefault(record.session_no, []).append(record)
        if self._failed != (ring, block.position):
            self._written.clear()
        self._failed = ring, block.position
        for session_no, records in by_session.items():
            if session_no not in self._written:
                self._write((ring, session_no), records)
                self._written.add(session_no)
                if len(self._finished) >= _HAND_ON_AT_ONCE:
                    self._hand_on()
                self._give_way()
        self._failed = None
        self._sorted[ring] = max(known, block.position + len(block.data))
        return sum(map(len, by_session.values()))

    def _note_damage(self, ring: str, size: int) -> None:
        """Whose records were in it is not known: any of the ring's running sessions may lack some."""
        gap = gap_facts("recorder", size, "spool damaged")
        log.error("%d bytes of a spool cannot be read", size)
        for writer in (writer for key, writer in self._journals.items() if key[0] == ring):
            writer.write(encode_frame(writer.last_position + 1, time.monotonic_ns(), RecordKind.GAP, gap))
            writer.last_position += 1
            self._unsynced.add(writer)

    def _give_way(self) -> None:
        """Let a worker go first that waits for this processor."""
        now = time.monotonic()
        if now - self._began_at >= _STINT_SECONDS:
            os.sched_yield()
            self._began_at = time.monotonic()

    def _write(self, key: tuple[str, int], records: list[RingRecord]) -> None:
        writer = self._journals.get(key)
        if writer is None:
            records = list(dropwhile(lambda record: record.kind != RecordKind.OPENED, records))
            if not records:
                return  # sorted before, and ended; or what was before went down with another store
            facts = msgspec.json.decode(records[0].data, type=_OpenedFacts)
            if facts.session_id in self._closed:
                return
            writer = self._journals[key] = JournalWriter(self._data_dir, facts.session_id)
        fresh = records
        if records[0].position <= writer.last_position:  # a process was killed before it could let go of them
            fresh = [record for record in records if record.position > writer.last_position]
        if fresh:
            pieces: list[Buffer] = []
            for one in fresh:
                pieces += frame_header(one.position, one.at_ns, one.kind, one.data), one.data
            size = writer.size
            writer.write(*pieces)
            self._counters.add(JOURNAL_BYTES, writer.size - size)
            self._counters.add(JOURNAL_RECORDS, len(fresh))
            writer.last_position = fresh[-1].position
            self._unsynced.add(writer)
            self._use(writer)
        if records[-1].kind == RecordKind.CLOSED:
            self._finish(key)

    def _use(self, writer: JournalWriter) -> None:
        """Note that its file is open, and close another where there are too many."""
        self._open.pop(writer, None)
        self._open[writer] = None
        if len(self._open) > self._most_open:
            idle = next(iter(self._open))
            del self._open[idle]
            idle.park()

    def _finish(self, key: tuple[str, int]) -> None:
        writer = self._journals.pop(key)
        self._unsynced.discard(writer)
        self._open.pop(writer, None)
        writer.park()
        self._finished.append(writer)

    def _close_as_lost(self, key: tuple[str, int]) -> None:
        """End a session whose worker cannot; at the time of its last record, for more is not known."""
        writer = self._journals[key]
        if writer.ended:
            self._finish(key)
            return
        reason = "the proxy worker died" if key[0] in self._seen else "the recorder was stopped"
        last = max((record.at_ns for record in read_journal(writer.path)), default=0)
        closed = msgspec.json.encode({**_LOST, "error": reason})
        writer.write(encode_frame(writer.last_position + 1, last, RecordKind.CLOSED, closed))
        log.warning("ended as lost: %s", reason, extra={"session_id": writer.session_id})
        self._finish(key)

    def _begin_parts(self) -> None:
        """Go on in a next part where a journal has become old or large.

        What could not be read or written stays as it is: a long journal is no harm.
        """
        if not self._seal_seconds:
            return
        young = time.monotonic() - self._seal_seconds
        due = [
            key
            for key, writer in self._journals.items()
            if writer.has_news and (writer.started_at <= young or writer.size >= PART_BYTES)
        ]
        for key in due[:_ROLLS_AT_ONCE]:
            writer = self._journals[key]
            try:
                self._journals[key] = following = writer.roll()
            except (OSError, StoreError) as error:
                if not self._parts_fail:
                    log.warning("journals cannot go on in parts: %s", error)
                self._parts_fail = True
                return
            self._parts_fail = False
            self._unsynced.discard(writer)
            self._unsynced.add(following)
            self._open.pop(writer, None)
            self._use(following)
            self._finished.append(writer)
            self._give_way()

    def _hand_on(self) -> None:
        """Hand finished journals to the sealer."""
        while self._finished:
            some = self._finished[-_HAND_ON_AT_ONCE:]
            _sync(some)
            for writer in reversed(some):
                writer.close(finished=True)
                self._finished.pop()

    def _dispose_of(self, spools: list[Path]) -> None:
        if not spools:
            return
        unsynced = list(self._unsynced)
        for start in range(0, len(unsynced), _HAND_ON_AT_ONCE):
            some = unsynced[start : start + _HAND_ON_AT_ONCE]
            _sync(some)
            for writer in some:
                if writer not in self._open:
                    writer.park()
        sync_directory(journal_directory(self._data_dir))
        self._unsynced.clear()
        for path in spools:
            self._tails.pop(path).close()
            path.unlink()

    def _unsorted_bytes(self) -> int:
        offsets = {path: tail.offset for path, tail in self._tails.items()}
        return sum(spool.path.stat().st_size - offsets.get(spool.path, 0) for spool in list_spools(self._data_dir))


def _sync(writers: list[JournalWriter]) -> None:
    """Force journals to the disk, together: one after the other, each would wait for it by itself, ten times as long.

    Raises:
        OSError: the disk fails.
    """
    for writer in writers:
        writer.begin_sync()
    if len(writers) > 1:
        with ThreadPoolExecutor(_SYNCS_AT_ONCE) as pool:
            list(pool.map(JournalWriter.sync, writers))
    else:
        for writer in writers:
            writer.sync()
