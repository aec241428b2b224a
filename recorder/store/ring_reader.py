"""The recorder process's side of a ring, and what others can see of one. What a ring is: `recorder.store.ring`."""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

from recorder.errors import NewerFormatError, StoreError
from recorder.store.ring import (
    CONTROL_SUFFIX,
    FILE,
    HEAD_WORD,
    HEADER,
    HELD_BACK_WORD,
    KIND_SHIFT,
    MAGIC,
    OWED_WORDS,
    PAGE,
    RECORD,
    SETTLED_WORD,
    SKIP,
    SUFFIX,
    TAIL_WORD,
    TAKEN_WORD,
    VERSION,
)

_ZEROS: Final = bytes(1 << 17)
_SETTLES_SINCE: Final = 2  # before, whatever was in a ring was settled, and the word for it stayed 0


class RingRecord(msgspec.Struct, gc=False):
    """One record as read.

    Attributes:
        position: its place in the ring's life, unique and growing.
        session_no: the writer's number of the session.
        at_ns: monotonic time.
        kind: a `RecordKind`.
        data: where it lies in the ring: good until it is released.
    """

    position: int
    session_no: int
    at_ns: int
    kind: int
    data: bytes | memoryview


def encode(kind: int, session_no: int, at_ns: int, data: bytes) -> bytes:
    """One record as it stands in a ring."""
    return (RECORD.pack(len(data), session_no, at_ns, kind) + data).ljust((len(data) + HEADER + 7) & ~7, b"\0")


def parse(position: int, piece: bytes | memoryview) -> list[RingRecord]:
    """The records of a piece of a ring that begins with one.

    Args:
        position: where it begins, in the ring's life.
        piece: up to a record's end, or the ring's.
    """
    unpack, data = RECORD.unpack_from, memoryview(piece)
    records: list[RingRecord] = []
    place, last = 0, len(piece) - HEADER
    while place <= last:
        length, session_no, at_ns, kind = unpack(data, place)
        if length == SKIP:
            break
        body = place + HEADER
        records.append(RingRecord(position + place, session_no, at_ns, kind, data[body : body + length]))
        place = (body + length + 7) & ~7
    return records


class Owed(NamedTuple):
    """Bytes of a session that could not be recorded, and that no record tells of yet."""

    session_no: int
    kind: int
    size: int


class RingState(NamedTuple):
    """What somebody who is neither writer nor reader can see of a ring.

    Attributes:
        capacity: its size in bytes.
        used_bytes: how much has not been drained.
        oldest_ns: the monotonic time of the oldest such record, or None.
    """

    capacity: int
    used_bytes: int
    oldest_ns: int | None


def look_at_rings(directory: Path) -> list[RingState]:
    """The state of every ring of a directory, whoever uses it, read without touching it."""
    try:
        paths = [path for path in directory.iterdir() if path.suffix == SUFFIX]
    except FileNotFoundError:
        return []
    return [state for path in paths if (state := _look_at(path)) is not None]


def _look_at(path: Path) -> RingState | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # drained and gone
    try:
        capacity = _capacity(fd, path)
        while True:
            head, tail = _word(fd, HEAD_WORD), _word(fd, TAIL_WORD)
            oldest_ns = _time_at(fd, tail, capacity) if head > tail else None
            if _word(fd, TAIL_WORD) == tail:  # else its place may have been written over meanwhile
                return RingState(capacity, max(head - tail, 0), oldest_ns)
    except StoreError:
        return None
    finally:
        os.close(fd)


def _word(fd: int, number: int) -> int:
    return int.from_bytes(os.pread(fd, 8, number * 8), sys.byteorder)


def _time_at(fd: int, position: int, capacity: int) -> int:
    place = position % capacity
    for where in (place, 0):
        if capacity - where >= HEADER:
            length, _, at_ns, _ = RECORD.unpack(os.pread(fd, HEADER, PAGE + where))
            if length != SKIP:
                return int(at_ns)
    return 0


def _capacity(fd: int, path: Path) -> int:
    header = os.pread(fd, FILE.size, 0)
    if len(header) == FILE.size:
        magic, version, _, capacity = FILE.unpack(header)
        if magic == MAGIC and version > VERSION:
            raise NewerFormatError(str(path), version, VERSION)
        if magic == MAGIC and os.fstat(fd).st_size == PAGE + capacity:
            return int(capacity)
    raise StoreError(f"{path} is not a recorder ring", hint="Remove it if nothing uses it.")


class RingReader:
    """The recorder process's side.

    Raises:
        StoreError: the file is no ring.
        NewerFormatError: it was made by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name.removesuffix(SUFFIX)
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.capacity = _capacity(self._fd, path)
            ring = mmap.mmap(self._fd, PAGE + self.capacity, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        except StoreError:
            os.close(self._fd)
            raise
        self._words = memoryview(ring).cast("Q")
        self._data = memoryview(ring)[PAGE:]
        self._settles = FILE.unpack_from(ring)[1] >= _SETTLES_SINCE
        if self._words[TAKEN_WORD] > self._words[TAIL_WORD]:  # a reader was killed while it released
            self.release(self._words[TAKEN_WORD])

    def read(self, limit_bytes: int = 8 << 20, start: int | None = None) -> tuple[list[RingRecord], int]:
        """Records not yet released, oldest first, and the position to `release` when they are safe.

        Args:
            limit_bytes: stop after about so much; call again for the rest.
            start: the position where an earlier call stopped, if that is not released yet.
        """
        position = self.tail if start is None else start
        records: list[RingRecord] = []
        until = min(self.head, position + limit_bytes)
        while position < until:
            data, following = self.piece(position, self.head, until - position)
            records += parse(position, data)
            position = following
        return records, position

    def piece(self, start: int, end: int, limit_bytes: int) -> tuple[memoryview, int]:
        """What lies in the ring from a record's beginning on, in one piece, and where that ends.

        It goes to a record's end, or the ring's; no further than `end`, which is one, and a record beyond the limit.
        """
        place = start % self.capacity
        length = min(end - start, self.capacity - place)
        if length > limit_bytes:
            length = self._whole_records(place, limit_bytes, length)
        return self._data[place : place + length], start + length

    def _whole_records(self, place: int, least: int, most: int) -> int:
        """How many bytes those records have that begin within the `least` bytes from there."""
        size = 0
        while size < least:
            if most - size < HEADER or (length := RECORD.unpack_from(self._data, place + size)[0]) == SKIP:
                return most
            size += (length + HEADER + 7) & ~7
        return size

    def release(self, position: int, pause: Callable[[], object] = lambda: None) -> None:
        """Give the space before `position` back to the writer, wiped: what was said stays on the disk alone.

        What the writer has not settled is not given back yet: it may be about to send it on.

        Args:
            position: the end of a record.
            pause: called every 128 KiB, for others to go first.
        """
        tail = self._words[TAIL_WORD]
        if self._settles:
            position = min(position, self._words[SETTLED_WORD])
        self._words[TAKEN_WORD] = position
        while tail < position:
            place = tail % self.capacity
            size = min(position - tail, self.capacity - place, len(_ZEROS))
            self._data[place : place + size] = _ZEROS if size == len(_ZEROS) else _ZEROS[:size]
            tail += size
            pause()
        self._words[TAIL_WORD] = position

    @property
    def owed(self) -> list[Owed]:
        """What the writer could not record, and had no room to say so."""
        pairs = [(self._words[word], self._words[word + 1]) for word in OWED_WORDS]
        return [Owed(whose & 0xFFFF_FFFF, whose >> KIND_SHIFT, count) for whose, count in pairs if count]

    @property
    def head(self) -> int:
        """The position after the newest record."""
        return self._words[HEAD_WORD]

    @property
    def tail(self) -> int:
        """The position of the oldest record that was not released."""
        return self._words[TAIL_WORD]

    @property
    def used_bytes(self) -> int:
        """How much there is to read."""
        return self.head - self.tail

    def hold_back(self, held_back: bool) -> None:
        """Tell the worker whether its records are being taken."""
        self._words[HELD_BACK_WORD] = held_back

    def writer_is_dead(self) -> bool:
        """Whether the worker is gone (its lock can be had). What it appended is still here."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self, *, remove: bool = False) -> None:
        """Let go of the file; `remove` deletes it, for a dead worker's ring that is drained.

        The map goes with the last record that lies in it.
        """
        self._words.release()
        self._data.release()
        if remove:
            self.path.unlink(missing_ok=True)
            self.path.with_suffix(CONTROL_SUFFIX).unlink(missing_ok=True)
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
