"""Moving records from the workers' rings to the sessions' journals: what the recorder process does all the time."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from recorder.errors import StoreError
from recorder.protocol.envelope import RecordKind
from recorder.store.counters import (
    DISK_FREE,
    DISK_LOW,
    FSYNC,
    JOURNAL_BYTES,
    JOURNAL_RECORDS,
    RING_HIGH_WATER,
    Counters,
)
from recorder.store.journal import (
    Buffer,
    JournalFile,
    JournalWriter,
    by_session,
    encode_frame,
    frame_header,
    holds_frames,
    list_journals,
    read_journal,
)
from recorder.store.ring import SUFFIX, RingReader, RingRecord

log = logging.getLogger(__name__)

_ROOM_AGAIN: Final = 1.1  # of the floor: recording that comes and goes would be gaps without end
_BATCH_BYTES: Final = 8 << 20
_STEP_BYTES: Final = 1 << 17
_PATIENT_BELOW: Final = 0.6  # a ring's fill
_STINT_SECONDS: Final = 120e-6
_SYNCS_A_STINT: Final = 4
PART_BYTES: Final = 64 << 20
"""A journal of this size goes on in a next part, whatever its age: the sealer holds one in memory."""
_ROLLS_AT_ONCE: Final = 50  # half a millisecond each: they must not hold up the drain
_LOST: Final = {"closed_by": "lost", "status": None, "client_bytes": None, "server_bytes": None}


class _OpenedFacts(msgspec.Struct):
    session_id: str
    ring: str
    session_no: int


class DiskLowError(OSError):
    """The disk has less free space than the floor."""

    def __init__(self, free_bytes: int, floor_bytes: int) -> None:
        super().__init__(errno.ENOSPC, f"{free_bytes >> 20} MiB free, and the floor is {floor_bytes >> 20} MiB")


class Recorder:
    """Moves records from rings to journals. The caller holds the `RecorderLock`.

    Args:
        data_dir: the store.
        ring_dir: where its workers' rings lie.
        counters: this process's; None counts for nobody.
        disk_floor_bytes: with less free space than this on the store's disk, nothing is taken from the rings.
        seal_seconds: a journal of this age goes on in a next part, so that the sealer can have it; 0: it does not.
    """

    def __init__(
        self,
        data_dir: Path,
        ring_dir: Path,
        counters: Counters | None = None,
        disk_floor_bytes: int = 0,
        seal_seconds: float = 0.0,
    ) -> None:
        self._data_dir = data_dir
        self._ring_dir = ring_dir
        self._counters = counters or Counters()
        self._disk_floor_bytes = disk_floor_bytes
        self._disk_low = False
        self._seal_seconds = seal_seconds
        self._parts_fail = False
        self._began_at = 0.0  # the stint
        self._rings: dict[str, RingReader] = {}
        self._journals: dict[tuple[str, int], JournalWriter] = {}
        # The drain never waits for a disk's fsync: journals to sync and to close are handed to `sync`.
        self._lock = threading.Lock()
        self._unsynced: set[JournalWriter] = set()
        self._finished: list[JournalWriter] = []
        self._ended: list[tuple[str, int]] = []  # adopted journals that lack nothing but being handed on
        self.finished = threading.Event()
        self._adopt_journals()

    @property
    def rings(self) -> int:
        """Rings that are being drained."""
        return len(self._rings)

    def close(self) -> None:
        """Let go of rings and journals as they are; the next recorder process goes on from there."""
        for ring in self._rings.values():
            ring.close()
        for writer in self._journals.values():
            writer.close(finished=False)
        self._rings.clear()
        self._journals.clear()

    def _adopt_journals(self) -> None:
        """Go on with journals that an earlier recorder process left; end those whose ring is gone for ever."""
        for journals in by_session(list_journals(self._data_dir)).values():
            while len(journals) > 1 and not holds_frames(journals[-1].path):  # a power cut took what was in it
                journals.pop().path.unlink()
            if not journals[-1].closed:
                self._adopt(journals[-1])

    def _adopt(self, journal: JournalFile) -> None:
        first = next(read_journal(journal.path), None)
        writer = JournalWriter(self._data_dir, journal.session_id, journal.part)
        if writer.is_empty:  # the disk was full, or its writer killed: what belongs in is still in the ring
            writer.close(finished=False)
            writer.path.unlink()
            return
        if first is None or first.kind != RecordKind.OPENED:
            told = {"session_id": journal.session_id}
            log.warning("the journal holds nothing that could be recovered", extra=told)
            self._finished.append(writer)
            return
        facts = msgspec.json.decode(first.data, type=_OpenedFacts)
        self._journals[facts.ring, facts.session_no] = writer
        if writer.ended:
            self._ended.append((facts.ring, facts.session_no))
        if not (self._ring_dir / (facts.ring + SUFFIX)).exists():
            self._close_as_lost((facts.ring, facts.session_no), "the recorder was stopped")

    def drain(self) -> int:
        """Take what the rings hold now. Returns the number of records moved.

        Raises:
            DiskLowError: there is too little free space; the rings keep what they hold, and workers are told.
            OSError: journals cannot be written now; likewise.
        """
        self._find_rings()
        self._check_disk()
        moved = 0
        for name, ring in list(self._rings.items()):
            dead = ring.writer_is_dead()  # asked before reading: what a dead worker wrote is all there
            moved += self._drain_ring(name, ring)
            if dead:
                self._bury(name, ring)
        for key in self._ended:  # not before the ring was drained: it may hold them once more
            if key in self._journals:
                self._finish(key)
        self._ended.clear()
        self._begin_parts()
        return moved

    def _begin_parts(self) -> None:
        """Go on in a next part where a journal has become old or large. Only now, with all rings released.

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
                self._journals[key] = writer.roll()
            except (OSError, StoreError) as error:
                if not self._parts_fail:
                    log.warning("journals cannot go on in parts: %s", error)
                self._parts_fail = True
                return
            self._parts_fail = False
            with self._lock:
                self._unsynced.discard(writer)
                self._finished.append(writer)
            self._give_way()

    def _check_disk(self) -> None:
        disk = os.statvfs(self._data_dir)
        free = disk.f_bavail * disk.f_frsize
        self._disk_low = free < self._disk_floor_bytes * (_ROOM_AGAIN if self._disk_low else 1)
        self._counters.set(DISK_FREE, free)
        self._counters.set(DISK_LOW, self._disk_low)
        for ring in self._rings.values():
            ring.hold_back(self._disk_low)
        if self._disk_low:
            raise DiskLowError(free, self._disk_floor_bytes)

    def _find_rings(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            for path in self._ring_dir.iterdir():
                name = path.name.removesuffix(SUFFIX)
                if path.name.endswith(SUFFIX) and not path.name.startswith(".") and name not in self._rings:
                    try:
                        self._rings[name] = RingReader(path)
                    except StoreError as error:
                        log.error("%s", error.message)  # noqa: TRY400 - the words say it all
                        path.rename(path.with_suffix(".unreadable"))

    def _drain_ring(self, name: str, ring: RingReader) -> int:
        """Drain what it holds now. What comes meanwhile is for the next time, which is at once where it is much."""
        self._counters.raise_to(RING_HIGH_WATER, ring.used_bytes)
        position, end = ring.tail, ring.head
        moved = 0
        while position < end:
            by_session, position = self._read(ring, position, min(end, position + _BATCH_BYTES))
            for session_no, records in by_session.items():
                self._write((name, session_no), records)
                moved += len(records)
                self._give_way()
            ring.release(position)
        return moved

    def _read(self, ring: RingReader, position: int, end: int) -> tuple[dict[int, list[RingRecord]], int]:
        """Records by their session, and where the last one ends."""
        by_session: dict[int, list[RingRecord]] = {}
        while position < end:
            records, position = ring.read(_STEP_BYTES, position)
            for record in records:
                by_session.setdefault(record.session_no, []).append(record)
            self._give_way()
        return by_session, position

    @property
    def fill(self) -> float:
        """The share of its capacity that the fullest ring holds."""
        return max((ring.used_bytes / ring.capacity for ring in self._rings.values()), default=0.0)

    def _give_way(self) -> None:
        """Let a worker go first that waits for this processor: it has callers who wait, we have none.

        Left to itself the kernel lets us go on for milliseconds, and to ask it for a low priority could not be taken
        back: where a ring fills up, we need our share. A worker that took over at each message would not do better
        either: the processor would do nothing but change hands.
        """
        now = time.monotonic()
        if now - self._began_at >= _STINT_SECONDS and self.fill < _PATIENT_BELOW:
            os.sched_yield()
            self._began_at = time.monotonic()

    def _write(self, key: tuple[str, int], records: list[RingRecord]) -> None:
        writer = self._journals.get(key)
        if writer is None:
            if records[0].kind != RecordKind.OPENED:
                return  # drained before, and ended; see below
            facts = msgspec.json.decode(records[0].data, type=_OpenedFacts)
            writer = self._journals[key] = JournalWriter(self._data_dir, facts.session_id)
        fresh = records
        if records[0].position <= writer.last_position:  # a process was killed before it could release the ring
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
            with self._lock:
                self._unsynced.add(writer)
        if records[-1].kind == RecordKind.CLOSED:
            self._finish(key)

    def _finish(self, key: tuple[str, int]) -> None:
        writer = self._journals.pop(key)
        with self._lock:
            self._unsynced.discard(writer)
            self._finished.append(writer)
        self.finished.set()

    def _close_as_lost(self, key: tuple[str, int], reason: str) -> None:
        """End a session whose worker cannot; at the time of its last record, for more is not known."""
        writer = self._journals[key]
        if writer.ended:
            self._finish(key)
            return
        last = max((record.at_ns for record in read_journal(writer.path)), default=0)
        closed = msgspec.json.encode({**_LOST, "error": reason})
        writer.write(encode_frame(writer.last_position + 1, last, RecordKind.CLOSED, closed))
        log.warning("ended as lost: %s", reason, extra={"session_id": writer.session_id})
        self._finish(key)

    def _bury(self, name: str, ring: RingReader) -> None:
        for key in [key for key in self._journals if key[0] == name]:
            self._close_as_lost(key, "the proxy worker died")
        del self._rings[name]
        ring.close(remove=True)

    def sync(self) -> None:
        """Force to the disk what was written since the last call, and hand finished journals to the sealer."""
        with self._lock:
            unsynced, self._unsynced = self._unsynced, set()
            finished, self._finished = self._finished, []
            self.finished.clear()
        try:
            while finished:
                self._timed(partial(finished[-1].close, finished=True))
                finished.pop()
            for number, writer in enumerate(unsynced, 1):
                writer.begin_sync()
                if not number % _SYNCS_A_STINT:
                    os.sched_yield()
            while unsynced:
                # One that was finished meanwhile is closed by the next call, which comes from this same thread.
                writer = unsynced.pop()
                self._timed(writer.sync)
        except OSError:
            with self._lock:  # what is not done is tried again
                self._finished += finished
                self._unsynced |= unsynced
            raise

    def _timed(self, sync: Callable[[], None]) -> None:
        began = time.monotonic()
        sync()
        self._counters.observe(FSYNC, time.monotonic() - began)
