"""Audio in files: only the row groups are read that hold what is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from recorder.store.parquet import checked_version, reading


def read_blocks(
    path: Path, key_id: str, session_id: str | None, after: int, until: int | None
) -> Iterator[dict[str, Any]]:
    """The blocks of one file that events need, read as they are asked for.

    Args:
        path: a file of the data set `audio`.
        key_id: of the key that it is encrypted with, "" if it is not.
        session_id: whose; None for all.
        after: only blocks with audio of positions greater than this.
        until: only blocks with audio of positions up to this; None for all.

    Raises:
        EncryptionKeyError: that key is not held.
        StoreError: the file is missing or damaged, or of a newer version.
    """
    with reading(path, key_id) as key, pq.ParquetFile(path, decryption_properties=key) as file:
        checked_version(path, file.metadata)
        for number in range(file.num_row_groups):
            bounds = _bounds(file.metadata.row_group(number))
            if bounds["last_position"][1] <= after or (until is not None and bounds["position"][0] > until):
                continue
            if session_id is not None and not bounds["session_id"][0] <= session_id <= bounds["session_id"][1]:
                continue
            for batch in file.iter_batches(batch_size=1, row_groups=[number]):
                block = batch.to_pylist()[0]
                is_of_events = block["last_position"] > after and (until is None or block["position"] <= until)
                if is_of_events and session_id in {None, block["session_id"]}:
                    yield block


def _bounds(group: pq.RowGroupMetaData) -> dict[str, tuple[Any, Any]]:
    columns = (group.column(number) for number in range(group.num_columns))
    return {
        column.path_in_schema: (column.statistics.min, column.statistics.max)
        for column in columns
        if column.statistics is not None and column.statistics.has_min_max
    }
