"""`python -m benchmarks`: the recorder side by side with its peers, in one run."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import faults, machine, memory, models, scale, sealing, storage, timetravel, workloads
from benchmarks.bench import Bench
from benchmarks.build import default_cache, mitmdump, prepare
from benchmarks.candidates import DEFAULT_PEERS, PEERS
from benchmarks.pieces import together
from benchmarks.processes import raise_file_limit
from benchmarks.report import RESULTS, Report, tables, write_docs, write_json
from recorder.errors import RecorderError, UsageError

_WORKLOADS: Final = ("w1", "w2", "w3")
_PARTS: Final = (*_WORKLOADS, "memory", "faults")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"what to measure: {', '.join(_PARTS)}, or all; or one of storage, sealing, scale, timetravel, models",
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each case; figures are their medians (default 3)")
    parser.add_argument("--quick", action="store_true", help="one round of short windows: does it all work?")
    parser.add_argument("--peers", default=",".join(DEFAULT_PEERS), help=f"out of {','.join(PEERS)}, or none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where results go (benchmarks/results/DATE.json)")
    parser.add_argument("--write-docs", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--only", default="", metavar="CASE", help="cases whose name begins so, such as voice_200")
    parser.add_argument(
        "--real-time",
        action="store_true",
        help="real-time priority for the load side and every candidate, on a machine that others use too (as root)",
    )
    parser.add_argument(
        "--from", type=Path, metavar="FILE", dest="sources", nargs="+", help="measure nothing, show these together"
    )
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where programs and stores lie meanwhile")
    return parser.parse_args()


def _chosen(parts: list[str]) -> list[str]:
    unknown = set(parts) - {*_PARTS, "all"}
    if unknown:
        raise UsageError(f"{', '.join(sorted(unknown))}: no such part", hint=f"There are {', '.join(_PARTS)}, and all.")
    return list(_PARTS) if not parts or "all" in parts else [part for part in _PARTS if part in parts]


def _peers(words: str) -> list[str]:
    peers = [word for word in words.split(",") if word not in {"", "none"}]
    unknown = set(peers) - set(PEERS)
    if unknown:
        raise UsageError(f"{', '.join(sorted(unknown))}: no such peer", hint=f"There are {', '.join(PEERS)}, and none.")
    return peers


def _measure(arguments: argparse.Namespace, console: Console) -> Report:
    parts, peers = _chosen(arguments.parts), _peers(arguments.peers)
    rounds = 1 if arguments.quick else max(arguments.rounds, 1)
    raise_file_limit()
    tools = prepare(arguments.cache)
    if "mitmproxy" in peers:
        console.print("mitmproxy, in an environment of its own …")
        mitmdump(tools.cache)
    now = dt.datetime.now(dt.UTC)
    report = Report(
        date=now.isoformat(timespec="seconds"),
        command=machine.command_line(),
        machine=machine.facts(),
        rounds=rounds,
        quick=arguments.quick,
    )
    columns = (
        SpinnerColumn(),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=_count(parts, peers, rounds, quick=arguments.quick, only=arguments.only))
        plain = (lambda words: print(words, file=sys.stderr)) if not console.is_terminal else None
        say = plain or (lambda words: progress.update(task, description=words))
        bench = Bench(tools, arguments.quick, arguments.real_time, say)
        _run(bench, report, parts, peers, only=arguments.only, advance=lambda: progress.advance(task))
        progress.update(task, description="done")
    report.finish()
    return report


def _count(parts: list[str], peers: list[str], rounds: int, *, quick: bool, only: str) -> int:
    total = sum(
        workloads.count_measures(part, peers=peers, rounds=rounds, quick=quick, only=only)
        for part in parts
        if part in _WORKLOADS
    )
    total += memory.count_measures(peers) if "memory" in parts else 0
    return total + (faults.count_measures(quick=quick) if "faults" in parts else 0)


def _run(
    bench: Bench, report: Report, parts: list[str], peers: list[str], *, only: str, advance: workloads.Advance
) -> None:
    for part in parts:
        if part in _WORKLOADS:
            report.cases += workloads.run(bench, part, peers=peers, rounds=report.rounds, only=only, advance=advance)
        elif part == "memory":
            report.memory = memory.run(bench, peers=peers, advance=advance)
        else:
            report.faults = faults.run(bench, advance=advance)


def _alone(parts: list[str], *, quick: bool) -> bool | None:
    """Measure a part that stands by itself: whether its goal is reached. None if it is none of them."""
    console = Console()
    if parts == ["scale"]:
        return scale.run(console, sizes=scale.SIZES[:1] if quick else scale.SIZES)
    if parts == ["timetravel"]:
        positions, share = (20, 0.05) if quick else (300, 1.0)
        return timetravel.run(console, positions=positions, share=share)
    if parts == ["models"]:
        return models.run(console, count=models.EVENTS // 10 if quick else models.EVENTS)
    if parts == ["sealing"]:
        return sealing.run_installed(console, rounds=1 if quick else 5)
    if parts == ["storage"]:
        return storage.run(console, minutes=1 if quick else 10)
    return None


def main() -> int:
    """Measure, print, write. Returns the exit code."""
    arguments = _arguments()
    reached = _alone(arguments.parts, quick=arguments.quick)
    if reached is not None:
        return 0 if reached else 1
    console = Console(stderr=True)
    try:
        if arguments.sources:
            report = together([msgspec.json.decode(path.read_bytes(), type=Report) for path in arguments.sources])
        else:
            report = _measure(arguments, console)
            target = arguments.json or RESULTS / f"{report.date[:10]}{'-quick' if report.quick else ''}.json"
            write_json(report, target)
            console.print(f"results: {target}")
        if arguments.write_docs:
            write_docs(report)
    except RecorderError as error:
        console.print(
            f"error: {error.message}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", markup=False
        )
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print("\n\n".join(tables(report).values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
