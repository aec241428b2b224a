"""The worker's turn comes soon, and its priority stays what it was."""

import platform
import subprocess
import sys

import pytest

from recorder.proxy.slices import ask_for_short_slices

# In a process of its own: it is asked for once and for all. `sched_getattr` comes after `sched_setattr` everywhere.
PROBE = """
import ctypes, os, platform, sys
from recorder.proxy import slices
os.nice(3)
os.sched_setscheduler(0, int(sys.argv[1]), os.sched_param(0))
slices.ask_for_short_slices()
got = slices._Attributes()
number = slices._NUMBERS[platform.machine()] + 1
assert ctypes.CDLL(None).syscall(number, 0, ctypes.byref(got), ctypes.sizeof(got), 0) == 0
print(got.policy, got.nice, got.runtime)
"""
OTHER, BATCH = 0, 3


def probe(policy: int) -> list[int]:
    done = subprocess.run([sys.executable, "-c", PROBE, str(policy)], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(platform.machine() not in {"x86_64", "aarch64"}, reason="the system call's number")
def test_a_worker_asks_for_short_slices_and_keeps_its_priority() -> None:
    policy, nice, slice_ns = probe(OTHER)
    assert (policy, nice) == (OTHER, 3)
    if tuple(int(word) for word in platform.release().split(".")[:2]) >= (6, 12):
        assert slice_ns == 100_000


@pytest.mark.skipif(platform.machine() not in {"x86_64", "aarch64"}, reason="the system call's number")
def test_another_way_of_being_scheduled_is_left_alone() -> None:
    policy, nice, slice_ns = probe(BATCH)
    assert (policy, nice) == (BATCH, 3)
    assert slice_ns != 100_000


def test_where_the_system_call_is_not_known_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    monkeypatch.setattr("ctypes.CDLL", lambda _: pytest.fail("asked"))
    ask_for_short_slices()
