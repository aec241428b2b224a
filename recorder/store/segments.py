"""Segments: a session's rows as Parquet files, one for each data set that has any."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from recorder.errors import AudioRemovedError
from recorder.protocol.envelope import Part, RecordedEvent
from recorder.store import encrypted, keys, layout, lookup, parquet, stored_form, upcast
from recorder.store.audio_blocks import BlockReader, Row
from recorder.store.audio_files import read_blocks
from recorder.store.parquet import ROW_GROUP, checked_version, group_bytes, reading
from recorder.store.schema import AUDIO, EVENTS, FORMAT_VERSION, PARTS
from recorder.store.stored_form import STORED_EVENTS

_BATCH: Final = 8_192
_SCHEMAS: Final = {"events": STORED_EVENTS, "appends": STORED_EVENTS, "parts": PARTS, "audio": AUDIO}
_OF_APPENDS: Final = frozenset({"position", "direction", "monotonic_ns", "type", "audio_ms"})
_OF_EVENTS: Final = frozenset({"events", "appends"})


class SegmentFile(msgspec.Struct, frozen=True):
    """One data file, as its manifest names it.

    Attributes:
        data_set: "events", "appends", "parts", "audio", or the name of a model.
        path: relative to the data directory.
        rows: how many rows it has.
        bytes: its size.
        sha256: of its content, in hex.
        columns: digest of its columns' names: tells files that need no matching of columns from those that do.
        key: id of the key that it is encrypted with; `key_id` in the manifest, and not there without one.
    """

    data_set: str
    path: str
    rows: int
    bytes: int
    sha256: str
    columns: str = ""
    key: str | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="key_id")  # no part of older digests

    @property
    def key_id(self) -> str:
        """The id of the key that it is encrypted with; "" if it is not."""
        return self.key or ""


def concat(tables: Iterable[pa.Table]) -> pa.Table:
    """Tables of the same columns, one after the other, without copying."""
    return pa.concat_tables(list(tables))


def between(table: pa.Table, after: int, until: int | None) -> pa.Table:
    """The rows whose position is greater than `after` and not greater than `until`."""
    keep = pc.greater(table["position"], after)
    return table.filter(keep if until is None else pc.and_(keep, pc.less_equal(table["position"], until)))


def split(table: pa.Table, session_ids: Sequence[str]) -> dict[str, pa.Table]:
    """The rows of each session in a table that holds several."""
    if len(session_ids) == 1:
        return {session_ids[0]: table}
    pieces: dict[str, list[pa.Table]] = {session_id: [table.slice(0, 0)] for session_id in session_ids}
    runs = pc.run_end_encode(table["session_id"].combine_chunks())
    start = 0
    for session_id, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        pieces[session_id].append(table.slice(start, end - start))
        start = end
    return {session_id: pa.concat_tables(found) for session_id, found in pieces.items()}


def write(data_dir: Path, date: str, name: str, tables: Mapping[str, pa.Table]) -> tuple[SegmentFile, ...]:
    """Write a manifest's data files; those that would be empty are left out.

    They count for nothing until a manifest names them. The caller holds `layout.locked` and syncs the directories.

    Args:
        data_dir: the store.
        date: the partition, YYYY-MM-DD.
        name: the manifest's.
        tables: rows by data set, in the order in which they shall stand.

    Raises:
        EncryptionKeyError: the store is encrypted, and no key is held.
    """
    files = []
    key_id = keys.for_writing(data_dir)
    for data_set, table in sorted(tables.items()):
        if not table.num_rows:
            continue
        path = layout.segment_path(data_set, date, name)
        target = data_dir / path
        layout.make_directory(target.parent)
        stored = stored_form.shrink(table) if data_set in _OF_EVENTS else table
        layout.write_file(target, partial(_write_parquet, stored, encrypted.encryption(key_id, path)))
        rows, columns = stored.num_rows, stored.column_names
        files.append(described(data_dir, data_set, path, rows=rows, columns=columns, key_id=key_id))
    return tuple(files)


def described(
    data_dir: Path, data_set: str, path: str, *, rows: int, columns: Iterable[str], key_id: str
) -> SegmentFile:
    """A data file that was just written, as its manifest is to name it."""
    target = data_dir / path
    size, names = target.stat().st_size, digest_names(columns)
    return SegmentFile(data_set, path, rows, size, digest(target), names, key_id or msgspec.UNSET)


def digest(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_names(names: Iterable[str]) -> str:
    """What stands for a list of columns in `SegmentFile.columns`."""
    return hashlib.sha256(",".join(names).encode()).hexdigest()[:8]


def column_digests() -> dict[str, str]:
    """The digest of each data set that is no model, as written today."""
    return {data_set: digest_names(kind.names) for data_set, kind in _SCHEMAS.items()}


def _write_parquet(table: pa.Table, encryption: Any, file: BinaryIO) -> None:
    plain = parquet.plain_columns(table)
    with parquet.writer(file, table.schema, plain=plain, encryption=encryption) as writer:
        writer.write_table(table, row_group_size=_rows_a_group(table))


def _rows_a_group(table: pa.Table) -> int:
    groups = max(1, -(-table.nbytes // group_bytes(table.schema)))
    return int(min(ROW_GROUP, max(1, -(-table.num_rows // groups))))


def read(
    data_dir: Path,
    files: Iterable[SegmentFile],
    data_set: str,
    *,
    session_id: str | None = None,
    after: int = -1,
    until: int | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table | None:
    """The rows of one data set among a manifest's files, or None where it has none.

    Args:
        data_dir: the store.
        files: from the manifest.
        data_set: which.
        session_id: whose rows, where the files hold those of several sessions; None for all.
        after: only rows whose position is greater (for data sets that have positions).
        until: only rows whose position is not greater.
        columns: only these, which every format version stores as they are (`recorded_at` is none); None for all.

    Raises:
        StoreError: a file is missing or damaged.
        EncryptionKeyError: the key of one is not held.
        NewerFormatError: a newer version wrote it.
    """
    wanted = lookup.Wanted(session_id, after, until)
    tables = [_read_file(data_dir, file, wanted, columns) for file in files if file.data_set == data_set]
    return pa.concat_tables(tables, promote_options="default") if tables else None


def _read_file(data_dir: Path, file: SegmentFile, wanted: lookup.Wanted, columns: Sequence[str] | None) -> pa.Table:
    path = data_dir / file.path
    with reading(path, file.key_id) as key:
        stored, footer = lookup.read(path, wanted, columns=columns, key=key)
        version = checked_version(path, footer)
        if columns is not None:
            return stored
        rows = upcast.table(file.data_set, stored, version, to=FORMAT_VERSION)
        return stored_form.expand(rows) if file.data_set in _OF_EVENTS else rows


def rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """A table's rows as dictionaries, a batch at a time; timestamps stay whole nanoseconds."""
    casts = {field.name: pa.int64() for field in table.schema if pa.types.is_timestamp(field.type)}
    plain = table.cast(pa.schema([pa.field(f.name, casts.get(f.name, f.type)) for f in table.schema]))
    for batch in plain.to_batches(max_chunksize=_BATCH):
        yield from batch.to_pylist()


def read_events(
    data_dir: Path,
    files: Sequence[SegmentFile],
    *,
    session_id: str | None = None,
    after: int = -1,
    until: int | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """A session's events, audio appends included, in the order of their positions.

    Args:
        data_dir: the store.
        files: those that hold it, from its manifest.
        session_id: whose rows, where the files hold those of several sessions.
        after: only positions greater than this.
        until: only positions up to this.
        columns: only these, as in `read`, with `position`, in no order, and in audio appends NULL but for their time
            and length; None for all.

    Raises:
        StoreError: a file is missing or damaged, or of a newer version.
    """
    of_appends = None if columns is None else [name for name in columns if name in _OF_APPENDS]
    tables = [
        read(data_dir, files, data_set, session_id=session_id, after=after, until=until, columns=names)
        for data_set, names in (("events", columns), ("appends", of_appends))
    ]
    empty = EVENTS.empty_table() if columns is None else EVENTS.empty_table().select(list(columns))
    found = pa.concat_tables([empty, *(table for table in tables if table is not None)], promote_options="default")
    return found.sort_by("position") if columns is None else found


def read_parts(
    data_dir: Path,
    files: Sequence[SegmentFile],
    *,
    session_id: str | None = None,
    after: int = -1,
    until: int | None = None,
) -> pa.Table:
    """The parts of a session's events; arguments and errors as in `read_events`."""
    table = read(data_dir, files, "parts", session_id=session_id, after=after, until=until)
    return PARTS.empty_table() if table is None else table


def read_audio(
    data_dir: Path,
    files: Iterable[SegmentFile],
    *,
    session_id: str | None = None,
    after: int = -1,
    until: int | None = None,
) -> Iterator[dict[str, Any]]:
    """The blocks of audio that events need, by position, read as they are asked for.

    Arguments and errors as in `read_events`.
    """
    for file in files:
        if file.data_set == "audio":
            yield from read_blocks(data_dir / file.path, file.key_id, session_id, after, until)


def recorded_events(
    events: pa.Table, parts: pa.Table, audio: Iterable[Row] = (), *, whole: bool = False
) -> Iterator[RecordedEvent]:
    """The events that rows were made from: the inverse of `session_tables.SessionTables`.

    An event whose audio was removed from the store comes without it, and as redacted.

    Args:
        events: of one session, by position.
        parts: theirs, by position and number.
        audio: theirs, as `read_audio` gives it; read as far as the events are asked for.
        whole: whether an event without its audio is an error.

    Raises:
        AudioRemovedError: the audio of an event was removed, and `whole`.
        StoreError: a block of audio is damaged.
    """
    blocks = BlockReader(audio)
    rest = rows(parts)
    part = next(rest, None)
    for row in rows(events):
        position = row["position"]
        kept: list[Part] = []
        while part is not None and part["position"] <= position:
            if part["position"] == position:
                data = blocks.read(part)
                if data is None and whole:
                    raise AudioRemovedError(row["session_id"], position)
                row["redacted"] |= data is None
                if data is not None:
                    kept.append(Part(part["part_no"], part["json_offset"], part["kind"], part["encoding"], data))
            part = next(rest, None)
        row["recorded_at_ns"] = row.pop("recorded_at")
        yield RecordedEvent(**row, parts=tuple(kept))
