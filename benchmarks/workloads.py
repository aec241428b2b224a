"""W1 ping-pong, W2 voice, W3 flood: every candidate in turn, round after round, so that all meet the same weather.

A figure is the median over the rounds; what a candidate adds is its latency less that of a direct connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import msgspec

from benchmarks.bench import Bench, Measure
from benchmarks.candidates import DIRECT, OURS, YARDSTICK
from benchmarks.load import Traffic
from benchmarks.processes import BenchmarkError, wait_for_quiet

_OVERLOADED_US: Final = 250_000.0
MOST_OF_OTHERS: Final = 0.15
"""Of a core; kernel threads that work for the candidate are in it. More, and a measurement is disturbed."""
_ATTEMPTS: Final = 3  # at a quiet moment
_PATIENCE_SECONDS: Final = 30.0  # until there is one
FLOOD_SESSIONS: Final = 4

Advance = Callable[[], object]
"""Called when a measurement is done."""


@dataclass(frozen=True)
class Case:
    """One line of conditions: all candidates are compared under it.

    Attributes:
        workload: w1, w2 or w3.
        traffic: what the load side does.
        tls: to the upstream.
        one_core: the proxy on the load side's core.
        verify: look every message up in our store.
    """

    workload: str
    traffic: Traffic
    tls: bool = False
    one_core: bool = False
    verify: bool = False

    @property
    def key(self) -> str:
        """What JSON and goals call it."""
        words = [self.traffic.mode.replace("-", "_")]
        words += [str(self.traffic.sessions)] if self.workload == "w2" else []
        words += ["one_core"] if self.one_core else []
        return "_".join([*words, "tls" if self.tls else "plain"])


class Figures(msgspec.Struct, kw_only=True):
    """A candidate's medians under one case. None where it does not apply, or was not measured.

    Attributes:
        candidate: its name.
        rounds: how many were measured.
        p50_us: latency: the round trip in W1, one way in W2.
        p99_us: the same.
        added_p50_us: above direct in the same round.
        added_p99_us: the same.
        messages_a_second: received in the window.
        megabytes_a_second: received in the window, 10^6 bytes of frames.
        millicores_a_session: CPU of all its processes.
        cpu_share: CPU of all its processes, of one core.
        load_share: CPU of the load side, of one core: near 1, it is the bottleneck.
        sent: messages of all rounds.
        lost: of them, those that did not arrive.
        recorded_share: bytes on record to bytes forwarded, in a flood.
        stored: messages in the sealed store, where it was looked into.
        missing: of those that arrived, the ones that are not in the store, or there twice.
        note: why there are no figures.
    """

    candidate: str
    rounds: int = 0
    p50_us: float | None = None
    p99_us: float | None = None
    added_p50_us: float | None = None
    added_p99_us: float | None = None
    messages_a_second: float | None = None
    megabytes_a_second: float | None = None
    millicores_a_session: float | None = None
    cpu_share: float | None = None
    load_share: float | None = None
    sent: int = 0
    lost: int = 0
    recorded_share: float | None = None
    stored: int | None = None
    missing: int | None = None
    note: str = ""


class CaseResult(msgspec.Struct):
    """A case with everybody's figures, and the measurements behind them, round by round."""

    workload: str
    key: str
    sessions: int
    tls: bool
    one_core: bool
    figures: list[Figures]
    measures: list[list[Measure]]

    def of(self, candidate: str) -> Figures | None:
        """A candidate's figures, if it took part and got any."""
        return next((one for one in self.figures if one.candidate == candidate and one.rounds), None)

    def ratio(self, figures: Figures, name: str) -> float | None:
        """A figure as a multiple of HAProxy's."""
        yardstick = self.of(YARDSTICK)
        mine, its = getattr(figures, name), getattr(yardstick, name, None)
        return mine / its if mine is not None and its else None


def cases(workload: str, *, quick: bool) -> Iterator[Case]:
    """The conditions of a workload."""
    both = (False, True)
    if workload == "w1":
        seconds = 1.0 if quick else 5.0
        for one_core in both:
            for tls in both:
                yield Case("w1", Traffic("pingpong", 1, seconds, warmup=0.5), tls, one_core)
    elif workload == "w2":
        seconds, counts = (2.0, (20, 50)) if quick else (10.0, (200, 500, 750))
        for tls in both:
            for count in counts:
                yield Case("w2", Traffic("voice", count, seconds, warmup=0.5 if quick else 2.0), tls, verify=True)
    else:
        seconds = 1.0 if quick else 5.0
        for mode in ("flood-up", "flood-down"):
            for tls in both:
                yield Case("w3", Traffic(mode, FLOOD_SESSIONS, seconds, warmup=0.5), tls)


def chosen(workload: str, *, quick: bool, only: str = "") -> list[Case]:
    """The cases of a workload whose key begins with `only`, plain and TLS."""
    return [case for case in cases(workload, quick=quick) if case.key.startswith(only)]


def run(
    bench: Bench,
    workload: str,
    *,
    peers: Sequence[str],
    rounds: int,
    only: str = "",
    advance: Advance = lambda: None,
) -> list[CaseResult]:
    """Measure a workload: for each case, rounds of direct, peers and ours in turn.

    Args:
        bench: where.
        workload: w1, w2 or w3.
        peers: who takes part beside direct and ours.
        rounds: how often.
        only: how the key of a case has to begin.
        advance: called for each measurement.
    """
    candidates = [DIRECT, *peers, OURS]
    overloaded: dict[tuple[str, bool], int] = {}
    results = []
    for case in chosen(workload, quick=bench.quick, only=only):
        taken: dict[str, list[Measure]] = {name: [] for name in candidates}
        notes: dict[str, str] = {}
        for number in range(rounds):
            for name in candidates:
                if limit := overloaded.get((name, case.tls)):
                    notes[name] = f"overloaded with {limit} sessions"
                elif name not in notes:
                    bench.say(f"{case.workload} {case.key} · round {number + 1} of {rounds} · {name}")
                    _take(bench, case, name, last=number == rounds - 1, taken=taken, notes=notes)
                advance()
        for name, measures in taken.items():
            if case.workload == "w2" and name != OURS and any(map(_is_overloaded, measures)):
                overloaded[name, case.tls] = case.traffic.sessions
        results.append(result_of(case, taken, notes))
    return results


def count_measures(workload: str, *, peers: Sequence[str], rounds: int, quick: bool, only: str = "") -> int:
    """How often `run` will call `advance`."""
    return len(chosen(workload, quick=quick, only=only)) * rounds * (len(peers) + 2)


def _take(
    bench: Bench, case: Case, name: str, *, last: bool, taken: dict[str, list[Measure]], notes: dict[str, str]
) -> None:
    try:
        for _ in range(1 if bench.real_time else _ATTEMPTS):
            if not bench.real_time:
                wait_for_quiet(MOST_OF_OTHERS, _PATIENCE_SECONDS)
            measure = bench.measure(
                name, case.traffic, tls=case.tls, one_core=case.one_core, verify=case.verify and last
            )
            if bench.real_time or measure.others_share <= MOST_OF_OTHERS:
                break
            bench.say(f"{name}: others used {measure.others_share:.0%} of a core; once more")
    except BenchmarkError as error:
        if name in {DIRECT, OURS}:
            raise
        notes[name] = error.message
        bench.say(f"{name}: {error.message}")
    else:
        taken[name].append(measure)


def _is_overloaded(measure: Measure) -> bool:
    return measure.outcome.lost > 0 or measure.outcome.broken > 0 or measure.outcome.latency.p99_us > _OVERLOADED_US


def result_of(case: Case, taken: dict[str, list[Measure]], notes: dict[str, str]) -> CaseResult:
    """The figures of a case, from each candidate's measurements in the order of the rounds."""
    direct = taken[DIRECT]
    figures = [
        _figures(case, name, measures, direct) if measures else Figures(candidate=name, note=notes.get(name, ""))
        for name, measures in taken.items()
    ]
    return CaseResult(
        case.workload, case.key, case.traffic.sessions, case.tls, case.one_core, figures, list(taken.values())
    )


def _figures(case: Case, name: str, measures: list[Measure], direct: list[Measure]) -> Figures:
    found = Figures(candidate=name, rounds=len(measures))
    outcomes = [measure.outcome for measure in measures]
    found.load_share = median(one.load_cpu_seconds / one.window_seconds for one in outcomes)
    found.cpu_share = median(one.cpu_seconds / one.outcome.window_seconds for one in measures)
    found.millicores_a_session = found.cpu_share * 1000 / case.traffic.sessions
    windows = [(one.up.window_messages + one.down.window_messages, one.window_seconds) for one in outcomes]
    found.messages_a_second = median(messages / seconds for messages, seconds in windows)
    found.megabytes_a_second = median(
        (one.up.window_bytes + one.down.window_bytes) / one.window_seconds / 1e6 for one in outcomes
    )
    found.sent = sum(one.up.sent + one.down.sent for one in outcomes)
    found.lost = sum(one.lost for one in outcomes)
    if case.workload != "w3":
        _add_latencies(found, case, measures, direct)
    shares = [one.recorded_share for one in measures if one.recorded_share is not None]
    found.recorded_share = median(shares) if shares else None
    if evidence := [measure.evidence for measure in measures if measure.evidence]:
        found.stored = sum(one.stored for one in evidence)
        found.missing = sum(one.missing + one.doubled for one in evidence)
    return found


def _add_latencies(found: Figures, case: Case, measures: list[Measure], direct: list[Measure]) -> None:
    part = "latency_down" if case.workload == "w1" else "latency"
    for quantile in ("p50_us", "p99_us"):
        own = [getattr(getattr(one.outcome, part), quantile) for one in measures]
        base = [getattr(getattr(one.outcome, part), quantile) for one in direct]
        setattr(found, quantile, median(own))
        if found.candidate != DIRECT:
            setattr(found, f"added_{quantile}", median(own) - median(base))
