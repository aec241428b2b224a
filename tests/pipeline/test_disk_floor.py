"""A disk that fills: journals wait, workers are told, and all goes on when there is room again."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from recorder.pipeline import record
from recorder.pipeline.drain import DiskLowError, Drain
from recorder.protocol.envelope import RecordKind
from recorder.store import layout
from recorder.store.counters import DISK_FREE, DISK_LOW, ERROR, FSYNC, SPOOL_BYTES, Counters
from recorder.store.ring import RingWriter
from recorder.store.ring_reader import parse
from recorder.store.spool import SpoolTail, list_spools

FLOOR = 100 << 20


class Disk:
    """What the recorder process is told about free space."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 2 * FLOOR
        self.asked = threading.Event()
        monkeypatch.setattr(os, "statvfs", self._statvfs)

    def _statvfs(self, _: Path) -> SimpleNamespace:
        self.asked.set()
        return SimpleNamespace(f_bavail=self.free // 4096, f_frsize=4096)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[RingWriter]:
    layout.create(tmp_path)
    writer = RingWriter(tmp_path / "rings", 1 << 16)
    facts = {"session_id": "session-1", "ring": writer.name, "session_no": 1}
    writer.append(RecordKind.OPENED, 1, 1000, msgspec.json.encode(facts))
    yield writer
    writer.close()


def said(tmp_path: Path) -> list[bytes]:
    """What is on the spools, but for the facts."""
    found = []
    for spool in list_spools(tmp_path):
        tail = SpoolTail(spool.path)
        for block in tail.blocks(finished=False):
            found += [bytes(one.data) for one in parse(block.position, block.data) if one.kind != RecordKind.OPENED]
        tail.close()
    return found


def test_below_the_floor_rings_keep_what_they_can_and_above_it_all_is_written(
    tmp_path: Path, ring: RingWriter, disk: Disk
) -> None:
    counters = Counters()
    drain = Drain(tmp_path, tmp_path / "rings", counters, FLOOR)
    opened_bytes = ring.used_bytes()
    assert (drain.drain(), ring.held_back) == (opened_bytes, False)
    disk.free = FLOOR - 4096
    assert ring.append(RecordKind.CLIENT_BYTES, 1, 2000, b"kept")
    with pytest.raises(DiskLowError, match="99 MiB free, and the floor is 100 MiB"):
        drain.drain()
    assert (ring.held_back, counters[DISK_LOW], counters[DISK_FREE]) == (True, 1, FLOOR - 4096)
    assert said(tmp_path) == []
    disk.free = FLOOR + 4096  # not yet: it would be low again at once
    with pytest.raises(DiskLowError):
        drain.drain()
    disk.free = 2 * FLOOR
    assert drain.drain() == 32
    drain.sync()
    assert (ring.held_back, counters[DISK_LOW]) == (False, 0)
    assert said(tmp_path) == [b"kept"]
    assert counters[SPOOL_BYTES] == list_spools(tmp_path)[0].path.stat().st_size - 8  # its magic
    assert counters[FSYNC] == 1
    drain.close()


def test_the_process_says_so_once_and_recovers(
    tmp_path: Path, ring: RingWriter, disk: Disk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_RETRY_SECONDS", 0.01)
    disk.free = 0
    counters = Counters()
    inner, outer = os.pipe()
    process = threading.Thread(
        target=record.run,
        args=(tmp_path, tmp_path / "rings", inner),
        kwargs={"disk_floor_bytes": FLOOR, "counters": counters, "sync_seconds": 0.05},
    )
    process.start()
    for _ in range(3):
        disk.asked.clear()
        assert disk.asked.wait(20)
    assert said(tmp_path) == []
    disk.free = 2 * FLOOR
    disk.asked.clear()
    assert disk.asked.wait(20)
    os.write(outer, b".")
    os.close(outer)
    process.join(20)
    os.close(inner)
    assert not process.is_alive()
    assert len(list_spools(tmp_path)) == 1
    assert counters[ERROR, "disk_floor"] == 1
    told = [entry.getMessage() for entry in caplog.records]
    assert told[0].startswith("cannot write spools: 0 MiB free")
    assert told[1:2] == ["spools can be written again"]


def test_what_is_left_in_the_rings_at_the_end_is_said(
    tmp_path: Path, ring: RingWriter, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.free = 0
    inner, outer = os.pipe()
    os.write(outer, b".")
    os.close(outer)
    record.run(tmp_path, tmp_path / "rings", inner, disk_floor_bytes=FLOOR)
    os.close(inner)
    told = caplog.records[-1]
    assert told.levelname == "ERROR"
    assert told.getMessage() == (
        f"{ring.used_bytes()} bytes that could not be written stay in {tmp_path}/rings: "
        "the next start on this data directory brings them in, a reboot loses them"
    )
