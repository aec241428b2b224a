"""Bringing what a stopped or killed proxy left behind into the journals, by hand."""

from __future__ import annotations

from pathlib import Path

from recorder.pipeline.drain import Drain
from recorder.pipeline.locks import RecorderLock, SorterLock, ring_of
from recorder.pipeline.sort import Sorter


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
