"""Import: files of other recorders, and our own exports, become sealed sessions."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from recorder.errors import EncryptionKeyError, ImportFormatError, StoreError, UsageError
from recorder.formats.recordings import SUFFIXES, Recording, open_recordings
from recorder.pipeline.commit import write_segments
from recorder.store import layout
from recorder.store.journal_files import list_journals
from recorder.store.manifests import ManifestCache

log = logging.getLogger(__name__)

Status = Literal["imported", "present", "failed"]

Progress = Callable[[int, int], None]
"""Called with how many files are done, and of how many."""

_BATCH_FILES: Final = 64
_BATCH_BYTES: Final = 32 << 20


class ImportResult(msgspec.Struct, frozen=True):
    """What became of one session, or of a file in which none could be read.

    Attributes:
        file: its file's path as it was named or found.
        status: "imported", "present" (the store had that session already) or "failed".
        session_id: whose recording it is; None where that could not be told.
        error: why it failed, or None.
        line: where, or None.
    """

    file: str
    status: Status
    session_id: str | None = None
    error: str | None = None
    line: int | None = None


_Place = tuple[int, int]
"""A file's number, and that of a session in it."""


class _Pending(NamedTuple):
    place: _Place
    path: Path
    recording: Recording


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The files to import: those that are named, and in directories those whose names say that they may be, sorted.

    Raises:
        UsageError: a directory holds none.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(
            Path(folder, name)
            for folder, _, names in os.walk(path)
            for name in names
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        )
        if not inside:
            raise UsageError(f"no {', '.join(sorted(SUFFIXES))} file under {path}")
        found += inside
    return list(dict.fromkeys(found))


def import_files(data_dir: Path, files: Sequence[Path], progress: Progress | None = None) -> list[ImportResult]:
    """Import files. Each session of theirs is stored whole or not at all; a file that is wrong anywhere not at all.

    Args:
        data_dir: the store; made where it is missing.
        files: as `find_files` gives them.
        progress: told after each file.

    Returns:
        One result for each session, in the order of the files; one for a file in which none could be read.

    Raises:
        StoreError: the data directory cannot be written.
        EncryptionKeyError: it is encrypted, and no key is held.
    """
    layout.create(data_dir)
    importer = _Importer(data_dir)
    for number, path in enumerate(files):
        importer.take(number, path)
        if progress:
            progress(number + 1, len(files))
    importer.flush()
    return [importer.results[place] for place in sorted(importer.results)]


class _Importer:
    """Checks files one by one and writes them in batches: models cost little more for many sessions than for one."""

    def __init__(self, data_dir: Path) -> None:
        self.results: dict[_Place, ImportResult] = {}
        self._data_dir = data_dir
        self._present = {journal.session_id for journal in list_journals(data_dir)}
        sealed = ManifestCache(data_dir)
        sealed.refresh()
        self._present |= sealed.sessions.keys() | sealed.parts.keys()
        self._pending: dict[str, _Pending] = {}
        self._bytes = 0

    def take(self, number: int, path: Path) -> None:
        """Check one file, and put its sessions among those to be written."""
        try:
            recordings = open_recordings(path)
        except ImportFormatError as error:
            self.results[number, 0] = ImportResult(str(path), "failed", error=error.problem, line=error.line)
            return
        for at, recording in enumerate(recordings):
            self._take(_Pending((number, at), path, recording))
        self._bytes += path.stat().st_size
        if len(self._pending) >= _BATCH_FILES or self._bytes >= _BATCH_BYTES:
            self.flush()

    def _take(self, pending: _Pending) -> None:
        session_id = pending.recording.session_id
        if session_id in self._pending or session_id in self._present:
            self.results[pending.place] = ImportResult(str(pending.path), "present", session_id)
        else:
            self._pending[session_id] = pending

    def flush(self) -> None:
        """Write what is pending."""
        pending, self._pending, self._bytes = list(self._pending.values()), {}, 0
        for result in self._write(pending):
            self.results[result[0]] = result[1]

    def _write(self, pending: Sequence[_Pending]) -> Iterator[tuple[_Place, ImportResult]]:
        try:
            written = write_segments(self._data_dir, (each.recording.events() for each in pending))
        except EncryptionKeyError:
            raise
        except OSError as error:
            raise StoreError(f"cannot write to {self._data_dir}: {error.strerror or error}") from error
        except Exception as error:
            if len(pending) > 1:  # one of them spoils it for the others
                for each in pending:
                    yield from self._write([each])
                return
            if not isinstance(error, ImportFormatError):
                log.exception("%s cannot be imported", pending[0].path)
            reason = error.problem if isinstance(error, ImportFormatError) else str(error) or type(error).__name__
            yield pending[0].place, _result(pending[0], "failed", reason)
            return
        for each in pending:
            yield each.place, _result(each, "imported" if each.recording.session_id in written else "present")


def _result(pending: _Pending, status: Status, error: str | None = None) -> ImportResult:
    return ImportResult(str(pending.path), status, pending.recording.session_id, error)
