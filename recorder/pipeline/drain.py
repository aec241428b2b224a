"""Moving what the workers' rings hold to spools on the disk: what the recorder process does all the time."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from recorder.errors import NewerFormatError, StoreError
from recorder.protocol.envelope import SPEAKERS, RecordKind, gap_facts
from recorder.store.counters import DISK_FREE, DISK_LOW, FSYNC, RING_HIGH_WATER, SPOOL_BYTES, Counters
from recorder.store.layout import sync_directory
from recorder.store.ring import SUFFIX
from recorder.store.ring_reader import RingReader, encode
from recorder.store.spool import SpoolWriter, list_spools, spool_directory

log = logging.getLogger(__name__)

_ROOM_AGAIN: Final = 1.1  # of the floor: recording that comes and goes would be gaps without end
_BLOCK_BYTES: Final = 4 << 20
_PATIENT_BELOW: Final = 0.6  # a ring's fill
_STINT_SECONDS: Final = 120e-6
_FULL: Final = "ring full"
SPOOL_SECONDS: Final = 5.0
"""A spool of this age is followed by a next one, so that it can be sorted and removed."""
SPOOL_BYTES_MOST: Final = 256 << 20
"""One of this size too."""


class DiskLowError(OSError):
    """The disk has less free space than the floor."""

    def __init__(self, free_bytes: int, floor_bytes: int) -> None:
        super().__init__(errno.ENOSPC, f"{free_bytes >> 20} MiB free, and the floor is {floor_bytes >> 20} MiB")


class Drain:
    """Moves what rings hold to spools. The caller holds the `RecorderLock`.

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
        self._began_at = 0.0  # the stint
        self._rings: dict[str, RingReader] = {}
        self._taken: dict[str, int] = {}  # by ring, up to where in its life: its worker may not be done with all of it
        self._newer: set[Path] = set()  # rings of a newer version
        self._spools: dict[str, SpoolWriter] = {}
        # The drain never waits for a disk's fsync: what is to be synced, and closed, is handed to `sync`.
        self._lock = threading.Lock()
        self._unsynced: set[SpoolWriter] = set()
        self._finished: list[SpoolWriter] = []
        self._is_new = False  # a spool whose name is not on the disk yet

    @property
    def rings(self) -> int:
        """Rings that are being drained."""
        return len(self._rings)

    @property
    def fill(self) -> float:
        """The share of its capacity that the fullest ring holds."""
        return max((ring.used_bytes / ring.capacity for ring in self._rings.values()), default=0.0)

    @property
    def left_bytes(self) -> int:
        """What all of them hold."""
        return sum(ring.used_bytes for ring in self._rings.values())

    def drain(self) -> int:
        """Look for rings and for dead workers, and take what the rings hold. Returns the number of bytes moved.

        Raises:
            DiskLowError: there is too little free space; the rings keep what they hold, and workers are told.
            OSError: spools cannot be written now; likewise.
        """
        self._find_rings()
        self._check_disk()
        dead = [name for name, ring in self._rings.items() if ring.writer_is_dead()]  # what they wrote is all there
        moved = self.take()
        for name in dead:
            self._bury(name)
        for name in [name for name, spool in self._spools.items() if _is_old(spool)]:
            self._go_on(name)
        return moved

    def take(self) -> int:
        """Take what the rings hold now. What comes meanwhile is for the next time. Returns the number of bytes moved.

        Raises:
            OSError: spools cannot be written now; the rings keep what they hold.
        """
        return sum(self._take_from(name, ring) for name, ring in self._rings.items() if ring.used_bytes)

    def _take_from(self, name: str, ring: RingReader) -> int:
        end, tail = ring.head, ring.tail
        self._counters.raise_to(RING_HIGH_WATER, end - tail)
        start = position = self._taken.get(name, tail)
        if start == end:
            ring.release(end)  # it may have been settled since
        while position < end:
            data, following = ring.piece(position, end, _BLOCK_BYTES)
            spool = self._spools.get(name) or self._go_on(name)
            size = spool.size
            spool.append(position, data, self._give_way)
            self._counters.add(SPOOL_BYTES, spool.size - size)
            if spool not in self._unsynced:
                with self._lock:
                    self._unsynced.add(spool)
            self._taken[name] = position = following
            ring.release(following, self._give_way)
        return end - start

    def _go_on(self, name: str) -> SpoolWriter:
        """Begin a ring's next spool."""
        numbers = [spool.number for spool in list_spools(self._data_dir) if spool.ring == name]
        following = SpoolWriter(self._data_dir, name, max(numbers, default=-1) + 1)
        with self._lock:
            self._is_new = True
        self._let_go(name)
        self._spools[name] = following
        return following

    def _let_go(self, name: str) -> None:
        if name in self._spools:
            with self._lock:
                self._unsynced.discard(self._spools[name])
                self._finished.append(self._spools.pop(name))

    def _find_rings(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            for path in self._ring_dir.iterdir():
                name = path.name.removesuffix(SUFFIX)
                known = name in self._rings or path in self._newer
                if path.name.endswith(SUFFIX) and not path.name.startswith(".") and not known:
                    self._add_ring(path, name)

    def _add_ring(self, path: Path, name: str) -> None:
        try:
            self._rings[name] = RingReader(path)
        except NewerFormatError as error:  # of a worker that was upgraded: its own recorder process comes after us
            log.error("%s. %s", error.message, error.hint)  # noqa: TRY400 - the words say it all
            self._newer.add(path)
        except StoreError as error:
            log.error("%s", error.message)  # noqa: TRY400 - likewise
            path.rename(path.with_suffix(".unreadable"))

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

    def _give_way(self) -> None:
        """Let a worker go first that waits for this processor: it has callers who wait, we have none.

        Left to itself the kernel lets us go on for milliseconds, and to ask it for a priority so low that it does not
        could not be taken back: where a ring fills up, we need our share. A worker that took over at each message would
        not do better either: the processor would do nothing but change hands.
        """
        now = time.monotonic()
        if now - self._began_at >= _STINT_SECONDS and self.fill < _PATIENT_BELOW:
            os.sched_yield()
            self._began_at = time.monotonic()

    def _bury(self, name: str) -> None:
        """All that a dead worker wrote is on the spool: the ring goes, and that tells the sorter."""
        self._spool_owed(name)
        self._let_go(name)
        self._taken.pop(name, None)
        self._rings.pop(name).close(remove=True)

    def _spool_owed(self, name: str) -> None:
        """What a killed worker could not record, and say that it could not."""
        ring = self._rings[name]
        now = time.monotonic_ns()
        gaps = [
            encode(RecordKind.GAP, owed.session_no, now, gap_facts(SPEAKERS[RecordKind(owed.kind)], owed.size, _FULL))
            for owed in ring.owed
        ]
        if gaps:
            spool = self._spools.get(name) or self._go_on(name)
            spool.append(ring.head, memoryview(b"".join(gaps)), self._give_way)

    def sync(self) -> None:
        """Force to the disk what was written since the last call."""
        with self._lock:
            unsynced, self._unsynced = self._unsynced, set()
            finished, self._finished = self._finished, []
            is_new, self._is_new = self._is_new, False
        try:
            for spool in (*finished, *unsynced):
                spool.begin_sync()
            if is_new:
                sync_directory(spool_directory(self._data_dir))
            while unsynced or finished:
                spool = next(iter(unsynced)) if unsynced else finished[-1]
                self._timed(spool.sync)
                if spool in unsynced:
                    unsynced.remove(spool)
                else:
                    finished.pop().close()
        except OSError:
            with self._lock:  # what is not done is tried again
                self._finished += finished
                self._unsynced |= unsynced - set(self._finished)
                self._is_new |= is_new
            raise

    def _timed(self, sync: Callable[[], None]) -> None:
        began = time.monotonic()
        sync()
        self._counters.observe(FSYNC, time.monotonic() - began)

    def close(self) -> None:
        """Let go of rings and spools as they are; the next recorder process goes on from there."""
        for ring in self._rings.values():
            ring.close()
        for spool in (*self._spools.values(), *self._finished):
            spool.close()
        self._rings.clear()
        self._spools.clear()
        self._finished.clear()


def _is_old(spool: SpoolWriter) -> bool:
    old = time.monotonic() - spool.started_at >= SPOOL_SECONDS
    return not spool.is_empty and (old or spool.size >= SPOOL_BYTES_MOST)
