"""The recorder process: drains the rings into journals, and nothing else.

    ring of a worker ──► journal/<session>.journal ──► (closed) journal/<session>.closed.journal
                                   └──► (every `seal_seconds`) journal/<session>.00001.journal, and so on

One process a store, by a lock. It releases a ring's space when the journal has the records (so a kill of any process
loses nothing: what is not in the journal is still in the ring) and syncs journals to the disk every `sync_seconds`
(so a power cut loses at most that). Killed between the two, it writes some records again; their ring positions
let every reader take them once. Rings of dead workers are drained, their sessions closed as lost, and removed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gc
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

from recorder import logs
from recorder.errors import StoreError
from recorder.pipeline.drain import DiskLowError, Recorder
from recorder.pipeline.parent import Parent
from recorder.store.counters import (
    ERROR,
    HEARTBEAT,
    Counters,
    inherited,
)
from recorder.store.journal import journal_directory
from recorder.store.ring import ring_directory

log = logging.getLogger(__name__)

LOCK: Final = ".lock"
POLL_SECONDS: Final = 0.5  # each poll costs a write for every session that spoke: fewer are larger
SYNC_SECONDS: Final = 1.0
SEAL_SECONDS: Final = 45.0
DISK_FLOOR_BYTES: Final = 512 << 20
_LOOK_SECONDS: Final = 0.05  # 100 calls take 3 s to fill a ring
_HURRY_ABOVE: Final = 0.35  # a ring's fill
_GATHER_SECONDS: Final = 0.25  # of finished journals, between two syncs
_RETRY_SECONDS: Final = 1.0
_SAY_AGAIN_SECONDS: Final = 60.0


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
    seal_seconds: float = SEAL_SECONDS,
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
    recorder = Recorder(data_dir, ring_dir, counters, disk_floor_bytes, seal_seconds)
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
            _pause(recorder, None if last_round else stopped)
    finally:
        done.set()
        recorder.finished.set()
        syncer.join()
        recorder.close()
        lock.release()


def _pause(recorder: Recorder, stopped: threading.Event | None) -> None:
    """Until the next drain is due: sooner where a ring fills up, or where there is news of being `stopped`."""
    due = time.monotonic() + POLL_SECONDS
    while recorder.fill < _HURRY_ABOVE and time.monotonic() < due:
        if stopped is None:
            time.sleep(_LOOK_SECONDS)
        elif stopped.wait(_LOOK_SECONDS):
            return


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
        recorder.finished.wait(0 if last_round else max(sync_seconds - _GATHER_SECONDS, 0))
        try:
            recorder.sync()
        except OSError as error:
            counters.add(ERROR, value="journal_sync")
            log.error("journals could not be synced: %s", error.strerror or error)  # noqa: TRY400 - said
        if last_round:
            return
        done.wait(min(_GATHER_SECONDS, sync_seconds))


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
    parser.add_argument("--seal-seconds", type=float, default=SEAL_SECONDS)
    parser.add_argument("--disk-floor-bytes", type=int, default=DISK_FLOOR_BYTES)
    options = vars(parser.parse_args())
    gc.freeze()
    gc.set_threshold(100_000)  # a drain makes tens of thousands of records, and not one cycle
    try:
        run(**options, counters=inherited())
    except StoreError as error:
        log.error("%s", error.message)  # noqa: TRY400 - an expected failure: its words say it all
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
