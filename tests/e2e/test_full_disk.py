"""A disk of the store's own that is really full for a while, with every process of the proxy at work on it."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import pytest
from websockets.frames import Frame, Opcode

from recorder.pipeline.catalog import Catalog
from recorder.store.journal_files import list_journals
from recorder.store.spool import list_spools
from tests.e2e.conftest import PATIENCE, RecorderProcess, eventually, free_port
from tests.e2e.test_life_cycle import Echo, call
from tests.e2e.test_observability import Admin
from tests.proxy.conftest import read_exactly

Run = Callable[..., RecorderProcess]

DISK_MIB: Final = 192
MESSAGE_BYTES: Final = 8000
SUMS: Final = """
SELECT session_id, CAST(sum(CASE WHEN type = 'recorder.gap' THEN 0 ELSE wire_bytes END) AS BIGINT) AS kept,
  CAST(sum(CASE WHEN type = 'recorder.gap' THEN CAST(payload ->> 'bytes' AS BIGINT) ELSE 0 END) AS BIGINT) AS stated
FROM events GROUP BY 1
"""
CLOSED: Final = """
SELECT session_id,
  CAST(payload ->> 'client_bytes' AS BIGINT) + CAST(payload ->> 'server_bytes' AS BIGINT) AS forwarded
FROM events WHERE type = 'recorder.session_closed'
"""


@pytest.fixture
def disk(data: Path) -> Iterator[Path]:
    """The store, on a small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", str(data)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs the program mount")
    if done.returncode:
        pytest.skip(f"needs the right to mount a file system: {done.stderr.strip()}")
    yield data
    subprocess.run(["umount", "--lazy", str(data)], check=True)


class Caller:
    """A call that says something and hears it back, on and on."""

    def __init__(self, proxy: RecorderProcess, number: int) -> None:
        self.said = 0
        self.failure: Exception | None = None
        self._number = number
        self._client = call(proxy.address)
        self._hung_up = threading.Event()
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()

    def _talk(self) -> None:
        try:
            while not self._hung_up.wait(0.02):
                words = f'{{"type":"said","event_id":"said_{self._number}_{self.said}","pad":"'.encode()
                frame = Frame(Opcode.TEXT, words.ljust(MESSAGE_BYTES, b".") + b'"}').serialize(mask=True)
                self._client.sendall(frame)
                assert read_exactly(self._client, len(frame)) == frame
                self.said += 1
        except (OSError, AssertionError) as failure:
            self.failure = failure

    def hang_up(self) -> None:
        self._hung_up.set()
        self._thread.join(PATIENCE)
        self._client.close()


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    return filler


@pytest.mark.parametrize("ring_mb", [64, 1], ids=["the ring holds it", "the ring overflows"])
def test_nothing_is_lost_but_what_is_stated_and_no_call_is_harmed(run: Run, disk: Path, ring_mb: int) -> None:
    with closing(Echo()) as echo:
        port = free_port()
        proxy = run(
            *("proxy", "--listen", "127.0.0.1:0", "--upstream", echo.url, "--data", str(disk), "--disk-floor-mb", "0"),
            *("--ring-mb", str(ring_mb), "--seal-seconds", "0.5", "--admin", f"127.0.0.1:{port}"),
        )
        admin = Admin(port)

        def number(metric: str) -> float:
            return admin.metrics().get(metric, 0)

        callers = [Caller(proxy, number) for number in range(4)]
        eventually(lambda: any(disk.glob("manifests/*/*.json")), "parts of running calls are sealed")
        filler = fill(disk)
        eventually(lambda: number('recorder_errors_total{cause="spool_write"}') > 0, "the spool's disk is full")
        callers[0].hang_up()  # a call that ends meanwhile, and one that begins
        callers.append(Caller(proxy, 4))
        said = [caller.said for caller in callers]
        eventually(
            lambda: all(
                one.failure or one.said > before + 20 for one, before in zip(callers[1:], said[1:], strict=True)
            ),
            "calls go on",
        )
        if ring_mb == 1:
            eventually(lambda: number("recorder_gaps_total") > 0, "the ring is full")
        filler.unlink()
        eventually(lambda: number("recorder_ring_fill_ratio") < 0.01, "the rings are drained")
        said = [caller.said for caller in callers]
        eventually(
            lambda: all(one.failure or one.said > 20 + n for one, n in zip(callers[1:], said[1:], strict=True)), "on"
        )
        for caller in callers:
            caller.hang_up()
        eventually(lambda: number("recorder_sessions_sealed_total") >= len(callers), "sealed")
        seen = admin.metrics()
        assert proxy.stop() == 0
    assert [caller.failure for caller in callers] == [None] * len(callers)
    assert {name: value for name, value in seen.items() if "restarts" in name and value} == {}
    assert seen["recorder_sessions_quarantined_total"] == 0
    assert (list_journals(disk), list_spools(disk)) == ([], [])
    with Catalog(disk) as catalog:
        sums = {name: (kept, stated) for name, kept, stated in catalog.query(SUMS).rows()}
        forwarded = dict(catalog.query(CLOSED).rows())
        stored = catalog.query("SELECT count(*) FROM events WHERE event_id LIKE 'said_%'").item()
        twice = catalog.query(
            "SELECT count(*) - count(DISTINCT (direction, event_id)) FROM events WHERE event_id LIKE 'said_%'"
        ).item()
    assert len(forwarded) == len(callers)
    assert {name: sum(both) for name, both in sums.items()} == forwarded
    gaps = sum(stated for _, stated in sums.values())
    assert gaps == sum(value for name, value in seen.items() if name.startswith("recorder_gap_bytes_total"))
    assert (gaps > 0) == (ring_mb == 1)
    assert twice == 0
    assert stored <= 2 * sum(caller.said for caller in callers)
    if ring_mb > 1:
        assert stored == 2 * sum(caller.said for caller in callers)
