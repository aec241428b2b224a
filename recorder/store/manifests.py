"""Manifests: small JSON files that name the data files which count. What no manifest names is not there.

They are written last, by rename, and never change afterwards. Readers list manifests, never data files. A manifest
counts unless another one that is listed names it in `replaces`: so one rename puts a whole session in the place of its
parts, or one large file in the place of many small ones. What is replaced goes later (`GRACE_SECONDS`), data files
first and their manifest last, and never after the manifest that replaces it.

    <session>.json            a closed session
    <session>.<part>.json     a sealed part of a session that still runs: no derived rows
    compact-<digest>.json     many sessions
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from recorder.errors import DamagedManifestError, NewerFormatError
from recorder.store import layout, upcast
from recorder.store.schema import FORMAT_VERSION
from recorder.store.segments import SegmentFile

_SUFFIX: Final = ".json"
_DATE: Final = "date="
GRACE_SECONDS: Final = 60.0
"""What a new manifest replaces stays for at least so long: whoever lists meanwhile sees the one or the other, and can
open the files it names."""

_LOOKS: Final = 5
_TICK_SECONDS: Final = 0.02  # longer than between two time stamps of any file system in use
_SETTLED_NS: Final = 2_000_000_000  # coarser than the time stamps of any file system in use


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which data files belong together, and whose rows they hold.

    Attributes:
        format_version: of the manifest and its data files.
        name: the file's stem, unique in the store; its own data files are named alike.
        date: the partition it lies in: the UTC day on which its sessions opened, or on which untimed imports were made.
        recorder_version: what wrote it.
        sessions: by id, small things worth knowing without opening a file: `opened_at_ns`, `server_session_id`,
            `source`, `event_count`, `sealed_at_ns`.
        files: its data files, possibly several of a data set, in the order of their rows; a data set without rows has
            none.
        replaces: names of manifests that do not count any more.
        at_once: whether what it replaces goes without waiting for readers: it holds what was removed on purpose.
        part: the number of a part, from 0; None for whole sessions.
        resume: of a part: where decoding goes on, as `protocol.checkpoint` writes it; encrypted like data files.
        digest: the first half of the SHA-256 of all the above as compact JSON, in hex; only in the file.
    """

    format_version: int
    name: str
    date: str
    recorder_version: str
    sessions: dict[str, dict[str, Any]]
    files: tuple[SegmentFile, ...]
    replaces: tuple[str, ...] = ()
    at_once: bool = False
    part: int | None = None
    resume: bytes = b""
    digest: str = ""

    @property
    def only(self) -> str | None:
        """The id of its session if it has but one: then no row needs to be asked whose it is not."""
        return next(iter(self.sessions)) if len(self.sessions) == 1 else None


class _Version(msgspec.Struct):
    format_version: int


def write(data_dir: Path, manifest: Manifest) -> Path:
    """Write a manifest; from here on it counts. The caller syncs the directory that is returned."""
    target = data_dir / layout.manifest_path(manifest.date, manifest.name)
    layout.make_directory(target.parent)
    manifest = msgspec.structs.replace(manifest, digest=_digest(manifest))
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    layout.write_file(target, lambda file: file.write(text))
    return target.parent


def read(path: Path) -> Manifest:
    """Read one manifest.

    Raises:
        FileNotFoundError: there is none.
        DamagedManifestError: it cannot be read.
        NewerFormatError: a newer version wrote it.
    """
    return decode(path.read_bytes(), str(path))


def decode(text: bytes, source: str) -> Manifest:
    """The manifest that a file's content is.

    Args:
        text: the content.
        source: where it stood, for errors.

    Raises:
        DamagedManifestError: it cannot be read.
        NewerFormatError: a newer version wrote it.
    """
    try:
        version = msgspec.json.decode(text, type=_Version).format_version
        if version > FORMAT_VERSION:
            raise NewerFormatError(source, version, FORMAT_VERSION)
        if version == FORMAT_VERSION:
            return _checked(msgspec.json.decode(text, type=Manifest))
        return msgspec.convert(upcast.manifest(msgspec.json.decode(text), version, to=FORMAT_VERSION), Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedManifestError(source, error) from error


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()[:32]


def _checked(manifest: Manifest) -> Manifest:
    plain = msgspec.structs.replace(manifest, digest="")
    if manifest.digest != _digest(plain):
        raise msgspec.DecodeError("its content is not what was written")
    return plain


def find(data_dir: Path, session_id: str) -> Path | None:
    """The path of the manifest that holds a closed session, whatever its date; None while it is not sealed."""
    return find_all(data_dir, [session_id]).get(session_id)


def find_all(data_dir: Path, session_ids: Iterable[str]) -> dict[str, Path]:
    """The paths of the manifests that hold these closed sessions, by id; those that are not sealed are left out.

    Raises:
        DamagedManifestError, NewerFormatError: a compacted manifest cannot be read.
    """
    wanted = set(session_ids)
    found: dict[str, Path] = {}
    directories = _dates(data_dir)
    for directory in directories:
        found |= {one: directory / (one + _SUFFIX) for one in wanted if (directory / (one + _SUFFIX)).exists()}
    for path in (path for directory in directories for path in _compacted(directory)):
        if not wanted - found.keys():
            break
        found |= dict.fromkeys((wanted - found.keys()) & _sessions_in(path), path)
    return found


def find_part(data_dir: Path, session_id: str, part: int) -> Manifest | None:
    """The manifest of a sealed part of a session; None where there is none (any more)."""
    path = _path_of_part(data_dir, session_id, part)
    with contextlib.suppress(FileNotFoundError):
        return None if path is None else read(path)
    return None


def _path_of_part(data_dir: Path, session_id: str, part: int) -> Path | None:
    name = layout.part_name(session_id, part) + _SUFFIX
    return next((path for directory in _dates(data_dir) if (path := directory / name).exists()), None)


def remove_parts(data_dir: Path, session_id: str, count: int) -> None:
    """Remove the manifests of a session's parts, once another one names all their files.

    At once, since they hold bytes of the wire as they came; but with a time stamp later than the other's, so that
    whoever is just listing them knows to look again.
    """
    paths = [path for part in range(count) if (path := _path_of_part(data_dir, session_id, part)) is not None]
    if paths:
        time.sleep(_TICK_SECONDS)
    for path in paths:
        path.unlink(missing_ok=True)
    layout.sync_directories(path.parent for path in paths)


def _compacted(directory: Path) -> list[Path]:
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries]
    return [directory / name for name in names if name.startswith(layout.COMPACT) and name.endswith(_SUFFIX)]


def _sessions_in(path: Path) -> frozenset[str]:
    try:
        return _sessions_as_of(path, path.stat().st_mtime_ns)
    except FileNotFoundError:  # replaced and gone: what replaced it came before
        return frozenset()


@lru_cache(maxsize=1024)
def _sessions_as_of(path: Path, _mtime_ns: int) -> frozenset[str]:
    return frozenset(read(path).sessions)


def list_manifests(data_dir: Path) -> list[Manifest]:
    """Every manifest that counts and holds closed sessions, by name.

    Raises:
        DamagedManifestError, NewerFormatError: a manifest cannot be read.
    """
    cache = ManifestCache(data_dir)
    cache.refresh()
    return sorted(cache.counting, key=lambda manifest: manifest.name)


def _dates(data_dir: Path) -> list[Path]:
    try:
        with os.scandir(layout.manifests(data_dir)) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.name.startswith(_DATE) and entry.is_dir())
    except FileNotFoundError:
        return []


class _Known(NamedTuple):
    written: tuple[int, int]
    manifest: Manifest


class _Day:
    """One date's manifests. Its directory's time stamp tells whether anything came or went."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, _Known] = {}
        self._settled_mtime_ns = -1

    def refresh(self) -> bool:
        """Read what is new; whether there was anything.

        A directory is only trusted to be unchanged when its time stamp was old at our last look: one that
        changes twice within a tick keeps its time stamp.
        """
        for _ in range(_LOOKS):
            looked_at_ns = time.time_ns()
            mtime_ns = self.path.stat().st_mtime_ns
            if mtime_ns == self._settled_mtime_ns:
                return False
            found = self._list()
            if self.path.stat().st_mtime_ns == mtime_ns:
                break  # else one may have gone while we listed, and the one in its place not have been there yet
        changed = found != self.known
        self.known = found
        self._settled_mtime_ns = mtime_ns if looked_at_ns - mtime_ns > _SETTLED_NS else -1
        return changed

    def _list(self) -> dict[str, _Known]:
        """Every manifest there is. One that goes while we list was replaced before, or erased."""
        found = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX) and not entry.name.startswith("."):
                    with contextlib.suppress(FileNotFoundError):
                        found[entry.name] = self._read(entry)
        return found

    def _read(self, entry: os.DirEntry[str]) -> _Known:
        status = entry.stat()
        written = status.st_mtime_ns, status.st_ino
        known = self.known.get(entry.name)
        if known is not None and known.written == written:
            return known
        return _Known(written, read(Path(entry.path)))


class ManifestCache:
    """A store's manifests, kept up to date cheaply: a day whose directory did not change costs one `stat`.

    Not safe for use from several threads.

    Attributes:
        sessions: closed sessions by id: the manifest that holds each.
        parts: of sessions that are not closed: the manifests of their sealed parts, in order.
        counting: the manifests that count, but for those of parts.
        replaced: by name, manifests that do not count any more; they and their files are to be removed.
    """

    def __init__(self, data_dir: Path) -> None:
        self.sessions: dict[str, Manifest] = {}
        self.parts: dict[str, list[Manifest]] = {}
        self.counting: list[Manifest] = []
        self.replaced: dict[str, Manifest] = {}
        self._data_dir = data_dir
        self._days: dict[Path, _Day] = {}

    def refresh(self) -> bool:
        """Take in what changed since the last call; whether anything did.

        Raises:
            DamagedManifestError, NewerFormatError: a manifest cannot be read.
        """
        paths = _dates(self._data_dir)
        gone = self._days.keys() - set(paths)
        for path in gone:
            del self._days[path]
        changed = [day.refresh() for day in (self._days.setdefault(path, _Day(path)) for path in paths)]
        if not gone and not any(changed):
            return False
        self._sort([known.manifest for path in paths for known in self._days[path].known.values()])
        return True

    def _sort(self, listed: list[Manifest]) -> None:
        names = {name for manifest in listed for name in manifest.replaces}
        self.replaced = {manifest.name: manifest for manifest in listed if manifest.name in names}
        self.counting = [each for each in listed if each.name not in names and each.part is None]
        self.sessions = {session_id: each for each in self.counting for session_id in each.sessions}
        self.parts = {}
        for each in sorted(listed, key=lambda manifest: manifest.part or 0):
            if each.part is not None and each.name not in names:
                for session_id in each.sessions.keys() - self.sessions.keys():
                    self.parts.setdefault(session_id, []).append(each)
