"""Rows of one session out of a data file that holds many: only the row groups that can have them are read.

Files are sorted by session and position, so the bounds that their footer has for each row group tell where to look. Of
what is decoded there for nothing, text would be most: it stays in its dictionary until the rows are chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

_SESSION: Final = "session_id"
_POSITION: Final = "position"
_MANY_GROUPS: Final = 2
_FOOTERS: Final = 64


class Wanted(NamedTuple):
    """Which rows.

    Attributes:
        session_id: whose; None for all.
        after: only those whose position is greater; -1 for all.
        until: only those whose position is not greater; None for all.
    """

    session_id: str | None = None
    after: int = -1
    until: int | None = None


class Found(NamedTuple):
    """Rows as they lie in a file, and its footer."""

    rows: pa.Table
    footer: pq.FileMetaData


def read(
    path: Path,
    wanted: Wanted = Wanted(),  # noqa: B008 - a tuple
    *,
    columns: Sequence[str] | None = None,
    key: pe.FileDecryptionProperties | None = None,
) -> Found:
    """Read rows of one file, in its order.

    Args:
        path: the file.
        wanted: which rows.
        columns: only these; None for all.
        key: what the file is decrypted with; None if it is not encrypted.

    Raises:
        OSError, pa.ArrowException: it is missing, damaged, or not to be decrypted.
    """
    known = None if key else _footer(path, path.stat().st_mtime_ns, path.stat().st_size)
    names = None if columns is None else list(columns)
    opened = partial(pq.ParquetFile, path, metadata=known, decryption_properties=key)
    if wanted == Wanted():
        with opened() as file:
            return Found(file.read(names), file.metadata)
    footer = known or opened().metadata
    schema = footer.schema.to_arrow_schema()
    with opened(read_dictionary=[field.name for field in schema if _is_indexed(footer, field)]) as file:
        needed = None if names is None else list(dict.fromkeys([*names, *_asked(wanted)]))
        groups = list(groups_of(footer, wanted))
        rows = file.read_row_groups(groups, columns=needed, use_threads=len(groups) > _MANY_GROUPS)
    chosen = _chosen(rows, wanted).select(schema.names if names is None else names)
    return Found(chosen.cast(pa.schema([schema.field(name) for name in chosen.column_names])), footer)


def groups_of(footer: pq.FileMetaData, wanted: Wanted) -> Iterator[int]:
    """The numbers of the row groups that may have wanted rows."""
    places = {footer.schema.column(number).path: number for number in range(footer.num_columns)}
    asked = {places[name]: bounds for name, bounds in _asked(wanted).items()}
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        if all(_overlaps(group.column(place), *bounds) for place, bounds in asked.items()):
            yield number


def _asked(wanted: Wanted) -> dict[str, tuple[Any, Any]]:
    """Column → the least and the greatest value that is wanted, None where there is no limit."""
    whose = {} if wanted.session_id is None else {_SESSION: (wanted.session_id, wanted.session_id)}
    if wanted.after < 0 and wanted.until is None:
        return whose
    return whose | {_POSITION: (wanted.after + 1, wanted.until)}


def _overlaps(column: pq.ColumnChunkMetaData, least: Any, greatest: Any) -> bool:
    bounds = column.statistics
    if bounds is None or not bounds.has_min_max:
        return True
    return (least is None or bounds.max >= least) and (greatest is None or bounds.min <= greatest)


def _is_indexed(footer: pq.FileMetaData, field: pa.Field) -> bool:
    """Whether a column is text that the file has in a dictionary."""
    if not pa.types.is_string(field.type) or not footer.num_row_groups:
        return False
    group = footer.row_group(0)
    places = (number for number in range(footer.num_columns) if footer.schema.column(number).path == field.name)
    return any(group.column(number).has_dictionary_page for number in places)


def _chosen(rows: pa.Table, wanted: Wanted) -> pa.Table:
    if wanted.session_id is not None:
        is_its = [_is_of(chunk, wanted.session_id) for chunk in rows[_SESSION].chunks]
        rows = _where(rows, pa.chunked_array(is_its, pa.bool_()))
    if wanted.after >= 0:
        rows = _where(rows, pc.greater(rows[_POSITION], wanted.after))
    if wanted.until is not None:
        rows = _where(rows, pc.less_equal(rows[_POSITION], wanted.until))
    return rows


def _where(rows: pa.Table, keep: pa.ChunkedArray) -> pa.Table:
    """The rows that are kept: a slice where they lie together, as they do in sorted files."""
    places = pc.indices_nonzero(keep)
    if not len(places):
        return rows.slice(0, 0)
    first, last = places[0].as_py(), places[-1].as_py()
    return rows.slice(first, len(places)) if last - first < len(places) else rows.filter(keep)


def _is_of(sessions: Any, session_id: str) -> Any:
    """Which of the ids are this one; of ids in a dictionary, it is looked up once."""
    if pa.types.is_dictionary(sessions.type):
        return pc.equal(sessions.indices, sessions.dictionary.index(session_id).as_py())
    return pc.equal(sessions, session_id)


@lru_cache(maxsize=_FOOTERS)
def _footer(path: Path, _mtime_ns: int, _size: int) -> pq.FileMetaData:
    return pq.read_metadata(path)
