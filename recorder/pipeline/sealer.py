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

from recorder.errors import StoreError
from recorder.pipeline.parent import Parent
from recorder.pipeline.record import RecorderLock, ring_of
from recorder.pipeline.seal import seal_all

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.25
_NICENESS: Final = 10


def run(data_dir: Path, parent_fd: int) -> None:
    """Seal until the supervisor has stopped the recorder process, or was killed and the recorder process has ended."""
    parent = Parent(parent_fd)
    while True:
        last_round = parent.stopped.is_set() and (parent.orderly or _recorder_has_ended(data_dir))
        try:
            report = seal_all(data_dir)
            for session_id in report.sealed:
                log.info("session %s sealed", session_id)
        except OSError as error:
            log.error("cannot seal now: %s; journals are kept", error)  # noqa: TRY400 - said
        if last_round:
            return
        time.sleep(POLL_SECONDS) if parent.stopped.is_set() else parent.stopped.wait(POLL_SECONDS)


def _recorder_has_ended(data_dir: Path) -> bool:
    with contextlib.suppress(StoreError):
        RecorderLock(data_dir, ring_of(data_dir)).release()
        return True
    return False


def main() -> int:
    """Entry point of the process. Arguments: the store, the parent pipe's descriptor."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for number in (signal.SIGINT, signal.SIGTERM):  # as in the recorder process
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    data_dir, parent_fd = sys.argv[1:]
    run(Path(data_dir), int(parent_fd))
    return 0


if __name__ == "__main__":
    sys.exit(main())
