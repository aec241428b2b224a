import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recorder.errors import StoreError
from recorder.pipeline.drain import Recorder
from recorder.pipeline.record import RecorderLock, recover, ring_of
from recorder.protocol.envelope import RecordKind
from recorder.store.journal import (
    JournalFile,
    JournalTail,
    JournalWriter,
    finished,
    list_journals,
    read_journal,
)
from recorder.store.ring import RingWriter, ring_directory

CLIENT, SERVER = RecordKind.CLIENT_BYTES, RecordKind.SERVER_BYTES


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


def parted(store: Store) -> Recorder:
    """A recorder that begins a part with every drain."""
    return Recorder(store.data_dir, store.ring_dir, seal_seconds=1e-9)


def chained(store: Store) -> list[tuple[int, bytes]]:
    """What is said in all journals of session 1, one after the other."""
    said: list[tuple[int, bytes]] = []
    last_position = -1
    for journal in list_journals(store.data_dir):
        tail = JournalTail(journal.path, last_position=last_position)
        said += [(record.kind, record.data) for record in tail.read() if record.kind != RecordKind.OPENED]
        last_position = tail.last_position
        tail.close()
    return said


def test_a_session_goes_on_in_parts_while_it_has_news(store: Store) -> None:
    store.open(1)
    recorder = parted(store)
    recorder.drain()
    for _ in range(3):
        recorder.drain()
    store.say(1, CLIENT, b"a")
    recorder.drain()
    store.say(1, CLIENT, b"b")
    store.say(1, RecordKind.CLOSED, b"{}")
    recorder.drain()
    recorder.sync()

    names = [journal.path.name for journal in list_journals(store.data_dir)]
    assert names == ["session-1.journal", "session-1.00001.journal", "session-1.00002.closed.journal"]
    assert chained(store) == [(CLIENT, b"a"), (CLIENT, b"b"), (RecordKind.CLOSED, b"{}")]
    recorder.close()


def test_a_large_journal_goes_on_in_a_part_before_its_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.pipeline.drain.PART_BYTES", 500)
    store.open(1)
    recorder = Recorder(store.data_dir, store.ring_dir, seal_seconds=1e9)
    recorder.drain()
    assert len(store.journals()) == 1
    store.say(1, CLIENT, b"x" * 500)
    recorder.drain()
    assert len(store.journals()) == 2
    recorder.close()


def test_a_dead_workers_session_is_closed_in_its_last_part(store: Store) -> None:
    store.open(1)
    recorder = parted(store)
    recorder.drain()
    store.say(1, CLIENT, b"last words")
    store.ring.close()
    recorder.drain()
    recorder.sync()
    recorder.close()
    *_, last = list_journals(store.data_dir)
    assert (last.part, last.closed) == (1, True)
    assert [kind for kind, _ in chained(store)] == [CLIENT, RecordKind.CLOSED]
    *_, closed = read_journal(last.path)
    assert closed.at_ns == 1000


def test_a_part_that_a_power_cut_emptied_is_as_if_it_had_not_begun(store: Store) -> None:
    store.open(1)
    store.say(1, CLIENT, b"synced")
    recorder = parted(store)
    recorder.drain()
    recorder.close()
    list_journals(store.data_dir)[1].path.write_bytes(b"")
    store.ring.path.unlink()
    recorder = store.recorder()
    recorder.sync()
    recorder.close()
    assert store.journals() == [("session-1", True)]
    assert store.said(1) == [(CLIENT, b"synced")]


def test_a_full_disk_lets_a_session_go_on_in_the_part_that_it_has(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store.open(1)
    recorder = parted(store)

    def full(*_: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(JournalWriter, "roll", full)
    for word in (b"a", b"b"):
        store.say(1, CLIENT, word)
        recorder.drain()
    assert [one.message for one in caplog.records].count(
        "journals cannot go on in parts: [Errno 28] No space left on device"
    ) == 1
    monkeypatch.undo()
    recorder.drain()
    assert len(store.journals()) == 2
    assert chained(store) == [(CLIENT, b"a"), (CLIENT, b"b")]
    recorder.close()


class KilledError(BaseException):
    """The process ends here."""


def test_a_kill_at_any_step_of_beginning_parts_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The sealer takes each finished part at once, so that nothing but the last one is there to go on from."""
    number, killed = 0, True
    while killed:
        number += 1
        store = Store(tmp_path / f"store{number}")
        store.open(1)
        recorder = parted(store)
        spoken: list[bytes] = []
        taken: list[tuple[int, bytes]] = []
        killed = True
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KilledError):
            kill_at(patch, number)
            for word in (b"a", b"b", b"c"):
                store.say(1, CLIENT, word)
                spoken.append(word)
                recorder.drain()
                take_finished(store, taken)
            killed = False
        successor = parted(store)
        store.say(1, RecordKind.CLOSED, b"{}")
        successor.drain()
        successor.sync()
        successor.close()
        said = [*taken, *chained(store)]
        assert said == [*((CLIENT, word) for word in spoken), (RecordKind.CLOSED, b"{}")], f"killed at step {number}"
    assert number > 20


def take_finished(store: Store, taken: list[tuple[int, bytes]]) -> None:
    """What the sealer does: away with every part to which nothing more is written."""
    for journal in finished(list_journals(store.data_dir)):
        records = list(read_journal(journal.path))
        journal.path.unlink()
        taken += [(record.kind, record.data) for record in records if record.kind != RecordKind.OPENED]


def kill_at(patch: pytest.MonkeyPatch, number: int) -> None:
    """Let the process end before the `number`th step that changes a file."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                raise KilledError
            return real(*args, **options)

        return step

    for name in ("open", "pwrite", "rename", "fdatasync"):
        patch.setattr(os, name, counted(getattr(os, name)))
