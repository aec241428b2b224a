"""Calls through the real proxy for minutes, while its processes are killed: what the soak does with them.

`steady`: nobody is killed, and memory must stay where it is though sessions come and go. `unnoticed`: the recorder
process and the sealer are killed, which no session may notice. `storm`: everything is, one by one and all at once;
calls break, others take their place, and whatever either side had received must be on record, once.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import linear_regression, median
from typing import Final

import msgspec

from benchmarks.bench import Bench
from benchmarks.candidates import OURS, Scene
from benchmarks.evidence import Evidence, check
from benchmarks.load import Outcome, Traffic
from benchmarks.processes import BenchmarkError, Running, children, kill, memory_bytes
from recorder.pipeline.catalog import Catalog

_SAMPLE_SECONDS: Final = 1.0
_SHORTEST_PAUSE: Final = 0.05
_ALL_SHARE: Final = 0.04
_FEWEST_SAMPLES: Final = 10
_MIB: Final = 1 << 20
_MOST_GROWTH: Final = {"worker": 3 * _MIB, "record": 3 * _MIB, "sorter": 24 * _MIB, "sealer": 64 * _MIB}
_OPTIONS: Final = ("--seal", "--seal-seconds", "5")
# A process that dies again and again waits for longer and longer before it starts. The ring must hold what comes
# meanwhile; workers take turns, each with a small ring.
_ROOMY: Final = ("--ring-mb", "96")
_MANY_WORKERS: Final = ("--workers", "6", "--ring-mb", "16")
_SMALL_CALL_SECONDS: Final = 4.0
_HOLES: Final = """
SELECT count(*) FROM (
  SELECT session_id FROM events GROUP BY 1
  HAVING min(position) <> 0 OR max(position) + 1 <> count(*) OR count(DISTINCT position) <> count(*)
)
"""

Tell = Callable[[float], None]
"""Told what share of a phase is over."""


class Memory(msgspec.Struct):
    """A process's memory over a phase: where it ended, how it grew from the second fifth to the last, and its slope."""

    mib: float
    growth_mib: float
    slope_mib_a_minute: float


class Calls(msgspec.Struct, kw_only=True):
    """A phase's calls, and what became of them.

    Attributes:
        name: the phase.
        outcome: what the load side saw.
        evidence: what is on record.
        holes: sessions on record whose positions are not 0, 1, 2 and so on.
        instants: moments at which somebody was killed.
        kills: processes killed, by what they ran.
        memory: by what ran, of the phase in which nobody was killed.
    """

    name: str
    outcome: Outcome
    evidence: Evidence
    holes: int
    instants: int
    kills: dict[str, int]
    memory: dict[str, Memory]

    def faults(self) -> dict[str, int]:
        """What must be 0, and is not."""
        seen = self.evidence
        found = {
            "forwarded and not on record": seen.missing,
            "on record twice": seen.doubled,
            "bytes in gaps": seen.gap_bytes,
            "bytes unaccounted for": seen.unaccounted_bytes,
            "sessions with holes": self.holes,
        }
        if self.name != "storm":
            found |= {"not forwarded": self.outcome.lost, "broken": self.outcome.broken + self.outcome.failed}
        for process, memory in self.memory.items():
            if memory.growth_mib * _MIB > _MOST_GROWTH[process]:
                found[f"MiB that the {process} grew by"] = round(memory.growth_mib)
        return {what: count for what, count in found.items() if count}


@dataclass
class _House:
    """The proxy under trial: killed, and where all of it was, started anew."""

    bench: Bench
    scene: Scene
    chance: random.Random
    proxy: Running = field(init=False)
    kills: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    instants: int = 0

    def __post_init__(self) -> None:
        self.proxy = self.bench.start(OURS, self.scene)

    def strike(self, victims: frozenset[str]) -> None:
        """Kill one of the victims that run, or all there is."""
        running = [(name, pid) for name, pid in children(self.proxy.process.pid) if name in victims]
        if "all" in victims and self.chance.random() < _ALL_SHARE:
            kill(self.proxy.pids)
            self.kills.update(name for name, _ in running)
            self.kills["supervisor"] += 1
            self.proxy.process.wait()
            self.proxy = self.bench.start(OURS, self.scene)
        elif running:
            name, pid = self.chance.choice(running)
            kill([pid])
            self.kills[name] += 1
        else:
            return
        self.instants += 1

    def sample(self) -> None:
        """Note what memory each of its processes has."""
        for name, pid in children(self.proxy.process.pid):
            self.samples.setdefault(name, []).append((time.monotonic(), memory_bytes([pid])))


def run(bench: Bench, name: str, seconds: float, *, instants: int, sessions: int, seed: int, tell: Tell) -> Calls:
    """One phase.

    Args:
        bench: where.
        name: steady, unnoticed or storm.
        seconds: how long calls are made.
        instants: how often somebody is to be killed meanwhile.
        sessions: at once.
        seed: of the kills.
        tell: told how far it is.
    """
    victims = {
        "unnoticed": {"record", "sorter", "sealer"},
        "storm": {"worker", "record", "sorter", "sealer", "all"},
    }.get(name, set())
    storm = name == "storm"
    churn = _SMALL_CALL_SECONDS if storm else max(seconds / 8, _SMALL_CALL_SECONDS)
    traffic = Traffic("voice", sessions, seconds, churn=churn, reconnect=storm)
    options = (*_OPTIONS, *(_MANY_WORKERS if storm else _ROOMY))
    with bench.scene(tls=False, options=options) as scene:
        house = _House(bench, scene, random.Random(f"{seed}{name}"))  # chance, not secrets
        try:
            with bench.load(traffic, scene) as load:
                load.wait_for("ready")
                load.wait_for("begin")
                with _trouble(house, frozenset(victims), seconds, instants, tell):
                    load.wait_for("end")
                outcome = load.outcome()
        finally:
            house.proxy.stop()
        evidence = check(scene.data, load.record)
        with Catalog(scene.data) as catalog:
            holes = int(catalog.query(_HOLES).item())
    memory = {} if victims else {what: _memory(samples) for what, samples in house.samples.items()}
    return Calls(
        name=name,
        outcome=outcome,
        evidence=evidence,
        holes=holes,
        instants=house.instants,
        kills=dict(house.kills),
        memory=memory,
    )


@contextmanager
def _trouble(house: _House, victims: frozenset[str], seconds: float, instants: int, tell: Tell) -> Iterator[None]:
    done, trouble = threading.Event(), list[BaseException]()

    def make() -> None:
        began = time.monotonic()
        strike = _next(house, began, began + seconds, instants)
        while not done.wait(max(min(strike - time.monotonic(), _SAMPLE_SECONDS), _SHORTEST_PAUSE)):
            tell((time.monotonic() - began) / seconds)
            if not victims:
                house.sample()
            elif time.monotonic() >= strike:
                house.strike(victims)
                strike = _next(house, time.monotonic(), began + seconds, instants)

    def guarded() -> None:
        try:
            make()
        except BenchmarkError as error:
            trouble.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if trouble:
        raise trouble[0]


def _next(house: _House, now: float, end: float, instants: int) -> float:
    """When to strike next, so that in the end it was as often as it was to be."""
    return now + house.chance.uniform(0, 2) * max(end - now, 0) / max(instants - house.instants, 1)


def _memory(samples: list[tuple[float, int]]) -> Memory:
    """Of the samples after the first fifth, in which buffers find their size."""
    fifth = len(samples) // 5
    if len(samples) < _FEWEST_SAMPLES:
        return Memory(samples[-1][1] / _MIB, 0.0, 0.0)
    settled = samples[fifth:]
    growth = median(size for _, size in samples[-fifth:]) - median(size for _, size in samples[fifth : 2 * fifth])
    slope = linear_regression([at for at, _ in settled], [size for _, size in settled]).slope
    return Memory(samples[-1][1] / _MIB, growth / _MIB, slope * 60 / _MIB)
