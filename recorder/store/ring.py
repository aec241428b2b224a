"""The shared-memory ring between a proxy worker and the recorder process.

One worker writes, one recorder process reads. The file lies on a tmpfs and is mapped by both, so what the worker
has appended survives the death of either: a kill -9 loses nothing that was forwarded, because the worker appends
first and forwards then. The worker holds a lock (flock) on the file for as long as it lives; a ring whose lock can
be had belongs to a dead worker.

Layout: one page of header (magic, version, capacity, head, tail and a few words more), then `capacity` bytes of
records. Head and tail are byte counts since the ring was made and only grow; their remainder by the capacity is the
place. A record is 24 bytes of header (length, session number, time, kind) and its data, padded to 8 bytes, and never
wraps: where the end is too near, the rest is skipped. Head is stored, as one aligned 8-byte word, after the record is
in place.

    1 → 2   a writer says up to where its records are settled: what it received straight into the ring is so later
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import stat
import struct
import time
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Final

from recorder.errors import StoreError
from recorder.store.carry import Carrier, Place, SharedPlace

MAGIC: Final = b"RTRECRNG"
VERSION: Final = 2
PAGE: Final = 4096
DEFAULT_BYTES: Final = 32 << 20
SUFFIX: Final = ".ring"
CONTROL_SUFFIX: Final = ".control"
"""A worker's control socket lies beside its ring, and goes with it."""

RECORD = struct.Struct("=IIQQ")  # data length, session number, monotonic ns, kind
HEADER: Final = RECORD.size
_pack_record = RECORD.pack_into
SKIP: Final = 0xFFFF_FFFF  # a length that means: nothing more before the end, go on at the start
FILE = struct.Struct("=8sIIQ")  # magic, version, reserved, capacity
HEAD_WORD: Final = 8  # 64 bytes apart, so that writer and reader do not share a cache line
TAIL_WORD: Final = 16
HELD_BACK_WORD: Final = 24  # written by the reader: nonzero while it takes no more
SETTLED_WORD: Final = 40  # written by the writer: what is after it may be in use still, and must not be wiped
TAKEN_WORD: Final = 32  # written by the reader: what is before it is taken, and is being wiped until the tail is there
LOST_WORD: Final = 48  # written by a reader: what is before it was put into a store that is there no more
OWED_WORDS: Final = range(64, PAGE // 8, 2)  # pairs: whose (session number, kind), and how many bytes
KIND_SHIFT: Final = 32
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH

WINDOW: Final = 1 << 18
"""The most that is received at once: a flood has to be carried in large pieces, everything else comes in small ones."""

Receive = Callable[[memoryview, int], int]
"""Like `socket.recv_into`: reads at most so many bytes to the start of a buffer, and tells how many."""


def ring_directory(data_dir: Path, base: Path | None = None) -> Path:
    """Where the rings of a data directory lie.

    Args:
        data_dir: the store; its real path names the directory, so that every process finds the same.
        base: a tmpfs other than /dev/shm. Where there is no /dev/shm, the store itself serves.
    """
    shared = base or Path("/dev/shm")  # noqa: S108 - a 0700 directory of our own inside it
    if not shared.is_dir():
        return data_dir / "ring"
    digest = hashlib.sha256(os.fsencode(os.path.realpath(data_dir))).hexdigest()[:16]
    return shared / f"recorder-{os.getuid()}-{digest}"


def claim_directory(directory: Path) -> None:
    """Make a directory of rings, or make sure that the one there is ours.

    Raises:
        StoreError: it is not, see `check_directory`.
    """
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_directory(directory)


def check_directory(directory: Path) -> None:
    """Make sure that a directory of rings, if there is one, is ours: in /dev/shm everybody can make it first.

    Raises:
        StoreError: it is somebody else's, a link, or others may write in it.
    """
    with contextlib.suppress(FileNotFoundError):
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & _OTHERS_WRITE:
            hint = "Remove it, or name another tmpfs with --ring-dir."
            raise StoreError(f"{directory} is not a directory of this user's alone", hint=hint)


def note_loss(directory: Path) -> None:
    """Tell the writers of all rings that the store that has what was taken from them is there no more.

    Args:
        directory: where the rings lie.
    """
    for path in directory.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # drained, and gone
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.pwrite(fd, os.pread(fd, 8, 8 * TAIL_WORD), 8 * LOST_WORD)
            finally:
                os.close(fd)


class RingWriter:
    """The worker's side.

    Raises:
        StoreError: the tmpfs has no room for the ring. All of it is reserved at the start, for a page that cannot
            be had later would kill the process (SIGBUS) in mid-call.
    """

    def __init__(self, directory: Path, capacity: int = DEFAULT_BYTES) -> None:
        capacity = -(-capacity // PAGE) * PAGE
        claim_directory(directory)
        self.name = f"{time.time_ns():x}-{os.getpid()}"
        self.path = directory / (self.name + SUFFIX)
        hidden = directory / f".{self.name}"
        self._fd = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            os.posix_fallocate(self._fd, 0, PAGE + capacity)
            self._map = mmap.mmap(self._fd, PAGE + capacity, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
            FILE.pack_into(self._map, 0, MAGIC, VERSION, 0, capacity)
            hidden.rename(self.path)  # only now can the reader see it: whole, and locked
        except OSError as error:
            os.close(self._fd)
            hidden.unlink(missing_ok=True)
            raise StoreError(
                f"no room for a ring of {capacity >> 20} MiB in {directory}: {error.strerror}",
                hint="Give it less (--ring-mb), another tmpfs (--ring-dir), or /dev/shm more (docker: --shm-size).",
            ) from error
        self.capacity = capacity
        self._view = memoryview(self._map)
        self._words = self._view.cast("Q")
        begin = Place(next=PAGE, room_until=PAGE + capacity, lap=-PAGE)
        self._shared = SharedPlace(self._map, 8 * HEAD_WORD, 8 * SETTLED_WORD, WINDOW, begin)
        self._at = self._shared.place

    def append(self, kind: int, session_no: int, at_ns: int, data: bytes | memoryview) -> bool:
        """Copy one record in and publish it.

        Returns:
            False when the ring is full: nothing was written, and the caller has a gap to account for.
        """
        length = len(data)
        size = (length + HEADER + 7) & ~7
        at = self._at
        if at.next + size > at.room_until and not self._find_room(size):
            return False
        place = at.next
        self._map[place + HEADER : place + HEADER + length] = data
        _pack_record(self._map, place, length, session_no, at_ns, kind)
        at.next = end = place + size
        self._words[HEAD_WORD] = at.lap + end
        self._words[SETTLED_WORD] = at.lap + end
        return True

    def settle(self) -> None:
        """Let go of what `receiver` gave: only then may it be wiped."""
        self._words[SETTLED_WORD] = self._words[HEAD_WORD]

    def receiver(
        self, receive: Receive, kind: int, session_no: int, blocked: Sized, otherwise: Callable[[], memoryview]
    ) -> Callable[[], memoryview]:
        """What receives straight into the ring, and publishes that as a record: no copy is made, nothing is looked up.

        It is called tens of thousands of times a second, with cold caches: each step less is 20 ns.

        Args:
            receive: gives the bytes; 0 of them are an end, and no record.
            kind: a `RecordKind`.
            session_no: the session's number.
            blocked: while there is anything in it, and while there is no room for `WINDOW` bytes, …
            otherwise: … this is called instead.

        Returns:
            A function that gives what was received, good until the next record, or until `settle` is called; it raises
            what `receive` does.
        """
        ring, view, words, pack, now = self._map, self._view, self._words, _pack_record, time.monotonic_ns
        at, needed = self._at, HEADER + WINDOW

        def take() -> memoryview:
            place: int = at.next
            if place + needed > at.room_until or blocked:
                if blocked or not self._find_room(needed):
                    return otherwise()
                place = at.next
            body = place + HEADER
            end = body + receive(view[body:], WINDOW)
            data = view[body:end]
            if end != body:
                pack(ring, place, end - body, session_no, now(), kind)
                at.next = end = (end + 7) & -8
                words[HEAD_WORD] = at.lap + end
            return data

        return take

    def carrier(self, source: int, sink: int, *, kind: int, session_no: int, sample_every: int) -> Carrier | None:
        """What receives, records and sends on in one step, between plain sockets; see `SharedPlace.carrier`."""
        return self._shared.carrier(source, sink, kind=kind, session_no=session_no, sample_every=sample_every)

    def _find_room(self, size: int) -> bool:
        """See what the reader has released; go to the start where the end is too near."""
        at = self._at
        place: int = at.next
        end = PAGE + self.capacity
        free = self.capacity - self.used_bytes()
        starts_over = place + size > end
        skipped = end - place if starts_over else 0
        if skipped + size > free:
            return False
        if starts_over:
            if skipped >= HEADER:
                _pack_record(self._map, place, SKIP, 0, 0, 0)
            at.lap += self.capacity
            at.next = place = PAGE
        at.room_until = min(place + free - skipped, end)
        return True

    def owe(self, session_no: int, kind: int, count: int) -> None:
        """Put down, beside the records, how many bytes a session lacks by now: what stays should we be killed.

        Args:
            session_no: whose.
            kind: of which direction.
            count: 0 once a record tells of them.
        """
        whose = kind << KIND_SHIFT | session_no
        for free_too in (False, True):
            for word in OWED_WORDS:
                if self._words[word] == whose or (free_too and count and not self._words[word + 1]):
                    self._words[word] = whose
                    self._words[word + 1] = count
                    return

    def has_room(self, data_bytes: int) -> bool:
        """Whether records of so much data will fit, even if they have to start over at the ring's start."""
        return self.capacity - self.used_bytes() >= 2 * (data_bytes + PAGE)

    def used_bytes(self) -> int:
        """How much the recorder process has not taken yet."""
        return int(self._words[HEAD_WORD] - self._words[TAIL_WORD])

    @property
    def head(self) -> int:
        """Up to where in its life it was written."""
        return int(self._words[HEAD_WORD])

    @property
    def lost_until(self) -> int:
        """Up to where in its life all was put into a store that is there no more."""
        return int(self._words[LOST_WORD])

    @property
    def held_back(self) -> bool:
        """Whether the recorder process has said that it takes no more for now."""
        return self._words[HELD_BACK_WORD] != 0

    def close(self) -> None:
        """Let go of the map and the lock; the recorder process drains and removes the file."""
        self._shared.close()
        self._words.release()
        self._view.release()
        with contextlib.suppress(BufferError):  # what was received last is looked at still: the map goes with that
            self._map.close()
        os.close(self._fd)
