"""The sealer process: turns finished journals into segments, as they come.

A process of its own, at low priority: decoding must never make the recorder process late.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from recorder import logs
from recorder.errors import StoreError
from recorder.pipeline.parent import Parent
from recorder.pipeline.record import RecorderLock, ring_of
from recorder.pipeline.seal import SealReport, seal_all
from recorder.store.counters import (
    ERROR,
    EVENTS,
    HEARTBEAT,
    QUARANTINED,
    SEALED,
    SEALING,
    UNSEALED,
    Counters,
    inherited,
)

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.25
_NICENESS: Final = 10


def run(data_dir: Path, parent_fd: int, counters: Counters | None = None) -> None:
    """Seal until the supervisor has stopped the recorder process, or was killed and the recorder process has ended."""
    parent = Parent(parent_fd)
    counters = counters or Counters()
    while True:
        counters.set(HEARTBEAT, time.monotonic_ns())
        last_round = parent.stopped.is_set() and (parent.orderly or _recorder_has_ended(data_dir))
        try:
            _seal(data_dir, counters)
        except OSError as error:
            counters.add(ERROR, value="seal")
            log.error("cannot seal now: %s; journals are kept", error)  # noqa: TRY400 - said
        if last_round:
            return
        time.sleep(POLL_SECONDS) if parent.stopped.is_set() else parent.stopped.wait(POLL_SECONDS)


def _seal(data_dir: Path, counters: Counters) -> None:
    def progress(done: int, of: int) -> None:
        counters.set(UNSEALED, of - done)
        counters.set(HEARTBEAT, time.monotonic_ns())

    began = time.monotonic()
    report = seal_all(data_dir, progress)
    counters.set(UNSEALED, len(report.postponed))
    if report != SealReport():
        counters.add_seconds(SEALING, time.monotonic() - began)
    counters.add(SEALED, len(report.sealed))
    counters.add(QUARANTINED, len(report.quarantined))
    counters.add(ERROR, len(report.postponed), "seal")
    for direction, count in report.events.items():
        counters.add(EVENTS, count, direction)
    for session_id in report.sealed:
        log.info("sealed", extra={"session_id": session_id})


def _recorder_has_ended(data_dir: Path) -> bool:
    with contextlib.suppress(StoreError):
        RecorderLock(data_dir, ring_of(data_dir)).release()
        return True
    return False


def main() -> int:
    """Entry point of the process. Arguments: the store, the parent pipe's descriptor."""
    logs.configure("sealer")
    for number in (signal.SIGINT, signal.SIGTERM):  # as in the recorder process
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):
        # Where the kernel groups processes by session (autogroup), niceness counts within the group alone.
        Path("/proc/self/autogroup").write_text(str(_NICENESS), encoding="ascii")
    data_dir, parent_fd = sys.argv[1:]
    run(Path(data_dir), int(parent_fd), inherited())
    return 0


if __name__ == "__main__":
    sys.exit(main())
