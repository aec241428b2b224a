"""What SQL of a user may take of the machine, beyond what DuckDB itself looks after.

DuckDB limits the memory of tables, joins and sorts. What a function makes of one value, `repeat('a', 2000000000)` say,
lies outside of that limit, and so does an answer; and while a function runs it cannot be interrupted.
"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from recorder.cli import output
from recorder.errors import QueryError

DEFAULT_MB: Final = 2_048
LAST_RESORT_SECONDS: Final = 45.0
"""A query is interrupted after 30 s; one that cannot be ends with its process."""

_TOO_MUCH: Final = "the query needs more memory than queries may take"
_HINT: Final = "Read fewer columns or rows, or raise --memory-mb."
_PRINTED: Final = 5
"""How much more the rows of a data frame take as Python's values and text."""
_STATUS: Final = Path("/proc/self/status")


@contextmanager
def memory(megabytes: int) -> Iterator[None]:
    """Let this process take so much more memory than it has, in MiB; where the system does not tell, any amount.

    Raises:
        QueryError: it wanted more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        if (taken := _taken()) is not None:
            limits = (taken + (megabytes << 20), soft, hard)
            lowest = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
            resource.setrlimit(resource.RLIMIT_DATA, (lowest, hard))
        yield
    except MemoryError as error:
        raise QueryError(_TOO_MUCH, hint=_HINT) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def check_answer(size: int, megabytes: int) -> None:
    """Refuse to print what would take more memory than that.

    Not left to `memory`: where a data frame's rows are made Python's, polars hangs when it can have no more.

    Args:
        size: of the data frame, in bytes.
        megabytes: as `memory` has it.

    Raises:
        QueryError: it would.
    """
    if size * _PRINTED > megabytes << 20:
        raise QueryError(_TOO_MUCH, hint=_HINT)


@contextmanager
def deadline(seconds: float = LAST_RESORT_SECONDS) -> Iterator[None]:
    """End this process if it takes longer than that."""
    timer = threading.Timer(seconds, _end, [seconds])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _taken() -> int | None:
    """How much this process has of what the limit counts, in bytes."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:")), None)


def _end(seconds: float) -> None:
    output.note(f"error: the query could not be stopped, and was ended with its process after {seconds:g} s")
    os._exit(QueryError.exit_code)
