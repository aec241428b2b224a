"""One Parquet file of the store: how it is written, and how it is opened.

The encodings are those that measured smallest and fastest: zstd 3; dictionaries on text, which are ids, types and
names; DELTA_BINARY_PACKED on whole numbers, which are times, positions and counts (a third smaller than without).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from recorder.errors import NewerFormatError, StoreError
from recorder.store import encrypted
from recorder.store.schema import AUDIO, FORMAT_VERSION

VERSION_KEY: Final = "recorder.format_version"
ROW_GROUP: Final = 262_144
"""Rows of a row group, unless they are big."""

_BYTES_A_GROUP: Final = 8 << 20  # who wants one session reads a group or two
_AUDIO_BYTES_A_GROUP: Final = 4 << 20  # who wants one block reads a group
_FEW_ROWS: Final = 16
_FEW_BYTES: Final = 1 << 16
_ROOT: Final = 3  # data file → date → data set → segments → the store
_WIRE_TEXT: Final = frozenset({"payload"})  # every value differs: a dictionary only costs time


def writer(
    file: BinaryIO,
    schema: pa.Schema,
    *,
    plain: Collection[str] = (),
    encryption: pe.FileEncryptionProperties | None = None,
) -> pq.ParquetWriter:
    """Begin a file of this format version; the caller writes its row groups and closes it.

    Args:
        file: an empty one.
        schema: its columns, as they lie in files.
        plain: columns that compressing would not make smaller.
        encryption: how it is encrypted (`encrypted.encryption`); None if it is not.
    """
    squeezed = [name for name in schema.names if name not in plain]
    key = [(name, "ascending") for name in ("session_id", "position", "part_no") if name in schema.names]
    begun = pq.ParquetWriter(
        file,
        schema,
        compression=dict.fromkeys(schema.names, "none") | dict.fromkeys(squeezed, "zstd"),
        compression_level=dict.fromkeys(squeezed, 3) or None,
        use_dictionary=[field.name for field in schema if _is_text(field.type) and field.name not in _WIRE_TEXT],
        column_encoding={field.name: "DELTA_BINARY_PACKED" for field in schema if _is_whole(field.type)},
        store_schema=False,  # Parquet's own types say it all; Arrow's copy is a third of a small file
        sorting_columns=pq.SortingColumn.from_ordering(schema, key),
        encryption_properties=encryption,
    )
    begun.add_key_value_metadata({VERSION_KEY: str(FORMAT_VERSION)})
    return begun


def plain_columns(table: pa.Table) -> Collection[str]:
    """The columns of a file that compressing would not make smaller: those of few bytes, and audio coded already."""
    if table.num_rows < _FEW_ROWS and table.nbytes < _FEW_BYTES:
        return list(table.schema.names)
    if table.schema.names == AUDIO.names and pc.all(pc.equal(table["codec"], "flac")).as_py():
        return ("bytes",)
    return ()


def group_bytes(schema: pa.Schema) -> int:
    """How much a row group of such rows may take in memory."""
    return _AUDIO_BYTES_A_GROUP if schema.names == AUDIO.names else _BYTES_A_GROUP


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_timestamp(kind))


@contextmanager
def reading(path: Path, key_id: str = "") -> Iterator[pe.FileDecryptionProperties | None]:
    """Say in our words what goes wrong with a data file; in a workspace, have it fetched if it is not here.

    Args:
        path: the file.
        key_id: of the key that it is encrypted with, "" if it is not.

    Yields:
        What a reader needs to decrypt it.

    Raises:
        EncryptionKeyError: that key is not held.
        StoreError: it is missing or damaged, or where it is to be fetched from is away.
    """
    if not path.exists():
        from recorder.store.workspace import remote_of  # noqa: PLC0415 - it reads manifests, and they name data files

        remote = remote_of(path.parents[_ROOT])
        if remote is not None:
            remote.fetch(path)
    decryption = encrypted.decryption(key_id, encrypted.name_of(path))
    try:
        yield decryption
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot read {path}: {error}", hint="`recorder verify` checks a store.") from error


def checked_version(path: Path, metadata: pq.FileMetaData) -> int:
    """The format version of a file.

    Raises:
        NewerFormatError: a newer version wrote it.
    """
    found = int((metadata.metadata or {}).get(VERSION_KEY.encode(), b"1"))
    if found > FORMAT_VERSION:
        raise NewerFormatError(str(path), found, FORMAT_VERSION)
    return found
