"""Which data files count: for those who read a store without us, since only manifests say so."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from pathlib import Path

import msgspec

from recorder.analytics.registry import stored_models
from recorder.errors import UsageError
from recorder.pipeline.replace import listed
from recorder.store import layout, segments
from recorder.store.manifests import Manifest
from recorder.store.segments import SegmentFile
from recorder.store.workspace import remote_of


class CountingFile(msgspec.Struct):
    """A data file that counts.

    Attributes:
        data_set: whose rows it has.
        date: the partition, YYYY-MM-DD.
        place: an absolute path, or, in an object store, a URL.
        rows: how many rows it has.
        bytes: its size.
        sha256: of its content, in hex.
        manifest: the name of the manifest that names it.
        format_version: of the file: rows of older ones have other columns in places (docs/store.md).
        key_id: of the key that it is encrypted with; "" if it is not.
    """

    data_set: str
    date: str
    place: str
    rows: int
    bytes: int
    sha256: str
    manifest: str
    format_version: int
    key_id: str


def data_sets() -> list[str]:
    """The names of all data sets."""
    return [*segments.column_digests(), *stored_models()]


def counting_files(data_dir: Path, names: Collection[str] | None = None, *, closed: bool = False) -> list[CountingFile]:
    """The data files that count right now, by data set, date and path.

    What replaces them may come at any time; they stay for a minute then, or as long as compaction was told to wait,
    but for what is erased, pruned or redacted.

    Args:
        data_dir: the store.
        names: of data sets; None for all.
        closed: without the sealed parts of sessions that still run.

    Raises:
        UsageError: there is no such data set.
        StoreError: there is no store, or a manifest is damaged.
    """
    layout.require(data_dir)
    unknown = sorted(set(names or ()) - set(data_sets()))
    if unknown:
        raise UsageError(f"there is no data set {unknown[0]!r}", hint=f"There are {', '.join(data_sets())}.")
    remote = remote_of(data_dir)
    if remote is not None:
        remote.pull()
    url = "" if remote is None else remote.bucket.url
    only_here = {each.name for each in remote.pending()} if remote is not None else set()
    manifests = listed(data_dir)
    parts = () if closed else chain.from_iterable(manifests.parts.values())
    found = [
        _described(data_dir, manifest, file, "" if manifest.name in only_here else url)
        for manifest in chain(manifests.counting, parts)
        for file in manifest.files
        if names is None or file.data_set in names
    ]
    return sorted(found, key=lambda file: (file.data_set, file.date, file.place))


def _described(data_dir: Path, manifest: Manifest, file: SegmentFile, url: str) -> CountingFile:
    return CountingFile(
        data_set=file.data_set,
        date=manifest.date,
        place=f"{url}/{file.path}" if url else str((data_dir / file.path).resolve()),
        rows=file.rows,
        bytes=file.bytes,
        sha256=file.sha256,
        manifest=manifest.name,
        format_version=manifest.format_version,
        key_id=file.key_id,
    )
