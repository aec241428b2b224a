"""More sessions than a process may have files open, sorted by one that is killed on the way: none lost, none twice."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from websockets.frames import Frame, Opcode

from recorder.pipeline import sort
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.locks import RecorderLock
from recorder.pipeline.recover import recover
from recorder.pipeline.seal import seal_all
from recorder.pipeline.sort import Sorter
from recorder.protocol.envelope import RecordKind
from recorder.store.journal import JournalWriter, read_journal
from recorder.store.journal_files import list_journals
from recorder.store.spool import list_spools
from tests.pipeline.crashing import CrashError, crash_at
from tests.pipeline.rings import Store

CLIENT = RecordKind.CLIENT_BYTES
STEPS = [(JournalWriter, "write"), (JournalWriter, "sync"), (JournalWriter, "close"), (Path, "unlink")]


def name(number: int) -> str:
    return f"019c1410-7c00-7000-8000-{number:012x}"


def message(number: int, count: int) -> bytes:
    return msgspec.json.encode({"type": "said", "session": number, "count": count})


class Crowd(Store):
    """Sessions of which some have ended, on several spools, and whose worker is gone.

    Args:
        sessions: how many.
        spools: how many; each has a message of every session that has not ended.
    """

    def __init__(self, tmp_path: Path, sessions: int, spools: int) -> None:
        super().__init__(tmp_path)
        RecorderLock(self.data_dir, self.ring_dir).release()  # so that `recover` finds the rings
        self.expected: dict[str, list[bytes]] = {name(number): [] for number in range(sessions)}
        recorder = self.recorder()
        for count in range(spools):
            for number in range(sessions):
                if not count:
                    self.open(number)
                if number % (spools + 1) >= count:  # else it has ended
                    self._speak(number, count)
                if number % (spools + 1) == count:
                    self.say(number, RecordKind.CLOSED, b'{"closed_by": "client", "status": null}')
            recorder.to_spools.drain()
            recorder.to_spools._go_on(self.ring.name)
        recorder.close()
        self.ring.close()

    def open(self, session_no: int) -> None:
        facts = {"session_id": name(session_no), "ring": self.ring.name, "session_no": session_no, "opened_at_ns": 1}
        self.say(session_no, RecordKind.OPENED, msgspec.json.encode(facts))

    def _speak(self, number: int, count: int) -> None:
        said = message(number, count)
        self.expected[name(number)].append(said)
        self.say(number, CLIENT, Frame(Opcode.TEXT, said).serialize(mask=False))

    def found(self) -> dict[str, list[bytes]]:
        """What the store says each session has said."""
        with Catalog(self.data_dir) as catalog:
            ids = [session_id for (session_id,) in catalog.query("SELECT session_id FROM sessions").rows()]
            assert len(ids) == len(set(ids))
            return {
                session_id: [event.message() for event in catalog.recorded_events(session_id) if event.opcode]
                for session_id in ids
            }


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were thousands of sessions and spools."""
    monkeypatch.setattr(sort, "_HAND_ON_AT_ONCE", 3)
    monkeypatch.setattr(sort, "_DISPOSE_AT_ONCE", 2)
    monkeypatch.setattr(sort, "_LEAST_OPEN", 2)
    monkeypatch.setattr(sort, "_SPARE_FILES", 1 << 40)


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize("number", range(1, 100, 6))
def test_whenever_it_is_killed_the_next_has_all_of_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whether what was done by then has been sealed meanwhile or not."""
    crowd = Crowd(tmp_path, sessions=12, spools=4)
    for attempt in range(3):
        crash_at(monkeypatch, number + 5 * attempt, STEPS, after=True)
        with suppress(CrashError) if attempt else pytest.raises(CrashError):
            Sorter(crowd.data_dir, crowd.ring_dir).sort()
        monkeypatch.undo()
        if number % 2:
            seal_all(crowd.data_dir)
    recover(crowd.data_dir)
    assert list_spools(crowd.data_dir) == []
    assert all(journal.closed for journal in list_journals(crowd.data_dir))
    seal_all(crowd.data_dir)
    assert crowd.found() == crowd.expected


def test_a_process_that_may_open_few_files_recovers_them_too(tmp_path: Path) -> None:
    """A shell's limit is 1,024, and a killed proxy leaves as many journals open as it had calls."""
    crowd = Crowd(tmp_path, sessions=700, spools=3)
    (last := list_spools(crowd.data_dir)[-2].path).rename(last.with_suffix(".away"))
    sorter = Sorter(crowd.data_dir, crowd.ring_dir)
    (ring := crowd.ring_dir / f"{crowd.ring.name}.ring").touch()  # it seems to live
    sorter.sort()
    sorter.close()
    ring.unlink()
    last.with_suffix(".away").rename(last)
    left = [journal.closed for journal in list_journals(crowd.data_dir)]
    assert (len(left), left.count(False)) == (700, 350)
    words = "import resource, sys; from pathlib import Path; from recorder.pipeline.recover import recover; "
    words += "resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512)); recover(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", words, str(crowd.data_dir)], check=True)
    journals = list_journals(crowd.data_dir)
    assert [journal.closed for journal in journals] == [True] * 700
    for journal in journals:
        said = [record.data for record in read_journal(journal.path) if record.kind == CLIENT]
        assert [data[-len(text) :] for data, text in zip(said, crowd.expected[journal.session_id], strict=True)] == (
            crowd.expected[journal.session_id]
        )
