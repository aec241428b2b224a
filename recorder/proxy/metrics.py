"""What `/metrics` says: the pages of all processes added up, and what can be seen from outside of them.

Lookups are made when asked: the rings by their files, so that the lag of the journal is true even where the recorder
process hangs or is dead; processes by `/proc`.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from recorder import __version__
from recorder.proxy.compiled import is_compiled
from recorder.store.counters import ACCEPTING, DISK_LOW, HEARTBEAT, PAGE_METRICS, Counters, Metric
from recorder.store.exposition import Sample, exposition, number
from recorder.store.ring_reader import look_at_rings

_SILENT_SECONDS: Final = 15.0
_PAGE_SIZE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_NANO: Final = 1e-9

READY: Final = Metric("recorder_ready", "1 if /readyz says so.", "gauge")
BUILD: Final = Metric(
    "recorder_build_info",
    "Always 1; what runs is in the labels: Python in `python`, and in `compiled` whether the splice is (1) or not (0).",
    "gauge",
    "version",
)
STARTED: Final = Metric("recorder_start_time_seconds", "Unix time at which the supervisor was started.", "gauge")
DISK_FLOOR: Final = Metric("recorder_disk_floor_bytes", "Free space below which nothing is recorded.", "gauge")
RING_USED: Final = Metric("recorder_ring_used_bytes", "Bytes in the rings that are on no spool yet.", "gauge")
RING_CAPACITY: Final = Metric("recorder_ring_capacity_bytes", "What the rings can hold.", "gauge")
RING_FILL: Final = Metric("recorder_ring_fill_ratio", "How full the fullest ring is, 0 to 1.", "gauge")
JOURNAL_LAG: Final = Metric("recorder_journal_lag_seconds", "Age of the oldest record that is on no spool.", "gauge")
UP: Final = Metric("recorder_process_up", "1 while the process runs.", "gauge", "process")
RESTARTS: Final = Metric("recorder_process_restarts_total", "How often it died and was replaced.", "counter", "process")
RESIDENT: Final = Metric("recorder_process_resident_bytes", "Its memory, rings included.", "gauge", "process")
CPU: Final = Metric(
    "recorder_process_cpu_seconds_total", "Its processor time; 0 again when replaced.", "counter", "process"
)

METRICS: Final = (
    READY, BUILD, STARTED, *PAGE_METRICS, DISK_FLOOR, RING_USED, RING_CAPACITY, RING_FILL, JOURNAL_LAG, UP, RESTARTS,
    RESIDENT, CPU,
)  # fmt: skip
"""Everything that is exposed."""


class Handle(Protocol):
    """A running process."""

    @property
    def pid(self) -> int:
        """Its number."""

    def poll(self) -> int | None:
        """None while it runs."""


class Process(Protocol):
    """A child of the supervisor, as far as it matters here."""

    @property
    def name(self) -> str:
        """As in the log."""

    @property
    def counters(self) -> Counters:
        """Its page."""

    @property
    def starts(self) -> int:
        """How often it was started."""

    @property
    def process(self) -> Handle | None:
        """The one that runs now."""


class Metrics:
    """What is known about a running proxy.

    Args:
        processes: the supervisor's children; the list may grow.
        ring_dir: where all workers of the store have their rings.
        disk_floor_bytes: as the recorder process has it.
        draining: tells whether the proxy is being stopped.
    """

    def __init__(
        self, processes: Sequence[Process], ring_dir: Path, *, disk_floor_bytes: int, draining: Draining
    ) -> None:
        self._processes = processes
        self._ring_dir = ring_dir
        self._disk_floor_bytes = disk_floor_bytes
        self._draining = draining
        self._started = time.time()

    def problems(self) -> list[str]:
        """Why the proxy is not ready for new sessions, in words; empty if it is."""
        found = ["draining"] if self._draining.is_set() else []
        now = time.monotonic_ns()
        for child in self._processes:
            beat = child.counters[HEARTBEAT]
            if not _runs(child):
                found.append(f"{child.name} is not running")
            elif child.name.startswith("worker") and not child.counters[ACCEPTING]:
                found.append(f"{child.name} takes no connections")
            elif beat and (now - beat) * _NANO > _SILENT_SECONDS and child.name != "sealer":  # whose work may take long
                found.append(f"{child.name} does not respond")
        if any(child.counters[DISK_LOW] for child in self._processes):
            found.append("the disk has less free space than the floor")
        return found

    def text(self) -> str:
        """All metrics, as Prometheus reads them."""
        return exposition(self._collect())

    def _collect(self) -> Iterator[tuple[Metric, Iterable[Sample]]]:
        yield READY, [Sample((), not self.problems())]
        compiled = str(int(is_compiled()))
        labels = (("version", __version__), ("python", platform.python_version()), ("compiled", compiled))
        yield BUILD, [Sample(labels, 1)]
        yield STARTED, [Sample((), self._started)]
        for metric in PAGE_METRICS:
            if metric is HEARTBEAT:
                now = time.monotonic_ns()
                beats = [(child.name, child.counters[metric]) for child in self._processes]
                yield metric, [Sample((("process", name),), (now - beat) * _NANO) for name, beat in beats if beat]
            else:
                yield metric, _samples(metric, [child.counters.read(metric) for child in self._processes])
        yield DISK_FLOOR, [Sample((), self._disk_floor_bytes)]
        yield from self._rings()
        yield from self._processes_seen()

    def _rings(self) -> Iterator[tuple[Metric, Iterable[Sample]]]:
        rings = look_at_rings(self._ring_dir)
        now = time.monotonic_ns()
        lags = [(now - ring.oldest_ns) * _NANO for ring in rings if ring.oldest_ns]
        yield RING_USED, [Sample((), sum(ring.used_bytes for ring in rings))]
        yield RING_CAPACITY, [Sample((), sum(ring.capacity for ring in rings))]
        yield RING_FILL, [Sample((), max((ring.used_bytes / ring.capacity for ring in rings), default=0))]
        yield JOURNAL_LAG, [Sample((), max(0, *lags) if lags else 0)]

    def _processes_seen(self) -> Iterator[tuple[Metric, Iterable[Sample]]]:
        named = [((("process", child.name),), child) for child in self._processes]
        yield UP, [Sample(label, _runs(child)) for label, child in named]
        yield RESTARTS, [Sample(label, max(child.starts - 1, 0)) for label, child in named]
        pids = [(label, child.process.pid) for label, child in named if child.process is not None]
        usages = [(label, _usage(pid)) for label, pid in [*pids, ((("process", "supervisor"),), os.getpid())]]
        yield RESIDENT, [Sample(label, usage[0]) for label, usage in usages]
        yield CPU, [Sample(label, usage[1]) for label, usage in usages]


class Draining(Protocol):
    """An event."""

    def is_set(self) -> bool:
        """Whether it has come."""


def _runs(child: Process) -> bool:
    process = child.process
    return process is not None and process.poll() is None


def _usage(pid: int) -> tuple[int, float]:
    """A process's resident bytes and processor seconds (proc(5)); zeros for one that is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0, 0.0
    return pages * _PAGE_SIZE, (int(fields[11]) + int(fields[12])) / _TICKS


def _samples(metric: Metric, pages: list[list[int]]) -> Iterator[Sample]:
    combine = max if metric.largest else sum
    words = [combine(words) for words in zip(*pages, strict=True)] or [0] * metric.words
    if metric.kind == "histogram":
        yield from _histogram(metric, words)
        return
    for value, word in zip(metric.values, words, strict=True):
        labels = ((metric.label, value),) if metric.label else ()
        yield Sample(labels, word * _NANO if metric.nanoseconds else word)


def _histogram(metric: Metric, words: list[int]) -> Iterator[Sample]:
    *buckets, total = words
    count = 0
    for bound, bucket in zip([*map(number, metric.bounds), "+Inf"], buckets, strict=True):
        count += bucket
        yield Sample((("le", bound),), count, "_bucket")
    yield Sample((), total * _NANO, "_sum")
    yield Sample((), count, "_count")
