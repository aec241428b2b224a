import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from recorder.errors import StoreError
from recorder.pipeline.record import RecorderLock, recover, ring_of
from recorder.protocol.envelope import RecordKind
from recorder.store.journal import (
    JournalWriter,
    read_journal,
)
from recorder.store.ring import ring_directory
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
    recorder.sync()
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
        monkeypatch.setattr("recorder.store.ring.RingReader.release", lambda *_: None)
        killed.drain()
        killed.sync()
        monkeypatch.undo()
        recorder = store.recorder()
        store.say(number, SERVER, b"more") if not ended else None
        recorder.drain()
        recorder.sync()
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
    recorder.sync()
    assert recorder.rings == 0
    assert list(store.ring_dir.iterdir()) == []
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
    recorder.sync()
    recorder.close()
    assert store.journals() == [("session-1", True)]
    assert store.said(1) == [(CLIENT, b"synced")]


def test_the_drain_gives_way_in_between_but_not_when_a_ring_fills_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[None] = []
    monkeypatch.setattr("recorder.pipeline.drain.os.sched_yield", lambda: given.append(None))
    monkeypatch.setattr("recorder.pipeline.drain._STINT_SECONDS", 0.0)
    recorder = store.recorder()
    store.open(1)
    recorder.drain()
    assert given
    assert recorder.fill == 0.0
    given.clear()
    for _ in range(8):
        store.say(1, CLIENT, bytes(100_000))
    recorder.drain()
    assert not given
    assert [len(data) for _, data in store.said(1)] == [100_000] * 8
    recorder.close()


def test_a_drain_ends_though_the_flood_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncs, seals and the wish to stop come after it. What comes meanwhile is for the next."""
    store.open(1)
    store.say(1, CLIENT, b"0")
    written: list[int] = []
    write = JournalWriter.write

    def flooded(writer: JournalWriter, *pieces: bytes) -> None:
        write(writer, *pieces)
        written.append(len(pieces))
        assert len(written) < 100, "the drain follows the flood"
        store.say(1, CLIENT, str(len(written)).encode())

    monkeypatch.setattr(JournalWriter, "write", flooded)
    recorder = store.recorder()
    assert recorder.drain() == 2
    monkeypatch.undo()
    assert store.said(1) == [(CLIENT, b"0")]
    assert recorder.drain() == len(written)
    assert store.said(1) == [(CLIENT, str(number).encode()) for number in range(len(written) + 1)]
    recorder.close()


def test_all_journals_begin_to_sync_before_the_first_is_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = store.recorder()
    for number in (1, 2):
        store.open(number)
    recorder.drain()
    calls: list[tuple[str, str]] = []

    def noted(name: str, really: Callable[[JournalWriter], None]) -> Callable[[JournalWriter], None]:
        def call(writer: JournalWriter) -> None:
            calls.append((name, writer.session_id))
            really(writer)

        return call

    for name in ("begin_sync", "sync"):
        monkeypatch.setattr(JournalWriter, name, noted(name, getattr(JournalWriter, name)))
    recorder.sync()
    assert [name for name, _ in calls] == ["begin_sync"] * 2 + ["sync"] * 2
    assert {session for _, session in calls} == {"session-1", "session-2"}
    recorder.sync()
    assert len(calls) == 4  # nothing new
    recorder.close()


def test_a_full_disk_keeps_records_in_the_ring(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = store.recorder()
    store.open(1)
    recorder.drain()
    store.say(1, CLIENT, b"waits")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("recorder.store.journal.os.pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        recorder.drain()
    assert store.ring.used_bytes() > 0
    monkeypatch.undo()
    store.say(1, SERVER, b"too")
    recorder.drain()
    assert store.said(1) == [(CLIENT, b"waits"), (SERVER, b"too")]
    recorder.close()


def test_a_ring_that_is_none_is_set_aside(store: Store) -> None:
    (store.ring_dir / "x.ring").write_bytes(b"not a ring")
    store.open(1)
    recorder = store.recorder()
    recorder.drain()
    assert store.journals() == [("session-1", False)]
    assert (store.ring_dir / "x.unreadable").exists()
    recorder.close()


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


def test_the_process_drains_until_workers_are_gone(store: Store) -> None:
    """Its parent's end of the pipe closes first; the session goes on; the process ends with the last ring."""
    inner, outer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "recorder.pipeline.record", str(store.data_dir), str(store.ring_dir), str(inner)],
        pass_fds=[inner],
    )
    os.close(inner)
    os.close(outer)
    store.open(1)
    store.say(1, CLIENT, b"late")
    store.ring.close()
    assert process.wait(20) == 0
    assert store.journals() == [("session-1", True)]
    assert store.said(1) == [(CLIENT, b"late")]
