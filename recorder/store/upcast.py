"""Upcasters: what an older version of the recorder wrote, in the form of this one. One step for each version.

Data is upcast as it is read; files stay as they are. A step knows the version it comes from and the next, and nothing
of later ones, so a new version adds a step and leaves the others alone.

    1 → 2   manifests may hold many sessions, so facts stand by session; parts may be in blocks of audio; events have
            `clock_ns` in the place of `recorded_at` (which `stored_form` takes either way)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

ManifestStep = Callable[[dict[str, Any]], dict[str, Any]]
TableStep = Callable[[pa.Table], pa.Table]

SQL: Final[Mapping[tuple[str, str], str]] = {("parts", "size_bytes"): "octet_length(bytes)"}
"""For queries, which read the files themselves: (data set, column) → what older files give in its place; else NULL."""


def manifest(written: dict[str, Any], version: int, *, to: int) -> dict[str, Any]:
    """A manifest's JSON object as version `to` would have written it; `format_version` stays that of its files.

    Args:
        written: as it was read.
        version: its format version.
        to: the one that is wanted, no older.
    """
    for step in range(version, to):
        if step in _MANIFEST_STEPS:
            written = _MANIFEST_STEPS[step](written)
    return written


def table(data_set: str, rows: pa.Table, version: int, *, to: int) -> pa.Table:
    """Rows of a data set as version `to` would have written them.

    Args:
        data_set: whose rows.
        rows: as they were read.
        version: the format version of their file.
        to: the one that is wanted, no older.
    """
    for step in range(version, to):
        if (data_set, step) in _TABLE_STEPS:
            rows = _TABLE_STEPS[data_set, step](rows)
    return rows


def _manifest_1_to_2(old: dict[str, Any]) -> dict[str, Any]:
    new = {key: value for key, value in old.items() if key not in {"session_id", "facts"}}
    session_id = old.get("session_id")
    return new | {"name": session_id, "sessions": {session_id: old.get("facts", {})}}


def _parts_1_to_2(rows: pa.Table) -> pa.Table:
    sizes = pc.cast(pc.binary_length(rows["bytes"]), pa.int64())
    nowhere = pa.nulls(rows.num_rows, pa.int64())
    kept = ["session_id", "position", "part_no", "json_offset", "kind", "encoding"]
    columns = {name: rows[name] for name in kept}
    columns |= {"size_bytes": sizes, "block_position": nowhere, "block_offset": nowhere, "bytes": rows["bytes"]}
    return pa.table(columns)


_MANIFEST_STEPS: Final[Mapping[int, ManifestStep]] = {1: _manifest_1_to_2}
_TABLE_STEPS: Final[Mapping[tuple[str, int], TableStep]] = {("parts", 1): _parts_1_to_2}
