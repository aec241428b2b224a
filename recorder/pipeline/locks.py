"""The rights to write to a store that one process at a time has, held for as long as it lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

from recorder.errors import StoreError
from recorder.store import layout
from recorder.store.journal_files import journal_directory
from recorder.store.ring import ring_directory
from recorder.store.spool import spool_directory

LOCK: Final = ".lock"


class _Lock:
    """A file that one process locks.

    Raises:
        StoreError: another one has it.
    """

    def __init__(self, room: Path, taken: str) -> None:
        layout.make_directory(room)
        self._path = room / LOCK
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            hint = "That process will take care of it; stop it first if that is not what you want."
            raise StoreError(taken, hint=hint) from None

    def is_in_place(self) -> bool:
        """Whether others would find it; not where the store was removed or replaced, and this says nothing any more."""
        return layout.is_at(self._fd, self._path)

    def note(self, text: bytes) -> None:
        """Put down something for those who come after us."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text, 0)

    def release(self) -> None:
        """Give the right up."""
        os.close(self._fd)


class RecorderLock(_Lock):
    """The right to write a store's spools.

    Attributes:
        is_first: whether no recorder process had it before, so that none can have put anything into this store.

    Raises:
        StoreError: another recorder process has it.
    """

    def __init__(self, data_dir: Path, ring_dir: Path) -> None:
        layout.make_directory(journal_directory(data_dir))
        super().__init__(spool_directory(data_dir), f"{data_dir} is being recorded into by another process")
        self.is_first = os.fstat(self._fd).st_size == 0
        self.note(os.fsencode(ring_dir))  # so that whoever recovers the store finds the rings


class SorterLock(_Lock):
    """The right to write a store's journals, and to remove spools.

    Raises:
        StoreError: another sorter has it.
    """

    def __init__(self, data_dir: Path) -> None:
        super().__init__(journal_directory(data_dir), f"spools of {data_dir} are being sorted by another process")


def ring_of(data_dir: Path) -> Path:
    """Where the last recorder process of a store had its rings; one that knew no spools noted it with the journals."""
    for room in (spool_directory(data_dir), journal_directory(data_dir)):
        with contextlib.suppress(FileNotFoundError):
            if noted := (room / LOCK).read_bytes():
                return Path(os.fsdecode(noted))
    return ring_directory(data_dir)


def is_recorded(data_dir: Path) -> bool:
    """Whether a recorder process is at work on a store; looked up without touching anything."""
    try:
        fd = os.open(spool_directory(data_dir) / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
