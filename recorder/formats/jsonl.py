"""JSON Lines in and out: `open_recording` for what can be imported, `export` for a session of a store."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from recorder.errors import ImportFormatError
from recorder.formats.foreign_session import ForeignSession
from recorder.formats.lines import read_lines
from recorder.formats.own_jsonl import OwnSession, export_line, is_own
from recorder.protocol.envelope import RecordedEvent

SUFFIXES = frozenset({".jsonl", ".ndjson"})
"""Names that are looked for in directories; a file that is named itself may be called anything."""

Recording = OwnSession | ForeignSession


def open_recording(path: Path) -> Recording:
    """Check a whole file, and tell which session it holds; its `events()` are then made as they are asked for.

    Raises:
        ImportFormatError: it cannot be read, or a line of it is wrong.
    """
    first = next(read_lines(path), None)
    if first is None:
        raise ImportFormatError(str(path), None, "the file is empty")
    return OwnSession(path) if is_own(first.fields()) else ForeignSession(path)


def export(events: Iterable[RecordedEvent], file: BinaryIO) -> int:
    """Write a session's events, parts included, as lines. Returns how many."""
    count = 0
    for event in events:
        file.write(export_line(event))
        count += 1
    return count
