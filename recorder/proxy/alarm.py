"""A timer that is a file descriptor (Linux's timerfd; Python has it from 3.13 on).

Waiting with a timeout arms a timer for each wait, and takes it back: a microsecond or two, tens of thousands of times a
second. An alarm is set once for all the waits until it goes off.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)


class _Times(ctypes.Structure):
    """`struct itimerspec`."""

    _fields_ = [(name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns")]


class Alarm:
    """Readable from the time it is set for until it is set again.

    Attributes:
        fd: to wait for.
    """

    def __init__(self) -> None:
        self.fd: Final = int(_libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
        if self.fd < 0:
            raise _problem()

    def set(self, seconds: float | None) -> None:
        """Go off in so many seconds, more than 0, or never."""
        nanoseconds = 0 if seconds is None else max(int(seconds * 1e9), 1)
        times = _Times(0, 0, *divmod(nanoseconds, 1_000_000_000))
        if _libc.timerfd_settime(self.fd, 0, ctypes.byref(times), None):
            raise _problem()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def _problem() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
