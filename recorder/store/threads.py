"""Many requests of an object store at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

Progress = Callable[[int, int], None]
"""Called with how many are done, and of how many."""

_T = TypeVar("_T")
_THREADS: Final = 16


def for_each(do: Callable[[_T], object], things: Sequence[_T], progress: Progress | None = None) -> None:
    """Do something with each of many things, several at a time. The first exception of any ends it.

    Args:
        do: called in threads.
        things: with each of these.
        progress: told after each.
    """
    if not things:
        return
    with ThreadPoolExecutor(min(_THREADS, len(things)), thread_name_prefix="objects") as pool:
        for done, _ in enumerate(pool.map(do, things), 1):
            if progress:
                progress(done, len(things))
