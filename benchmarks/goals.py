"""The figures to reach, and whether they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from benchmarks.candidates import OURS
from benchmarks.faults import Fault
from benchmarks.memory import Footprint
from benchmarks.workloads import CaseResult

_KIB: Final = 1024


class Goal(msgspec.Struct):
    """One figure: what it is, its limit and what was measured, in words."""

    what: str
    limit: str
    measured: str
    met: bool


def judge(cases: Sequence[CaseResult], memory: Sequence[Footprint], faults: Sequence[Fault]) -> list[Goal]:
    """The goals for what was measured."""
    found: list[Goal] = []
    for case in cases:
        if case.of(OURS) is not None and not case.one_core:  # the goals are for a core each
            found += {"w1": _pingpong, "w2": _voice, "w3": _flood}[case.workload](case)
    for footprint in memory:
        if footprint.candidate == OURS:
            found += _memory(footprint)
    return [*found, *map(_fault, faults)]


def _most(what: str, value: float | None, limit: float, unit: str = "", digits: int = 2) -> Iterator[Goal]:
    if value is not None:
        yield Goal(what, f"≤ {limit:g}{unit}", f"{value:.{digits}f}{unit}", value <= limit)


def _least(what: str, value: float | None, limit: float, unit: str = "") -> Iterator[Goal]:
    if value is not None:
        yield Goal(what, f"≥ {limit:g}{unit}", f"{value:.2f}{unit}", value >= limit)


def _words(case: CaseResult) -> str:
    return "TLS" if case.tls else "plain"


def _pingpong(case: CaseResult) -> Iterator[Goal]:
    ours = case.of(OURS)
    assert ours is not None
    yield from _most(f"W1 added p50, {_words(case)}", case.ratio(ours, "added_p50_us"), 1.1, " × HAProxy")
    yield from _most(f"W1 added p99, {_words(case)}", case.ratio(ours, "added_p99_us"), 1.5, " × HAProxy")


def _voice(case: CaseResult) -> Iterator[Goal]:
    ours = case.of(OURS)
    assert ours is not None
    where = f"{case.sessions} sessions, {_words(case)}"
    yield from _most(f"W2 CPU a session, {where}", case.ratio(ours, "millicores_a_session"), 1.2, " × HAProxy")
    added = None if ours.added_p99_us is None else ours.added_p99_us / 1e3
    yield from _most(f"W2 added p99, {where}", added, 0.2 if case.sessions <= 500 else 1.0, " ms", 3)
    yield Goal(f"W2 not forwarded, {where}", "0", f"{ours.lost:,} of {ours.sent:,}", ours.lost == 0)
    if ours.stored is not None:
        words = f"{ours.missing:,} beside {ours.stored:,}"
        yield Goal(f"W2 not in the sealed store, or twice, {where}", "0", words, ours.missing == 0)


def _flood(case: CaseResult) -> Iterator[Goal]:
    ours, relay = case.of(OURS), case.of("relay")
    assert ours is not None
    up = "up" in case.key
    where = f"{'up' if up else 'down'}, {_words(case)}"
    yield from _least(f"W3 {where}", case.ratio(ours, "megabytes_a_second"), 0.75 if up else 1.3, " × HAProxy")
    if up and relay is not None and relay.megabytes_a_second and ours.megabytes_a_second:
        yield from _least(f"W3 {where}", ours.megabytes_a_second / relay.megabytes_a_second, 20, " × plain relay")


def _memory(footprint: Footprint) -> Iterator[Goal]:
    where, limit = ("TLS", 64) if footprint.tls else ("plain", 32)
    count, value = list(footprint.bytes_a_session.items())[-1]
    yield from _most(f"memory a session, {where}", value / _KIB, limit, " KiB", 1)
    yield from _most(f"CPU of {count} idle sessions, {where}", footprint.idle_cpu_share * 100, 2, " %")


def _fault(fault: Fault) -> Goal:
    """Nothing that was forwarded is lost to a kill; elsewhere no more than the stated gap; sessions unharmed."""
    seen = fault.evidence
    whole = seen.missing == 0 or (seen.gap_bytes > 0 and not fault.key.startswith("kill"))
    met = whole and not seen.doubled and not seen.unaccounted_bytes and not fault.harmed
    limit = "0 lost" if fault.key.startswith("kill") else "no more lost than stated, sessions unharmed"
    words = f"{seen.missing:,} lost" + (f", {seen.gap_bytes:,} bytes stated" if seen.gap_bytes else "")
    return Goal(f"{fault.what}, {fault.sessions} sessions", limit, words, met)
