"""Where things lie in a data directory, and the one way finished files come into being there.

    DATA/spool/<ring>.<number>.spool                         what the rings held, until it is sorted into …
    DATA/journal/<session>.journal                           … what running sessions said, byte for byte
    DATA/segments/<data_set>/date=YYYY-MM-DD/<name>.parquet
    DATA/manifests/date=YYYY-MM-DD/<name>.json               written last: what it names exists, nothing else does
    DATA/quarantine/<session>.journal, .txt                  journals that could not be sealed, and why
    DATA/write.lock                                          held while segments are written
    DATA/rewrite.lock                                        held while stored sessions are changed
    DATA/proxy.lock                                          held by the proxy that takes connections for the store
    DATA/audit.jsonl                                         what was erased, pruned and redacted, and when

A name is a session's id, that and a part's number (`<session>.00003`), or `compact-<digest>`, whose data files are
numbered (`compact-<digest>.00000`).
A file appears whole or not at all: it is written under a temporary name, synced, and renamed.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from recorder.errors import StoreError
from recorder.store.journal_files import journal_directory
from recorder.store.spool import spool_directory

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUID_BYTES: Final = re.compile(_UUID.pattern.encode())
_NAME: Final = re.compile(rf"({_UUID.pattern}|compact-[0-9a-f]{{8,64}})(\.\d{{5,}})?")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")

_REWRITE: Final = "rewrite.lock"

COMPACT: Final = "compact-"
"""How the names of files begin that hold many sessions."""


def is_session_id(text: str) -> bool:
    """Whether `text` is a UUID in its usual lower-case form: what may become a file's name."""
    return _UUID.fullmatch(text) is not None


def session_ids_in(text: bytes) -> set[str]:
    """All session ids that stand in a text."""
    return {found.decode() for found in _UUID_BYTES.findall(text)}


def create(data_dir: Path) -> None:
    """Make the data directory and its rooms, readable by their owner alone.

    Raises:
        StoreError: that is not possible here.
    """
    rooms = [spool_directory(data_dir), journal_directory(data_dir), quarantine(data_dir)]
    rooms += [data_dir / "segments", data_dir / "manifests"]
    try:
        for room in rooms:
            make_directory(room)
    except OSError as error:
        raise StoreError(f"cannot use {data_dir} as a data directory: {error.strerror}") from error


def require(data_dir: Path) -> None:
    """Check that there is a data directory.

    Raises:
        StoreError: there is none.
    """
    if not data_dir.is_dir():
        raise StoreError(
            f"there is no data directory {data_dir}",
            hint="Name one with --data or RECORDER_DATA; `recorder proxy` and `recorder import` make it.",
        )


def quarantine(data_dir: Path) -> Path:
    """Where journals go that cannot be sealed."""
    return data_dir / "quarantine"


def manifests(data_dir: Path) -> Path:
    """Where the manifests lie, one directory for each date."""
    return data_dir / "manifests"


def part_name(session_id: str, part: int) -> str:
    """What a sealed part of a running session is called."""
    return f"{session_id}.{part:05d}"


def segment_path(data_set: str, date: str, name: str) -> str:
    """A data file, relative to the data directory; named after the manifest that it was written for."""
    return f"segments/{data_set}/date={_checked_date(date)}/{_checked_name(name)}.parquet"


def manifest_path(date: str, name: str) -> str:
    """A manifest, relative to the data directory."""
    return f"manifests/date={_checked_date(date)}/{_checked_name(name)}.json"


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} is not a session id (a UUID in lower case), nor the name of a part or compacted file"
        )
    return name


def _checked_date(date: str) -> str:
    if not _DATE.fullmatch(date):
        raise StoreError(f"{date!r} is not a date")
    return date


def make_directory(path: Path) -> None:
    """Make a directory and its parents, for their owner alone; what is new is synced into its parent."""
    missing = [path, *path.parents]
    missing = missing[: next((number for number, each in enumerate(missing) if each.is_dir()), len(missing))]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        sync_directory(each.parent)


def is_at(fd: int, path: Path) -> bool:
    """Whether an open file is the one at `path`: not where that, or a directory above it, was removed or replaced."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # who knows
        return True


def sync_directory(path: Path) -> None:
    """Force a directory's entries to the disk: after this a rename in it outlives a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a whole file, readable by its owner alone, and sync it; the caller syncs the directory.

    The temporary name is always the same, so that what a killed writer left is written over. The caller therefore
    holds `locked`, or owns the directory.

    Args:
        path: its final name. An existing file is replaced.
        write: called with the open file.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            write(file)
            file.flush()
            os.fsync(fd)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_file(path: Path) -> None:
    """Force what another process wrote to a file to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directories(paths: Iterable[Path]) -> None:
    """`sync_directory` for each different one of `paths`."""
    for path in sorted(set(paths)):
        sync_directory(path)


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Be the only writer of segments in this store, waiting for the one there is.

    Two sealers at once would otherwise put one's file under the other's checksum.
    """
    with _flock(data_dir / "write.lock"):
        yield


@contextmanager
def rewriting(data_dir: Path, *, wait: bool = True, mending: bool = False) -> Iterator[None]:
    """Be the only one who replaces manifests of closed sessions: compaction, pruning, erasing and the like.

    That takes a while, and sealing goes on meanwhile: only the commit itself is made under `locked`, which is always
    taken second. A workspace is brought level with its object store first.

    Args:
        data_dir: the store.
        wait: for others who are at it.
        mending: whatever state the object store is in: the workspace need not be level with it.

    Raises:
        BlockingIOError: somebody else is at it, and not to `wait`.
        StoreError: the object store is away, or another machine is at it.
    """
    from recorder.store.workspace import remote_of  # noqa: PLC0415 - workspaces are laid out as this module says

    with _flock(data_dir / _REWRITE, 0 if wait else fcntl.LOCK_NB):
        remote = remote_of(data_dir)
        if remote is None:
            yield
            return
        with remote.rewriting(mending=mending):
            yield


def is_rewritten(data_dir: Path) -> bool:
    """Whether somebody on this machine holds `rewriting` just now."""
    try:
        with _flock(data_dir / _REWRITE, fcntl.LOCK_NB):
            return False
    except BlockingIOError:
        return True


@contextmanager
def _flock(path: Path, how: int = 0) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(fd)
