"""Every fault in every state of a session.

The other side sees what it would have seen without a proxy in between, the record says how it ended, nothing is left
behind in the worker, and the next session finds it in order.
"""

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Close, Opcode

from recorder.protocol.envelope import RecordKind
from recorder.protocol.frames import FrameDecoder
from recorder.proxy import farewell, logbook
from recorder.proxy import worker as worker_module
from recorder.store.spool import SpoolWriter
from tests.proxy.conftest import RunningWorker
from tests.proxy.fault_acts import FAULTS, SILENCE
from tests.proxy.fault_matrix import MATRIX, Cell, Record
from tests.proxy.fault_stage import Stage, eventually, read_rest
from tests.proxy.fault_states import STATES

GOODBYE = Close(1001, farewell.REASON).serialize()
CELLS = [(state, fault) for state, fault in product(STATES, FAULTS) if isinstance(MATRIX[state].get(fault), Cell)]


def test_no_cell_is_missing() -> None:
    missing = [(state, fault) for state, fault in product(STATES, FAULTS) if fault not in MATRIX.get(state, {})]
    assert missing == []
    assert {state: set(row) - set(FAULTS) for state, row in MATRIX.items() if set(row) - set(FAULTS)} == {}
    assert all(reason for row in MATRIX.values() for reason in row.values())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens every second happens more often."""
    monkeypatch.setattr(worker_module, "_SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(logbook, "_SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(farewell, "_SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(farewell, "_PATIENCE_SECONDS", 0.3)


@pytest.fixture
def new_stage(worker: Callable[..., RunningWorker], certificate: Path) -> Iterator[Callable[[str, str], Stage]]:
    stages: list[Stage] = []

    def make(state: str, fault: str) -> Stage:
        wanted = STATES[state]
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(20)
        settings: dict[str, Any] = {**wanted.settings, **(SILENCE if fault == "silence" else {})}
        if state == "draining" and fault == "silence":
            settings = {"drain_seconds": 0.3}
        if wanted.client_tls:
            settings["tls_cert"] = str(certificate)
        if wanted.upstream_tls:
            settings["upstream_ca"] = str(certificate)
        port = server.getsockname()[1]
        url = f"wss://localhost:{port}" if wanted.upstream_tls else f"ws://127.0.0.1:{port}"
        proxy = worker(url, **{"ring_bytes": 16 << 20, **settings})
        stages.append(Stage(proxy, server, certificate))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()
        stage.server.close()


@pytest.mark.parametrize(("state", "fault"), CELLS)
def test_a_fault_in_a_state(
    new_stage: Callable[[str, str], Stage], monkeypatch: pytest.MonkeyPatch, state: str, fault: str
) -> None:
    cell = MATRIX[state][fault]
    assert isinstance(cell, Cell)
    stage = new_stage(state, fault)
    recording = fault in {"recorder is killed", "disk is full"}
    if recording:
        stage.start_recorder()
    STATES[state].reach(stage)
    if stage.recorder is not None:
        drain(stage, monkeypatch, disk_is_full=fault == "disk is full")
    FAULTS[fault](stage)
    if cell.goes_on:
        bring_to_its_end(stage, state, ring_was_full=fault == "ring is full")
    else:
        if stage.client is not None:
            seen = read_rest(stage.client, until=cell.client, ended=stage.upstream_ended)
            check_end(*seen, cell.client, bytes(stage.down))
        if stage.upstream is not None:
            seen = read_rest(stage.upstream, until=cell.upstream, ended=stage.client_ended)
            check_end(*seen, cell.upstream, bytes(stage.up))
    stage.close()
    if stage.disk_is_full:
        stage.disk_is_full = False
        stage.kill_recorder()
    check_nothing_is_left(
        stage,
        stops=state == "draining" or fault == "worker is stopped",
        recorded=cell.record is not None and not recording,
    )
    check_record(stage, cell)


def drain(stage: Stage, monkeypatch: pytest.MonkeyPatch, *, disk_is_full: bool) -> None:
    really = SpoolWriter.append

    def append(spool: SpoolWriter, position: int, data: memoryview, pause: Callable[[], object]) -> None:
        if stage.disk_is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        really(spool, position, data, pause)

    monkeypatch.setattr(SpoolWriter, "append", append)
    stage.disk_is_full = disk_is_full
    assert stage.recorder is not None
    with suppress(OSError) if disk_is_full else nullcontext():
        stage.recorder.drain()


def bring_to_its_end(stage: Stage, state: str, *, ring_was_full: bool) -> None:
    STATES[state].go_on(stage)
    if ring_was_full:
        stage.drain_ring()
    if not STATES[state].ends:
        stage.talk()
        stage.finish()


def check_end(data: bytes, end: str, expected: str | None, pending: bytes) -> None:
    """What one side saw to the end is what the cell says; `pending` is what the other had sent before."""
    whole, part = data[: len(pending)] == pending, pending.startswith(data)  # megabytes, not to be shown
    after = data[len(pending) :]
    if expected == "end":
        assert whole or part
    elif expected == "reset":
        assert (end, part) == ("reset", True)  # a reset may overtake
    elif expected == "fin":
        assert (end, whole, after) == ("fin", True, b"")
    elif expected == "1001":
        assert (end, whole) == ("fin", True)
        (message,) = FrameDecoder("client" if after[1] & 0x80 else "server").feed(after)
        assert (message.opcode, message.data) == (Opcode.CLOSE, GOODBYE)
    else:
        assert expected is not None
        assert end == "fin"
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + expected.encode())
        assert b"Content-Length: %d" % len(body) in head


def has_ended(records: list[tuple[int, bytes]]) -> bool:
    return bool(records) and records[-1][0] == RecordKind.CLOSED


def check_nothing_is_left(stage: Stage, *, stops: bool, recorded: bool) -> None:
    if stops:
        stage.proxy.stop()  # waits for the worker's end
    else:
        eventually(stage.is_quiet, "no session, no task, no descriptor left")
        eventually(lambda: not recorded or has_ended(stage.drain_ring()), "the end is on record")
        stage.serves_another()


def check_record(stage: Stage, cell: Cell) -> None:
    records = stage.recorded()
    if cell.record is None:
        assert records == []
        return
    assert [kind for kind, _ in records].count(RecordKind.OPENED) == 1
    assert (records[0][0], records[-1][0]) == (RecordKind.OPENED, RecordKind.CLOSED)
    (closed,) = stage.facts(RecordKind.CLOSED)
    found = Record._make(closed.get(name) for name in Record._fields)
    assert found._replace(error="") == cell.record._replace(error="")
    assert bool(found.error) == bool(cell.record.error)
    assert cell.record.error in (found.error or "")
    missed = stage.facts(RecordKind.GAP)
    assert sum(gap["bytes"] for gap in missed) == closed["missed_bytes"]
    for direction, kind, said in (
        ("client", RecordKind.CLIENT_BYTES, stage.said_up),
        ("server", RecordKind.SERVER_BYTES, stage.said_down),
    ):
        kept = stage.bytes_of(kind)
        gaps = sum(gap["bytes"] for gap in missed if gap["direction"] == direction)
        in_order = said.startswith(kept)
        assert gaps or in_order
        assert len(kept) + gaps == len(said) if cell.goes_on else len(kept) <= len(said)
