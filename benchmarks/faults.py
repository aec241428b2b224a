"""What goes wrong under load, and what was lost by it: kills, a recorder that hangs, a disk that is full."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.bench import Bench
from benchmarks.candidates import OURS, Scene
from benchmarks.evidence import Evidence, check
from benchmarks.load import Load, Outcome, Traffic
from benchmarks.processes import BenchmarkError, Running, kill, modules
from benchmarks.workloads import Advance

STALL_SECONDS: Final = 2.0
_DISK_MIB: Final = 512
_LEAD_SECONDS: Final = 1.0

Act = Callable[[Running, Scene], None]


class Fault(msgspec.Struct, kw_only=True):
    """One fault and its consequences.

    Attributes:
        key: its name for machines.
        what: the same in words.
        sessions: at the time.
        outcome: what the load side saw.
        evidence: what is on record.
        cuts_calls: the fault ends calls by its nature (it kills the process that carries them).
    """

    key: str
    what: str
    sessions: int
    outcome: Outcome
    evidence: Evidence
    cuts_calls: bool

    @property
    def harmed(self) -> int:
        """Sessions that broke, though the fault was not theirs; messages that were not forwarded."""
        return 0 if self.cuts_calls else self.outcome.broken + self.outcome.failed + self.outcome.lost

    def words(self) -> str:
        """What came of it."""
        seen, latency = self.evidence, self.outcome.latency
        calls = f"{self.outcome.broken:,} calls cut"
        if not self.cuts_calls:
            calls = (
                f"{self.outcome.broken:,} sessions broken, {self.outcome.lost:,} of {seen.sent:,} messages not "
                f"forwarded, p99 {latency.p99_us / 1e3:.2f} ms, longest {latency.max_us / 1e3:.1f} ms"
            )
        lost = f"{seen.missing:,} of {seen.received:,} forwarded messages not on record, {seen.doubled:,} twice"
        gaps = f"; stated as gaps: {seen.gap_bytes:,} bytes" if seen.gap_bytes else ""
        loose = f"; **{seen.unaccounted_bytes:,} bytes unaccounted for**" if seen.unaccounted_bytes else ""
        return f"{calls}; {lost}{gaps}{loose}"


@dataclass(frozen=True)
class _Plan:
    key: str
    what: str
    sessions: int
    act: Act
    cuts_calls: bool = False
    small_disk: bool = False
    seals: bool = False
    seconds: float = 6.0


def run(bench: Bench, *, advance: Advance = lambda: None) -> list[Fault]:
    """Every fault, each with a fresh recorder and a fresh store."""
    found = []
    for plan in _plans(quick=bench.quick):
        bench.say(f"faults · {plan.what}")
        found.append(_run(bench, plan))
        advance()
    return found


def full_disk(bench: Bench) -> Fault:
    """The disk that fills up, by itself."""
    return _run(bench, next(plan for plan in _plans(quick=bench.quick) if plan.key == "disk_full"))


def count_measures(*, quick: bool) -> int:
    """How often `run` will call `advance`."""
    return len(_plans(quick=quick))


def _plans(*, quick: bool) -> list[_Plan]:
    few, many, more = (10, 20, 50) if quick else (100, 200, 500)
    stall = f"disk stalls {STALL_SECONDS:.0f} s (the recorder process is stopped)"
    return [
        _Plan("kill_worker", "kill -9 of the worker", many, lambda proxy, _: _kill(proxy, "worker"), cuts_calls=True),
        _Plan("kill_recorder", "kill -9 of the recorder process", many, lambda proxy, _: _kill(proxy, "record")),
        _Plan("kill_all", "kill -9 of all processes", many, lambda proxy, _: kill(proxy.pids), cuts_calls=True),
        _Plan("stall", stall, few, _stall),
        _Plan("stall_many", stall, more, _stall),
        _Plan("disk_full", "disk full for 8 s", few, _fill_disk, small_disk=True, seconds=13.0),
        _Plan(
            key="disk_full_sealing",
            what="disk full for 8 s, while it is sorted and sealed",
            sessions=few,
            act=_fill_disk,
            small_disk=True,
            seals=True,
            seconds=13.0,
        ),
    ]


def _run(bench: Bench, plan: _Plan) -> Fault:
    traffic = Traffic("voice", plan.sessions, plan.seconds, reconnect=plan.key == "kill_worker", drain=2.0)
    options = ("--seal-seconds", "1") if plan.seals else ("--no-seal",)
    options = (*options, "--disk-floor-mb", "0") if plan.small_disk else ()
    with bench.scene(tls=False, options=options) as scene, _disk(scene, small=plan.small_disk):
        with bench.start(OURS, scene) as proxy, bench.load(traffic, scene) as load:
            outcome = _strike(load, lambda: plan.act(proxy, scene))
        evidence = check(scene.data, load.record)
    return Fault(
        key=plan.key,
        what=plan.what,
        sessions=plan.sessions,
        outcome=outcome,
        evidence=evidence,
        cuts_calls=plan.cuts_calls,
    )


def _strike(load: Load, act: Callable[[], None]) -> Outcome:
    load.wait_for("ready")
    load.wait_for("begin")
    time.sleep(_LEAD_SECONDS)
    act()
    load.wait_for("end")
    return load.outcome()


def _kill(proxy: Running, what: str) -> None:
    kill([modules(proxy.process.pid)[what]])


def _stall(proxy: Running, _: Scene) -> None:
    pid = modules(proxy.process.pid)["record"]
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(STALL_SECONDS)
    finally:
        os.kill(pid, signal.SIGCONT)


def _fill_disk(proxy: Running, scene: Scene) -> None:
    """No room for 8 s, then room again."""
    if scene.data.is_mount():
        filler = scene.data / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        time.sleep(8)
        filler.unlink()
        return
    pid = modules(proxy.process.pid)["record"]
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    time.sleep(8)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def _disk(scene: Scene, *, small: bool) -> Iterator[None]:
    """A file system of the store's own, which can be filled up: a tmpfs.

    Where we may not mount one, the recorder process gets a file size limit of 0 instead, and fails in the same way.
    """
    mounted = small and _mount(scene.data)
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", str(scene.data)], check=False)


def _mount(path: Path) -> bool:
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m,mode=0700", "tmpfs", str(path)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        raise BenchmarkError("mount is missing", hint="apt-get install mount") from None
