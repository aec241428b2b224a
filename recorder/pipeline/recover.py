"""Bringing what a stopped or killed proxy left behind into the journals, by hand."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Final

from recorder.errors import StoreError
from recorder.pipeline.drain import Drain
from recorder.pipeline.locks import RecorderLock, SorterLock, ring_of
from recorder.pipeline.sort import Sorter
from recorder.store.spool import MAGIC, list_spools

_PATIENCE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1


def recover(data_dir: Path) -> int:
    """Bring into the journals what lies in rings and spools.

    Returns:
        The number of records moved.

    Raises:
        StoreError: a recorder process, or a sorter, is at work on this store.
        OSError: the disk is full, or fails.
    """
    ring_dir = ring_of(data_dir)
    lock = RecorderLock(data_dir, ring_dir)
    try:
        drain = Drain(data_dir, ring_dir)
        try:
            drain.drain()
            drain.sync()
        finally:
            drain.close()
        return sort_spools(data_dir)
    finally:
        lock.release()


def sort_spools(data_dir: Path) -> int:
    """Bring into the journals what spools hold, and remove those that nothing more comes to.

    Returns:
        The number of records moved.

    Raises:
        StoreError: a sorter is at work on this store.
        OSError: the disk is full, or fails.
    """
    lock = SorterLock(data_dir)
    try:
        sorter = Sorter(data_dir, ring_of(data_dir))
        try:
            return sorter.sort()
        finally:
            sorter.close()
    finally:
        lock.release()


def clear_spools(data_dir: Path, patience_seconds: float = _PATIENCE_SECONDS) -> None:
    """Return when nothing is left on spools of what had been said before the call: all of it is in journals.

    While a proxy is at work that is when it has gone on in next spools, a few seconds later; else it is done here.

    Raises:
        StoreError: that has not come to pass in time.
        OSError: the disk is full, or fails.
    """
    waited_for = {spool.path for spool in list_spools(data_dir) if spool.path.stat().st_size > len(MAGIC)}
    deadline = time.monotonic() + patience_seconds
    while waited_for & {spool.path for spool in list_spools(data_dir)}:
        try:
            recover(data_dir)
        except StoreError:  # a recorder process is at work; its sorter is, too, unless it runs with --no-seal
            with contextlib.suppress(StoreError):
                sort_spools(data_dir)
        if time.monotonic() > deadline:
            raise StoreError(
                f"what was said a moment ago still lies in {data_dir}/spool",
                hint="Is the recorder's sorter at work? `recorder seal` says more.",
            )
        time.sleep(_POLL_SECONDS)
