"""The sorter process: sorts spools into journals, so that running sessions can be seen and finished ones sealed.

A process of its own, at low priority: it may fall behind, which makes spools longer and nobody wait.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from pathlib import Path
from typing import Final

from recorder.errors import StoreError
from recorder.pipeline.locks import SorterLock, is_recorded
from recorder.pipeline.parent import Parent, begin
from recorder.pipeline.sort import Sorter
from recorder.store.counters import ERROR, HEARTBEAT, Counters, inherited

log = logging.getLogger(__name__)

SEAL_SECONDS: Final = 45.0
_POLL_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 1.0
_SAY_AGAIN_SECONDS: Final = 60.0
_NICENESS: Final = 10


def run(
    data_dir: Path, ring_dir: Path, parent_fd: int, counters: Counters, *, seal_seconds: float = SEAL_SECONDS
) -> None:
    """Sort until the supervisor has stopped the recorder process, or was killed and the recorder process has ended.

    Args:
        data_dir: the store.
        ring_dir: where its workers' rings lie.
        parent_fd: the pipe that tells to stop.
        counters: this process's.
        seal_seconds: how often the journal of a running session goes on in a next part; 0: never.
    """
    parent = Parent(parent_fd)
    while (lock := _wait_for_lock(data_dir, parent, counters)) is not None:
        sorter = Sorter(data_dir, ring_dir, counters, seal_seconds)
        try:
            _keep_sorting(sorter, data_dir, lock, parent, counters)
            if lock.is_in_place():
                return
        finally:
            sorter.close()
            lock.release()


def _keep_sorting(sorter: Sorter, data_dir: Path, lock: SorterLock, parent: Parent, counters: Counters) -> None:
    """Until all is done, or the store is not at its place any more."""
    said_at = -_SAY_AGAIN_SECONDS
    while lock.is_in_place():
        counters.set(HEARTBEAT, time.monotonic_ns())
        last_round = parent.stopped.is_set() and (parent.orderly or not is_recorded(data_dir))
        pause = _POLL_SECONDS
        try:
            sorter.sort()
        except OSError as error:
            if not lock.is_in_place():
                return
            pause = _RETRY_SECONDS
            if time.monotonic() - said_at >= _SAY_AGAIN_SECONDS:
                said_at = time.monotonic()
                counters.add(ERROR, value="sort")
                log.error("cannot write journals: %s; spools are kept", error.strerror or error)  # noqa: TRY400
        if last_round:
            return
        time.sleep(pause) if parent.stopped.is_set() else parent.stopped.wait(pause)


def _wait_for_lock(data_dir: Path, parent: Parent, counters: Counters) -> SorterLock | None:
    """During an upgrade the old version's sorter has it, and sorts for us too, until it ends."""
    while True:
        counters.set(HEARTBEAT, time.monotonic_ns())
        try:
            return SorterLock(data_dir)
        except (StoreError, OSError):  # the latter where a store that was removed cannot be made again
            if parent.stopped.wait(_RETRY_SECONDS):
                return None


def main() -> int:
    """Entry point of the process."""
    parser = begin("sorter", _NICENESS, "data_dir", "ring_dir")
    parser.add_argument("--seal-seconds", type=float, default=SEAL_SECONDS)
    options = vars(parser.parse_args())
    gc.freeze()
    gc.set_threshold(100_000)  # a round makes tens of thousands of records, and not one cycle
    run(**options, counters=inherited())
    return 0


if __name__ == "__main__":
    sys.exit(main())
