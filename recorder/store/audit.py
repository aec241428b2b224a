"""The audit record, DATA/audit.jsonl: what was removed from a store, when and why, and nothing of what it was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from recorder.store import layout


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


def append(data_dir: Path, entry: Entry) -> None:
    """Add an entry, dated now, and force it to the disk. The caller holds `layout.rewriting`.

    Raises:
        OSError: the disk is full, or fails.
    """
    entry = msgspec.structs.replace(entry, at=datetime.now(UTC).isoformat(timespec="seconds"))
    add(data_dir, [msgspec.json.encode(entry)])


def add(data_dir: Path, entries: Iterable[bytes]) -> None:
    """Add entries as they were written, and force them to the disk.

    Raises:
        OSError: the disk is full, or fails.
    """
    content = b"".join(entry + b"\n" for entry in entries)
    if not content:
        return
    fd = os.open(path(data_dir), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    layout.sync_directory(data_dir)


def lines(data_dir: Path) -> list[bytes]:
    """Its entries as they were written, without what a crash left in the middle of one."""
    try:
        return [line for line in path(data_dir).read_bytes().splitlines() if line.endswith(b"}")]
    except FileNotFoundError:
        return []


def written_at(entry: bytes) -> str:
    """When an entry was written, ISO 8601 in UTC."""
    return msgspec.json.decode(entry, type=Entry).at
