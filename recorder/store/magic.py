"""How a journal and a spool begin: eight bytes, the last of them the format's version."""

from __future__ import annotations

import os
from pathlib import Path

from recorder.errors import NewerFormatError, StoreError


def has_begun(fd: int, path: Path, magic: bytes, kind: str) -> bool:
    """Whether a file has its magic already; False of one that was just created.

    Args:
        fd: of the file.
        path: its name, for the error.
        magic: what it has to begin with.
        kind: what it ought to be: journal, spool.

    Raises:
        StoreError: it is none.
        NewerFormatError: a newer version wrote it.
    """
    found = os.pread(fd, len(magic), 0)
    if len(found) < len(magic):
        return False
    if found != magic:
        if found[:-1] == magic[:-1]:
            raise NewerFormatError(str(path), found[-1], magic[-1])
        raise StoreError(f"{path} is not a {kind}", hint=f"Move it out of the {kind} directory.")
    return True
