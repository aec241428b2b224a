"""Results as tables: on the terminal, in docs/benchmarks.md between its markers, and as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.candidates import DIRECT, OURS, WORDS
from benchmarks.faults import Fault
from benchmarks.goals import Goal, judge
from benchmarks.machine import sentence
from benchmarks.memory import Footprint
from benchmarks.workloads import CaseResult, Figures

DOCS: Final = Path(__file__).parent.parent / "docs" / "benchmarks.md"
RESULTS: Final = Path(__file__).parent / "results"
DASH: Final = "–"


class Report(msgspec.Struct, kw_only=True):
    """Everything one run found out.

    Attributes:
        date: UTC, ISO 8601.
        command: what was typed.
        machine: what it ran on.
        rounds: of each workload's case.
        quick: short windows: a check of the harness, not a measurement.
        cases: W1 to W3.
        memory: of idle sessions.
        faults: kills, stalls, a full disk.
        goals: what was to be reached, and what was.
    """

    date: str
    command: str
    machine: dict[str, Any]
    rounds: int
    quick: bool
    cases: list[CaseResult] = []
    memory: list[Footprint] = []
    faults: list[Fault] = []
    goals: list[Goal] = []

    def finish(self) -> None:
        """Judge what was measured."""
        self.goals = judge(self.cases, self.memory, self.faults)


def tables(report: Report) -> dict[str, str]:
    """Markdown by section: conditions, w1, w2, w3, memory, faults, goals; those that were measured."""
    found = {"conditions": _conditions(report)}
    for workload, columns in (("w1", _W1), ("w2", _W2), ("w3", _W3)):
        chosen = [case for case in report.cases if case.workload == workload]
        if chosen:
            found[workload] = _case_table(chosen, columns)
    if report.memory:
        found["memory"] = _memory(report.memory)
    if report.faults:
        found["faults"] = _table(
            ["what happened", "to how many sessions", "what came of it"], _fault_rows(report.faults)
        )
    if report.goals:
        rows = [[goal.what, goal.limit, goal.measured, "met" if goal.met else "**missed**"] for goal in report.goals]
        found["goals"] = _table(["what", "to reach", "measured", ""], rows)
    return found


def write_docs(report: Report, path: Path = DOCS) -> None:
    """Put the tables between the markers `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""
    text = path.read_text(encoding="utf-8")
    for name, table in tables(report).items():
        pattern = re.compile(f"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
        text = pattern.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)  # type: ignore[misc]
    path.write_text(text, encoding="utf-8")


def write_json(report: Report, path: Path) -> None:
    """Everything, measurement by measurement."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def _conditions(report: Report) -> str:
    words = f"`{report.command}`, {report.date[:10]}, {report.rounds} rounds. {sentence(report.machine)}."
    return f"{words} **Short windows: a check of the harness, not a measurement.**" if report.quick else words


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


Column = tuple[str, Callable[[CaseResult, Figures], str]]


def _number(value: float | None, digits: int = 0) -> str:
    return DASH if value is None else f"{value:,.{digits}f}"


def _ratio(name: str) -> Callable[[CaseResult, Figures], str]:
    return lambda case, figures: DASH if figures.candidate == DIRECT else _number(case.ratio(figures, name), 2)


def _value(name: str, scale: float = 1.0, digits: int = 0) -> Callable[[CaseResult, Figures], str]:
    def show(_: CaseResult, figures: Figures) -> str:
        value = getattr(figures, name)
        return _number(None if value is None else value * scale, digits)

    return show


def _not_direct(show: Callable[[CaseResult, Figures], str]) -> Callable[[CaseResult, Figures], str]:
    return lambda case, figures: DASH if figures.candidate == DIRECT else show(case, figures)


def _stored(_: CaseResult, figures: Figures) -> str:
    if figures.stored is None:
        return DASH
    return f"{figures.stored:,}, {figures.missing:,} missing or double"


_W1: Final[tuple[Column, ...]] = (
    ("p50 / p99 µs", lambda _, one: f"{_number(one.p50_us, 1)} / {_number(one.p99_us, 1)}"),
    (
        "added p50 / p99 µs",
        _not_direct(lambda _, one: f"{_number(one.added_p50_us, 1)} / {_number(one.added_p99_us, 1)}"),
    ),
    ("added p50 × HAProxy", _ratio("added_p50_us")),
    ("added p99 × HAProxy", _ratio("added_p99_us")),
)
_W2: Final[tuple[Column, ...]] = (
    ("CPU a session, millicores", _not_direct(_value("millicores_a_session", digits=2))),
    ("CPU × HAProxy", _ratio("millicores_a_session")),
    ("added p50 / p99 ms", _not_direct(
        lambda _, one: f"{_number(one.added_p50_us and one.added_p50_us / 1e3, 3)} / "
        f"{_number(one.added_p99_us and one.added_p99_us / 1e3, 3)}")),
    ("p99 ms", _value("p99_us", 1e-3, 3)),
    ("lost of", lambda _, one: f"{one.lost:,} of {one.sent:,}"),
    ("in the sealed store", _stored),
    ("load core busy", _value("load_share", 1, 2)),
)  # fmt: skip
_W3: Final[tuple[Column, ...]] = (
    ("MB/s", _value("megabytes_a_second")),
    ("messages/s", _value("messages_a_second")),
    ("× HAProxy", _ratio("megabytes_a_second")),
    ("recorded", lambda _, one: DASH if one.recorded_share is None else f"{one.recorded_share:.1%}"),
    ("load core busy", _value("load_share", 1, 2)),
)


def _case_words(case: CaseResult) -> str:
    words = []
    if case.workload == "w2":
        words.append(f"{case.sessions} sessions")
    if case.workload == "w3":
        words.append("up" if "up" in case.key else "down")
    if case.one_core:
        words.append("one core for all")
    return ", ".join([*words, "TLS" if case.tls else "plain"])


def _case_table(cases: Sequence[CaseResult], columns: Sequence[Column]) -> str:
    rows = []
    for case in cases:
        for figures in case.figures:
            values = [show(case, figures) for _, show in columns]
            if not figures.rounds:
                values = [figures.note or DASH, *[DASH] * (len(columns) - 1)]
            name = WORDS[figures.candidate]
            rows.append([_case_words(case), f"**{name}**" if figures.candidate == OURS else name, *values])
    return _table(["", "candidate", *(name for name, _ in columns)], rows)


def _memory(footprints: Sequence[Footprint]) -> str:
    rows = [
        [
            WORDS[one.candidate],
            "TLS" if one.tls else "plain",
            f"{one.idle_bytes / 2**20:.1f}",
            *(f"{value / 1024:.1f}" for value in one.bytes_a_session.values()),
            f"{one.idle_cpu_share:.2%}",
        ]
        for one in footprints
    ]
    counts = list(footprints[0].bytes_a_session)
    head = ["candidate", "upstream", "MiB without sessions", *(f"KiB a session at {count}" for count in counts)]
    return _table([*head, f"CPU of {counts[-1]} idle sessions, of one core"], rows)


def _fault_rows(faults: Sequence[Fault]) -> list[list[str]]:
    return [[fault.what, f"{fault.sessions}", fault.words()] for fault in faults]
