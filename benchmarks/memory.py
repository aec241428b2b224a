"""What sessions cost that do nothing: memory each, and CPU for all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import msgspec

from benchmarks.bench import Bench
from benchmarks.candidates import OURS, Scene
from benchmarks.load import Traffic
from benchmarks.processes import Running, cpu_seconds, memory_bytes, modules
from benchmarks.workloads import Advance

_CANDIDATES: Final = ("haproxy", "nginx", OURS)


class Footprint(msgspec.Struct, kw_only=True):
    """A candidate's.

    Attributes:
        candidate: its name; of ours, memory is the worker's, CPU that of all processes.
        tls: to the upstream.
        idle_bytes: memory before the first session; shared memory (the ring) is never counted.
        bytes_a_session: by number of sessions: what was added, for each. Each has said something and heard the answer.
        idle_cpu_share: of one core, with the most sessions open and silent.
    """

    candidate: str
    tls: bool
    idle_bytes: int
    bytes_a_session: dict[int, float]
    idle_cpu_share: float


def run(bench: Bench, *, peers: Sequence[str], advance: Advance = lambda: None) -> list[Footprint]:
    """Measure plain and TLS, one candidate after the other."""
    found = []
    for tls in (False, True):
        for name in (one for one in _CANDIDATES if one in (*peers, OURS)):
            bench.say(f"memory · {'TLS' if tls else 'plain'} · {name}")
            found.append(_measure(bench, name, tls=tls))
            advance()
    return found


def count_measures(peers: Sequence[str]) -> int:
    """How often `run` will call `advance`."""
    return 2 * sum(1 for one in _CANDIDATES if one in (*peers, OURS))


def _measure(bench: Bench, name: str, *, tls: bool) -> Footprint:
    counts, seconds = ((20, 50), 1.0) if bench.quick else ((500, 2000), 10.0)
    per_session: dict[int, float] = {}
    idle_bytes, share = 0, 0.0
    for count in counts:
        # Until the window begins, the handshakes' recordings have reached the disk.
        traffic = Traffic("idle", count, seconds, warmup=1.0 if bench.quick else 5.0, drain=1.0)
        with bench.scene(tls=tls) as scene, bench.start(name, scene) as proxy:
            pids = _holders(proxy, name)
            idle_bytes = memory_bytes(pids)
            used, share = _hold(bench, scene, proxy, traffic, pids)
            per_session[count] = (used - idle_bytes) / count
    return Footprint(candidate=name, tls=tls, idle_bytes=idle_bytes, bytes_a_session=per_session, idle_cpu_share=share)


def _holders(proxy: Running, name: str) -> list[int]:
    """The processes that hold sessions."""
    if name != OURS:
        return proxy.pids
    deadline = time.monotonic() + 10
    while "worker" not in modules(proxy.process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)  # it has imported what it needs
    return [modules(proxy.process.pid)["worker"]]


def _hold(bench: Bench, scene: Scene, proxy: Running, traffic: Traffic, pids: Sequence[int]) -> tuple[int, float]:
    with bench.load(traffic, scene) as load:
        load.wait_for("ready")
        load.wait_for("begin")
        everyone = proxy.pids
        before = cpu_seconds(everyone)
        memory = memory_bytes(pids)
        load.wait_for("end")
        used = cpu_seconds(everyone) - before
        outcome = load.outcome()
    return memory, used / outcome.window_seconds
