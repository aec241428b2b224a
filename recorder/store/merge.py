"""Merging: the rows of many files, sorted by session, in few files. Memory holds a row group and a batch of each input.

Compaction merges small files; removing sessions merges what is left of a file. A session's rows of a data set always
end up in one file, so the files of a merge can be merged again in any company.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from heapq import merge as merged
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recorder.store import encrypted, keys, layout, parquet, segments, stored_form, upcast
from recorder.store.schema import FORMAT_VERSION
from recorder.store.segments import SegmentFile

TARGET_BYTES: Final = 256 << 20
"""How large a merged file gets, at least, before the next one is begun."""

_BATCH_ROWS: Final = {"audio": 16, "parts": 1_024}
_ROWS: Final = 65_536  # also of a row group: whoever wants one session reads a group or two
_COMPRESSION: Final = 8  # what rows in memory are divided by to guess what they will take in the file

Run = tuple[str, pa.Table]
"""Rows of one session, as they are stored; a session may have several runs, one after the other."""

Edit = Callable[[str, pa.Table], pa.Table]
"""Rows of a session → what is to stand in their place."""


class Unit(NamedTuple):
    """Files that hold all rows that some sessions have in a data set.

    Attributes:
        files: in the order of their rows; where they are several, they are of one session.
        only: the id of that session; None where one file holds several.
    """

    files: tuple[SegmentFile, ...]
    only: str | None = None

    @property
    def bytes(self) -> int:
        """Their size."""
        return sum(file.bytes for file in self.files)


def sessions_in(data_dir: Path, file: SegmentFile) -> set[str]:
    """The ids of the sessions that have rows in a file.

    Raises:
        StoreError: it is missing or damaged.
    """
    return session_ids(data_dir / file.path, file.key_id)


def session_ids(path: Path, key_id: str) -> set[str]:
    """The same of a data file that no manifest need name.

    Raises:
        StoreError: it is missing or damaged.
        EncryptionKeyError: its key is not held.
    """
    with parquet.reading(path, key_id) as key:
        rows = pq.read_table(path, columns=["session_id"], partitioning=None, decryption_properties=key)
    return set(pc.unique(rows["session_id"]).to_pylist())


def merge(
    data_dir: Path,
    date: str,
    name: str,
    data_set: str,
    units: Iterable[Unit],
    *,
    without: Collection[str] = (),
    edit: Edit | None = None,
    target_bytes: int = TARGET_BYTES,
    first: int = 0,
) -> list[SegmentFile]:
    """Write the rows of all units of a data set, sorted by session, to new files. None is written without rows.

    They count for nothing until a manifest names them. The caller holds `layout.rewriting` and syncs the directories.

    Args:
        data_dir: the store.
        date: the partition, YYYY-MM-DD.
        name: the manifest's that will name the files.
        data_set: whose.
        units: which have different sessions. Those of models must have the same columns.
        without: ids of sessions that are left out.
        edit: changes rows of sessions on the way.
        target_bytes: about the size at which the next file is begun.
        first: the number of the first file.

    Raises:
        StoreError: a file is missing or damaged, or of a newer version.
        EncryptionKeyError: the key of one is not held, or none to write with, though the store is encrypted.
    """
    key_id = keys.for_writing(data_dir)
    runs = _Runs(data_dir, data_set, units, without, edit)
    files: list[SegmentFile] = []
    while runs.next is not None:
        path = layout.segment_path(data_set, date, f"{name}.{first + len(files):05d}")
        output = _Output(runs, target_bytes, encrypted.encryption(key_id, path))
        layout.make_directory((data_dir / path).parent)
        layout.write_file(data_dir / path, output.write)
        rows, names = output.rows, output.columns
        files.append(segments.described(data_dir, data_set, path, rows=rows, columns=names, key_id=key_id))
    return files


class _Runs:
    """All runs of the units by session id, with a look at the next one."""

    def __init__(
        self, data_dir: Path, data_set: str, units: Iterable[Unit], without: Collection[str], edit: Edit | None
    ) -> None:
        units = list(units)
        alone = sorted((unit for unit in units if unit.only is not None), key=lambda unit: unit.only or "")
        mixed = [unit for unit in units if unit.only is None]
        # Files of one session are opened one after the other; those of several are all open at once.
        streams = [_runs(data_dir, data_set, alone), *(_runs(data_dir, data_set, [unit]) for unit in mixed)]
        found = (run for run in merged(*streams, key=itemgetter(0)) if run[0] not in without)
        self._rest = found if edit is None else ((whose, edit(whose, rows)) for whose, rows in found)
        self.next: Run | None = next(self._rest, None)

    def take(self) -> Run:
        taken = self.next
        assert taken is not None
        self.next = next(self._rest, None)
        return taken


def _runs(data_dir: Path, data_set: str, units: Sequence[Unit]) -> Iterator[Run]:
    for unit in units:
        for file in unit.files:
            yield from _runs_of(data_dir / file.path, file.key_id, data_set)


def _runs_of(path: Path, key_id: str, data_set: str) -> Iterator[Run]:
    with parquet.reading(path, key_id) as key, pq.ParquetFile(path, decryption_properties=key) as file:
        version = parquet.checked_version(path, file.metadata)
        for batch in file.iter_batches(_BATCH_ROWS.get(data_set, _ROWS)):
            rows = upcast.table(data_set, pa.Table.from_batches([batch]), version, to=FORMAT_VERSION)
            rows = stored_form.shrink(rows)
            # Where a session ends and the next begins.
            codes = rows["session_id"].combine_chunks().dictionary_encode()
            cuts = np.flatnonzero(np.diff(codes.indices.to_numpy(zero_copy_only=False))) + 1
            for start, end in pairwise([0, *cuts.tolist(), rows.num_rows]):
                yield codes.dictionary[codes.indices[start].as_py()].as_py(), rows.slice(start, end - start)


class _Output:
    """One file that is filled with runs until it is large enough, and the next session begins."""

    def __init__(self, runs: _Runs, target_bytes: int, encryption: Any) -> None:
        assert runs.next is not None
        self._runs = runs
        self._target_bytes = target_bytes
        self._encryption = encryption
        self._schema = runs.next[1].schema
        self._most = parquet.group_bytes(self._schema)
        self.rows = 0

    @property
    def columns(self) -> list[str]:
        return list(self._schema.names)

    def write(self, file: BinaryIO) -> None:
        group: list[pa.Table] = []
        rows = size = 0
        whose: str | None = None
        with parquet.writer(file, self._schema, encryption=self._encryption) as writer:
            while self._runs.next is not None:
                is_full = file.tell() + size // _COMPRESSION >= self._target_bytes
                if whose not in {None, self._runs.next[0]} and is_full:
                    break
                whose, table = self._runs.take()
                group.append(table.cast(self._schema))
                rows += table.num_rows
                size += table.nbytes
                self.rows += table.num_rows
                if rows >= min(_ROWS, parquet.ROW_GROUP) or size >= self._most:
                    writer.write_table(pa.concat_tables(group), row_group_size=rows)
                    group, rows, size = [], 0, 0
            if group:
                writer.write_table(pa.concat_tables(group), row_group_size=rows)
