"""Journals: append-only files, one session in each, the truth until its segment is sealed.

The sorter is the only writer. A file starts with an 8-byte magic; then come frames of a 32-byte header
(CRC-32 of all that follows it, data length, ring position, time, kind) and data. The ring position orders the
frames and makes writing idempotent: a record that is written twice, because a process died before it could let go of
it, is read once.

A session begins in `<session>.journal`. A long one goes on in `<session>.00001.journal` and so on: once the next part
is there and holds a frame, nothing more is written to the one before, and the sealer may have it. Each part begins
with the session's facts over again, in a frame with the ring position of the last record before it; so a session is
known by its last part alone, and what is missing between two parts shows. After its CLOSED record the last part is
renamed `….closed.journal`.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from isal.isal_zlib import crc32

from recorder.errors import StoreError
from recorder.protocol.envelope import Record, RecordKind, gap_facts
from recorder.store.journal_files import JournalFile, journal_directory, journal_name
from recorder.store.magic import has_begun
from recorder.store.syncing import begin_sync

MAGIC: Final = b"RTJRNL\x00\x01"
Buffer = bytes | memoryview


_FRAME = struct.Struct("<IIQQQ")  # crc, data length, ring position, monotonic ns, kind
_HEADER: Final = _FRAME.size
_CRC = struct.Struct("<I")
_TAIL = struct.Struct("<IQQQ")  # what the CRC covers of the header
_READ: Final = 1 << 18  # what is read at once stays in the processor's cache until it is decoded
_BATCH_BYTES: Final = 1 << 19
_MAX_DATA: Final = 1 << 26  # no record is larger: chunks are socket reads, facts are bounded by the header limit


def holds_frames(path: Path) -> bool:
    """Whether a journal has begun. One that a power cut took the content of has not: what is before it goes on."""
    try:
        tail = JournalTail(path)
    except (StoreError, FileNotFoundError):
        return False
    try:
        return next(tail.frames(), None) is not None
    finally:
        tail.close()


def finished(journals: Sequence[JournalFile]) -> list[JournalFile]:
    """Of one session's journals, in order, those to which nothing more will be written."""
    if not journals or journals[-1].closed:
        return list(journals)
    return list(journals[:-1]) if holds_frames(journals[-1].path) else list(journals[:-2])


def frame_header(position: int, at_ns: int, kind: int, data: Buffer) -> bytes:
    """What stands before a record's data in a journal."""
    tail = _TAIL.pack(len(data), position, at_ns, kind)
    return _CRC.pack(crc32(data, crc32(tail))) + tail


def encode_frame(position: int, at_ns: int, kind: int, data: bytes) -> bytes:
    """One record as it stands in a journal."""
    return frame_header(position, at_ns, kind, data) + data


class JournalWriter:
    """Appends to one session's journal.

    Opening an existing journal cuts off a torn frame at its end, left by a writer that was killed in mid-write. The
    file stays open; whoever writes to thousands can `park` some, which are opened again where there is need.

    Args:
        data_dir: the store.
        session_id: whose.
        part: which of its journals.
        hidden: begin it anew, under a name that nobody looks for.

    Attributes:
        last_position: the ring position of the last record in it, -1 for none.
        ended: whether an earlier writer has put the CLOSED record in.
        size: of the file, in bytes.
        started_at: when it was opened, on the monotonic clock, in seconds.
    """

    def __init__(self, data_dir: Path, session_id: str, part: int = 0, *, hidden: bool = False) -> None:
        directory = journal_directory(data_dir)
        self.session_id = session_id
        self.part = part
        self.path = directory / (("." if hidden else "") + journal_name(session_id, part))
        self.started_at = time.monotonic()
        self._rolled = False
        self._facts_end = len(MAGIC)
        anew = os.O_TRUNC if hidden else 0
        self._open = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | anew, 0o600)
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
            self.park()
            raise

    @property
    def _fd(self) -> int:
        if self._open < 0:
            self._open = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        return self._open

    def park(self) -> None:
        """Close the file for now."""
        if self._open >= 0:
            os.close(self._open)
            self._open = -1

    def _recover(self) -> None:
        tail = JournalTail(self.path)
        for position, record in tail.frames():
            if self.last_position < 0 and record.kind == RecordKind.OPENED:
                self._facts_end = len(MAGIC) + _HEADER + len(record.data)
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
        view = memoryview(b"".join(pieces))  # a copy costs less than what `pwritev` does for each piece
        written = 0
        try:
            while written < len(view):
                written += os.pwrite(self._fd, view[written:], self.size + written)
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size += written

    @property
    def is_empty(self) -> bool:
        """Whether it holds no record."""
        return self.size <= len(MAGIC)

    @property
    def has_news(self) -> bool:
        """Whether it holds more than the facts that it begins with."""
        return self.size > self._facts_end

    def begin_sync(self) -> None:
        """Have the disk begin with what `sync` waits for."""
        begin_sync(self._fd)

    def sync(self) -> None:
        """Force what was written to the disk."""
        os.fdatasync(self._fd)

    def roll(self) -> JournalWriter:
        """Go on in the next part. This one takes no more; it is to be closed as finished.

        The next part appears whole, with its first frame: whenever this process ends, either it is there, or this one
        goes on.

        Returns:
            The next part's writer.

        Raises:
            OSError: the disk is full or failing: this one goes on.
            StoreError: its first frame is damaged: likewise.
        """
        first = self._facts()
        following = JournalWriter(self.path.parent.parent, self.session_id, self.part + 1, hidden=True)
        path = following.path
        try:
            following.write(encode_frame(self.last_position, first.at_ns, RecordKind.OPENED, first.data))
            following.path = path.with_name(journal_name(self.session_id, self.part + 1))
            path.rename(following.path)  # from here on it is the one that goes on: nothing may fail any more
        except OSError:
            following.close(finished=False)
            raise
        following.last_position = self.last_position
        following._facts_end = following.size
        self._rolled = True
        return following

    def _facts(self) -> Record:
        length = _FRAME.unpack(os.pread(self._fd, _HEADER, len(MAGIC)))[1]
        frame = _parse(os.pread(self._fd, _HEADER + min(length, _MAX_DATA), len(MAGIC)), 0)
        if not isinstance(frame, tuple) or frame[1].kind != RecordKind.OPENED:
            raise StoreError(f"{self.path} does not begin with the facts of its session")
        return frame[1]

    def close(self, *, finished: bool) -> None:
        """Close the file; `finished` says that no more comes, so that the sealer may have it: all is synced.

        What was rolled keeps its name; else the CLOSED record is in, and the name says so.
        """
        if finished and not self._rolled:
            self.path.rename(self.path.with_name(journal_name(self.session_id, self.part, closed=True)))
        self.park()


class JournalTail:
    """Reads a journal, each record once, while it may still grow.

    Keeps the file open, so that renaming or unlinking it does not matter.

    Args:
        path: the journal.
        salvage: nothing more will be written: what is no whole frame is damage.
        offset: where to begin: 0, or where another reader of this file was.
        last_position: ring position of the last record that was read before, in this file or the part before it; the
            first frame of a part that does not go on from there makes a GAP record.

    Attributes:
        offset: the end of the last whole frame that was read, in bytes.
        last_position: ring position of the last record so far, -1 for none.

    Raises:
        FileNotFoundError: there is no such journal (any more).
        StoreError: the file is no journal.
        NewerFormatError: a newer version wrote it.
    """

    def __init__(self, path: Path, *, salvage: bool = False, offset: int = 0, last_position: int = -1) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._salvage = salvage
        self.offset = offset
        self.last_position = last_position
        try:
            if not offset:
                self._check_magic()
        except StoreError:
            self.close()
            raise

    def _check_magic(self) -> None:
        if has_begun(self._fd, self.path, MAGIC, "journal"):
            self.offset = len(MAGIC)

    def read(self) -> list[Record]:
        """Records added since the last call. A damaged stretch becomes one GAP record."""
        return [record for _, record in self.frames()]

    def frames(self) -> Iterator[tuple[int, Record]]:
        """Like `read`, with each record's ring position (-1 for damage)."""
        for found in self._chunks():
            yield from found

    def batches(self) -> Iterator[list[Record]]:
        """Like `read`, in batches that are worth being decoded at once, and bounded in memory."""
        batch: list[Record] = []
        begins = self.offset
        for found in self._chunks():
            batch += [record for _, record in found]
            if self.offset - begins >= _BATCH_BYTES:
                yield batch
                batch, begins = [], self.offset
        yield batch

    def _chunks(self) -> Iterator[list[tuple[int, Record]]]:
        """The frames of one read after the other."""
        if self.offset == 0:
            self._check_magic()
        size = _READ
        while self.offset:
            data = _read(self._fd, size, self.offset)
            at_end = len(data) < size
            found, used = self._whole(data, at_end=at_end)
            yield found
            self.offset += used
            if at_end:
                return
            # What was read of a torn frame is read again: putting it before what follows would copy all of that.
            size = _READ if used else 2 * size

    def _whole(self, data: bytes, *, at_end: bool) -> tuple[list[tuple[int, Record]], int]:
        """The new frames at the start of some bytes, and how many bytes all whole ones take."""
        found: list[tuple[int, Record]] = []
        used = 0
        while True:
            if self.last_position >= 0 and self.offset + used > len(MAGIC):  # a file's first frame tells of gaps
                used = self._sound(data, used, found)
            frame = self._next(data, used, at_end=at_end)
            if frame is None:
                return found, used
            position, record, end = frame
            if position > self.last_position or position < 0:
                follows = self.last_position >= 0 and self.offset + used == len(MAGIC)
                if position >= 0:
                    self.last_position = position
                    if follows:
                        record = _gap(0, "journal incomplete", record.at_ns)
                found.append((position, record))
            used = end

    def _sound(self, data: bytes, used: int, found: list[tuple[int, Record]]) -> int:
        """Add the new frames from `used` on, as long as they are sound, and give where they end.

        Nearly all frames of a journal are read here; what `_next` does for each of the others would take twice as long.
        """
        view, size, last = memoryview(data), len(data), self.last_position
        while (begin := used + _HEADER) <= size:
            crc, length, position, at_ns, kind = _FRAME.unpack_from(data, used)
            end = begin + length
            if end > size or length > _MAX_DATA or not _FIRST_KIND <= kind <= _LAST_KIND:
                break
            if crc32(view[used + _CRC.size : end]) != crc:
                break
            if position > last:
                last = position
                found.append((position, Record(kind, at_ns, data[begin:end])))
            used = end
        self.last_position = last
        return used

    def _next(self, data: bytes, start: int, *, at_end: bool) -> tuple[int, Record, int] | None:
        """The next frame, past damage if need be.

        A frame that ends beyond the file is still being written, or torn by a kill; only in a finished file can its
        length be wrong (`salvage`).
        """
        frame = _parse(data, start)
        if isinstance(frame, tuple):
            return frame
        if frame == _INCOMPLETE and not (self._salvage and at_end):
            return None
        for later in range(start + 1, len(data) - _HEADER + 1):
            whole = _parse(data, later)
            if isinstance(whole, tuple):
                return -1, _gap(later - start, "journal damaged", whole[1].at_ns), later
        return None

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _read(fd: int, size: int, offset: int) -> bytes:
    """So many bytes; fewer only where the file ends."""
    data = os.pread(fd, size, offset)
    while len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
        data += more
    return data


def _gap(size: int, reason: str, at_ns: int) -> Record:
    return Record(RecordKind.GAP, at_ns, gap_facts("recorder", size, reason))


_FIRST_KIND: Final = int(RecordKind.OPENED)  # comparing with an enum's member takes as long as the checksum
_LAST_KIND: Final = int(RecordKind.CLOSED)
_INCOMPLETE: Final = "incomplete"
_DAMAGED: Final = "damaged"


def _parse(data: bytes, start: int) -> tuple[int, Record, int] | str:
    """The frame at `start` as (position, record, end), or why there is none."""
    begin = start + _HEADER
    if begin > len(data):
        return _INCOMPLETE
    crc, length, position, at_ns, kind = _FRAME.unpack_from(data, start)
    if length > _MAX_DATA or not _FIRST_KIND <= kind <= _LAST_KIND:
        return _DAMAGED
    end = begin + length
    if end > len(data):
        return _INCOMPLETE
    if crc32(memoryview(data)[start + 4 : end]) != crc:
        return _DAMAGED
    return position, Record(kind, at_ns, data[begin:end]), end


def read_journal(path: Path) -> Iterator[Record]:
    """Every whole record of a journal that nobody writes any more, once, in order; of a later part, its facts first."""
    tail = JournalTail(path, salvage=True)
    try:
        for _, record in tail.frames():
            yield record
    finally:
        tail.close()
