"""`python -m benchmarks sealing`: what sealing a recorded call costs, as processor time of one core, by stage.

It runs as the sealer of an installation does: compiled where there is a compiler, and with what `recorder proxy` tells
the C library about memory. The call is that of `benchmarks.storage`, ten minutes unless told otherwise; its messages
are put into a journal as the recorder process writes them, masked where the client sent them. Figures are the best of
several rounds. Short calls are also sealed together, as many as end while the sealer rests on a busy machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.table import Table
from websockets.frames import Frame, Opcode

from benchmarks.build import ROOT, compiled_recorder, default_cache
from benchmarks.processes import BenchmarkError
from benchmarks.storage import made_up_call
from recorder.analytics.engine import run_models
from recorder.cli.proxy_run import MALLOC, MALLOC_OF_SEALER
from recorder.pipeline.decoding import JournalDecoder
from recorder.pipeline.seal import seal_all
from recorder.protocol.envelope import RecordKind
from recorder.store import layout, segments, session_tables
from recorder.store.journal import MAGIC, encode_frame
from recorder.store.journal_files import JournalFile, journal_directory, journal_name

GOAL_EVENTS_A_SECOND: Final = 90_000
GOAL_SMALL_SECONDS: Final = 0.100
SHORT_MINUTES: Final = 0.2
TOGETHER: Final = 16
_SESSION: Final = "019c1410-7c00-7000-8000-000000000001"
_OPENED_NS: Final = 1_769_860_800_000_000_000

_T = TypeVar("_T")


def run_installed(console: Console, *, rounds: int = 5) -> bool:
    """`run` in a process that is as the sealer of an installation; whether the goals are reached."""
    try:
        tree = compiled_recorder(default_cache())
    except BenchmarkError as error:
        console.print(f"{error.message}: so all is interpreted")
        tree = ROOT
    code = f"import sys; from benchmarks import sealing; sys.exit(not sealing.run(sealing.Console(), rounds={rounds}))"
    environment = {MALLOC: MALLOC_OF_SEALER} | os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], cwd=tree, env=environment, check=False).returncode == 0


def run(console: Console, *, minutes: float = 10.0, rounds: int = 5) -> bool:
    """Measure and print; whether the goals are reached."""
    table = Table(
        "call", "events", "read, decode, rows, audio", "models", "files", "sealed, all in all", "events a second"
    )
    seconds: list[float] = []
    rates: list[float] = []
    for length in (SHORT_MINUTES, minutes):
        journal = _journal(length)
        measured = [_stages(journal) for _ in range(rounds)]
        events = measured[0][0]
        best = [min(each[1][stage] for each in measured) for stage in range(4)]
        seconds.append(best[-1])
        rates.append(events / best[-1])
        cells = [f"{value * 1000:,.0f} ms, {value / events * 1e6:.1f} µs an event" for value in best]
        table.add_row(f"{length:g} min", f"{events:,}", *cells, f"{rates[-1]:,.0f}")
    console.print(table)
    together = min(_together() for _ in range(rounds)) / TOGETHER
    console.print(f"{TOGETHER} calls of {SHORT_MINUTES:g} min that end together: {together * 1000:,.0f} ms each")
    console.print(
        f"goals: {GOAL_EVENTS_A_SECOND:,} events a second, {GOAL_SMALL_SECONDS * 1000:.0f} ms for the short call"
    )
    return rates[-1] >= GOAL_EVENTS_A_SECOND and seconds[0] <= GOAL_SMALL_SECONDS


def _stages(content: bytes) -> tuple[int, list[float]]:
    """How many events a journal holds, and what its stages take, and all of it at once, in seconds."""
    with tempfile.TemporaryDirectory(prefix="recorder-sealing-") as folder:
        data_dir = Path(folder)
        layout.create(data_dir)
        journal = _put(data_dir, _SESSION, content)
        rows = chain.from_iterable(JournalDecoder().read(journal, finished=True))
        collecting, (tables, stored) = _timed(lambda: _collect(rows))
        modelling, derived = _timed(lambda: run_models(tables.events()))
        writing, _ = _timed(lambda: segments.write(data_dir, "2026-01-31", _SESSION, stored | derived))
        shutil.rmtree(data_dir / "segments")
        sealing, report = _timed(lambda: seal_all(data_dir))
        assert report.sealed == [_SESSION]
        return tables.count, [collecting, modelling, writing, sealing]


def _together() -> float:
    """What sealing several short calls at once takes, in seconds."""
    ids = [f"{_SESSION[:-12]}{number:012}" for number in range(TOGETHER)]
    with tempfile.TemporaryDirectory(prefix="recorder-sealing-") as folder:
        data_dir = Path(folder)
        layout.create(data_dir)
        for session_id in ids:
            _put(data_dir, session_id, _journal(SHORT_MINUTES, session_id))
        sealing, report = _timed(lambda: seal_all(data_dir))
        assert sorted(report.sealed) == ids
        return sealing


def _put(data_dir: Path, session_id: str, content: bytes) -> JournalFile:
    path = journal_directory(data_dir) / journal_name(session_id, 0, closed=True)
    path.write_bytes(content)
    return JournalFile(session_id, path, closed=True)


def _collect(rows: Any) -> tuple[session_tables.SessionTables, dict[str, Any]]:
    tables = session_tables.collect(_SESSION, rows)
    return tables, tables.data_sets()


def _timed(act: Callable[[], _T]) -> tuple[float, _T]:
    began = time.process_time()
    result = act()
    return time.process_time() - began, result


def _journal(minutes: float, session_id: str = _SESSION) -> bytes:
    """A journal of a call of this length."""
    frames = [MAGIC]
    position = 0

    def record(kind: RecordKind, at_ns: int, data: bytes) -> None:
        nonlocal position
        frames.append(encode_frame(position, at_ns, kind, data))
        position += len(data) + 32

    facts = {"session_id": session_id, "source": "proxy", "opened_at_ns": _OPENED_NS, "monotonic_ns": 0}
    record(RecordKind.OPENED, 0, json.dumps(facts).encode())
    record(RecordKind.ACCEPTED, 1, b'{"status":101,"headers":[]}')
    last_ns = 1
    for event in made_up_call(minutes):
        if event.direction == "recorder":
            continue
        is_client = event.direction == "client"
        kind = RecordKind.CLIENT_BYTES if is_client else RecordKind.SERVER_BYTES
        last_ns = event.monotonic_ns or last_ns
        record(kind, last_ns, Frame(Opcode.TEXT, event.message()).serialize(mask=is_client))
    record(RecordKind.CLOSED, last_ns, b'{"closed_by":"client"}')
    return b"".join(frames)
