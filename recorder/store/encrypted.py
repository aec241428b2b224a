"""Encrypted files: Parquet's own modular encryption, AES-256-GCM of the footer and of all columns.

Beside its length, a file shows one thing, in the place of the prefix of the additional authenticated data:
`recorder-key:` and the id of its key, so that a file whose manifest is lost can still be told from a damaged one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from recorder.errors import StoreError
from recorder.store import keys

_MAGIC: Final = b"PARE"  # how such files begin and end, in the place of PAR1
_STATED: Final = re.compile(rb"recorder-key:([0-9a-f]{8})")
_IN_STORE: Final = 4  # segments, the data set, the date, the file
_LENGTH: Final = 4  # bytes before the last magic: how long the footer is
_LOOK: Final = 256  # the prefix stands at the footer's begin


def encryption(key_id: str, name: str) -> pe.FileEncryptionProperties | None:
    """What a writer needs to encrypt a file; None without a key.

    Args:
        key_id: of the store's key, "" for none.
        name: the file's path, relative to the store.

    Raises:
        EncryptionKeyError: that key is not held.
    """
    if not key_id:
        return None
    return pe.create_encryption_properties(keys.derived(key_id, name), aad_prefix=f"recorder-key:{key_id}".encode())


def decryption(key_id: str, name: str) -> pe.FileDecryptionProperties | None:
    """What a reader needs to decrypt a file; arguments and errors as for `encryption`."""
    return pe.create_decryption_properties(keys.derived(key_id, name)) if key_id else None


def name_of(path: Path) -> str:
    """A data file's path relative to its store, wherever that is."""
    return "/".join(path.parts[-_IN_STORE:])


def key_id_of(path: Path) -> str:
    """The id of the key that a file is encrypted with, by its own word; "" if it is not encrypted, or damaged."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LENGTH - len(_MAGIC)))
        end = file.read()
        if not end.endswith(_MAGIC):
            return ""
        file.seek(max(0, size - len(end) - int.from_bytes(end[:_LENGTH], "little")))
        return _stated(file.read(_LOOK))


def seal(value: bytes, key_id: str, name: str) -> bytes:
    """A value that is to lie beside data files, as a small encrypted file; as it is without a key.

    Args:
        value: any bytes.
        key_id: of the store's key, "" for none.
        name: what it is called, unique in the store.
    """
    if not key_id:
        return value
    table = pa.table({"value": [value]})
    with pa.BufferOutputStream() as sink:
        pq.write_table(table, sink, compression="none", encryption_properties=encryption(key_id, name))
        return bytes(sink.getvalue())


def unseal(value: bytes, name: str) -> bytes:
    """What `seal` was given.

    Raises:
        EncryptionKeyError: its key is not held.
        StoreError: it is damaged.
    """
    if not value.startswith(_MAGIC):
        return value
    properties = decryption(_stated(value), name)
    try:
        found: Any = pq.read_table(pa.BufferReader(value), decryption_properties=properties)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{name} cannot be decrypted: {error}", hint="`recorder verify` checks a store.") from error
    return bytes(found["value"][0].as_py())


def _stated(content: bytes) -> str:
    found = _STATED.search(content)
    return found[1].decode() if found else ""
