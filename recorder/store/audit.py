"""The audit record, DATA/audit.jsonl: what was removed from a store, when and why, and nothing of what it was.

Each line ends with a digest of what stands before it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from recorder.store import layout

ERASE: Final = "erase"
_DIGITS: Final = 32
_LINE: Final = re.compile(rb'(\{.*),"digest":"([0-9a-f]{32})"\}', re.DOTALL)


class Entry(msgspec.Struct, omit_defaults=True):
    """One removal.

    Attributes:
        action: "erase", "prune" or "redact".
        sessions: how many sessions are concerned.
        events: how many events they have, or had.
        audio_sessions: of how many sessions the audio alone was removed.
        matches: how many texts were replaced.
        muted_ms: how much audio was silenced, in milliseconds.
        reason: the operator's words.
        session_digests: the SHA-256 of each session's id, so that whoever knows an id can see what became of it; not
            of sessions that were pruned.
        at: when, ISO 8601 in UTC.
    """

    action: str
    sessions: int = 0
    events: int = 0
    audio_sessions: int = 0
    matches: int = 0
    muted_ms: float = 0.0
    reason: str = ""
    session_digests: tuple[str, ...] = ()
    at: str = ""


def path(data_dir: Path) -> Path:
    """Where the record lies."""
    return data_dir / "audit.jsonl"


def digests(session_ids: Iterable[str]) -> tuple[str, ...]:
    """What stands for ids in the record."""
    return tuple(hashlib.sha256(session_id.encode()).hexdigest() for session_id in sorted(session_ids))


def erased(data_dir: Path) -> frozenset[str]:
    """The digests of all sessions that were erased."""
    entries = (msgspec.json.decode(line, type=Entry) for line in lines(data_dir))
    return frozenset(digest for entry in entries if entry.action == ERASE for digest in entry.session_digests)


def append(data_dir: Path, entry: Entry) -> None:
    """Add an entry, dated now, and force it to the disk. The caller holds `layout.rewriting`.

    Raises:
        OSError: the disk is full, or fails.
    """
    entry = msgspec.structs.replace(entry, at=datetime.now(UTC).isoformat(timespec="seconds"))
    text = msgspec.json.encode(entry)[:-1]
    add(data_dir, [b'%s,"digest":"%s"}' % (text, _digest(text))])


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_DIGITS].encode()


def add(data_dir: Path, entries: Iterable[bytes]) -> None:
    """Add entries as they were written, and force them to the disk.

    Raises:
        OSError: the disk is full, or fails.
    """
    content = b"".join(entry + b"\n" for entry in entries)
    if not content:
        return
    fd = os.open(path(data_dir), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        torn = size and os.pread(fd, 1, size - 1) != b"\n"  # by a crash: it must not take ours along
        os.write(fd, b"\n" + content if torn else content)
        os.fsync(fd)
    finally:
        os.close(fd)
    layout.sync_directory(data_dir)


def lines(data_dir: Path) -> list[bytes]:
    """Its entries as they were written, without those that are damaged."""
    return [line for line in _all(data_dir) if _is_sound(line)]


def damaged(data_dir: Path) -> list[int]:
    """The numbers of lines, from 1, that are not as they were written."""
    return [number for number, line in enumerate(_all(data_dir), 1) if not _is_sound(line)]


def _all(data_dir: Path) -> list[bytes]:
    try:
        return path(data_dir).read_bytes().removesuffix(b"\n").split(b"\n")
    except FileNotFoundError:
        return []


def _is_sound(line: bytes) -> bool:
    found = _LINE.fullmatch(line)
    return found is not None and _digest(found[1]) == found[2]


def written_at(entry: bytes) -> str:
    """When an entry was written, ISO 8601 in UTC."""
    return msgspec.json.decode(entry, type=Entry).at
