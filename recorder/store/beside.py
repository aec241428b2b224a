"""What lies beside the data of an object store: the audit record, and what could not be sealed.

    audit/<digest>.json     one entry each; every workspace's audit.jsonl gets those of the others
    quarantine/<path>       files of workspaces' quarantines, encrypted where data files are

`WORKSPACE/remote/audit` and `…/quarantine` have an empty file for each that is known to be in the bucket. So what is
known and gone here was removed here, or moved back to be tried again, and goes there; and the other way round.
In `WORKSPACE/remote/tmp` is what is being fetched.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final, NamedTuple

from recorder.errors import ObjectGoneError, StoreError
from recorder.store import audit, encrypted, keys, layout

if TYPE_CHECKING:
    from recorder.store.remote import Mirror

_AUDIT: Final = "audit"
_QUARANTINE: Final = "quarantine"
_DATA_FILE: Final = ".parquet"  # set aside by `repair`: encrypted where it was
_NAME: Final = re.compile(r"(repair(/[\w=-]+)*/)?[\w=-][\w.=-]*")  # no way out of the folder, and nothing unfinished


def has_news(mirror: Mirror) -> bool:
    """Whether something is here that the bucket does not know of."""
    here, known = _aside(mirror.data_dir), _known(mirror, _QUARANTINE)
    return here != known or bool(_entries(mirror.data_dir).keys() - _known(mirror, _AUDIT))


def push(mirror: Mirror) -> None:
    """Have the bucket know what is here alone, and lose what was removed here.

    Raises:
        ObjectStoreError: the bucket is away; it can be called again.
        EncryptionKeyError: the store is encrypted, and no key is held to write with.
    """
    for digest, line in _entries(mirror.data_dir).items():
        if digest not in _known(mirror, _AUDIT):
            mirror.bucket.create(f"{_AUDIT}/{digest}", line)
            _note(mirror, _AUDIT, digest)
    here, known = _aside(mirror.data_dir), _known(mirror, _QUARANTINE)
    for name in sorted(here - known):
        content = (layout.quarantine(mirror.data_dir) / name).read_bytes()
        where = f"{_QUARANTINE}/{name}"
        if not name.endswith(_DATA_FILE):
            content = encrypted.seal(content, keys.for_writing(mirror.data_dir), where)
        mirror.bucket.create(where, content)
        _note(mirror, _QUARANTINE, name)
    mirror.bucket.delete(f"{_QUARANTINE}/{name}" for name in known - here)
    for name in known - here:
        (mirror.known / _QUARANTINE / name).unlink(missing_ok=True)


def pull(mirror: Mirror, *, fetch: bool = True) -> None:
    """Lose what was removed elsewhere, and have here what others have.

    Args:
        mirror: the workspace and its bucket.
        fetch: without, nothing comes here: a machine that only records needs nobody else's.

    Raises:
        ObjectStoreError: the bucket is away.
        EncryptionKeyError: what comes is encrypted with a key that is not held.
    """
    room = layout.quarantine(mirror.data_dir)
    known = _known(mirror, _QUARANTINE)  # first: what others push meanwhile is not taken for removed
    there = _listed(mirror, _QUARANTINE)
    for name in known - there:
        (room / name).unlink(missing_ok=True)
        (mirror.known / _QUARANTINE / name).unlink(missing_ok=True)
    if not fetch:
        return
    for name in sorted(there - known):
        try:
            content = _plain(mirror, name)
        except ObjectGoneError:
            continue
        except StoreError:  # damaged: `damaged` says so
            continue
        if not (room / name).exists():
            mirror.write(room / name, content)
        _note(mirror, _QUARANTINE, name)
    unknown = _listed(mirror, _AUDIT) - _known(mirror, _AUDIT)
    new = {name: line for name in unknown if _named(line := mirror.bucket.get(f"{_AUDIT}/{name}")) == name}
    own = _entries(mirror.data_dir)
    audit.add(mirror.data_dir, sorted((line for name, line in new.items() if name not in own), key=audit.written_at))
    for name in new:
        _note(mirror, _AUDIT, name)


class Damage(NamedTuple):
    """An object that is not what was written.

    Attributes:
        name: of the object.
        is_audit: whether it is an entry of the audit record; of others, the one here may be the damaged one, too.
        problem: what is wrong.
    """

    name: str
    is_audit: bool
    problem: str


def damaged(mirror: Mirror) -> Iterator[Damage]:
    """Which entries of the audit record and files in quarantine are not in the bucket as they were written.

    Entries are named after their digest. Files are compared with those here, encrypted ones also where there is none.

    Raises:
        ObjectStoreError: the bucket is away.
        EncryptionKeyError: a file is encrypted with a key that is not held.
    """
    there = _listed(mirror, _AUDIT)
    for name in sorted(_known(mirror, _AUDIT) - there):
        yield Damage(f"{_AUDIT}/{name}", True, "it is missing in the bucket")
    for name in sorted(there):
        if _named(mirror.bucket.get(f"{_AUDIT}/{name}")) != name:
            yield Damage(f"{_AUDIT}/{name}", True, "in the bucket it is not what was written")
    room = layout.quarantine(mirror.data_dir)
    for name in sorted(_listed(mirror, _QUARANTINE)):
        said = ""
        try:
            content = _plain(mirror, name)
            if (room / name).exists() and (room / name).read_bytes() != content:
                said = "in the bucket it is not what it is here"
        except ObjectGoneError:
            continue
        except StoreError:
            said = "in the bucket it cannot be decrypted"
        if said:
            yield Damage(f"{_QUARANTINE}/{name}", False, said)


def put_right(mirror: Mirror) -> list[str]:
    """Write entries of the audit record to the bucket anew that are damaged or missing there; the names of those.

    Raises:
        ObjectStoreError: the bucket is away.
    """
    there, done = _listed(mirror, _AUDIT), []
    for name, line in _entries(mirror.data_dir).items():
        where = f"{_AUDIT}/{name}"
        if name in _known(mirror, _AUDIT) and (name not in there or mirror.bucket.get(where) != line):
            mirror.bucket.overwrite(where, line)
            done.append(where)
    return done


def drop_unfinished(mirror: Mirror, names: Iterable[str]) -> None:
    """Remove what a killed process left of fetching these files."""
    gone = {PurePath(name).name for name in names}
    for path in mirror.temporary.iterdir():
        if path.name.rsplit(".", 2)[0] in gone:
            path.unlink(missing_ok=True)


def _entries(data_dir: Path) -> dict[str, bytes]:
    lines = audit.lines(data_dir)
    return {_named(line): line for line in lines}


def _named(line: bytes) -> str:
    """The name of an entry of the audit record: after what it says."""
    return f"{hashlib.sha256(line).hexdigest()}.json"


def _plain(mirror: Mirror, name: str) -> bytes:
    """What a file in quarantine holds by the bucket's word; of a data file that is encrypted, as it is."""
    where = f"{_QUARANTINE}/{name}"
    content = mirror.bucket.get(where)
    return content if name.endswith(_DATA_FILE) else encrypted.unseal(content, where)


def _aside(data_dir: Path) -> set[str]:
    return _names_in(layout.quarantine(data_dir))


def _names_in(room: Path) -> set[str]:
    found = {path.relative_to(room).as_posix() for path in room.rglob("*") if path.is_file()}
    return {name for name in found if _NAME.fullmatch(name)}


def _known(mirror: Mirror, folder: str) -> set[str]:
    return _names_in(mirror.known / folder)


def _listed(mirror: Mirror, folder: str) -> set[str]:
    names = (each.name.removeprefix(f"{folder}/") for each in mirror.bucket.list(f"{folder}/"))
    return {name for name in names if _NAME.fullmatch(name)}


def _note(mirror: Mirror, folder: str, name: str) -> None:
    mirror.write(mirror.known / folder / name, b"")
