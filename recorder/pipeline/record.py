"""The recorder process: drains the rings into journals, and nothing else.

    ring of a worker ──► journal/<session>.journal ──► (closed) journal/<session>.closed.journal

One process a store, by a lock. It releases a ring's space when the journal has the records (so a kill of any process
loses nothing: what is not in the journal is still in the ring) and syncs journals to the disk every `sync_seconds`
(so a power cut loses at most that). Killed between the two, it writes some records again; their ring positions
let every reader take them once. Rings of dead workers are drained, their sessions closed as lost, and removed.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from recorder import logs
from recorder.errors import StoreError
from recorder.pipeline.parent import Parent
from recorder.protocol.envelope import RecordKind
from recorder.store.counters import (
    DISK_FREE,
    DISK_LOW,
    ERROR,
    FSYNC,
    HEARTBEAT,
    JOURNAL_BYTES,
    JOURNAL_RECORDS,
    RING_HIGH_WATER,
    Counters,
    inherited,
)
from recorder.store.journal import JournalWriter, encode_frame, journal_directory, list_journals, read_journal
from recorder.store.ring import SUFFIX, RingReader, RingRecord, ring_directory

log = logging.getLogger(__name__)

LOCK: Final = ".lock"
POLL_SECONDS: Final = 0.25  # each poll costs a write for every session that spoke: fewer are larger
SYNC_SECONDS: Final = 1.0
DISK_FLOOR_BYTES: Final = 512 << 20
_RETRY_SECONDS: Final = 1.0
_SAY_AGAIN_SECONDS: Final = 60.0
_ROOM_AGAIN: Final = 1.1  # of the floor: recording that comes and goes would be gaps without end
_BATCH_BYTES: Final = 8 << 20
_LOST: Final = {"closed_by": "lost", "status": None, "client_bytes": None, "server_bytes": None}


class _OpenedFacts(msgspec.Struct):
    session_id: str
    ring: str
    session_no: int


class DiskLowError(OSError):
    """The disk has less free space than the floor."""

    def __init__(self, free_bytes: int, floor_bytes: int) -> None:
        super().__init__(errno.ENOSPC, f"{free_bytes >> 20} MiB free, and the floor is {floor_bytes >> 20} MiB")


class RecorderLock:
    """The right to write a store's journals.

    Raises:
        StoreError: another recorder process has it.
    """

    def __init__(self, data_dir: Path, ring_dir: Path) -> None:
        directory = journal_directory(data_dir)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise StoreError(
                f"{data_dir} is being recorded into by another process",
                hint="That process will take care of it; stop it first if that is not what you want.",
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, os.fsencode(ring_dir), 0)  # so that whoever recovers the store finds the rings

    def release(self) -> None:
        """Give the right up."""
        os.close(self._fd)


class Recorder:
    """Moves records from rings to journals. The caller holds the `RecorderLock`.

    Args:
        data_dir: the store.
        ring_dir: where its workers' rings lie.
        counters: this process's; None counts for nobody.
        disk_floor_bytes: with less free space than this on the store's disk, nothing is taken from the rings.
    """

    def __init__(
        self, data_dir: Path, ring_dir: Path, counters: Counters | None = None, disk_floor_bytes: int = 0
    ) -> None:
        self._data_dir = data_dir
        self._ring_dir = ring_dir
        self._counters = counters or Counters()
        self._disk_floor_bytes = disk_floor_bytes
        self._disk_low = False
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
        for journal in list_journals(self._data_dir):
            if journal.closed:
                continue
            first = next(read_journal(journal.path), None)
            writer = JournalWriter(self._data_dir, journal.session_id)
            if writer.is_empty:  # the disk was full, or its writer killed: what belongs in is still in the ring
                writer.close(finished=False)
                writer.path.unlink()
                continue
            if first is None or first.kind != RecordKind.OPENED:
                told = {"session_id": journal.session_id}
                log.warning("the journal holds nothing that could be recovered", extra=told)
                self._finished.append(writer)
                continue
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
        return moved

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
        moved = 0
        self._counters.raise_to(RING_HIGH_WATER, ring.used_bytes)
        while True:
            records, position = ring.read(_BATCH_BYTES)
            by_session: dict[int, list[RingRecord]] = {}
            for record in records:
                by_session.setdefault(record.session_no, []).append(record)
            for session_no, session_records in by_session.items():
                self._write((name, session_no), session_records)
            ring.release(position)
            moved += len(records)
            if not records or position - records[0].position < _BATCH_BYTES:
                return moved

    def _write(self, key: tuple[str, int], records: list[RingRecord]) -> None:
        writer = self._journals.get(key)
        if writer is None:
            if records[0].kind != RecordKind.OPENED:
                return  # drained before, by a process that was killed before it could release the ring
            facts = msgspec.json.decode(records[0].data, type=_OpenedFacts)
            writer = self._journals[key] = JournalWriter(self._data_dir, facts.session_id)
        fresh = [record for record in records if record.position > writer.last_position]
        if fresh:
            frames = b"".join(encode_frame(r.position, r.at_ns, r.kind, r.data) for r in fresh)
            writer.write(frames)
            self._counters.add(JOURNAL_BYTES, len(frames))
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


def ring_of(data_dir: Path) -> Path:
    """Where the last recorder process of a store had its rings."""
    with contextlib.suppress(FileNotFoundError):
        if noted := (journal_directory(data_dir) / LOCK).read_bytes():
            return Path(os.fsdecode(noted))
    return ring_directory(data_dir)


def recover(data_dir: Path) -> int:
    """Bring into the journals what a stopped or killed proxy left in its rings.

    Returns:
        The number of records moved.

    Raises:
        StoreError: a recorder process is at work on this store.
    """
    ring_dir = ring_of(data_dir)
    lock = RecorderLock(data_dir, ring_dir)
    try:
        recorder = Recorder(data_dir, ring_dir)
        moved = recorder.drain()
        recorder.sync()
        recorder.close()
    finally:
        lock.release()
    return moved


def run(
    data_dir: Path,
    ring_dir: Path,
    parent_fd: int,
    *,
    sync_seconds: float = SYNC_SECONDS,
    disk_floor_bytes: int = DISK_FLOOR_BYTES,
    counters: Counters | None = None,
) -> None:
    """Drain until the supervisor has stopped its workers, or was killed and the last worker's ring is gone.

    Rings that are left when it is told to stop are those of a successor, whose own recorder process waits for the lock.
    """
    counters = counters or Counters()
    parent = Parent(parent_fd)
    stopped = parent.stopped
    lock = _wait_for_lock(data_dir, ring_dir, stopped, counters)
    if lock is None:
        return
    recorder = Recorder(data_dir, ring_dir, counters, disk_floor_bytes)
    done = threading.Event()
    syncer = threading.Thread(target=_keep_syncing, args=(recorder, done, sync_seconds, counters))
    syncer.start()
    outage = _Outage(counters)
    try:
        while True:
            counters.set(HEARTBEAT, time.monotonic_ns())
            last_round = stopped.is_set()
            try:
                recorder.drain()
            except OSError as error:
                outage.goes_on(error)
                if last_round:
                    break
                time.sleep(_RETRY_SECONDS)
                continue
            outage.is_over()
            if last_round and (parent.orderly or not recorder.rings):
                break
            time.sleep(POLL_SECONDS) if last_round else stopped.wait(POLL_SECONDS)
    finally:
        done.set()
        recorder.finished.set()
        syncer.join()
        recorder.close()
        lock.release()


class _Outage:
    """A time in which journals cannot be written: said when it begins, once a minute, and when it is over."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._said_at: float | None = None

    def goes_on(self, error: OSError) -> None:
        now = time.monotonic()
        if self._said_at is None or now - self._said_at >= _SAY_AGAIN_SECONDS:
            self._counters.add(ERROR, value="disk_floor" if isinstance(error, DiskLowError) else "journal_write")
            log.error("cannot write journals: %s; rings keep what they can hold", error.strerror or error)
            self._said_at = now

    def is_over(self) -> None:
        if self._said_at is not None:
            log.warning("journals can be written again")
            self._said_at = None


def _keep_syncing(recorder: Recorder, done: threading.Event, sync_seconds: float, counters: Counters) -> None:
    while True:
        last_round = done.is_set()
        recorder.finished.wait(0 if last_round else sync_seconds)
        try:
            recorder.sync()
        except OSError as error:
            counters.add(ERROR, value="journal_sync")
            log.error("journals could not be synced: %s", error.strerror or error)  # noqa: TRY400 - said
        if last_round:
            return
        done.wait(min(POLL_SECONDS, sync_seconds))


def _wait_for_lock(data_dir: Path, ring_dir: Path, stopped: threading.Event, counters: Counters) -> RecorderLock | None:
    """During an upgrade the old version's recorder process has it, and drains our rings too, until it ends."""
    said = False
    while True:
        counters.set(HEARTBEAT, time.monotonic_ns())
        try:
            return RecorderLock(data_dir, ring_dir)
        except StoreError as error:
            if not said:
                log.info("%s; waiting", error.message)
                said = True
        if stopped.wait(_RETRY_SECONDS):
            return None


def main() -> int:
    """Entry point of the process."""
    logs.configure("recorder")
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all at once; the supervisor says when: after the workers
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("ring_dir", type=Path)
    parser.add_argument("parent_fd", type=int)
    parser.add_argument("--sync-seconds", type=float, default=SYNC_SECONDS)
    parser.add_argument("--disk-floor-bytes", type=int, default=DISK_FLOOR_BYTES)
    options = vars(parser.parse_args())
    try:
        run(**options, counters=inherited())
    except StoreError as error:
        log.error("%s", error.message)  # noqa: TRY400 - an expected failure: its words say it all
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
