"""Bringing what was sealed to the object store, in the sealer process or at a command's end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from recorder.errors import RecorderError
from recorder.store import beside
from recorder.store.counters import ERROR, NOT_UPLOADED, Counters
from recorder.store.remote import Mirror
from recorder.store.workspace import remote_of

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with how many sessions are uploaded, and of how many."""

LOOK_SECONDS: Final = 1.0
LAST_RETRY_SECONDS: Final = 60.0
LIST_SECONDS: Final = 60.0
"""How often a recorder looks what others did to its bucket: what they erased is to go from its cache, too."""


def level(data_dir: Path) -> None:
    """Have a workspace know what is in its object store; of a local store, nothing is to be done.

    Raises:
        ObjectStoreError: the object store is away.
    """
    remote = remote_of(data_dir)
    if remote is not None:
        remote.pull()


def upload(data_dir: Path, progress: Progress | None = None) -> int:
    """Bring to its object store what a workspace alone has; of a local store, nothing is to be done.

    Returns:
        How many manifests were brought.

    Raises:
        ObjectStoreError: the object store is away. Nothing is lost: the next upload brings it.
    """
    remote = remote_of(data_dir)
    return 0 if remote is None else remote.push(progress)


class Uploader:
    """A thread that uploads what is sealed, as it comes, and tries ever more rarely while the object store is away.

    Args:
        remote: the object store.
        counters: of the process.
    """

    def __init__(self, remote: Mirror, counters: Counters) -> None:
        self._remote = remote
        self._counters = counters
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upload", daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Upload what is left, but not for longer than that."""
        self._stopping.set()
        self._thread.join(seconds)
        if self._thread.is_alive() or self._counters[NOT_UPLOADED]:
            log.warning("not all sessions are uploaded; the next start does so, or `recorder seal`")

    def _run(self) -> None:
        pause, listed_at = LOOK_SECONDS, time.monotonic()
        while True:
            last = self._stopping.wait(pause)
            try:
                self._upload()
                if not last and time.monotonic() - listed_at >= LIST_SECONDS:
                    listed_at = time.monotonic()
                    self._remote.pull()
                    beside.pull(self._remote, fetch=False)
                pause = LOOK_SECONDS
            except (RecorderError, OSError) as error:
                pause = min(pause * 2, LAST_RETRY_SECONDS)
                self._counters.add(ERROR, value="upload")
                log.warning("cannot upload now, again in %.0f s: %s", pause, error)
            if last:
                return

    def _upload(self) -> None:
        waiting = len(self._remote.pending())
        self._counters.set(NOT_UPLOADED, waiting)
        if waiting or beside.has_news(self._remote):
            self._remote.push(wait=False)
            self._counters.set(NOT_UPLOADED, len(self._remote.pending()))
