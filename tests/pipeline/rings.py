"""A store with a worker's ring, without a worker."""

from pathlib import Path

import msgspec

from recorder.pipeline.drain import Recorder
from recorder.protocol.envelope import RecordKind
from recorder.store.journal import (
    JournalFile,
    list_journals,
    read_journal,
)
from recorder.store.ring import RingWriter


class Store:
    """A data directory with a worker's ring, and what a session says into it."""

    def __init__(self, tmp_path: Path) -> None:
        self.data_dir = tmp_path / "data"
        (self.data_dir / "journal").mkdir(parents=True)
        self.ring_dir = tmp_path / "rings"
        self.ring = RingWriter(self.ring_dir, 1 << 20)

    def say(self, session_no: int, kind: int, data: bytes) -> None:
        assert self.ring.append(kind, session_no, 1000, data)

    def open(self, session_no: int) -> None:
        facts = {"session_id": f"session-{session_no}", "ring": self.ring.name, "session_no": session_no}
        self.say(session_no, RecordKind.OPENED, msgspec.json.encode(facts))

    def recorder(self) -> Recorder:
        return Recorder(self.data_dir, self.ring_dir)

    def journals(self) -> list[tuple[str, bool]]:
        return [(journal.session_id, journal.closed) for journal in list_journals(self.data_dir)]

    def journal(self, session_no: int) -> JournalFile:
        return next(j for j in list_journals(self.data_dir) if j.session_id == f"session-{session_no}")

    def said(self, session_no: int) -> list[tuple[int, bytes]]:
        records = read_journal(self.journal(session_no).path)
        return [(r.kind, r.data) for r in records if r.kind not in {RecordKind.OPENED, RecordKind.CLOSED}]
