#!/usr/bin/env python
"""Make what a killed recorder leaves behind, in the formats that this one writes.

    python sample_logs/make_leftovers.py DIRECTORY      adds what DIRECTORY has not

Each holds the session of odd messages that `make_store.py` knows: a worker's ring, a spool, and a running session of
which one part is sealed, cut in the middle of a compressed message. And a bundle: what others may have sent us.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from make_store import RECORDER, SEALED, records

from recorder.pipeline.drain import Drain
from recorder.pipeline.seal import seal_all
from recorder.protocol import checkpoint
from recorder.protocol.envelope import RecordKind
from recorder.store import layout, ring, spool
from recorder.store.journal import JournalWriter, encode_frame
from recorder.store.ring import RingWriter
from recorder.store.ring_reader import RingReader
from recorder.store.schema import FORMAT_VERSION

RING_BYTES: Final = 48 << 10
_SORTED_BEFORE: Final = b"this was sorted into a journal before"


def make_ring(target: Path, room: Path) -> None:
    """A dead worker's ring, whose reader was killed while it gave back what it had put on a spool."""
    writer = RingWriter(room, RING_BYTES)
    for _ in range(3):
        writer.append(RecordKind.CLIENT_BYTES, 7, 1, _SORTED_BEFORE)
    taken = writer.used_bytes()
    for at_ns, kind, content in records(SEALED, writer.name):
        if not writer.append(kind, 1, at_ns, content):
            raise SystemExit(f"the session does not fit into {RING_BYTES >> 10} KiB")
    with RingReader(writer.path) as reader:
        reader.release(taken // 3)
    writer.close()
    content = bytearray(writer.path.read_bytes())
    content[8 * ring.TAKEN_WORD : 8 * ring.TAKEN_WORD + 8] = taken.to_bytes(8, sys.byteorder)
    target.write_bytes(content)


def make_spool(target: Path, room: Path) -> None:
    """What a recorder process had taken from a ring, in its only spool."""
    layout.create(room / "data")
    writer = RingWriter(room, RING_BYTES)
    for at_ns, kind, content in records(SEALED, writer.name):
        writer.append(kind, 1, at_ns, content)
    drain = Drain(room / "data", room)
    drain.drain()
    drain.close()
    writer.close()
    shutil.copy(spool.list_spools(room / "data")[0].path, target)


def make_parts(target: Path) -> None:
    """A store in which a session runs: its first part is sealed, the next one is being written."""
    layout.create(target)
    writer = JournalWriter(target, SEALED)
    said = records(SEALED, extensions="permessage-deflate")
    place = 0
    for number, (at_ns, kind, content) in enumerate(said):
        half = len(content) // 2 if number == len(said) // 2 else len(content)
        writer.write(encode_frame(place, at_ns, kind, content[:half]))
        writer.last_position = place
        place += half + 32
        if half < len(content):
            before, writer = writer, writer.roll()
            before.close(finished=True)
            writer.write(encode_frame(place, at_ns, kind, content[half:]))
            writer.last_position = place
            place += len(content) - half + 32
    writer.close(finished=False)
    seal_all(target)
    for leftover in (target / "write.lock", target / "quarantine", target / "spool"):
        leftover.rmdir() if leftover.is_dir() else leftover.unlink(missing_ok=True)


def make_bundle(target: Path, room: Path) -> None:
    """A bundle of a sealed session."""
    layout.create(room)
    writer = JournalWriter(room, SEALED)
    place = 0
    for at_ns, kind, content in records(SEALED):
        writer.write(encode_frame(place, at_ns, kind, content))
        place += len(content) + 32
    writer.close(finished=True)
    seal_all(room)
    subprocess.run([*RECORDER, "bundle", SEALED, "--data", room, "-o", target], check=True)


def main() -> None:
    """Make what is missing."""
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    wanted = {
        f"ring-v{ring.VERSION}.ring": make_ring,
        f"spool-v{spool.MAGIC[-1]}.spool": make_spool,
        f"parts-v{checkpoint.VERSION}": lambda path, _: make_parts(path),
        f"bundle-v{FORMAT_VERSION}.bundle": make_bundle,
    }
    for name, make in wanted.items():
        if not (target / name).exists():
            with tempfile.TemporaryDirectory() as room:
                make(target / name, Path(room, "rings"))


if __name__ == "__main__":
    main()
