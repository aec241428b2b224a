"""Counters that several processes write and one reads: a page of shared memory for each process.

The supervisor makes a page for each of its children and keeps it (`memfd_create`: no name, no file to protect or to
clean up), so what a process has counted outlives its death, and the process that takes its place counts on. A page is
8-byte words, one for each number of the catalogue `PAGE_METRICS`; a word has one writer, which stores it without a lock
(aligned, so never seen half written), and the supervisor adds the pages up when it is asked.

`prometheus_client` in its multiprocess mode does the same for processes that do not know each other: files of a
directory, found by pid, keyed by JSON names, a lock around each change. Its `inc()` costs twenty times what a store of
a word costs (3.0 µs against 0.15 µs), it never gives the files of dead processes up, and numbers that are looked up
rather than counted (rings, processes) need a second registry. What is needed of it, the text format, is short.
"""

from __future__ import annotations

import mmap
import os
import weakref
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

DESCRIPTOR_VARIABLE: Final = "RECORDER_COUNTERS_FD"
"""Names the inherited descriptor of a child's page."""

_BYTES: Final = 4096
_NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: what it is called, what it means, and where its words lie.

    Attributes:
        name: as scraped.
        help: one line.
        kind: Prometheus type.
        label: name of its one label, or "".
        values: the label's values; unknown ones count as the last.
        bounds: a histogram's upper bounds, in seconds.
        largest: pages combine to their largest value instead of their sum.
        nanoseconds: its words count nanoseconds of a value in seconds.
        word: the first of its words; -1 for what is no page's.
    """

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"]
    label: str = ""
    values: tuple[str, ...] = ("",)
    bounds: tuple[float, ...] = ()
    largest: bool = False
    nanoseconds: bool = False
    word: int = -1

    @property
    def words(self) -> int:
        """How many words it takes: one for each label value, or a histogram's buckets (one more for +Inf) and sum."""
        return len(self.bounds) + 2 if self.kind == "histogram" else len(self.values)


def _lay_out(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    word = 0
    for metric in metrics:
        object.__setattr__(metric, "word", word)  # before anybody has seen them
        word += metric.words
    assert word * 8 <= _BYTES
    return tuple(metrics)


DIRECTIONS: Final = ("client", "server")
REFUSALS: Final = (
    "bad_request",
    "headers_too_large",
    "unauthorized",
    "too_many_failures",
    "no_route",
    "too_many_sessions",
    "cannot_record",
    "handshake_timeout",
    "connection_failed",
    "upstream_unreachable",
    "upstream_timeout",
    "upstream_tls_failed",
    "bad_upstream",
    "upstream_refused",
    "other",
)
"""Codes of refusals, as in the body that the client gets; `upstream_refused` is an answer of the upstream itself."""

ERRORS: Final = (
    "client_tls",
    "accept",
    "connection_lost",
    "proxy_closed",
    "not_recorded",
    "sideband",
    "store_removed",
    "spool_write",
    "spool_sync",
    "sort",
    "disk_floor",
    "seal",
    "upload",
    "compact",
    "internal",
)
_FAST: Final = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1)
_SLOW: Final = (1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

CONNECTIONS_OPEN: Final = Metric(
    "recorder_connections_open", "Connections being served: clients', handshakes included, and sidebands.", "gauge"
)
SESSIONS_OPEN: Final = Metric("recorder_sessions_open", "Sessions running.", "gauge")
SESSIONS_UNRECORDED: Final = Metric(
    "recorder_sessions_open_unrecorded", "Of those, sessions not being recorded, for whatever reason.", "gauge"
)
SESSIONS_OPENED: Final = Metric("recorder_sessions_opened_total", "Sessions whose handshake was completed.", "counter")
REFUSED: Final = Metric(
    "recorder_sessions_refused_total",
    "Connections answered with an error instead of a session.",
    "counter",
    "cause",
    REFUSALS,
)
HTTP_REQUESTS: Final = Metric(
    "recorder_http_requests_total", "Requests that were no WebSocket and passed through.", "counter"
)
BYTES: Final = Metric(
    "recorder_bytes_total",
    "Bytes of sessions that were forwarded, or heard on sidebands, by who sent them.",
    "counter",
    "direction",
    DIRECTIONS,
)
GAP_BYTES: Final = Metric(
    "recorder_gap_bytes_total",
    "Bytes forwarded that could not be recorded. Should stay 0.",
    "counter",
    "direction",
    DIRECTIONS,
)
GAPS: Final = Metric("recorder_gaps_total", "Stretches of bytes that could not be recorded.", "counter")
LEFT_OUT_BYTES: Final = Metric(
    "recorder_left_out_bytes_total", "Bytes forwarded and on purpose not recorded.", "counter", "direction", DIRECTIONS
)
ADDED_LATENCY: Final = Metric(
    "recorder_added_latency_seconds",
    "From having read a chunk to having sent it on; every 64th chunk is measured.",
    "histogram",
    bounds=_FAST,
)
LOOP_LAG: Final = Metric(
    "recorder_loop_lag_seconds",
    "How late a worker's timer was, once a second: how long others' work kept it.",
    "histogram",
    bounds=_SLOW,
)
CONNECT: Final = Metric(
    "recorder_upstream_connect_seconds", "TCP and TLS connections to the upstream.", "histogram", bounds=_SLOW
)
ERROR: Final = Metric("recorder_errors_total", "What went wrong.", "counter", "cause", ERRORS)
RING_HIGH_WATER: Final = Metric(
    "recorder_ring_high_water_bytes",
    "The most a ring held when the recorder process came to drain it.",
    "gauge",
    largest=True,
)
SPOOL_BYTES: Final = Metric(
    "recorder_spool_bytes_total", "Bytes taken from the rings and written to spools.", "counter"
)
UNSORTED: Final = Metric("recorder_spool_unsorted_bytes", "Bytes of spools that are not in journals yet.", "gauge")
JOURNAL_BYTES: Final = Metric("recorder_journal_bytes_total", "Bytes written to journals.", "counter")
JOURNAL_RECORDS: Final = Metric("recorder_journal_records_total", "Records written to journals.", "counter")
FSYNC: Final = Metric("recorder_fsync_seconds", "Forcing one spool to the disk.", "histogram", bounds=_SLOW)
DISK_FREE: Final = Metric("recorder_disk_free_bytes", "Free space of the data directory's disk.", "gauge", largest=True)
DISK_LOW: Final = Metric(
    "recorder_disk_below_floor", "1 while recording is held back for want of disk space.", "gauge", largest=True
)
UNSEALED: Final = Metric("recorder_sessions_unsealed", "Finished sessions that wait to be sealed.", "gauge")
SEALED: Final = Metric("recorder_sessions_sealed_total", "Sessions turned into Parquet files.", "counter")
NOT_UPLOADED: Final = Metric(
    "recorder_sessions_not_uploaded", "Sealed sessions, or parts, that wait to be uploaded.", "gauge"
)
QUARANTINED: Final = Metric(
    "recorder_sessions_quarantined_total", "Sessions whose journal cannot be sealed and was put aside.", "counter"
)
SEALING: Final = Metric("recorder_sealing_seconds_total", "Time spent sealing.", "counter", nanoseconds=True)
EVENTS: Final = Metric(
    "recorder_events_total",
    "Messages of sealed sessions, control frames included, by who sent them.",
    "counter",
    "direction",
    DIRECTIONS,
)
ACCEPTING: Final = Metric("recorder_workers_accepting", "Workers that take connections.", "gauge")
HEARTBEAT: Final = Metric(
    "recorder_process_silence_seconds", "Time since a process last came round.", "gauge", "process"
)
"""Its word is the monotonic time, in nanoseconds, of when it did."""

PAGE_METRICS: Final = _lay_out(
    (
        CONNECTIONS_OPEN, SESSIONS_OPEN, SESSIONS_UNRECORDED, SESSIONS_OPENED, REFUSED, HTTP_REQUESTS,
        BYTES, GAP_BYTES, GAPS, LEFT_OUT_BYTES, ADDED_LATENCY, LOOP_LAG, CONNECT, ERROR,
        RING_HIGH_WATER, SPOOL_BYTES, UNSORTED, JOURNAL_BYTES, JOURNAL_RECORDS, FSYNC, DISK_FREE, DISK_LOW,
        UNSEALED, SEALED, NOT_UPLOADED, QUARANTINED, SEALING, EVENTS, ACCEPTING, HEARTBEAT,
    )
)  # fmt: skip
"""Every metric that processes count, in the order of their words."""


class Counters:
    """One process's page.

    Args:
        fd: a page made before, to be shared; None makes one.

    Attributes:
        fd: its descriptor, to be handed to a child.
    """

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            fd = os.memfd_create("recorder-counters")
            os.ftruncate(fd, _BYTES)
            weakref.finalize(self, os.close, fd)  # the page of an inherited one is the process's
        self.fd = fd
        self._words = memoryview(mmap.mmap(fd, _BYTES)).cast("Q")

    def add(self, metric: Metric, amount: int = 1, value: str = "") -> None:
        """Count."""
        self._words[self._word(metric, value)] += amount

    def add_seconds(self, metric: Metric, seconds: float) -> None:
        """Count time."""
        self._words[metric.word] += max(0, int(seconds * _NANO))

    def set(self, metric: Metric, amount: int, value: str = "") -> None:
        """Say what a gauge shows."""
        self._words[self._word(metric, value)] = amount

    def raise_to(self, metric: Metric, amount: int) -> None:
        """Let a gauge show the largest value so far."""
        self._words[metric.word] = max(self._words[metric.word], amount)

    def observe(self, metric: Metric, seconds: float) -> None:
        """Put a duration into a histogram."""
        self._words[metric.word + bisect_left(metric.bounds, seconds)] += 1
        self._words[metric.word + metric.words - 1] += max(0, int(seconds * _NANO))

    def observe_latency(self, nanoseconds: int) -> None:
        """Put a sample into `ADDED_LATENCY`."""
        self.observe(ADDED_LATENCY, nanoseconds / _NANO)

    def begin(self) -> None:
        """What a process says first: the gauges of one that had this page before it mean nothing any more."""
        for metric in PAGE_METRICS:
            if metric.kind == "gauge":
                for word in range(metric.word, metric.word + metric.words):
                    self._words[word] = 0

    def read(self, metric: Metric) -> list[int]:
        """A metric's words."""
        return self._words[metric.word : metric.word + metric.words].tolist()

    def __getitem__(self, place: Metric | tuple[Metric, str]) -> int:
        """A metric's value: `counters[GAPS]`, `counters[BYTES, "client"]`; of a histogram, how much was observed."""
        metric, value = place if isinstance(place, tuple) else (place, "")
        if metric.kind == "histogram":
            return sum(self.read(metric)[:-1])
        return self._words[self._word(metric, value)]

    @staticmethod
    def _word(metric: Metric, value: str) -> int:
        index = metric.values.index(value) if value in metric.values else len(metric.values) - 1
        return metric.word + index


def inherited() -> Counters:
    """The page that this process was given, or, without a supervisor, one of its own. Its gauges begin at 0."""
    fd = os.environ.get(DESCRIPTOR_VARIABLE)
    counters = Counters(int(fd) if fd else None)
    counters.begin()
    return counters
