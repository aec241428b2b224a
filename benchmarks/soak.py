"""`python -m benchmarks.soak`: minutes of calls while processes are killed at random instants, and a store ill-treated.

Of what either side of a call had received, everything must be on record, once (by the numbers in the messages, in the
sealed store), and memory must stay where it is. Then journals are cut at every byte, sealers work against each other,
disks fill up or turn read-only, and clocks jump. Exits with 1 if anything is lost, doubled or broken.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import faults, machine, soak_calls, soak_store
from benchmarks.bench import Bench
from benchmarks.build import default_cache, prepare
from benchmarks.processes import raise_file_limit
from benchmarks.soak_calls import Calls
from benchmarks.soak_store import Trial
from recorder.errors import RecorderError

_SHARES: Final = {"steady": 0.25, "unnoticed": 0.15, "storm": 0.6}
_UNNOTICED_SHARE: Final = 0.04  # of the kills: two victims, and each waits for seconds before it starts again
_STORM_SESSIONS: Final = 4  # of the sessions at once, one in so many: the kills are what is wanted
_TRIALS: Final[dict[str, Callable[..., Trial]]] = {
    "prefixes_sealed": soak_store.sealed_at_every_byte,
    "prefixes_decoded": soak_store.decoded_at_every_byte,
    "two_sealers": soak_store.two_sealers,
    "read_only": soak_store.read_only,
    "clock_steps": soak_store.clock_steps,
}

Tell = Callable[[float], None]


class Report(msgspec.Struct, kw_only=True):
    """A soak's results.

    Attributes:
        command: that made it.
        machine: where.
        seed: of the kills.
        seconds: that it took in all.
        calls: phases of calls.
        full_disk: what came of a disk that was full under calls.
        trials: of the store.
    """

    command: str
    machine: dict[str, Any]
    seed: int
    seconds: float = 0.0
    calls: list[Calls] = []
    full_disk: faults.Fault | None = None
    trials: list[Trial] = []

    def faults(self) -> dict[str, int]:
        """Whatever must be 0 and is not, by phase."""
        found = {f"{one.name}: {what}": count for one in self.calls for what, count in one.faults().items()}
        found |= {f"{one.name}: {what}": count for one in self.trials for what, count in one.faults().items()}
        if self.full_disk is not None:
            seen = self.full_disk.evidence
            unsaid = 0 if seen.gap_bytes else seen.missing  # what the rings cannot hold is lost, and said to be
            full = {"missing": unsaid, "doubled": seen.doubled, "unaccounted for": seen.unaccounted_bytes}
            found |= {f"disk full: {what}": count for what, count in full.items() if count}
        return found


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of calls (default 10); the rest takes about five")
    parser.add_argument("--kills", type=int, default=1000, help="instants at which somebody is killed (default 1,000)")
    parser.add_argument("--sessions", type=int, default=48, help="at once (default 48; a quarter of it in the storm)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the kills")
    parser.add_argument("--json", action="store_true", help="the results as JSON on standard output")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where programs and stores lie meanwhile")
    return parser.parse_args(words)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str], Tell]]:
    """Yields what begins a phase, and gives what tells how far it is."""
    columns = (BarColumn(20), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=1.0)

        def begin(name: str) -> Tell:
            if not console.is_terminal:
                print(name, file=sys.stderr, flush=True)
            progress.reset(task, description=name)
            return lambda share: progress.update(task, completed=share)

        yield begin


def _calls(bench: Bench, options: argparse.Namespace, begin: Callable[[str], Tell]) -> Iterator[Calls]:
    for name, share in _SHARES.items():
        few = name == "storm"
        wanted = {"steady": 0.0, "unnoticed": _UNNOTICED_SHARE, "storm": 1 - _UNNOTICED_SHARE}[name]
        yield soak_calls.run(
            bench,
            name,
            options.minutes * 60 * share,
            instants=round(options.kills * wanted),
            sessions=max(options.sessions // _STORM_SESSIONS, 1) if few else options.sessions,
            seed=options.seed,
            tell=begin(name),
        )


def run(options: argparse.Namespace, console: Console) -> Report:
    """All of it.

    Raises:
        BenchmarkError: something is missing, or a process did not start.
    """
    began = time.monotonic()
    report = Report(
        command=" ".join(["python -m benchmarks.soak", *sys.argv[1:]]), machine=machine.facts(), seed=options.seed
    )
    raise_file_limit()
    logging.getLogger("recorder").setLevel(logging.CRITICAL)  # thousands are ended as lost: that is what is tried
    bench = Bench(prepare(options.cache), say=lambda _: None)
    with _progress(console) as begin:
        for calls in _calls(bench, options, begin):
            report.calls.append(calls)
        begin("disk_full")
        report.full_disk = faults.full_disk(bench)
        for name, trial in _TRIALS.items():
            report.trials.append(trial(tell=begin(name)))
    report.seconds = time.monotonic() - began
    return report


def table(report: Report) -> Table:
    """The summary: a row a phase."""
    shown = Table("phase", "what happened", "lost", "doubled", "else", box=None)
    for calls in report.calls:
        seen, killed = calls.evidence, ", ".join(f"{what} × {count}" for what, count in sorted(calls.kills.items()))
        happened = f"{calls.outcome.sessions:,} sessions, {seen.received:,} messages forwarded"
        if calls.instants:
            happened += f"; {calls.instants:,} instants, kill -9 of {sum(calls.kills.values()):,}: {killed}"
        for process, memory in sorted(calls.memory.items()):
            happened += f"\n{process}: {memory.mib:.1f} MiB, {memory.slope_mib_a_minute:+.2f} MiB a minute"
        rest = {what: count for what, count in calls.faults().items() if "record" not in what}
        shown.add_row(calls.name, happened, f"{seen.missing:,}", f"{seen.doubled:,}", _words(rest))
    if report.full_disk is not None:
        seen = report.full_disk.evidence
        happened = f"{report.full_disk.what}: {seen.gap_bytes:,} bytes stated as gaps, {report.full_disk.harmed} harmed"
        shown.add_row("disk_full", happened, f"{seen.missing:,}", f"{seen.doubled:,}", f"{seen.unaccounted_bytes:,}")
    for trial in report.trials:
        happened = trial.skipped or f"{trial.what}: {trial.tried:,}" + (f"; {trial.kills} kills" if trial.kills else "")
        shown.add_row(trial.name, happened, f"{trial.lost:,}", f"{trial.doubled:,}", f"{trial.wrong:,}")
    return shown


def _words(found: dict[str, int]) -> str:
    return ", ".join(f"{what}: {count:,}" for what, count in found.items()) or "0"


def main(words: Sequence[str] | None = None) -> int:
    """Run, show, judge. Returns the exit code."""
    options, console = _arguments(words), Console(stderr=True)
    try:
        report = run(options, console)
    except RecorderError as error:
        console.print(f"error: {error.message}", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        Console(width=160).print(table(report))
        kills = sum(calls.instants for calls in report.calls)
        print(f"{kills:,} instants of kill -9, seed {report.seed}, {report.seconds / 60:.1f} minutes in all")
        print("FAILED: " + _words(report.faults()) if report.faults() else "passed")
    return 1 if report.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
