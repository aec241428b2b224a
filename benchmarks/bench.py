"""One measurement: a candidate on one core, the load side on the other, counted over the load side's window."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from benchmarks import machine
from benchmarks.build import Toolbox
from benchmarks.candidates import COMMANDS, DIRECT, OURS, Scene
from benchmarks.evidence import Evidence, check
from benchmarks.load import Load, Outcome, Traffic
from benchmarks.processes import Running, cpu_seconds, free_ports, machine_seconds
from recorder.pipeline.locks import ring_of
from recorder.store.spool import list_spools

Say = Callable[[str], None]
_SETTLE_SECONDS = 0.3


class Measure(msgspec.Struct, kw_only=True):
    """What one run gave.

    Attributes:
        candidate: who was in between.
        outcome: what the load side saw.
        cpu_seconds: CPU time of the candidate's processes in the window; 0 for direct.
        others_share: of one core, what anybody else on the machine used meanwhile; kernel threads count as others.
        evidence: what the store holds, where that was looked into.
        recorded_share: bytes in journals to bytes forwarded, where that was looked into.
    """

    candidate: str
    outcome: Outcome
    cpu_seconds: float
    others_share: float = 0.0
    evidence: Evidence | None = None
    recorded_share: float | None = None


@dataclass
class Bench:
    """The place where everything is measured.

    Attributes:
        tools: where things lie.
        quick: short windows and small numbers, to see that all works.
        real_time: give the load side and candidates real-time priority, against others on the machine.
        say: told what is going on.
        cores: the load side's, and the proxy's.
        ports: the upstream's plain and TLS ones, and the proxy's.
    """

    tools: Toolbox
    quick: bool = False
    real_time: bool = False
    say: Say = print
    cores: tuple[int, int] = field(default_factory=machine.cores)
    ports: list[int] = field(default_factory=lambda: free_ports(3))

    @contextmanager
    def scene(self, *, tls: bool, options: tuple[str, ...] = ()) -> Iterator[Scene]:
        """A scene with an empty room that is cleared away, with the rings of the store in it."""
        room = Path(tempfile.mkdtemp(prefix="room-", dir=self.tools.cache))
        scene = Scene(self.tools, room, self.ports[2], self.ports[1 if tls else 0], tls, options)
        try:
            yield scene
        finally:
            rings = ring_of(scene.data)
            if scene.data.exists() and rings.name.startswith("recorder-"):
                shutil.rmtree(rings, ignore_errors=True)
            shutil.rmtree(room, ignore_errors=True)

    def start(self, candidate: str, scene: Scene, *, core: int | None = None) -> Running:
        """Start a candidate on the proxy's core, and wait until it listens."""
        return Running(
            COMMANDS[candidate](scene),
            core=self.cores[1] if core is None else core,
            log=scene.room / "log",
            listens=scene.listen,
            real_time=self.real_time,
        )

    def load(self, traffic: Traffic, scene: Scene, *, direct: bool = False) -> Load:
        """Start the load side on its core."""
        return Load(
            self.tools,
            traffic,
            core=self.cores[0],
            ports=(self.ports[0], self.ports[1]),
            target=scene.upstream if direct else scene.listen,
            target_tls=direct and scene.tls,
            record=scene.room / "record.csv",
            real_time=self.real_time,
        )

    def measure(
        self, candidate: str, traffic: Traffic, *, tls: bool = False, one_core: bool = False, verify: bool = False
    ) -> Measure:
        """Run `traffic` through a candidate.

        Args:
            candidate: its name.
            traffic: what the load side does.
            tls: to the upstream.
            one_core: the proxy on the load side's core.
            verify: afterwards seal the store, and look every message up in it (ours only).
        """
        with self.scene(tls=tls) as scene:
            if candidate == DIRECT:
                with self.load(traffic, scene, direct=True) as load:
                    return _follow(load, None)
            proxy = self.start(candidate, scene, core=self.cores[0] if one_core else None)
            with proxy, self.load(traffic, scene) as load:
                time.sleep(_SETTLE_SECONDS)
                measured = _follow(load, proxy)
            if candidate == OURS:
                measured.recorded_share = _recorded_share(scene.data, measured.outcome, traffic)
                if verify:
                    measured.evidence = check(scene.data, scene.room / "record.csv")
            measured.candidate = candidate
            return measured


def _follow(load: Load, proxy: Running | None) -> Measure:
    load.wait_for("ready")
    load.wait_for("begin")
    pids = proxy.pids if proxy else []
    before, all_before = cpu_seconds(pids), machine_seconds()
    load.wait_for("end")
    used, all_used = cpu_seconds(pids) - before, machine_seconds() - all_before
    outcome = load.outcome()
    others = max((all_used - used - outcome.load_cpu_seconds) / outcome.window_seconds, 0.0)
    return Measure(candidate=DIRECT, outcome=outcome, cpu_seconds=used, others_share=others)


def _recorded_share(data: Path, outcome: Outcome, traffic: Traffic) -> float | None:
    """What of a flood is on record; less than 1 where the ring overflowed (which the recording says)."""
    if not traffic.mode.startswith("flood"):
        return None
    stored = sum(spool.path.stat().st_size for spool in list_spools(data))
    way = outcome.up if traffic.mode == "flood-up" else outcome.down
    size = way.window_bytes / way.window_messages if way.window_messages else 0
    return min(stored / (way.received * size), 1.0) if size and way.received else None
