"""Linux's own way to have a disk begin with something before it is waited for."""

from __future__ import annotations

import ctypes
from typing import Final

_WRITE: Final = 2  # SYNC_FILE_RANGE_WRITE
_sync_file_range = ctypes.CDLL(None).sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def begin_sync(fd: int) -> None:
    """Have the disk begin with what a sync of this file will wait for. What goes wrong, that will meet again.

    Of many files that begin before the first of them is synced, all are in one commit of the file system: that halves
    the processor time of a sync.
    """
    _sync_file_range(fd, 0, 0, _WRITE)
