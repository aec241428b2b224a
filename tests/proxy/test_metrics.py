import ast
import math
import os
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import recorder.proxy
from recorder.protocol.envelope import RecordKind
from recorder.proxy.meter import Meter
from recorder.proxy.metrics import METRICS, Metrics
from recorder.proxy.tap import Tap
from recorder.store.counters import (
    ACCEPTING,
    BYTES,
    DISK_LOW,
    ERRORS,
    FSYNC,
    GAP_BYTES,
    GAPS,
    HEARTBEAT,
    LEFT_OUT_BYTES,
    REFUSALS,
    RING_HIGH_WATER,
    SEALING,
    SESSIONS_OPEN,
    SESSIONS_OPENED,
    SESSIONS_UNRECORDED,
    Counters,
)
from recorder.store.ring import RingWriter
from recorder.store.ring_reader import RingReader

DOCS = Path(__file__).parents[2] / "docs" / "observability.md"
SAMPLE = re.compile(r'([a-z_]+)(?:\{([a-z]+="[^"\\]*"(?:,[a-z]+="[^"\\]*")*)\})? (\S+)')
CLIENT, SERVER = RecordKind.CLIENT_BYTES, RecordKind.SERVER_BYTES


@dataclass
class Running:
    pid: int
    code: int | None = None

    def poll(self) -> int | None:
        return self.code


@dataclass
class Child:
    name: str
    starts: int = 1
    counters: Counters = field(default_factory=Counters)
    process: Running | None = field(default_factory=lambda: Running(os.getpid()))

    def beat(self, seconds_ago: float = 0) -> None:
        self.counters.set(HEARTBEAT, time.monotonic_ns() - int(seconds_ago * 1e9))


class Proxy:
    """Two workers and a recorder process, as the supervisor sees them."""

    def __init__(self, ring_dir: Path) -> None:
        self.first, self.second, self.recorder = Child("worker 0"), Child("worker 1", starts=3), Child("recorder")
        self.sealer = Child("sealer")
        for child in (self.first, self.second, self.recorder):
            child.beat()
        for worker in (self.first, self.second):
            worker.counters.set(ACCEPTING, 1)
        self.draining = threading.Event()
        children = [self.first, self.second, self.recorder, self.sealer]
        self.metrics = Metrics(children, ring_dir, disk_floor_bytes=7, draining=self.draining)

    def scrape(self) -> dict[str, float]:
        return parse(self.metrics.text())


def parse(text: str) -> dict[str, float]:
    """Samples by name and labels; everything else must be as the format has it."""
    samples: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            found = SAMPLE.fullmatch(line)
            assert found, line
            samples[line.rpartition(" ")[0]] = float(found[3])
    assert text.endswith("\n")
    return samples


@pytest.fixture
def proxy(tmp_path: Path) -> Proxy:
    return Proxy(tmp_path)


def test_pages_are_added_up(proxy: Proxy) -> None:
    proxy.first.counters.add(BYTES, 5, "client")
    proxy.second.counters.add(BYTES, 6, "client")
    proxy.recorder.counters.add_seconds(SEALING, 1.5)
    proxy.recorder.counters.raise_to(RING_HIGH_WATER, 8)
    proxy.first.counters.raise_to(RING_HIGH_WATER, 9)
    samples = proxy.scrape()
    assert samples['recorder_bytes_total{direction="client"}'] == 11
    assert samples['recorder_bytes_total{direction="server"}'] == 0
    assert samples["recorder_sealing_seconds_total"] == 1.5
    assert samples["recorder_ring_high_water_bytes"] == 9
    assert samples["recorder_workers_accepting"] == 2
    assert samples["recorder_disk_floor_bytes"] == 7


def test_histograms_are_cumulative(proxy: Proxy) -> None:
    for child, seconds in ((proxy.first, 0.0005), (proxy.second, 0.004), (proxy.first, 60.0)):
        child.counters.observe(FSYNC, seconds)
    samples = proxy.scrape()
    buckets = [value for name, value in samples.items() if name.startswith("recorder_fsync_seconds_bucket")]
    assert buckets == [1, 1, *[2] * (len(FSYNC.bounds) - 2), 3]
    assert samples['recorder_fsync_seconds_bucket{le="+Inf"}'] == samples["recorder_fsync_seconds_count"] == 3
    assert math.isclose(samples["recorder_fsync_seconds_sum"], 60.0045)


def test_processes(proxy: Proxy) -> None:
    proxy.second.process = None
    samples = proxy.scrape()
    assert samples['recorder_process_up{process="worker 0"}'] == 1
    assert samples['recorder_process_up{process="worker 1"}'] == 0
    assert samples['recorder_process_restarts_total{process="worker 1"}'] == 2
    assert samples['recorder_process_resident_bytes{process="worker 0"}'] > 1 << 20
    assert samples['recorder_process_cpu_seconds_total{process="supervisor"}'] > 0
    assert 'recorder_process_resident_bytes{process="worker 1"}' not in samples


def test_every_metric_is_there_once_with_its_type(proxy: Proxy) -> None:
    lines = proxy.metrics.text().splitlines()
    assert [line for line in lines if line.startswith("# TYPE")] == [f"# TYPE {m.name} {m.kind}" for m in METRICS]
    assert [line for line in lines if line.startswith("# HELP")] == [f"# HELP {m.name} {m.help}" for m in METRICS]
    assert all(m.name.endswith("_total") == (m.kind == "counter") for m in METRICS)


def test_rings_are_looked_at_from_outside(proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "other.ring").write_bytes(b"no ring at all")
    ring, idle = RingWriter(tmp_path, 1 << 16), RingWriter(tmp_path, 1 << 16)
    assert proxy.scrape()["recorder_journal_lag_seconds"] == 0
    ring.append(CLIENT, 1, time.monotonic_ns() - 90_000_000_000, bytes((1 << 15) - 24))
    samples = proxy.scrape()
    assert 90 <= samples["recorder_journal_lag_seconds"] < 120
    assert samples["recorder_ring_used_bytes"] == 1 << 15
    assert samples["recorder_ring_capacity_bytes"] == 2 << 16
    assert samples["recorder_ring_fill_ratio"] == 0.5
    with RingReader(ring.path) as reader:
        reader.release(reader.read()[1])
        ring.append(CLIENT, 1, 1, bytes(1 << 15))  # does not fit before the end, so it is at the start
        ring.append(CLIENT, 1, 2, b"")
        assert proxy.scrape()["recorder_journal_lag_seconds"] > 0
        reader.release(reader.read()[1])
    assert proxy.scrape()["recorder_ring_used_bytes"] == 0
    ring.close()
    idle.close()


def test_it_is_ready(proxy: Proxy) -> None:
    assert proxy.metrics.problems() == []
    assert proxy.scrape()["recorder_ready"] == 1


def test_why_it_is_not_ready(proxy: Proxy) -> None:
    proxy.draining.set()
    proxy.first.counters.set(ACCEPTING, 0)
    proxy.second.process = None
    proxy.recorder.beat(seconds_ago=60)
    proxy.sealer.beat(seconds_ago=600)  # sealing may take long
    proxy.recorder.counters.set(DISK_LOW, 1)
    assert proxy.metrics.problems() == [
        "draining",
        "worker 0 takes no connections",
        "worker 1 is not running",
        "recorder does not respond",
        "the disk has less free space than the floor",
    ]
    assert proxy.scrape()["recorder_ready"] == 0


def test_a_process_that_ended_is_not_running(proxy: Proxy) -> None:
    proxy.recorder.process = Running(1, code=-9)
    assert proxy.metrics.problems() == ["recorder is not running"]


def test_docs_have_every_metric_and_cause_and_no_others() -> None:
    text = DOCS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(recorder_[a-z_]+)` \| (\w+) \| (\S+) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [(m.name, m.kind, f"`{m.label}`" if m.label else "–", m.help) for m in METRICS]
    known = {m.name + end for m in METRICS for end in ("", "_bucket")}
    assert {name for name in re.findall(r"\brecorder_[a-z_]+", text) if name != "recorder_"} <= known
    causes = text.partition("| cause | what happened |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)`", causes)) == set(ERRORS)


def test_every_refusal_has_a_cause_of_its_own() -> None:
    """A code that is not in `REFUSALS` (store/counters.py) would be counted as "other"."""
    codes = set()
    for path in Path(recorder.proxy.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "RefusedError":
                codes.add(node.args[1].value if isinstance(node.args[1], ast.Constant) else "?")
    assert codes == set(REFUSALS) - {"other"}


class Metered:
    """A session with a small ring, and what it says."""

    def __init__(self, tmp_path: Path, *, tapped: bool = True) -> None:
        self.ring = RingWriter(tmp_path, 16384)
        self.tap = Tap(self.ring, 1)
        self.counters = Counters()
        self.meter = Meter(self.counters, "session-1", self.tap if tapped else None)

    def counted(self, *metrics: object) -> list[int]:
        return [self.counters[metric, direction] for metric in metrics for direction in ("client", "server")]  # type: ignore[index]


def test_a_sessions_bytes_are_counted_once(tmp_path: Path) -> None:
    session = Metered(tmp_path)
    assert session.counters[SESSIONS_OPEN] == 1
    session.meter.look((10, 3), 1.0)
    session.meter.look((10, 4), 2.0)
    session.meter.finish((12, 4), 2.5)
    assert session.counted(BYTES, GAP_BYTES, LEFT_OUT_BYTES) == [12, 4, 0, 0, 0, 0]
    assert [session.counters[metric] for metric in (SESSIONS_OPENED, SESSIONS_OPEN, SESSIONS_UNRECORDED)] == [1, 0, 0]


def test_what_is_not_recorded_on_purpose_is_left_out(tmp_path: Path) -> None:
    session = Metered(tmp_path, tapped=False)
    session.meter.look((7, 2), 1.0)
    assert session.counters[SESSIONS_UNRECORDED] == 1
    session.meter.finish((7, 2), 1.5)
    assert session.counted(GAP_BYTES, LEFT_OUT_BYTES) == [0, 0, 7, 2]
    assert session.counters[SESSIONS_UNRECORDED] == 0


def test_gaps_are_loud_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    session = Metered(tmp_path)
    for at in (0.0, 1.0, 59.0, 61.0, 62.0):
        session.tap.chunk(CLIENT, bytes(20_000))
        session.meter.look((0, 0), at)
    assert [entry.getMessage().split()[0] for entry in caplog.records] == ["20000", "60000"]
    assert {vars(entry)["session_id"] for entry in caplog.records} == {"session-1"}
    assert {entry.levelname for entry in caplog.records} == {"ERROR"}
    assert session.counted(GAP_BYTES) == [100_000, 0]
    assert session.counters[GAPS] == 1


def test_left_out_and_lost_are_told_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    session = Metered(tmp_path)
    session.tap.chunk(SERVER, bytes(20_000))  # too large for the ring
    session.tap.stop("stopped by request")
    session.tap.chunk(SERVER, bytes(300))
    session.tap.chunk(CLIENT, bytes(5))
    session.meter.look((5, 20_300), 1.0)
    assert session.counted(GAP_BYTES, LEFT_OUT_BYTES) == [0, 20_000, 5, 300]
    assert session.counters[SESSIONS_UNRECORDED] == 1
    assert len(caplog.records) == 1
