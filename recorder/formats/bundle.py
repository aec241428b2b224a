"""Reading bundles (`recorder bundle`): zip archives of a small store, checked before anything of them is believed.

Only names that a store can have are unpacked, up to a size; every file must be named by a manifest and have the size
and digest that it says. The events are then read like any; derived rows are made anew where they are imported.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from recorder.errors import EncryptionKeyError, ImportFormatError, NewerFormatError, StoreError
from recorder.formats.lines import MAX_FILE_BYTES
from recorder.protocol.envelope import SESSION_OPENED, RecordedEvent
from recorder.store import manifests, segments
from recorder.store.manifests import Manifest

START: Final = b"PK\x03\x04"
_NAME: Final = re.compile(
    r"(?:manifests/date=\d{4}-\d\d-\d\d/[0-9a-z.-]{1,80}\.json|segments/[a-z_]{1,40}/date=\d{4}-\d\d-\d\d/[0-9a-z.-]{1,80}\.parquet)"
)


class BundledSession:
    """One session of a bundle.

    Attributes:
        session_id: as it was.
    """

    def __init__(self, room: _Room, manifest: Manifest, session_id: str) -> None:
        self.session_id = session_id
        self._room = room
        self._manifest = manifest

    def events(self) -> Iterator[RecordedEvent]:
        """The session's events, as they were.

        Raises:
            ImportFormatError: the rows are not those of one whole session.
        """
        files, room = self._manifest.files, self._room
        try:
            rows = segments.read_events(room.path, files, session_id=self.session_id)
            parts = segments.read_parts(room.path, files, session_id=self.session_id)
            audio = segments.read_audio(room.path, files, session_id=self.session_id)
            position = 0
            for event in segments.recorded_events(rows, parts, audio):
                if event.position != position or (position == 0 and event.type != SESSION_OPENED):
                    raise room.error(f"session {self.session_id}: position {event.position} where {position} is due")
                position += 1
                yield event
        except (StoreError, EncryptionKeyError, ValueError, KeyError, TypeError) as error:
            raise room.error(f"session {self.session_id}: its rows cannot be read ({error})") from error
        if not position:
            raise room.error(f"session {self.session_id} has no events in it")


class _Room:
    """Where a bundle is unpacked, for as long as anybody may read it."""

    def __init__(self, bundle: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="recorder-import-"))
        self._bundle = bundle
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def error(self, problem: str) -> ImportFormatError:
        return ImportFormatError(str(self._bundle), None, problem)

    def unpack(self, archive: zipfile.ZipFile) -> list[str]:
        """Unpack everything, after a look at names and sizes; the names."""
        members = archive.infolist()
        for member in members:
            if not _NAME.fullmatch(member.filename):
                raise self.error(f"not a bundle: {member.filename[:100]!r} does not belong in one")
        if sum(member.file_size for member in members) > MAX_FILE_BYTES:
            raise self.error(f"unpacked it is larger than {MAX_FILE_BYTES >> 30} GiB")
        for member in members:
            archive.extract(member, self.path)
        return [member.filename for member in members]

    def check(self, manifest: Manifest, names: set[str]) -> None:
        """Every file that the manifest names is here as it says."""
        for file in manifest.files:
            path = self.path / file.path
            if file.path not in names:
                raise self.error(f"{file.path} is missing")
            if path.stat().st_size != file.bytes or segments.digest(path) != file.sha256:
                raise self.error(f"{file.path} is damaged: it is not what its manifest says")


def read_bundle(path: Path) -> list[BundledSession]:
    """The sessions of a bundle.

    Raises:
        ImportFormatError: it is none, is damaged, or holds none; or a newer version wrote it.
    """
    room = _Room(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = room.unpack(archive)
        found = [manifests.read(room.path / name) for name in sorted(names) if name.startswith("manifests/")]
    except NewerFormatError as error:
        raise room.error(f"a newer recorder wrote it (format version {error.found}); upgrade this one") from error
    # zipfile says RuntimeError of an encrypted archive, and NotImplementedError of a compression that it does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, StoreError) as error:
        raise room.error(f"not a bundle, or a damaged one: {error}") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise room.error(str(error)) from error
    for manifest in found:
        room.check(manifest, set(names))
    sessions = [BundledSession(room, manifest, one) for manifest in found for one in manifest.sessions]
    if not sessions:
        raise room.error("no session in it")
    return sessions
