"""The sealer process: turns finished journals into segments, as they come, those of running sessions too.

A process of its own, at low priority: decoding must never make the others late.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from recorder.errors import StoreError
from recorder.pipeline.compactor import COMPACT_AFTER, Compactor
from recorder.pipeline.locks import SorterLock
from recorder.pipeline.parent import Parent, begin
from recorder.pipeline.seal import SealReport, seal_all
from recorder.pipeline.upload import Uploader
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
from recorder.store.workspace import remote_of

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.25
REST: Final = 4.0
LONGEST_REST_SECONDS: Final = 2.0
"""It rests four times as long as it has worked, but not for longer: sessions that end meanwhile are sealed together,
which costs little more than one. Nobody waits for that: what is not sealed yet is shown from its journal."""

STOP_SECONDS: Final = 5.0
LAST_ROUND_SECONDS: Final = 20.0
FIRST_RETRY_SECONDS: Final = 1.0
LAST_RETRY_SECONDS: Final = 60.0
_NICENESS: Final = 10
_OOM_SCORE: Final = "500"  # where memory runs out, this goes first: it can be started again, and calls cannot


def run(
    data_dir: Path, parent_fd: int, counters: Counters | None = None, *, compact_after: int = COMPACT_AFTER
) -> None:
    """Seal until the supervisor has stopped the sorter, or was killed and the sorter has ended.

    What is not sealed `LAST_ROUND_SECONDS` after that, and not uploaded `STOP_SECONDS` later, is left to the next
    start, or to `recorder seal`.

    Args:
        data_dir: the store.
        parent_fd: the pipe that tells to stop.
        counters: this process's.
        compact_after: how many small files of a date are merged; 0: none.
    """
    parent = Parent(parent_fd)
    counters = counters or Counters()
    sealer = Sealer(data_dir, counters)
    remote = remote_of(data_dir)
    uploader = None if remote is None else Uploader(remote, counters)
    compactor = Compactor(data_dir, counters, compact_after)
    if compact_after:
        compactor.start()
    while True:
        if parent.stopped.is_set():
            compactor.stop(0)
        last_round = parent.stopped.is_set() and (parent.orderly or _sorter_has_ended(data_dir))
        began = time.monotonic()
        if last_round:
            sealer.work(stopping=True)
        elif parent.stopped.is_set():
            sealer.work()
        else:  # a round of a thousand sessions takes a minute or two
            sealer.work(enough=parent.stopped.is_set)
        if last_round:
            if uploader is not None:
                uploader.stop(STOP_SECONDS)
            return
        if parent.stopped.is_set():
            time.sleep(POLL_SECONDS)
        else:
            parent.stopped.wait(rest_seconds(time.monotonic() - began))


def rest_seconds(worked: float) -> float:
    """How long the sealer rests after a round that took so many seconds."""
    return min(max(POLL_SECONDS, REST * worked), LONGEST_REST_SECONDS)


class Sealer:
    """Seals what is finished, again and again. What is in the way of one session does not keep the others waiting.

    Args:
        data_dir: the store.
        counters: this process's.
    """

    def __init__(self, data_dir: Path, counters: Counters) -> None:
        self._data_dir = data_dir
        self._counters = counters
        self._retries: dict[str, _Retry] = {}

    def work(self, *, stopping: bool = False, enough: Callable[[], bool] = lambda: False) -> None:
        """One round.

        Args:
            stopping: it is the last: try everything, but not for long.
            enough: asked now and then: whether to end the round early.
        """
        now = time.monotonic()
        self._counters.set(HEARTBEAT, time.monotonic_ns())
        waiting = {session_id for session_id, retry in self._retries.items() if retry.at > now and not stopping}
        try:
            if stopping:
                enough = lambda: time.monotonic() >= now + LAST_ROUND_SECONDS  # noqa: E731
            report = seal_all(self._data_dir, self._progress, skip=waiting, enough=enough)
        except OSError as error:
            self._counters.add(ERROR, value="seal")
            log.error("cannot seal now: %s; journals are kept", error)  # noqa: TRY400 - said
            return
        self._count(report, time.monotonic() - now)
        tried = {key: self._retries[key] for key in self._retries.keys() & report.postponed.keys()}
        self._retries = {key: retry for key, retry in self._retries.items() if key in waiting}
        for session_id in report.postponed:
            pause = tried[session_id].pause * 2 if session_id in tried else FIRST_RETRY_SECONDS
            pause = min(pause, LAST_RETRY_SECONDS)
            self._retries[session_id] = _Retry(time.monotonic() + pause, pause)
        self._counters.set(UNSEALED, len(self._retries) + report.left)
        if stopping and report.left:
            log.warning("%d journals are left to be sealed by the next start, or by `recorder seal`", report.left)

    def _progress(self, done: int, of: int) -> None:
        self._counters.set(UNSEALED, of - done + len(self._retries))
        self._counters.set(HEARTBEAT, time.monotonic_ns())

    def _count(self, report: SealReport, seconds: float) -> None:
        if report != SealReport():
            self._counters.add_seconds(SEALING, seconds)
        self._counters.add(SEALED, len(report.sealed))
        self._counters.add(QUARANTINED, len(report.quarantined))
        self._counters.add(ERROR, len(report.postponed), "seal")
        for direction, count in report.events.items():
            self._counters.add(EVENTS, count, direction)
        for session_id in report.sealed:
            log.info("sealed", extra={"session_id": session_id})


class _Retry(NamedTuple):
    """When a session that could not be sealed is tried again, and how long it waits."""

    at: float
    pause: float


def _sorter_has_ended(data_dir: Path) -> bool:
    with contextlib.suppress(StoreError):
        SorterLock(data_dir).release()
        return True
    return False


def main() -> int:
    """Entry point of the process."""
    parser = begin("sealer", _NICENESS, "data_dir")
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    parser.add_argument("--compact-after", type=int, default=COMPACT_AFTER)
    run(**vars(parser.parse_args()), counters=inherited())
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    os._exit(code)  # Python would wait for the threads of an upload that hangs
