"""Journals: one append-only file per session, the truth until its segment is sealed.

The recorder process is the only writer. A file starts with an 8-byte magic; then come frames of a 32-byte header
(CRC-32 of all that follows it, data length, ring position, time, kind) and data. The ring position orders the
frames and makes writing idempotent: a record that is drained twice, because its writer died between the write
and the release of the ring, is read once.

A running session's file is `<session>.journal`. After its CLOSED record it is renamed `<session>.closed.journal`,
which is what the sealer looks for.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from recorder.errors import NewerFormatError, StoreError
from recorder.protocol.envelope import Record, RecordKind

MAGIC: Final = b"RTJRNL\x00\x01"
Buffer = bytes | memoryview

RUNNING: Final = ".journal"
CLOSED: Final = ".closed.journal"

_FRAME = struct.Struct("<IIQQQ")  # crc, data length, ring position, monotonic ns, kind
_HEADER: Final = _FRAME.size
_CRC = struct.Struct("<I")
_TAIL = struct.Struct("<IQQQ")  # what the CRC covers of the header
_READ: Final = 4 << 20
_PIECES_AT_ONCE: Final = 1024  # IOV_MAX
_MAX_DATA: Final = 1 << 26  # no record is larger: chunks are socket reads, facts are bounded by the header limit


class JournalFile(NamedTuple):
    """A journal on disk."""

    session_id: str
    path: Path
    closed: bool


def journal_directory(data_dir: Path) -> Path:
    """Where a store's journals lie."""
    return data_dir / "journal"


def list_journals(data_dir: Path) -> list[JournalFile]:
    """A store's journals by session id; a session that is in both states at once counts as closed."""
    found: dict[str, JournalFile] = {}
    try:
        paths = list(journal_directory(data_dir).iterdir())
    except FileNotFoundError:
        return []
    for path in sorted(paths, key=lambda path: path.name.endswith(CLOSED)):
        suffix = CLOSED if path.name.endswith(CLOSED) else RUNNING
        if path.name.endswith(suffix):
            session_id = path.name.removesuffix(suffix)
            found[session_id] = JournalFile(session_id, path, suffix == CLOSED)
    return [found[session_id] for session_id in sorted(found)]


def frame_header(position: int, at_ns: int, kind: int, data: Buffer) -> bytes:
    """What stands before a record's data in a journal."""
    tail = _TAIL.pack(len(data), position, at_ns, kind)
    return _CRC.pack(zlib.crc32(data, zlib.crc32(tail))) + tail


def encode_frame(position: int, at_ns: int, kind: int, data: bytes) -> bytes:
    """One record as it stands in a journal."""
    return frame_header(position, at_ns, kind, data) + data


class JournalWriter:
    """Appends to one session's journal.

    Opening an existing journal cuts off a torn frame at its end, left by a writer that was killed in mid-write.

    Attributes:
        last_position: the ring position of the last record in it, -1 for none.
        ended: whether an earlier writer has put the CLOSED record in.
        size: of the file, in bytes.
    """

    def __init__(self, data_dir: Path, session_id: str) -> None:
        directory = journal_directory(data_dir)
        self.session_id = session_id
        self.path = directory / (session_id + RUNNING)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.last_position = -1
        self.ended = False
        self.size = os.fstat(self._fd).st_size
        try:
            if self.size < len(MAGIC):
                os.ftruncate(self._fd, 0)
                self.size = 0
                self.write(MAGIC)
            else:
                self._recover()
        except OSError:
            os.close(self._fd)
            raise

    def _recover(self) -> None:
        tail = JournalTail(self.path)
        for position, record in tail.frames():
            self.last_position = max(self.last_position, position)
            self.ended = record.kind == RecordKind.CLOSED
        if tail.offset < self.size:
            os.ftruncate(self._fd, tail.offset)
            self.size = tail.offset
        tail.close()

    def write(self, *pieces: Buffer) -> None:
        """Append whole frames, in pieces, or nothing.

        Raises:
            OSError: the disk is full or failing; the file is as it was before.
        """
        end = self.size
        try:
            for start in range(0, len(pieces), _PIECES_AT_ONCE):
                end = self._write_at(end, pieces[start : start + _PIECES_AT_ONCE])
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size = end

    def _write_at(self, offset: int, pieces: Sequence[Buffer]) -> int:
        """Returns where they end."""
        end = offset + sum(map(len, pieces))
        while (offset := offset + os.pwritev(self._fd, pieces, offset)) < end:  # cut short: the disk fills up
            pieces = [memoryview(b"".join(pieces))[offset - end :]]
        return end

    @property
    def is_empty(self) -> bool:
        """Whether it holds no record."""
        return self.size <= len(MAGIC)

    def sync(self) -> None:
        """Force what was written to the disk."""
        os.fdatasync(self._fd)

    def close(self, *, finished: bool) -> None:
        """Close the file; `finished` says that its CLOSED record is in, so that the sealer may have it."""
        if finished:
            os.fdatasync(self._fd)
            self.path.rename(self.path.with_name(self.session_id + CLOSED))
        os.close(self._fd)


class JournalTail:
    """Reads a journal from its start on, each record once, while it may still grow.

    Keeps the file open, so that renaming or unlinking it does not matter.

    Attributes:
        offset: the end of the last whole frame that was read, in bytes.

    Raises:
        FileNotFoundError: there is no such journal (any more).
        StoreError: the file is no journal.
        NewerFormatError: a newer version wrote it.
    """

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._salvage = salvage
        self.offset = 0
        self._last_position = -1
        try:
            self._check_magic()
        except StoreError:
            self.close()
            raise

    def _check_magic(self) -> None:
        magic = os.pread(self._fd, len(MAGIC), 0)
        if len(magic) < len(MAGIC):
            return  # just created
        if magic != MAGIC:
            if magic[:-1] == MAGIC[:-1]:
                raise NewerFormatError(str(self.path), magic[-1], MAGIC[-1])
            raise StoreError(f"{self.path} is not a journal", hint="Move it out of the journal directory.")
        self.offset = len(MAGIC)

    def read(self) -> list[Record]:
        """Records added since the last call. A damaged stretch becomes one GAP record."""
        return [record for _, record in self.frames()]

    def frames(self) -> Iterator[tuple[int, Record]]:
        """Like `read`, with each record's ring position (-1 for damage)."""
        if self.offset == 0:
            self._check_magic()
        buffer = bytearray()
        while self.offset:
            chunk = os.pread(self._fd, _READ, self.offset + len(buffer))
            buffer += chunk
            used = 0
            while (found := self._next(buffer, used, at_end=not chunk)) is not None:
                position, record, used = found
                if position > self._last_position or position < 0:
                    self._last_position = max(self._last_position, position)
                    yield position, record
            self.offset += used
            del buffer[:used]
            if not chunk:
                return

    def _next(self, buffer: bytearray, start: int, *, at_end: bool) -> tuple[int, Record, int] | None:
        """The next frame, past damage if need be.

        A frame that ends beyond the file is still being written, or torn by a kill; only in a finished file can its
        length be wrong (`salvage`).
        """
        frame = _parse(buffer, start)
        if isinstance(frame, tuple):
            return frame
        if frame == _INCOMPLETE and not (self._salvage and at_end):
            return None
        for later in range(start + 1, len(buffer) - _HEADER + 1):
            if isinstance(_parse(buffer, later), tuple):
                facts = {"direction": "recorder", "bytes": later - start, "reason": "journal damaged"}
                return -1, Record(RecordKind.GAP, 0, msgspec.json.encode(facts)), later
        return None

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


_INCOMPLETE: Final = "incomplete"
_DAMAGED: Final = "damaged"


def _parse(buffer: bytearray, start: int) -> tuple[int, Record, int] | str:
    """The frame at `start` as (position, record, end), or why there is none."""
    if start + _HEADER > len(buffer):
        return _INCOMPLETE
    crc, length, position, at_ns, kind = _FRAME.unpack_from(buffer, start)
    if length > _MAX_DATA or not RecordKind.OPENED <= kind <= RecordKind.CLOSED:
        return _DAMAGED
    end = start + _HEADER + length
    if end > len(buffer):
        return _INCOMPLETE
    with memoryview(buffer) as view:
        if zlib.crc32(view[start + 4 : end]) != crc:
            return _DAMAGED
        data = bytes(view[start + _HEADER : end])
    return position, Record(kind, at_ns, data), end


def read_journal(path: Path) -> Iterator[Record]:
    """Every whole record of a journal that nobody writes any more, once, in order."""
    tail = JournalTail(path, salvage=True)
    try:
        for _, record in tail.frames():
            yield record
    finally:
        tail.close()
