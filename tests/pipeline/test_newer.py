"""What a newer recorder left: this one says so, leaves it alone, and goes on with all else."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorder.pipeline.drain import Drain
from recorder.pipeline.sort import Sorter
from recorder.pipeline.verify import verify
from recorder.protocol.envelope import RecordKind
from recorder.store.ring import RingWriter
from recorder.store.spool import list_spools
from tests.pipeline.conftest import Journal
from tests.pipeline.rings import Store

ADVICE = "Upgrade realtime-recorder"
RING_VERSION, SPOOL_VERSION = 8, 7
"""Where they stand in the file; a journal's is where a spool's is."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def newer(path: Path, place: int) -> bytes:
    content = bytearray(path.read_bytes())
    content[place] = 99
    path.write_bytes(content)
    return bytes(content)


def test_a_ring_of_another_recorder_process_waits_for_it(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    other = RingWriter(store.ring_dir, 4096)
    other.append(RecordKind.CLIENT_BYTES, 1, 1, b"of the newer one")
    content = newer(other.path, RING_VERSION)
    store.say(1, RecordKind.CLIENT_BYTES, b"a")
    drain = Drain(store.data_dir, store.ring_dir)

    assert (drain.drain(), drain.drain(), drain.rings) == (32, 0, 1)

    drain.close()
    assert other.path.read_bytes() == content
    assert [ADVICE in record.message for record in caplog.records] == [True]
    other.close()


def test_a_spool_waits_and_others_are_sorted(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.open(1)
    recorder = store.recorder()
    recorder.to_spools.drain()
    recorder.close()
    spool = list_spools(store.data_dir)[0].path
    waiting = spool.with_name("other.00000.spool")
    waiting.write_bytes(spool.read_bytes())
    content = newer(waiting, SPOOL_VERSION)
    sorter = Sorter(store.data_dir, store.ring_dir)

    assert (sorter.sort(), sorter.sort()) == (1, 0)

    sorter.close()
    assert store.journals() == [("session-1", False)]
    assert waiting.read_bytes() == content
    assert [ADVICE in record.message for record in caplog.records] == [True]


def test_a_running_sessions_journal_waits_and_others_go_on(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(store.data_dir, 1).turn()
    journal.leave()
    content = newer(journal.file.path, SPOOL_VERSION)
    store.open(2)
    recorder = store.recorder()

    recorder.drain()

    recorder.close()
    assert ("session-2", False) in store.journals()
    assert journal.file.path.read_bytes() == content
    assert [ADVICE in record.message for record in caplog.records] == [True]


def test_verify_says_that_it_is_newer_and_not_that_it_is_damaged(store: Store) -> None:
    journal = Journal(store.data_dir, 1).turn()
    journal.leave()
    newer(journal.file.path, SPOOL_VERSION)
    (store.data_dir / "spool" / "ring.00000.spool").write_bytes(b"RTSPOOL\x63")
    (store.data_dir / "spool" / "ring.00000.unreadable").write_bytes(b"")
    (store.data_dir / "journal" / "notes.txt").write_bytes(b"")

    found = [(problem.kind, problem.file) for problem in verify(store.data_dir)]

    assert found == [
        ("newer", "spool/ring.00000.spool"),
        ("stranger", "spool/ring.00000.unreadable"),
        ("newer", f"journal/{journal.file.path.name}"),
        ("stranger", "journal/notes.txt"),
    ]
