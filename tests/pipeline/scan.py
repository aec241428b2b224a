"""Looking for words in every byte of a store, also in what is compressed or encrypted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recorder.store import encrypted
from recorder.store.audio_blocks import decode


def everything(*directories: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of all files, decoded as far as they can be; also the names themselves."""
    for path in (path for directory in directories for path in directory.rglob("*")):
        yield str(path), path.name.encode()
        if path.is_file():
            yield str(path), path.read_bytes()
            if path.suffix == ".parquet":
                yield from ((str(path), value) for value in _values(path))


def _values(path: Path) -> Iterator[bytes]:
    with suppress(pa.ArrowInvalid):  # damaged: there is no more to it than its bytes
        yield from _rows(path)


def _rows(path: Path) -> Iterator[bytes]:
    key = encrypted.decryption(encrypted.key_id_of(path), encrypted.name_of(path))
    with pq.ParquetFile(path, decryption_properties=key) as file:
        for row in file.read().to_pylist():
            for value in row.values():
                yield value if isinstance(value, bytes) else str(value).encode(errors="replace")
            if "codec" in row:
                yield decode(row["codec"], row["bytes"], row["size_bytes"])


def found(words: list[bytes], *directories: Path) -> set[tuple[str, bytes]]:
    """Which words stand where."""
    return {(name, word) for name, content in everything(*directories) for word in words if word in content}
