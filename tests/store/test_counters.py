import subprocess
import sys
from pathlib import Path

from recorder.store.counters import (
    ADDED_LATENCY,
    BYTES,
    DESCRIPTOR_VARIABLE,
    ERROR,
    FSYNC,
    GAPS,
    PAGE_METRICS,
    REFUSED,
    RING_HIGH_WATER,
    SEALING,
    SESSIONS_OPEN,
    Counters,
)


def test_words_do_not_overlap_and_fit_into_a_page() -> None:
    taken = [word for metric in PAGE_METRICS for word in range(metric.word, metric.word + metric.words)]
    assert taken == list(range(len(taken)))
    assert len(taken) * 8 <= 4096


def test_every_word_can_be_counted_alone() -> None:
    for metric in PAGE_METRICS:
        counters = Counters()
        if metric.kind == "histogram":
            counters.observe(metric, 1e9)
        else:
            counters.add(metric, 3, metric.values[0])
        changed = {other.name for other in PAGE_METRICS if any(counters.read(other))}
        assert changed == {metric.name}


def test_a_page_that_is_gone_holds_no_descriptor() -> None:
    before = set(Path("/proc/self/fd").iterdir())
    counters = Counters()
    counters.add(GAPS)
    del counters
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_counting() -> None:
    counters = Counters()
    counters.add(BYTES, 5, "client")
    counters.add(BYTES, 2, "server")
    counters.add(BYTES, 1, "client")
    counters.add(SESSIONS_OPEN)
    counters.add(SESSIONS_OPEN, -1)
    counters.raise_to(RING_HIGH_WATER, 9)
    counters.raise_to(RING_HIGH_WATER, 4)
    counters.add_seconds(SEALING, 0.25)
    counters.add(REFUSED, value="a code that nobody knows")
    assert (counters[BYTES, "client"], counters[BYTES, "server"]) == (6, 2)
    assert (counters[SESSIONS_OPEN], counters[RING_HIGH_WATER], counters[SEALING]) == (0, 9, 250_000_000)
    assert counters[REFUSED, "other"] == 1


def test_an_observation_falls_into_the_first_bucket_that_is_not_below_it() -> None:
    counters = Counters()
    counters.observe(FSYNC, 0.001)  # a bound itself
    counters.observe(FSYNC, 0.0011)
    counters.observe(FSYNC, 99.0)
    *buckets, total = counters.read(FSYNC)
    assert [index for index, count in enumerate(buckets) if count] == [0, 1, len(FSYNC.bounds)]
    assert total == 99_002_100_000
    assert counters[FSYNC] == 3
    counters.observe_latency(30_000)
    assert counters.read(ADDED_LATENCY)[2] == 1


def test_what_a_killed_process_counted_stays_and_its_successor_counts_on() -> None:
    page = Counters()
    child = (
        "import os\n"
        "from recorder.store.counters import GAPS, SESSIONS_OPEN, inherited\n"
        "counters = inherited()\n"
        "assert counters[SESSIONS_OPEN] == 0\n"
        "counters.add(GAPS)\n"
        "counters.add(SESSIONS_OPEN, 7)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    for number in (1, 2):
        ended = subprocess.run(
            [sys.executable, "-c", child],
            pass_fds=[page.fd],
            env={DESCRIPTOR_VARIABLE: str(page.fd)},
            check=False,
        )
        assert ended.returncode == -9
        assert (page[GAPS], page[SESSIONS_OPEN]) == (number, 7)
    assert page[ERROR, "internal"] == 0
