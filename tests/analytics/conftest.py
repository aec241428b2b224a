"""Rows of `events` from a short form, so that a test case reads like a transcript."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from recorder.store import schema

OPENED_AT_NS = 1_800_000_000_000_000_000
CONTROL_FRAMES = {"websocket.close": 8, "websocket.ping": 9, "websocket.pong": 10}
IDS = ("event_id", "response_id", "item_id", "call_id", "previous_item_id", "output_index", "content_index")

Build = Callable[..., pa.Table]


def _lines(path: Path) -> Iterator[list[Any]]:
    """`[ms, direction, event, audio_ms?, repeat?]` a line; repeated events are `audio_ms` apart. `#` comments."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or line == "running":
            continue
        at_ms, direction, event, *more = json.loads(line)
        audio_ms = more[0] if more else None
        for step in range(more[1] if len(more) > 1 else 1):
            yield [None if at_ms is None else at_ms + step * (audio_ms or 0), direction, event, audio_ms]


def _row(session_id: str, position: int, line: list[Any]) -> dict[str, Any]:
    at_ms, direction, event, audio_ms = line
    fields = event if isinstance(event, dict) else {}
    kind = fields.get("type")
    at_ns = None if at_ms is None else round(at_ms * 1e6)
    return {
        "session_id": session_id,
        "position": position,
        "direction": direction,
        "recorded_at": None if at_ns is None else OPENED_AT_NS + at_ns,
        "monotonic_ns": at_ns,
        "type": kind,
        **{name: fields.get(name) for name in IDS},
        "payload": event if isinstance(event, str) else json.dumps(event),
        "audio_ms": audio_ms,
        "opcode": None if direction == "recorder" else fields.get("opcode", CONTROL_FRAMES.get(kind or "", 1)),
        "wire_bytes": 0,
        "redacted": False,
    }


def build_events(path: Path, session_id: str = "session-1") -> pa.Table:
    """The events of one session: opened at 0 ms and closed with its last line, where a case does not say so itself.

    The line `running` leaves the session open.
    """
    lines = list(_lines(path))
    last_ms = lines[-1][0]
    if lines[0][1] != "recorder":
        lines.insert(0, [None if last_ms is None else 0, "recorder", {"type": "recorder.session_opened"}, None])
    if lines[-1][1] != "recorder" and not path.read_text(encoding="utf-8").endswith("running\n"):
        lines.append([last_ms, "recorder", {"type": "recorder.session_closed", "closed_by": "client"}, None])
    rows = [_row(session_id, position, line) for position, line in enumerate(lines)]
    return pa.Table.from_pylist(rows, schema=schema.EVENTS)


@pytest.fixture(scope="session")
def build() -> Build:
    return build_events
