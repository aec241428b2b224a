"""Long sessions go on in parts of their journal."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from recorder.protocol.envelope import RecordKind
from recorder.store.journal import JournalTail, JournalWriter, finished, read_journal
from recorder.store.journal_files import list_journals
from tests.pipeline.crashing import CrashError, crash_at
from tests.pipeline.rings import Recording, Store

CLIENT = RecordKind.CLIENT_BYTES


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def parted(store: Store) -> Recording:
    """One that begins a part every time."""
    return store.recorder(seal_seconds=1e-9)


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

    names = [journal.path.name for journal in list_journals(store.data_dir)]
    assert names == ["session-1.journal", "session-1.00001.journal", "session-1.00002.closed.journal"]
    assert chained(store) == [(CLIENT, b"a"), (CLIENT, b"b"), (RecordKind.CLOSED, b"{}")]
    recorder.close()


def test_a_large_journal_goes_on_in_a_part_before_its_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.pipeline.sort.PART_BYTES", 500)
    store.open(1)
    recorder = store.recorder(seal_seconds=1e9)
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
    recorder.drain()
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


STEPS = [(os, name) for name in ("open", "pwrite", "rename", "fdatasync")]
"""What changes a file."""


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
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(CrashError):
            crash_at(patch, number, STEPS)
            for word in (b"a", b"b", b"c"):
                store.say(1, CLIENT, word)
                spoken.append(word)
                recorder.drain()
                take_finished(store, taken)
            killed = False
        successor = parted(store)
        store.say(1, RecordKind.CLOSED, b"{}")
        successor.drain()
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
