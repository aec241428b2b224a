"""Compaction by itself: a thread of the sealer process merges files when a date has many small ones.

It never keeps sealing waiting: a merge holds no lock that the sealer needs but for the commit, the rename of one file.
Where somebody else replaces manifests, it leaves that to them; killed at any point, it loses nothing.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Final

from recorder.errors import RecorderError
from recorder.pipeline.compact import CompactReport, compact, plans_of
from recorder.store.counters import ERROR, Counters
from recorder.store.manifests import ManifestCache
from recorder.store.merge import TARGET_BYTES
from recorder.store.workspace import remote_of

log = logging.getLogger(__name__)

COMPACT_AFTER: Final = 256
"""So many files of a date are worth merging: a call of ten minutes leaves some 70, one of an hour 300."""

LOOK_SECONDS: Final = 30.0
LAST_RETRY_SECONDS: Final = 3_600.0
_SPARE_BYTES: Final = 1 << 30


class Compactor:
    """Looks now and then whether there is enough to merge.

    Args:
        data_dir: the store.
        counters: of the process.
        at_least: so many files of a date must be there to be merged.
    """

    def __init__(self, data_dir: Path, counters: Counters, at_least: int = COMPACT_AFTER) -> None:
        self._data_dir = data_dir
        self._counters = counters
        self._at_least = at_least
        self._manifests = ManifestCache(data_dir)
        remote = remote_of(data_dir)
        self._in_bucket = None if remote is None else ManifestCache(remote.known)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="compact", daemon=True)

    def start(self) -> None:
        """Look from now on, in the background."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Begin nothing more; wait no longer than that for what was begun, which may be left in the middle."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def look(self) -> CompactReport | None:
        """Compact if there is enough to merge, or to remove of what was merged before; None if there is not.

        Raises:
            BlockingIOError: others replace manifests.
            RecorderError: a file is missing or damaged, or the object store is away or in use.
            OSError: the disk is full, or fails.
        """
        self._manifests.refresh()
        if not self._has_replaced() and not self._is_due():
            return None
        return compact(self._data_dir, at_least=self._at_least, wait=False)

    def _has_replaced(self) -> bool:
        """Whether there is something to remove: in a bucket, where its time is up later, it may be there alone."""
        if self._in_bucket is not None:
            self._in_bucket.refresh()
        return any(cache is not None and cache.replaced for cache in (self._manifests, self._in_bucket))

    def _is_due(self) -> bool:
        files: Counter[str] = Counter()
        for manifest in self._manifests.counting:
            files[manifest.date] += len(manifest.files)
        dates = {date for date, count in files.items() if count >= self._at_least}
        plans = plans_of(self._manifests.counting, TARGET_BYTES, dates) if dates else []
        sizes = [plan.bytes for plan in plans if plan.files >= self._at_least]
        # What is merged is there twice for a while, and recording needs the disk more.
        return bool(sizes) and shutil.disk_usage(self._data_dir).free >= 2 * sum(sizes) + _SPARE_BYTES

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while not self._stopping.wait(pause):
            try:
                report = self.look()
            except BlockingIOError:
                pause = LOOK_SECONDS
            except (RecorderError, OSError) as error:
                pause = min(pause * 2, LAST_RETRY_SECONDS)
                self._counters.add(ERROR, value="compact")
                log.warning("cannot compact now, again in %.0f s: %s", pause, error)
            else:
                pause = LOOK_SECONDS
                if report and report.unnamed:
                    log.warning("%d data files have no manifest: `recorder repair`", len(report.unnamed))
                for day in report.days if report else ():
                    log.info("compacted %s: %d files became %s", day.date, day.files_before, day.files_after)
