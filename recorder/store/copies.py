"""A file of an object store is in two places: is either copy sound, and can it take the place of the other?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Final

from recorder.errors import DamagedManifestError, DamagedObjectError, NewerFormatError, ObjectGoneError, StoreError
from recorder.store import layout, manifests, segments
from recorder.store.manifests import Manifest
from recorder.store.objects import Object
from recorder.store.remote import Mirror
from recorder.store.segments import SegmentFile

UPLOAD_SECONDS: Final = 86_400.0
"""How long a data file may be in a bucket before its manifest is. A recorder tries again every minute at least."""


def check(mirror: Mirror, manifest: Manifest, file: SegmentFile) -> None:
    """Have a data file here, and see that it is there as its manifest says. Of the copy here nothing is told.

    Raises:
        ObjectGoneError: it is missing.
        DamagedObjectError: its content is not what was written.
        ObjectStoreError: the bucket is away.
    """
    was_here = (mirror.data_dir / file.path).exists()
    mirror.ensure([file])
    if was_here and _is_there(mirror, manifest) and mirror.bucket.digest(file.path) != file.sha256:
        raise DamagedObjectError(f"{mirror.bucket.url}/{file.path}")


def changed_manifests(mirror: Mirror) -> Iterator[str]:
    """The names of manifests that are not in the bucket as they are here, where they never change.

    Raises:
        ObjectStoreError: the bucket is away.
    """
    for name, content in _manifests(mirror):
        if not _is_sound(content, name) and _is_sound(_read(mirror.known / name), name):
            yield name


def unnamed(mirror: Mirror) -> list[Object]:
    """Data files in the bucket that no manifest names, there or here. Where a date has one that cannot be read: none.

    Raises:
        ObjectStoreError: the bucket is away.
    """
    found = mirror.bucket.list("segments/")
    named: set[str] = set()
    unknown: set[str] = set()
    for room in (mirror.known, mirror.data_dir):
        for path in layout.manifests(room).glob("date=*/[!.]*.json"):
            try:
                named |= {file.path for file in manifests.read(path).files}
            except FileNotFoundError:
                continue
            except StoreError:
                unknown.add(path.parent.name)
    return [each for each in found if each.name not in named and PurePath(each.name).parent.name not in unknown]


def is_settled(file: Object) -> bool:
    """Whether it is so old that nobody is about to upload its manifest."""
    return file.written_at <= time.time() - UPLOAD_SECONDS


def put_right(mirror: Mirror) -> list[str]:
    """Have sound copies take the place of damaged and missing ones, there and here; the names of those.

    The caller holds `layout.rewriting`.

    Raises:
        ObjectStoreError: the bucket is away.
    """
    done = []
    for name, content in _manifests(mirror):
        known = _read(mirror.known / name)
        if content == known:
            continue
        if _is_sound(content, name):
            for room in (mirror.known, mirror.data_dir):
                mirror.write(room / name, content)
        elif _is_sound(known, name):
            mirror.bucket.overwrite(name, known)
        else:
            continue
        done.append(name)
    for name, content in _manifests(mirror):
        with suppress(DamagedManifestError):
            manifest = manifests.decode(content, name)
            done += [file.path for file in manifest.files if _put_file_right(mirror, file)]
    return done


def _put_file_right(mirror: Mirror, file: SegmentFile) -> bool:
    path = mirror.data_dir / file.path
    here = path.exists() and segments.digest(path) == file.sha256
    try:
        there = mirror.bucket.digest(file.path) == file.sha256
    except ObjectGoneError:
        there = False
    if here and not there:
        mirror.bucket.overwrite(file.path, path.read_bytes())
    elif there and not here and path.exists():
        path.unlink()
        mirror.ensure([file])
    return here != there and path.exists()


def _manifests(mirror: Mirror) -> Iterator[tuple[str, bytes]]:
    for each in list(mirror.bucket.list("manifests/")):
        if each.name.endswith(".json"):
            with suppress(ObjectGoneError):
                yield each.name, mirror.bucket.get(each.name)


def _is_there(mirror: Mirror, manifest: Manifest) -> bool:
    return (mirror.known / layout.manifest_path(manifest.date, manifest.name)).exists()


def _is_sound(content: bytes, name: str) -> bool:
    try:
        manifests.decode(content, name)
    except NewerFormatError:
        return True
    except DamagedManifestError:
        return False
    return True


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
