"""`python -m benchmarks.soak`: voice sessions for minutes while processes are killed at random instants.

First the recorder process and the sealer are killed, which no session may notice, and the worker's memory must stay
where it is, though sessions come and go. Then the worker is killed too: its calls break, others take their place,
and whatever either side had received must be on record. Exits with 1 if any of it is not so.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from benchmarks.bench import Bench
from benchmarks.build import default_cache, prepare
from benchmarks.candidates import OURS
from benchmarks.evidence import Evidence, check
from benchmarks.load import Outcome, Traffic
from benchmarks.processes import Running, kill, memory_bytes, modules, raise_file_limit
from recorder.errors import RecorderError

_STEADY_SHARE: Final = 0.6
_SAMPLE_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = (3.0, 20.0)
_MOST_GROWTH: Final = 3 << 20
_FEWEST_SAMPLES: Final = 10


@dataclass
class Watch:
    """What happened during a phase: the worker's memory over time, and who was killed how often."""

    samples: list[int] = field(default_factory=list)
    kills: dict[str, int] = field(default_factory=dict)

    @property
    def growth(self) -> int:
        """Bytes from the phase's second fifth to its last, medians; 0 where there are too few samples to tell."""
        fifth = len(self.samples) // 5
        if len(self.samples) < _FEWEST_SAMPLES:
            return 0
        return int(median(self.samples[-fifth:]) - median(self.samples[fifth : 2 * fifth]))


def _trouble(
    proxy: Running, victims: Sequence[str], chance: random.Random, watch: Watch, done: threading.Event
) -> None:
    """Kill one of the victims after each random pause, and note the worker's memory in between."""
    strike = time.monotonic() + chance.uniform(*_PAUSE_SECONDS)
    while not done.wait(_SAMPLE_SECONDS):
        running = modules(proxy.process.pid)
        if "worker" in running:
            watch.samples.append(memory_bytes([running["worker"]]))
        if time.monotonic() >= strike:
            done.wait(chance.random())
            victim = chance.choice(victims)
            if victim in running:
                kill([running[victim]])
                watch.kills[victim] = watch.kills.get(victim, 0) + 1
            strike = time.monotonic() + chance.uniform(*_PAUSE_SECONDS)


def _phase(
    bench: Bench, traffic: Traffic, victims: Sequence[str], chance: random.Random
) -> tuple[Outcome, Evidence, Watch]:
    watch, done = Watch(), threading.Event()
    with bench.scene(tls=False, options=("--seal",)) as scene:
        with bench.start(OURS, scene) as proxy, bench.load(traffic, scene) as load:
            load.wait_for("ready")
            trouble = threading.Thread(target=_trouble, args=(proxy, victims, chance, watch, done))
            trouble.start()
            try:
                load.wait_for("begin")
                load.wait_for("end")
            finally:
                done.set()
                trouble.join()
            outcome = load.outcome()
        return outcome, check(scene.data, load.record), watch


def _verdict(name: str, outcome: Outcome, evidence: Evidence, watch: Watch, *, calls_break: bool) -> bool:
    kills = ", ".join(f"{victim} × {count}" for victim, count in sorted(watch.kills.items())) or "none"
    print(f"{name}: {outcome.sessions:,} sessions, {evidence.received:,} messages forwarded; killed: {kills}")
    checks = [
        ("forwarded and not on record", evidence.missing),
        ("on record twice", evidence.doubled),
        ("bytes in gaps", evidence.gap_bytes),
        ("bytes unaccounted for", evidence.unaccounted_bytes),
    ]
    if not calls_break:
        checks += [("not forwarded", outcome.lost), ("sessions broken", outcome.broken + outcome.failed)]
    for what, count in checks:
        print(f"  {what}: {count:,}{'' if count == 0 else '  <-- must be 0'}")
    print(f"  p99 {outcome.latency.p99_us / 1e3:.2f} ms, longest {outcome.latency.max_us / 1e3:.1f} ms")
    flat = calls_break or watch.growth <= _MOST_GROWTH
    if not calls_break and watch.samples:
        grown = f"{watch.growth / 2**20:+.2f} MiB over the phase{'' if flat else '  <-- must be flat'}"
        print(f"  worker's memory: {watch.samples[-1] / 2**20:.1f} MiB, {grown}")
    return flat and not any(count for _, count in checks)


def main() -> int:
    """Run both phases and judge them. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="in all (default 10)")
    parser.add_argument("--sessions", type=int, default=50, help="at once (default 50)")
    parser.add_argument("--churn", type=float, default=30.0, help="seconds a session lasts, about (default 30)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the kills")
    arguments = parser.parse_args()
    raise_file_limit()
    seconds = arguments.minutes * 60
    print(f"soak: {arguments.minutes:g} minutes, {arguments.sessions} sessions, seed {arguments.seed}", flush=True)
    chance = random.Random(arguments.seed)
    try:
        bench = Bench(prepare(default_cache()))
        steady = Traffic("voice", arguments.sessions, seconds * _STEADY_SHARE, churn=arguments.churn)
        good = _verdict("steady", *_phase(bench, steady, ("record", "sealer"), chance), calls_break=False)
        sys.stdout.flush()
        storm = Traffic(
            "voice", arguments.sessions, seconds * (1 - _STEADY_SHARE), churn=arguments.churn, reconnect=True
        )
        good &= _verdict("storm", *_phase(bench, storm, ("worker", "record", "sealer"), chance), calls_break=True)
    except RecorderError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code
    print("passed" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
