"""The recorder process: drains the rings into spools, and nothing else.

    ring of a worker ──► spool/<ring>.<number>.spool ──► the sorter

One process a store, by a lock. It releases a ring's space when a spool has the records (so a kill of any process
loses nothing: what is not on a spool is still in the ring) and syncs spools to the disk every `sync_seconds`
(so a power cut loses at most that). Killed between the two, it writes some records again; their ring positions
let the sorter take them once. Rings of dead workers are drained and removed.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from pathlib import Path
from typing import Final

from recorder.errors import StoreError
from recorder.pipeline.drain import DiskLowError, Drain
from recorder.pipeline.locks import RecorderLock
from recorder.pipeline.parent import Parent, begin
from recorder.store.counters import ERROR, HEARTBEAT, Counters, inherited
from recorder.store.ring import note_loss

log = logging.getLogger(__name__)

SYNC_SECONDS: Final = 1.0
DISK_FLOOR_BYTES: Final = 512 << 20
_SOON_SECONDS: Final = 0.02
_LATER_SECONDS: Final = 0.04
_ROUND_BYTES: Final = 1 << 20  # still in the processor's cache, and more than it costs to come for
_ROUND_FILL: Final = 1 / 16
_LOOK_SECONDS: Final = 0.25  # for new rings, dead workers, the disk
_NICENESS: Final = 5  # of a processor that is not enough for both, the worker with its callers gets three quarters
_RETRY_SECONDS: Final = 1.0
_SAY_AGAIN_SECONDS: Final = 60.0


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
    removed = False
    while (lock := _wait_for_lock(data_dir, ring_dir, stopped, counters)) is not None:
        if removed or lock.is_first:
            note_loss(ring_dir)
        drain = Drain(data_dir, ring_dir, counters, disk_floor_bytes)
        done = threading.Event()
        syncer = threading.Thread(target=_keep_syncing, args=(drain, done, sync_seconds, counters))
        syncer.start()
        try:
            _keep_draining(drain, lock, ring_dir, parent, counters)
            if lock.is_in_place():
                return
        finally:
            done.set()
            syncer.join()
            drain.close()
            lock.release()
        removed = True
        counters.add(ERROR, value="store_removed")
        log.error("%s was removed or replaced while it was recorded into; recording goes on in a new one", data_dir)


def _keep_draining(drain: Drain, lock: RecorderLock, ring_dir: Path, parent: Parent, counters: Counters) -> None:
    """Until all is done, or the store is not at its place any more."""
    outage = _Outage(counters)
    pace = Pace()
    while lock.is_in_place():
        counters.set(HEARTBEAT, time.monotonic_ns())
        last_round = parent.stopped.is_set()
        try:
            drain.drain()
            outage.is_over()
            if last_round and (parent.orderly or not drain.rings):
                return
            _keep_taking(drain, None if last_round else parent.stopped, pace)
        except OSError as error:
            if not lock.is_in_place():
                return
            outage.goes_on(error)
            if last_round:
                if drain.left_bytes:
                    _say_what_is_left(drain, ring_dir)
                return
            time.sleep(_RETRY_SECONDS)


def _say_what_is_left(drain: Drain, ring_dir: Path) -> None:
    log.error(
        "%d bytes that could not be written stay in %s: the next start on this data directory brings them in, "
        "a reboot loses them",
        drain.left_bytes,
        ring_dir,
    )


def _keep_taking(drain: Drain, stopped: threading.Event | None, pace: Pace) -> None:
    """Until it is time to look around again, or there is news of being `stopped`."""
    due = time.monotonic() + _LOOK_SECONDS
    while time.monotonic() < due:
        if stopped is None:
            time.sleep(pace.seconds)
        elif stopped.wait(pace.seconds):
            return
        fill = drain.fill
        pace.took(drain.take(), fill)


class Pace:
    """How often it comes round: to come costs the same, whatever there is to take.

    Attributes:
        seconds: how long to let rings fill.
    """

    def __init__(self) -> None:
        self.seconds = _SOON_SECONDS

    def took(self, moved: int, fill: float) -> None:
        """Say what there was to take.

        Args:
            moved: in bytes.
            fill: how much of the fullest ring that was, from 0 to 1.
        """
        enough = max(moved / _ROUND_BYTES, fill / _ROUND_FILL, _SOON_SECONDS / _LATER_SECONDS)
        self.seconds = min(max(self.seconds / enough, _SOON_SECONDS), _LATER_SECONDS)


class _Outage:
    """A time in which spools cannot be written: said when it begins, once a minute, and when it is over."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._said_at: float | None = None

    def goes_on(self, error: OSError) -> None:
        now = time.monotonic()
        if self._said_at is None or now - self._said_at >= _SAY_AGAIN_SECONDS:
            self._counters.add(ERROR, value="disk_floor" if isinstance(error, DiskLowError) else "spool_write")
            log.error("cannot write spools: %s; rings keep what they can hold", error.strerror or error)
            self._said_at = now

    def is_over(self) -> None:
        if self._said_at is not None:
            log.warning("spools can be written again")
            self._said_at = None


def _keep_syncing(drain: Drain, done: threading.Event, sync_seconds: float, counters: Counters) -> None:
    last_round = False
    while not last_round:
        last_round = done.wait(sync_seconds)
        try:
            drain.sync()
        except OSError as error:
            counters.add(ERROR, value="spool_sync")
            log.error("spools could not be synced: %s", error.strerror or error)  # noqa: TRY400 - said


def _wait_for_lock(data_dir: Path, ring_dir: Path, stopped: threading.Event, counters: Counters) -> RecorderLock | None:
    """During an upgrade the old version's recorder process has it, and drains our rings too, until it ends."""
    said = ""
    while True:
        counters.set(HEARTBEAT, time.monotonic_ns())
        try:
            return RecorderLock(data_dir, ring_dir)
        except StoreError as error:
            level, why = logging.INFO, error.message
        except OSError as error:  # it was removed, and cannot be made again
            level, why = logging.ERROR, f"cannot use {data_dir}: {error.strerror}"
        if why != said:
            log.log(level, "%s; waiting", why)
            said = why
        if stopped.wait(_RETRY_SECONDS):
            return None


def main() -> int:
    """Entry point of the process."""
    parser = begin("recorder", _NICENESS, "data_dir", "ring_dir")
    parser.add_argument("--sync-seconds", type=float, default=SYNC_SECONDS)
    parser.add_argument("--disk-floor-bytes", type=int, default=DISK_FLOOR_BYTES)
    options = vars(parser.parse_args())
    gc.freeze()
    try:
        run(**options, counters=inherited())
    except StoreError as error:
        log.error("%s", error.message)  # noqa: TRY400 - an expected failure: its words say it all
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
