"""Bundles: chosen sessions as one file to send to a colleague. A zip archive of a small store, nothing else in it.

Unpacked, it is a data directory like any other; `recorder import` takes it as it is, and checks it.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from recorder.errors import UsageError
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.commit import write_segments
from recorder.protocol.envelope import SESSION_CLOSED
from recorder.store import keys

Progress = Callable[[int, int], None]
_STEADY: Final = (1980, 1, 1, 0, 0, 0)  # the same sessions make the same file, whenever


def write_bundle(catalog: Catalog, session_ids: Sequence[str], file: BinaryIO, progress: Progress | None = None) -> int:
    """Write sessions as one file.

    Args:
        catalog: where they are.
        session_ids: whole ids; closed sessions.
        file: where to; must be seekable.
        progress: told after each session.

    Returns:
        How many events they have.

    Raises:
        SessionNotFoundError: there is no such session.
        UsageError: one still runs.
    """
    count = 0
    with tempfile.TemporaryDirectory(prefix="recorder-bundle-") as name:
        room = Path(name)
        for done, session_id in enumerate(dict.fromkeys(session_ids), 1):
            events = catalog.recorded_events(session_id)
            if (events[-1].direction, events[-1].type) != ("recorder", SESSION_CLOSED):
                raise UsageError(f"session {session_id} still runs", hint="Bundle it when it has ended.")
            count += len(events)
            with keys.in_plain():  # whoever gets it has not our key
                write_segments(room, [events])
            if progress:
                progress(done, len(session_ids))
        _zip(room, file)
    return count


def _zip(room: Path, file: BinaryIO) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # Parquet is compressed already
        for path in sorted(room.rglob("*")):
            if path.suffix in {".json", ".parquet"}:
                member = zipfile.ZipInfo(path.relative_to(room).as_posix(), _STEADY)
                member.external_attr = 0o600 << 16
                with path.open("rb") as source, archive.open(member, "w", force_zip64=True) as target:
                    while chunk := source.read(1 << 20):
                        target.write(chunk)
