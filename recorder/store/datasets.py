"""Data files that DuckDB cannot read itself, as Arrow data sets: encrypted ones.

DuckDB 2.0 opens them, but stops at the first filter that is pushed down, and at columns of several pages.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from recorder.store import encrypted, parquet
from recorder.store.segments import SegmentFile

_FILES = LocalFileSystem()


class EncryptedFiles:
    """A store's encrypted files, for a reader that stays: what is known of a file that was read before is kept.

    Args:
        data_dir: the store.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._fragments: dict[str, ds.ParquetFileFragment] = {}

    def data_sets(self, files: Iterable[SegmentFile]) -> dict[str, list[ds.Dataset]]:
        """Files as Arrow data sets, by their data set; files of different columns apart.

        Args:
            files: all that are to be read from now on; what is known of others is forgotten.

        Raises:
            EncryptionKeyError: the key of one is not held.
            StoreError: a file is missing or damaged.
        """
        known, self._fragments = self._fragments, {}
        groups: dict[tuple[str, str], list[SegmentFile]] = {}
        for file in files:
            self._fragments[file.path] = known.get(file.path) or self._fragment(file)
            groups.setdefault((file.data_set, file.columns), []).append(file)
        found: dict[str, list[ds.Dataset]] = {}
        for (data_set, _), alike in groups.items():
            found.setdefault(data_set, []).append(self._together(alike))
        return found

    def _fragment(self, file: SegmentFile) -> ds.ParquetFileFragment:
        # Each has a key of its own, so each has a format of its own.
        options = ds.ParquetFragmentScanOptions(decryption_properties=encrypted.decryption(file.key_id, file.path))
        made = ds.ParquetFileFormat(default_fragment_scan_options=options)
        return made.make_fragment(str(self._data_dir / file.path), _FILES)

    def _together(self, files: list[SegmentFile]) -> ds.FileSystemDataset:
        fragments = [self._fragments[file.path] for file in files]
        with parquet.reading(self._data_dir / files[0].path):
            columns = fragments[0].physical_schema
        return ds.FileSystemDataset(fragments, columns, fragments[0].format, _FILES)
