"""A store with a worker's ring, without a worker."""

from pathlib import Path

import msgspec

from recorder.pipeline.drain import Drain
from recorder.pipeline.sort import Sorter
from recorder.protocol.envelope import RecordKind
from recorder.store import layout
from recorder.store.journal import read_journal
from recorder.store.journal_files import JournalFile, list_journals
from recorder.store.ring import RingWriter


class Recording:
    """What the recorder process and the sorter do, one after the other.

    Args:
        seal_seconds: as the sorter's.
    """

    def __init__(self, data_dir: Path, ring_dir: Path, seal_seconds: float = 0.0) -> None:
        self.to_spools = Drain(data_dir, ring_dir)
        self.sorter = Sorter(data_dir, ring_dir, seal_seconds=seal_seconds)

    def drain(self) -> int:
        """From the rings to the journals; how many records."""
        self.to_spools.drain()
        return self.sorter.sort()

    def close(self) -> None:
        self.to_spools.close()
        self.sorter.close()


class Store:
    """A data directory with a worker's ring, and what a session says into it."""

    def __init__(self, tmp_path: Path) -> None:
        self.data_dir = tmp_path / "data"
        layout.create(self.data_dir)
        self.ring_dir = tmp_path / "rings"
        self.ring = RingWriter(self.ring_dir, 1 << 20)

    def say(self, session_no: int, kind: int, data: bytes) -> None:
        assert self.ring.append(kind, session_no, 1000, data)

    def open(self, session_no: int) -> None:
        facts = {"session_id": f"session-{session_no}", "ring": self.ring.name, "session_no": session_no}
        self.say(session_no, RecordKind.OPENED, msgspec.json.encode(facts))

    def recorder(self, seal_seconds: float = 0.0) -> Recording:
        return Recording(self.data_dir, self.ring_dir, seal_seconds)

    def journals(self) -> list[tuple[str, bool]]:
        return [(journal.session_id, journal.closed) for journal in list_journals(self.data_dir)]

    def journal(self, session_no: int) -> JournalFile:
        return next(j for j in list_journals(self.data_dir) if j.session_id == f"session-{session_no}")

    def said(self, session_no: int) -> list[tuple[int, bytes]]:
        records = read_journal(self.journal(session_no).path)
        return [(r.kind, r.data) for r in records if r.kind not in {RecordKind.OPENED, RecordKind.CLOSED}]
