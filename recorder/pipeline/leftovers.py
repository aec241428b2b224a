"""Data files that no manifest names: has a crash left them, or is the manifest lost that named them?

Both look alike. What tells them apart is whether their rows are elsewhere: rewriting removes what it replaces only once
its own manifest counts, so of what it left without one, every session is still stored whole by others.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Final

from recorder.errors import EncryptionKeyError, StoreError
from recorder.store import audit, encrypted, layout, merge
from recorder.store.manifests import Manifest, ManifestCache
from recorder.store.segments import SegmentFile
from recorder.store.workspace import remote_of

_DATA_FILE: Final = ".parquet"


def whose(path: Path) -> set[str]:
    """The ids of the sessions that a data file has rows of, whether or not a manifest names it.

    Raises:
        StoreError: it cannot be read.
        EncryptionKeyError: its key is not held.
    """
    return merge.session_ids(path, encrypted.key_id_of(path))


class Elsewhere:
    """Which sessions' rows are nothing to keep, should a file turn up that no manifest names.

    Args:
        data_dir: the store.
        cache: its manifests.
    """

    def __init__(self, data_dir: Path, cache: ManifestCache) -> None:
        self._data_dir = data_dir
        self._sessions = cache.sessions
        self._whole: dict[str, bool] = {}

    def has(self, session_id: str) -> bool:
        """Whether a session was erased, or a manifest that counts names it and its files are there."""
        manifest = self._sessions.get(session_id)
        return self.erased(session_id) if manifest is None else self._is_whole(manifest)

    def erased(self, session_id: str) -> bool:
        """Whether a session was erased."""
        return hashlib.sha256(session_id.encode()).hexdigest() in self._erased

    def has_all_of(self, path: Path) -> bool:
        """Whether that holds of all sessions that a data file has rows of; not if it cannot be read."""
        try:
            return all(map(self.has, whose(path)))
        except (StoreError, EncryptionKeyError, OSError):
            return False

    @cached_property
    def _erased(self) -> frozenset[str]:
        return audit.erased(self._data_dir)

    def _is_whole(self, manifest: Manifest) -> bool:
        if manifest.name not in self._whole:
            self._whole[manifest.name] = all(map(self._is_there, manifest.files))
        return self._whole[manifest.name]

    def _is_there(self, file: SegmentFile) -> bool:
        path = self._data_dir / file.path
        return (path.exists() and path.stat().st_size == file.bytes) or self._in_bucket.get(file.path) == file.bytes

    @cached_property
    def _in_bucket(self) -> dict[str, int]:
        remote = remote_of(self._data_dir)
        return {} if remote is None else {each.name: each.bytes for each in remote.bucket.list("segments/")}


def is_compacted(path: Path) -> bool:
    """Whether a file is one that rewriting wrote, and not unfinished: nobody else names it, or is about to."""
    return path.name.startswith(layout.COMPACT) and path.suffix == _DATA_FILE
