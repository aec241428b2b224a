"""What can be imported: tells a file's format, and opens the sessions in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from recorder.errors import ImportFormatError
from recorder.formats import bundle, flows, har, jsonl
from recorder.formats.bundle import BundledSession
from recorder.formats.foreign_session import ForeignSession
from recorder.formats.lines import MAX_FILE_BYTES
from recorder.formats.own_jsonl import OwnSession

SUFFIXES: Final = jsonl.SUFFIXES | {har.SUFFIX} | flows.SUFFIXES
"""Names that are looked for in directories; a file that is named itself may be called anything."""

Recording = OwnSession | ForeignSession | BundledSession
_START_BYTES: Final = 4096


def open_recordings(path: Path) -> Sequence[Recording]:
    """Check a whole file, and tell which sessions it holds; their `events()` are made as they are asked for.

    Raises:
        ImportFormatError: it cannot be read, something in it is wrong, or it holds no session.
    """
    start = _start(path)
    if start.startswith(bundle.START):
        return bundle.read_bundle(path)
    if har.is_har(path, start):
        return har.read_har(path)
    is_called_so = path.suffix.lower() in flows.SUFFIXES and not start.lstrip().startswith(b"{")
    if flows.is_flow_file(start) or is_called_so:
        return flows.read_flows(path)
    return [jsonl.open_recording(path)]


def _start(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ImportFormatError(str(path), None, "not a file" if path.exists() else "no such file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ImportFormatError(str(path), None, f"larger than {MAX_FILE_BYTES >> 30} GiB")
        with path.open("rb") as file:
            start = file.read(_START_BYTES)
    except OSError as error:
        raise ImportFormatError(str(path), None, error.strerror or str(error)) from error
    if not start:
        raise ImportFormatError(str(path), None, "the file is empty")
    return start
