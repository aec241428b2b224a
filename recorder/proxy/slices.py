"""How soon the worker's turn comes when it has something to do: before what else runs on its processor."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Final

_SLICE_NS: Final = 100_000  # the least that there is
_NUMBERS: Final = {"x86_64": 314, "aarch64": 274, "riscv64": 274}  # of the system call `sched_setattr`


class _Attributes(ctypes.Structure):
    """`struct sched_attr`, first version."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def ask_for_short_slices() -> None:
    """Have the kernel let this thread run as soon as it wakes up, for a short while each time.

    Its share of the processor stays what it is. But by default one that runs, as the recorder process does while it
    copies, goes on for a millisecond or more before another that woke up meanwhile has its turn. Linux 6.12 and later
    heed it; elsewhere nothing is different. A real-time priority, if it has one, stays.
    """
    number = _NUMBERS.get(platform.machine())
    if number is not None and os.sched_getscheduler(0) == os.SCHED_OTHER:
        wish = _Attributes(
            ctypes.sizeof(_Attributes), os.SCHED_OTHER, 0, os.getpriority(os.PRIO_PROCESS, 0), 0, _SLICE_NS
        )
        ctypes.CDLL(None).syscall(number, 0, ctypes.byref(wish), 0)
