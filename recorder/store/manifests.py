"""Manifests: one small JSON file for each sealed session, naming its data files. What no manifest names is not there.

They are written last, by rename, and never change afterwards. Readers list manifests, never data files.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from recorder.errors import NewerFormatError, StoreError
from recorder.store import layout
from recorder.store.schema import FORMAT_VERSION
from recorder.store.segments import SegmentFile

_SUFFIX: Final = ".json"
_DATE: Final = "date="
_SETTLED_NS: Final = 2_000_000_000  # coarser than the time stamps of any file system in use


class Manifest(msgspec.Struct, frozen=True):
    """What a sealed session consists of.

    Attributes:
        format_version: of its data files.
        session_id: whose.
        date: the partition it lies in: the UTC day on which it opened, or on which an untimed import was made.
        recorder_version: what wrote it.
        files: its data files; a data set without rows has none.
        facts: small things worth knowing without opening a file: `opened_at_ns`, `server_session_id`, `source`,
            `event_count`, `sealed_at_ns`.
    """

    format_version: int
    session_id: str
    date: str
    recorder_version: str
    files: tuple[SegmentFile, ...]
    facts: dict[str, Any] = {}


class _Version(msgspec.Struct):
    format_version: int


def write(data_dir: Path, manifest: Manifest) -> Path:
    """Write a manifest; from here on its session is sealed. The caller syncs the directory that is returned."""
    target = data_dir / layout.manifest_path(manifest.date, manifest.session_id)
    layout.make_directory(target.parent)
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    layout.write_file(target, lambda file: file.write(text))
    return target.parent


def read(path: Path) -> Manifest:
    """Read one manifest.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it is damaged.
        NewerFormatError: a newer version wrote it.
    """
    text = path.read_bytes()
    try:
        version = msgspec.json.decode(text, type=_Version).format_version
        if version > FORMAT_VERSION:
            raise NewerFormatError(str(path), version, FORMAT_VERSION)
        return msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise StoreError(f"{path} is damaged: {error}", hint="Move it away; its session is lost to queries.") from error


def find(data_dir: Path, session_id: str) -> Path | None:
    """The path of a session's manifest, whatever its date; None while it is not sealed."""
    name = session_id + _SUFFIX
    for directory in _dates(data_dir):
        path = directory / name
        if path.exists():
            return path
    return None


def list_manifests(data_dir: Path) -> list[Manifest]:
    """Every sealed session, by session id.

    Raises:
        StoreError: a manifest is damaged, or of a newer version.
    """
    cache = ManifestCache(data_dir)
    cache.refresh()
    return [cache.sessions[session_id] for session_id in sorted(cache.sessions)]


def _dates(data_dir: Path) -> list[Path]:
    try:
        with os.scandir(layout.manifests(data_dir)) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.name.startswith(_DATE) and entry.is_dir())
    except FileNotFoundError:
        return []


class _Known(NamedTuple):
    mtime_ns: int
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
        looked_at_ns = time.time_ns()
        mtime_ns = self.path.stat().st_mtime_ns
        if mtime_ns == self._settled_mtime_ns:
            return False
        with os.scandir(self.path) as entries:
            files = [entry for entry in entries if entry.name.endswith(_SUFFIX) and not entry.name.startswith(".")]
        found = {entry.name: self._read(entry) for entry in files}
        changed = found != self.known
        self.known = found
        self._settled_mtime_ns = mtime_ns if looked_at_ns - mtime_ns > _SETTLED_NS else -1
        return changed

    def _read(self, entry: os.DirEntry[str]) -> _Known:
        written_ns = entry.stat().st_mtime_ns
        known = self.known.get(entry.name)
        if known is not None and known.mtime_ns == written_ns:
            return known
        return _Known(written_ns, read(Path(entry.path)))


class ManifestCache:
    """A store's manifests, kept up to date cheaply: a day whose directory did not change costs one `stat`.

    Not safe for use from several threads.

    Attributes:
        sessions: the sealed sessions by id.
    """

    def __init__(self, data_dir: Path) -> None:
        self.sessions: dict[str, Manifest] = {}
        self._data_dir = data_dir
        self._days: dict[Path, _Day] = {}

    def refresh(self) -> bool:
        """Take in what changed since the last call; whether anything did.

        Raises:
            StoreError: a manifest is damaged, or of a newer version.
        """
        paths = _dates(self._data_dir)
        gone = self._days.keys() - set(paths)
        for path in gone:
            del self._days[path]
        changed = [day.refresh() for day in (self._days.setdefault(path, _Day(path)) for path in paths)]
        if gone or any(changed):
            self.sessions = {
                known.manifest.session_id: known.manifest for path in paths for known in self._days[path].known.values()
            }
            return True
        return False
