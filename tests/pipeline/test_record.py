import errno
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from recorder.errors import StoreError
from recorder.pipeline.locks import RecorderLock, ring_of
from recorder.pipeline.recover import recover
from recorder.protocol.envelope import RecordKind
from recorder.store.journal import JournalWriter, read_journal
from recorder.store.ring import ring_directory
from recorder.store.spool import MAGIC, list_spools, spool_directory
from tests.pipeline.rings import Store

CLIENT, SERVER = RecordKind.CLIENT_BYTES, RecordKind.SERVER_BYTES


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_sessions_go_to_journals_of_their_own(store: Store) -> None:
    recorder = store.recorder()
    for number in (1, 2):
        store.open(number)
    store.say(1, CLIENT, b"a")
    store.say(2, CLIENT, b"b")
    store.say(1, SERVER, b"c")
    store.say(1, RecordKind.CLOSED, b"{}")
    assert recorder.drain() == 6
    assert store.journals() == [("session-1", True), ("session-2", False)]
    assert store.said(1) == [(CLIENT, b"a"), (SERVER, b"c")]
    assert store.said(2) == [(CLIENT, b"b")]
    assert store.ring.used_bytes() == 0
    recorder.close()


def test_a_kill_between_writing_and_releasing_doubles_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the session had ended meanwhile or not."""
    for ended in (False, True):
        number = 1 + ended
        store.open(number)
        store.say(number, CLIENT, b"once")
        if ended:
            store.say(number, RecordKind.CLOSED, b"{}")
        killed = store.recorder()
        monkeypatch.setattr("recorder.store.ring_reader.RingReader.release", lambda *_: None)
        killed.drain()
        monkeypatch.undo()
        recorder = store.recorder()
        store.say(number, SERVER, b"more") if not ended else None
        recorder.drain()
        assert store.said(number) == [(CLIENT, b"once")] + ([] if ended else [(SERVER, b"more")])
        recorder.close()
    assert store.journals() == [("session-1", False), ("session-2", True)]


def test_what_was_released_before_a_kill_is_gone_on_with(store: Store) -> None:
    store.open(1)
    store.say(1, CLIENT, b"before")
    store.recorder().drain()
    store.say(1, CLIENT, b"after")
    recorder = store.recorder()
    recorder.drain()
    assert store.said(1) == [(CLIENT, b"before"), (CLIENT, b"after")]
    recorder.close()


def test_a_dead_workers_sessions_are_drained_and_closed_as_lost(store: Store) -> None:
    store.open(1)
    store.say(1, CLIENT, b"last words")
    store.ring.close()
    recorder = store.recorder()
    recorder.drain()
    assert recorder.to_spools.rings == 0
    assert list(store.ring_dir.iterdir()) == []
    assert list_spools(store.data_dir) == []
    assert store.journals() == [("session-1", True)]
    assert store.said(1) == [(CLIENT, b"last words")]
    closed = list(read_journal(store.journal(1).path))[-1]
    assert closed.kind == RecordKind.CLOSED
    assert closed.at_ns == 1000
    assert msgspec.json.decode(closed.data)["closed_by"] == "lost"
    recorder.close()


def test_a_journal_whose_ring_a_reboot_took_is_closed_as_lost(store: Store) -> None:
    store.open(1)
    store.say(1, CLIENT, b"synced")
    recorder = store.recorder()
    recorder.drain()
    recorder.close()
    store.ring.path.unlink()
    recorder = store.recorder()
    recorder.drain()
    recorder.close()
    assert store.journals() == [("session-1", True)]
    assert store.said(1) == [(CLIENT, b"synced")]


def test_a_ring_that_is_none_is_set_aside(store: Store) -> None:
    (store.ring_dir / "x.ring").write_bytes(b"not a ring")
    store.open(1)
    recorder = store.recorder()
    recorder.drain()
    assert store.journals() == [("session-1", False)]
    assert (store.ring_dir / "x.unreadable").exists()
    recorder.close()


def test_a_spool_that_is_none_is_set_aside_and_a_newer_one_waits(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    none, newer = (spool_directory(store.data_dir) / f"{name}.00000.spool" for name in ("none", "newer"))
    none.write_bytes(b"not a spool")
    newer.write_bytes(MAGIC[:-1] + b"\x7f")
    store.open(1)
    recorder = store.recorder()
    for _ in range(2):
        recorder.drain()
    assert store.journals() == [("session-1", False)]
    assert none.with_suffix(".unreadable").exists()
    assert newer.exists()
    assert len(caplog.records) == 2
    recorder.close()


def test_a_damaged_block_of_a_spool_is_a_gap_of_all_that_were_running(store: Store) -> None:
    recorder = store.recorder()
    for number in (1, 2):
        store.open(number)
    recorder.drain()
    for word in (b"lost", b"kept"):
        store.say(1, CLIENT, word * 10)
        recorder.to_spools.drain()
    (spool,) = list_spools(store.data_dir)
    spool.path.write_bytes(spool.path.read_bytes().replace(b"lostlost", b"lostLOST"))
    store.ring.close()  # nothing more comes: what cannot be read is no block that is still being written
    recorder.drain()
    recorder.close()
    gap = {"direction": "recorder", "bytes": 24 + 64, "reason": "spool damaged"}
    for number, rest in ((1, [(CLIENT, b"kept" * 10)]), (2, [])):
        (kind, data), *others = store.said(number)
        assert (kind, msgspec.json.decode(data)) == (RecordKind.GAP, gap)
        assert others == rest


def test_a_disk_that_is_full_while_sorting_costs_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = store.recorder()
    for number in (1, 2, 3):
        store.open(number)
        store.say(number, CLIENT, b"said")
        store.say(number, RecordKind.CLOSED, b"{}")
    really = JournalWriter.write

    def full(journal: JournalWriter, *pieces: bytes) -> None:
        if journal.session_id == "session-2":
            raise OSError(errno.ENOSPC, "No space left on device")
        really(journal, *pieces)

    monkeypatch.setattr(JournalWriter, "write", full)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            recorder.drain()
    monkeypatch.undo()
    store.ring.close()
    recorder.drain()
    recorder.close()
    assert store.journals() == [(f"session-{number}", True) for number in (1, 2, 3)]
    assert [store.said(number) for number in (1, 2, 3)] == [[(CLIENT, b"said")]] * 3
    assert list_spools(store.data_dir) == []


def test_one_recorder_a_store(store: Store) -> None:
    lock = RecorderLock(store.data_dir, store.ring_dir)
    with pytest.raises(StoreError, match="recorded into by another process"):
        RecorderLock(store.data_dir, store.ring_dir)
    with pytest.raises(StoreError, match="recorded into by another process"):
        recover(store.data_dir)
    lock.release()


def test_recovery_finds_the_rings_where_the_last_recorder_had_them(store: Store) -> None:
    assert ring_of(store.data_dir) == ring_directory(store.data_dir)
    RecorderLock(store.data_dir, store.ring_dir).release()
    store.open(1)
    store.say(1, CLIENT, b"left behind")
    store.ring.close()
    assert recover(store.data_dir) == 2
    assert store.journals() == [("session-1", True)]
    assert store.said(1) == [(CLIENT, b"left behind")]


def test_the_processes_go_on_until_workers_are_gone(store: Store) -> None:
    """Their parent's end of the pipe closes first; the session goes on; they end with the last ring."""
    processes = []
    for module in ("record", "sorter"):
        inner, outer = os.pipe()
        command = [sys.executable, "-m", f"recorder.pipeline.{module}"]
        command += [str(store.data_dir), str(store.ring_dir), str(inner)]
        processes.append(subprocess.Popen(command, pass_fds=[inner]))
        os.close(inner)
        if module == "record":
            while ring_of(store.data_dir) != store.ring_dir:  # has its lock, which is what the sorter goes by
                assert processes[0].poll() is None
        os.close(outer)
    store.open(1)
    store.say(1, CLIENT, b"late")
    store.ring.close()
    assert [process.wait(20) for process in processes] == [0, 0]
    assert store.journals() == [("session-1", True)]
    assert store.said(1) == [(CLIENT, b"late")]
