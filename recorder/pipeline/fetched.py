"""Which data files of an object store a catalog has here: derived tables always, all else once it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from recorder.errors import CacheTooSmallError
from recorder.store.manifests import Manifest
from recorder.store.remote import ON_DEMAND, Mirror
from recorder.store.segments import SegmentFile

_VIEWS: Final = {"events": "events", "appends": "events", "parts": "parts", "audio": "audio"}
_OF_EVENTS: Final = frozenset({"events", "appends"})


class Fetched:
    """What is shown of an object store. The caller sees to it that one thread at a time changes that.

    A data set that a query has named stays: what comes to it later is fetched with the next refresh, so that another
    thread's query does not find it empty.

    Args:
        remote: the object store.
    """

    def __init__(self, remote: Mirror) -> None:
        self.remote = remote
        self._wanted: frozenset[str] = frozenset()
        self._manifests: list[Manifest] = []

    def show(self, manifests: Sequence[Manifest]) -> list[Manifest]:
        """Fetch what is to be shown of manifests, and leave out of them what is not here.

        Raises:
            ObjectStoreError: the object store is away, or a file was replaced meanwhile.
        """
        self._manifests = list(manifests)
        try:
            self.remote.ensure(self._files(self._wanted), limited=True)
        except CacheTooSmallError:  # the next query that names them says so
            self._wanted = frozenset()
        shown = [_only(each, self._wanted) for each in manifests]
        self.remote.ensure(file for each in shown for file in each.files)
        return shown

    def want(self, names: Iterable[str]) -> bool:
        """Fetch what a query needs that names these relations; whether more is to be shown than was.

        Raises:
            CacheTooSmallError: that is more than the cache may hold.
            ObjectStoreError: the object store is away, or a file was replaced meanwhile.
        """
        asked = set(names)
        needed = frozenset(data_set for data_set, view in _VIEWS.items() if view in asked)
        self.remote.ensure(self._files(needed), limited=True)
        more = bool(needed - self._wanted)
        self._wanted |= needed
        return more

    def have(self, files: Iterable[SegmentFile], *, parts: bool) -> None:
        """Fetch what reading one session's events needs, with their parts or without."""
        needed = ON_DEMAND if parts else _OF_EVENTS
        self.remote.ensure(file for file in files if file.data_set in needed)

    def _files(self, data_sets: frozenset[str]) -> list[SegmentFile]:
        return [file for each in self._manifests for file in each.files if file.data_set in data_sets]


def _only(manifest: Manifest, wanted: frozenset[str]) -> Manifest:
    files = tuple(file for file in manifest.files if file.data_set not in ON_DEMAND or file.data_set in wanted)
    return msgspec.structs.replace(manifest, files=files)
