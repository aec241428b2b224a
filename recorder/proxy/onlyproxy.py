"""Being the one proxy that takes connections for a store: a lock file in it, held by the supervisor.

Two of them would share the rings' directory and one recorder process, and the second would be in the way of the first
one's successor. A lock passes to a successor as its open file (SCM_RIGHTS), so that nobody can come in between;
whatever ends a supervisor gives its lock up.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from pathlib import Path
from typing import Final

from recorder.errors import StoreError
from recorder.store.layout import is_at

log = logging.getLogger(__name__)

_NAME: Final = "proxy.lock"
_MAX_NOTE: Final = 300


class OnlyProxy:
    """The right to take connections for a store; not held until `claim` or `adopt`.

    Args:
        data_dir: the store, which is there.

    Attributes:
        fd: the locked file while it is held, else None.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.fd: int | None = None

    def claim(self) -> None:
        """Take it.

        Raises:
            StoreError: another proxy has it, or the store cannot be written to.
        """
        path = self._data_dir / _NAME
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._taken(fd) from None
        self.adopt(fd)

    def adopt(self, fd: int) -> None:
        """It is ours from now on: `fd` is the locked file."""
        self.fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)

    def look_after(self) -> None:
        """Take it once more where its file is not at its place: the store was removed or replaced, and made again."""
        if self.fd is None or is_at(self.fd, self._data_dir / _NAME):
            return
        former = self.fd
        try:
            self.claim()
        except StoreError as error:  # not made again yet; or somebody was faster
            log.debug("%s", error.message)
        else:
            os.close(former)

    def release(self) -> None:
        """Give it up, or leave it to a successor that has adopted it. Doing so twice is no harm."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def _taken(self, fd: int) -> StoreError:
        note = os.pread(fd, _MAX_NOTE, 0).decode(errors="replace")
        os.close(fd)
        holder = note if re.fullmatch(r"process \d+ on [\w.-]+", note) else "another process"
        return StoreError(
            f"{self._data_dir} is in use by another proxy: {holder}",
            hint="Start with --take-over to put this one in its place without cutting a call, "
            "or give this one another --data to run both.",
        )
