"""What lies aside in a data directory, and may hold something of a session: quarantined files, bundles, strangers.

quarantine    files are a session's by their name, by a manifest beside them, or by what is in them
bundles       (`recorder bundle`) lose a session by being written anew without its files
all else      is not ours, and left alone; that it names a session is told
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from recorder.errors import EncryptionKeyError, StoreError
from recorder.pipeline.leftovers import whose
from recorder.store import layout

_ROOMS: Final = frozenset({"segments", "manifests", "journal", "spool", "quarantine", "remote"})
"""Of the store itself: what is in them is found by other means."""

_MEMBERS: Final = ("manifests/date=", "segments/")
_DATA_FILE: Final = ".parquet"
_CHUNK: Final = 1 << 20
_ID_BYTES: Final = 36


class Quarantined(NamedTuple):
    """Files in quarantine.

    Attributes:
        by_session: those that have something of a session, by its id.
        unread: data files that cannot be read, and of which nothing tells whose they are.
    """

    by_session: dict[str, list[Path]]
    unread: list[Path]


def quarantined(data_dir: Path) -> Quarantined:
    """All files in quarantine. What `repair` set aside is also of each session that a manifest beside it names."""
    paths = [path for path in layout.quarantine(data_dir).rglob("*") if path.is_file()]
    ids = {path: layout.session_ids_in(path.name.encode()) for path in paths}
    unread = {path for path in paths if path.suffix == _DATA_FILE and not _add_rows(path, ids)}
    for manifest in (path for path in paths if path.suffix == ".json"):
        text = manifest.read_bytes()
        named = layout.session_ids_in(text)
        for path in paths:
            if path.name.startswith(f"{manifest.stem}.") or f"{path.parent.name}/{path.name}".encode() in text:
                ids[path] = ids[path] | named
    found: dict[str, list[Path]] = {}
    for path, several in ids.items():
        for session_id in several:
            found.setdefault(session_id, []).append(path)
    return Quarantined(found, sorted(path for path in unread if not ids[path]))


def _add_rows(path: Path, ids: dict[Path, set[str]]) -> bool:
    """Add the sessions that a data file has rows of; whether it can be read."""
    try:
        ids[path] = ids[path] | whose(path)
    except (StoreError, EncryptionKeyError, OSError):
        return False
    return True


def out_of_bundles(data_dir: Path, session_ids: Collection[str]) -> tuple[list[str], list[str]]:
    """Have the bundles in a data directory without sessions; those without any other go.

    Args:
        data_dir: the store.
        session_ids: whole ids.

    Returns:
        The bundles that were changed, and all other files that name one of the sessions, relative to the directory.
    """
    words = [session_id.encode() for session_id in session_ids]
    changed: list[str] = []
    strangers: list[str] = []
    for path in _strangers(data_dir):
        if not _names_one_of(path, words):
            continue
        is_bundle = _is_bundle(path)
        if is_bundle:
            _rewrite(path, session_ids)
        (changed if is_bundle else strangers).append(path.relative_to(data_dir).as_posix())
    return sorted(changed), sorted(strangers)


def _strangers(data_dir: Path) -> Iterator[Path]:
    for folder, rooms, names in os.walk(data_dir):
        if Path(folder) == data_dir:
            rooms[:] = [room for room in rooms if room not in _ROOMS]
        yield from (path for name in names if (path := Path(folder, name)).is_file() and not path.is_symlink())


def _names_one_of(path: Path, words: Iterable[bytes]) -> bool:
    """Whether an id stands anywhere in a file; of a zip archive, the names of its members do, in clear."""
    end = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            text = end + chunk
            if any(word in text for word in words):
                return True
            end = text[-_ID_BYTES:]
    return any(word in path.name.encode() for word in words)


def _is_bundle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.startswith(_MEMBERS) for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _rewrite(path: Path, session_ids: Collection[str]) -> None:
    """A bundle has files of their own for each session, named after it."""
    with zipfile.ZipFile(path) as archive:
        kept = [each for each in archive.infolist() if not any(one in each.filename for one in session_ids)]
        if not kept:
            path.unlink()
            layout.sync_directory(path.parent)
            return

        def write(file: BinaryIO) -> None:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as target:
                for member in kept:
                    target.writestr(member, archive.read(member))

        layout.write_file(path, write)
    layout.sync_directory(path.parent)
