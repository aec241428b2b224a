"""Spools: the rings' records on disk, just as they lay in the ring, until they are sorted into journals.

The recorder process is the only writer. What a ring holds is copied in one piece, sessions mixed, so that a hundred
calls cost hardly more than one. A spool is a file `DATA/spool/<ring>.<number>.spool`: an 8-byte magic, then blocks of a
24-byte header (marker, CRC-32 of all that follows it, length, ring position) and so much of the ring. A block begins
and ends with a record. Every few seconds a ring goes on in a spool of the next number; then nothing is written to the
one before, and once all of it is in the journals, and they are on the disk, it is removed.
"""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from isal.isal_zlib import crc32

from recorder.errors import StoreError
from recorder.store.magic import has_begun
from recorder.store.syncing import begin_sync

MAGIC: Final = b"RTSPOOL\x01"
SUFFIX: Final = ".spool"
_NAME: Final = re.compile(r"(?P<ring>[^.].*)\.(?P<number>\d{5,})\.spool")
_MARKER: Final = b"\x9eBLK"
_BLOCK: Final = struct.Struct("<4sIIQ4x")  # marker, crc, length, ring position
_COVERED: Final = struct.Struct("<IQ4x")  # what the CRC covers of the header
_HEADER: Final = _BLOCK.size
_CRC_BEGINS: Final = _HEADER - _COVERED.size
_STEP_BYTES: Final = 1 << 17
_MAX_BLOCK: Final = 1 << 30


def spool_directory(data_dir: Path) -> Path:
    """Where a store's spools lie."""
    return data_dir / "spool"


class SpoolFile(NamedTuple):
    """A spool on disk.

    Attributes:
        ring: whose records.
        number: its place among those of the ring.
        path: where.
    """

    ring: str
    number: int
    path: Path


def list_spools(data_dir: Path) -> list[SpoolFile]:
    """A store's spools, those of a ring in their order."""
    try:
        paths = list(spool_directory(data_dir).iterdir())
    except FileNotFoundError:
        return []
    names = [(path, _NAME.fullmatch(path.name)) for path in paths]
    return sorted(SpoolFile(name["ring"], int(name["number"]), path) for path, name in names if name is not None)


class SpoolWriter:
    """Appends to a new spool of a ring.

    Args:
        data_dir: the store.
        ring: the ring's name.
        number: its place among those of the ring.

    Attributes:
        size: of the file, in bytes.
        started_at: when it was begun, on the monotonic clock, in seconds.

    Raises:
        OSError: the disk is full or failing, or there is such a spool.
    """

    def __init__(self, data_dir: Path, ring: str, number: int) -> None:
        self.ring = ring
        self.number = number
        self.path = spool_directory(data_dir) / f"{ring}.{number:05d}{SUFFIX}"
        self.started_at = time.monotonic()
        self.size = 0
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._write(0, MAGIC)
        except OSError:
            os.close(self._fd)
            self.path.unlink(missing_ok=True)
            raise
        self.size = len(MAGIC)

    @property
    def is_empty(self) -> bool:
        """Whether it holds no block."""
        return self.size <= len(MAGIC)

    def append(self, position: int, data: memoryview, pause: Callable[[], object]) -> None:
        """Append a block, or nothing.

        Args:
            position: where in the ring's life it begins.
            data: a piece of the ring, from a record's beginning to a record's end.
            pause: called every 128 KiB, for others to go first.

        Raises:
            OSError: the disk is full or failing; the file is as it was before.
        """
        # Pieces end at multiples of their size in the file: what crosses a page costs the kernel two of them.
        size = len(data)
        crc = crc32(_COVERED.pack(size, position))
        for start in range(0, size, _STEP_BYTES):
            crc = crc32(data[start : start + _STEP_BYTES], crc)
            pause()
        header = _BLOCK.pack(_MARKER, crc, size, position)
        at = self.size
        done = min(_STEP_BYTES - (at + _HEADER) % _STEP_BYTES, size)
        try:
            at = self._write(at, header, data[:done])
            pause()
            while done < size:
                following = done + _STEP_BYTES
                at = self._write(at, data[done:following])
                done = following
                pause()
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size = at

    def _write(self, at: int, *pieces: bytes | memoryview) -> int:
        end = at + sum(map(len, pieces))
        at += os.pwritev(self._fd, pieces, at)
        if at < end:
            rest = memoryview(b"".join(pieces))
            while at < end:
                at += os.pwrite(self._fd, rest[at - end :], at)
        return end

    def begin_sync(self) -> None:
        """Have the disk begin with what `sync` waits for."""
        begin_sync(self._fd)

    def sync(self) -> None:
        """Force what was written to the disk."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file; nothing more is written to it."""
        os.close(self._fd)


class Block(NamedTuple):
    """A piece of a ring.

    Attributes:
        position: where in the ring's life it begins; -1 where it is damaged.
        data: its records; of a damaged stretch, its bytes.
    """

    position: int
    data: bytes


class SpoolTail:
    """Reads a spool, each block once, while it may still grow. Keeps the file open.

    Attributes:
        offset: the end of the last whole block that was read, in bytes.

    Raises:
        FileNotFoundError: there is no such spool.
        StoreError: the file is no spool.
        NewerFormatError: a newer version wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.offset = 0
        try:
            self._check_magic()
        except StoreError:
            self.close()
            raise

    def _check_magic(self) -> None:
        if has_begun(self._fd, self.path, MAGIC, "spool"):
            self.offset = len(MAGIC)

    def blocks(self, *, finished: bool) -> Iterator[Block]:
        """The blocks that were added since the last call. A damaged stretch becomes one of position -1.

        Args:
            finished: nothing more is written to it. A torn block at its end was never let go of by the ring, and is in
                the spool after this one.
        """
        if not self.offset:
            self._check_magic()
        while self.offset:
            block = self._block_at(self.offset)
            if block is None:
                size = os.fstat(self._fd).st_size
                if not finished or (following := self._next_whole(self.offset + 1, size)) is None:
                    return
                block = Block(-1, os.pread(self._fd, following - self.offset, self.offset))
            else:
                following = self.offset + _HEADER + len(block.data)
            yield block
            self.offset = following  # not before whoever asked is done with it: a disk may be full

    def _block_at(self, offset: int) -> Block | None:
        """The whole block that begins there, or None."""
        header = os.pread(self._fd, _HEADER, offset)
        if len(header) < _HEADER:
            return None
        marker, crc, length, position = _BLOCK.unpack(header)
        if marker != _MARKER or length > _MAX_BLOCK:
            return None
        data = os.pread(self._fd, length, offset + _HEADER)
        if len(data) < length or crc32(data, crc32(header[_CRC_BEGINS:])) != crc:
            return None
        return Block(position, data)

    def _next_whole(self, offset: int, size: int) -> int | None:
        """Where the next whole block begins."""
        while offset < size:
            data = os.pread(self._fd, _STEP_BYTES, offset)
            found = data.find(_MARKER)
            if found < 0:
                offset += max(len(data) - len(_MARKER) + 1, 1)
            elif self._block_at(offset + found) is not None:
                return offset + found
            else:
                offset += found + 1
        return None

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
