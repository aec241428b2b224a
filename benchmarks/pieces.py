"""Results of several runs as those of one: a long measurement can be taken in pieces, when the machine is quiet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from benchmarks.bench import Measure
from benchmarks.report import Report
from benchmarks.workloads import MOST_OF_OTHERS, Case, CaseResult, cases, result_of

_ENOUGH: Final = 3


def together(reports: Sequence[Report]) -> Report:
    """One report with the rounds of all, without those that others disturbed where there are enough others.

    Args:
        reports: in the order in which they were taken, at least one. Of memory and faults the last is shown.
    """
    if len(reports) == 1:
        return reports[0]
    first, last = reports[0], reports[-1]
    known = {case.key: case for part in ("w1", "w2", "w3") for case in cases(part, quick=first.quick)}
    results = [_merged(case, reports) for case in known.values()]
    found = msgspec.structs.replace(
        last,
        command=f"{_words(first.command)} and the like, {len(reports)} pieces",
        cases=[result for result in results if result is not None],
        memory=next((report.memory for report in reversed(reports) if report.memory), []),
        faults=next((report.faults for report in reversed(reports) if report.faults), []),
        rounds=0,
    )
    found.rounds = max((figures.rounds for case in found.cases for figures in case.figures), default=last.rounds)
    found.finish()
    return found


def _words(command: str) -> str:
    """Without the name of the file that the results went to."""
    return command.partition(" --json")[0]


def _merged(case: Case, reports: Sequence[Report]) -> CaseResult | None:
    taken: dict[str, list[Measure]] = {}
    notes: dict[str, str] = {}
    for report in reports:
        for result in report.cases:
            if result.key != case.key:
                continue
            for figures, measures in zip(result.figures, result.measures, strict=True):
                taken.setdefault(figures.candidate, []).extend(measures)
                notes[figures.candidate] = figures.note
    return result_of(case, {name: _quiet(measures) for name, measures in taken.items()}, notes) if taken else None


def _quiet(measures: list[Measure]) -> list[Measure]:
    """The undisturbed ones, or else as many as are needed of those that were disturbed least."""
    measures = sorted(measures, key=lambda measure: measure.others_share)
    quiet = [measure for measure in measures if measure.others_share <= MOST_OF_OTHERS]
    return quiet if len(quiet) >= _ENOUGH else measures[:_ENOUGH]
