"""From the rings to the spools."""

import errno
import os
import threading
from pathlib import Path

import msgspec
import pytest

from recorder.pipeline.drain import Drain
from recorder.pipeline.record import Pace
from recorder.pipeline.sort import Sorter
from recorder.protocol.envelope import RecordKind
from recorder.proxy.tap import Tap
from recorder.store.journal import read_journal
from recorder.store.ring import Receive
from recorder.store.ring_reader import parse
from recorder.store.spool import SpoolTail, SpoolWriter, list_spools
from tests.pipeline.rings import Store

CLIENT, SERVER = RecordKind.CLIENT_BYTES, RecordKind.SERVER_BYTES


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def drain(store: Store) -> Drain:
    return Drain(store.data_dir, store.ring_dir)


def spooled(store: Store) -> list[tuple[int, int, bytes]]:
    """Session, kind and data of all records on the spools."""
    found = []
    for spool in list_spools(store.data_dir):
        tail = SpoolTail(spool.path)
        for block in tail.blocks(finished=True):
            found += [(one.session_no, one.kind, bytes(one.data)) for one in parse(block.position, block.data)]
        tail.close()
    return found


def test_what_a_ring_holds_is_spooled_as_it_lies_there(store: Store, drain: Drain) -> None:
    store.say(1, CLIENT, b"a")
    store.say(2, SERVER, b"b" * 1000)
    assert drain.drain() == 32 + 1024
    assert store.ring.used_bytes() == 0
    assert spooled(store) == [(1, CLIENT, b"a"), (2, SERVER, b"b" * 1000)]
    drain.close()


def test_a_ring_that_starts_over_again_and_again_loses_nothing(store: Store, drain: Drain) -> None:
    said = []
    for number in range(100):
        data = bytes([number]) * (number * 997 % 60_000)
        store.say(number % 3, CLIENT, data)
        said.append((number % 3, CLIENT, data))
        drain.take() if number % 7 else drain.drain()
    drain.drain()
    assert spooled(store) == said
    drain.close()


def test_much_is_spooled_in_blocks_of_whole_records(
    store: Store, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.pipeline.drain._BLOCK_BYTES", 5000)
    for number in range(20):
        store.say(number, CLIENT, bytes(1300))
    drain.drain()
    tail = SpoolTail(list_spools(store.data_dir)[0].path)
    blocks = [parse(block.position, block.data) for block in tail.blocks(finished=False)]
    tail.close()
    assert [len(block) for block in blocks] == [4, 4, 4, 4, 4]
    drain.close()


def test_what_the_worker_has_not_settled_is_spooled_once_and_released_later(store: Store, drain: Drain) -> None:
    store.ring.receiver(received(b"a"), CLIENT, 1, (), lambda: memoryview(b""))()
    assert drain.drain() == 32
    assert drain.take() == 0
    assert store.ring.used_bytes() == 32
    store.ring.settle()
    drain.take()
    assert store.ring.used_bytes() == 0
    assert spooled(store) == [(1, CLIENT, b"a")]
    drain.close()


def received(data: bytes) -> Receive:
    def receive(buffer: memoryview, _most: int) -> int:
        buffer[: len(data)] = data
        return len(data)

    return receive


def test_a_ring_goes_on_in_a_next_spool_when_one_is_old_and_holds_something(
    store: Store, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.pipeline.drain.SPOOL_SECONDS", 0.0)
    store.say(1, CLIENT, b"a")
    drain.drain()
    drain.drain()
    store.say(1, CLIENT, b"b")
    drain.take()
    assert [spool.number for spool in list_spools(store.data_dir)] == [0, 1]
    drain.sync()
    drain.close()
    assert spooled(store) == [(1, CLIENT, b"a"), (1, CLIENT, b"b")]


def test_a_large_spool_is_followed_before_its_time(store: Store, drain: Drain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.pipeline.drain.SPOOL_BYTES_MOST", 500)
    store.say(1, CLIENT, bytes(500))
    drain.drain()
    assert [spool.number for spool in list_spools(store.data_dir)] == [0, 1]
    drain.close()


def test_a_dead_workers_ring_goes_when_all_is_spooled(store: Store, drain: Drain) -> None:
    store.say(1, CLIENT, b"last words")
    store.ring.close()
    drain.drain()
    assert drain.rings == 0
    assert list(store.ring_dir.iterdir()) == []
    assert spooled(store) == [(1, CLIENT, b"last words")]
    drain.sync()
    drain.close()


def test_a_killed_ones_successor_begins_a_spool_of_its_own(store: Store, drain: Drain) -> None:
    store.say(1, CLIENT, b"a")
    drain.drain()
    spool = list_spools(store.data_dir)[0].path
    spool.write_bytes(spool.read_bytes() + b"torn")
    store.say(1, CLIENT, b"b")
    successor = Drain(store.data_dir, store.ring_dir)
    successor.drain()
    assert spooled(store) == [(1, CLIENT, b"a"), (1, CLIENT, b"b")]
    assert len(list_spools(store.data_dir)) == 2
    successor.close()
    drain.close()


def test_it_gives_way_in_between_but_not_when_a_ring_fills_up(
    store: Store, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[None] = []
    monkeypatch.setattr("recorder.pipeline.drain.os.sched_yield", lambda: given.append(None))
    monkeypatch.setattr("recorder.pipeline.drain._STINT_SECONDS", 0.0)
    store.open(1)
    drain.drain()
    assert given
    assert drain.fill == 0.0
    given.clear()
    for _ in range(8):
        store.say(1, CLIENT, bytes(100_000))
    monkeypatch.setattr("recorder.store.ring_reader.RingReader.release", lambda *_: None)
    drain.drain()
    assert not given
    monkeypatch.undo()
    drain.close()


def test_a_drain_ends_though_the_flood_goes_on(store: Store, drain: Drain, monkeypatch: pytest.MonkeyPatch) -> None:
    """New rings, the disk and the wish to stop come after it. What comes meanwhile is for the next."""
    store.say(1, CLIENT, b"0")
    appended: list[int] = []
    append = SpoolWriter.append

    def flooded(*arguments: object) -> None:
        append(*arguments)  # type: ignore[arg-type]  # as they came
        appended.append(1)
        assert len(appended) < 100, "the drain follows the flood"
        store.say(1, CLIENT, str(len(appended)).encode())

    monkeypatch.setattr(SpoolWriter, "append", flooded)
    assert drain.drain() == 32
    monkeypatch.undo()
    assert spooled(store) == [(1, CLIENT, b"0")]
    drain.drain()
    assert spooled(store) == [(1, CLIENT, b"0"), (1, CLIENT, b"1")]
    drain.close()


def test_a_full_disk_keeps_records_in_the_ring(store: Store, drain: Drain, monkeypatch: pytest.MonkeyPatch) -> None:
    store.say(1, CLIENT, b"written")
    drain.drain()
    store.say(1, CLIENT, bytes(300_000))
    write, left = os.pwritev, [1]

    def full(*arguments: object) -> int:
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        left.pop()
        return write(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr("recorder.store.spool.os.pwritev", full)
    with pytest.raises(OSError, match="No space left"):
        drain.drain()
    assert store.ring.used_bytes() > 300_000
    monkeypatch.undo()
    assert spooled(store) == [(1, CLIENT, b"written")]
    assert list_spools(store.data_dir)[0].path.stat().st_size == 8 + 24 + 32  # nothing torn is left
    store.say(1, SERVER, b"too")
    drain.drain()
    assert spooled(store) == [(1, CLIENT, b"written"), (1, CLIENT, bytes(300_000)), (1, SERVER, b"too")]
    drain.close()


def test_what_cannot_be_synced_is_tried_again(store: Store, drain: Drain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.pipeline.drain.SPOOL_SECONDS", 0.0)
    store.say(1, CLIENT, b"a")
    drain.drain()
    store.say(1, CLIENT, b"b")
    drain.take()
    synced: list[str] = []

    def failing(spool: SpoolWriter) -> None:
        raise OSError(errno.EIO, "the disk fails")

    monkeypatch.setattr(SpoolWriter, "sync", failing)
    with pytest.raises(OSError, match="the disk fails"):
        drain.sync()
    monkeypatch.setattr(SpoolWriter, "sync", lambda spool: synced.append(spool.path.name[-11:]))
    drain.sync()
    assert sorted(synced) == ["00000.spool", "00001.spool"]
    drain.sync()
    assert len(synced) == 2  # nothing new
    drain.close()


def test_drain_and_sync_and_sorter_at_once_lose_and_double_nothing(
    store: Store, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.pipeline.drain.SPOOL_SECONDS", 0.001)
    done = threading.Event()

    def keep(act: str) -> None:
        sorter = Sorter(store.data_dir, store.ring_dir) if act == "sort" else None
        while not done.is_set():
            drain.sync() if sorter is None else sorter.sort()
        if sorter:
            sorter.close()

    threads = [threading.Thread(target=keep, args=(act,)) for act in ("sync", "sort")]
    store.open(1)
    drain.drain()
    for thread in threads:
        thread.start()
    for number in range(2000):
        store.say(1, CLIENT, str(number).encode())
        drain.drain()
    done.set()
    for thread in threads:
        thread.join()
    sorter = Sorter(store.data_dir, store.ring_dir)
    sorter.sort()
    sorter.close()
    assert store.said(1) == [(CLIENT, str(number).encode()) for number in range(2000)]
    assert len(list_spools(store.data_dir)) == 1
    drain.sync()
    drain.close()


def test_what_a_killed_worker_could_not_record_is_said(store: Store, drain: Drain) -> None:
    store.open(1)
    store.open(2)
    tap = Tap(store.ring, 2)
    while not tap.missed_bytes:
        tap.chunk(SERVER, bytes(100_000))
    tap.chunk(CLIENT, bytes(50_000))
    tap.chunk(CLIENT, bytes(50_000))
    store.ring.close()  # as when it is killed
    drain.drain()
    gaps = [(number, msgspec.json.decode(data)) for number, kind, data in spooled(store) if kind == RecordKind.GAP]
    assert gaps == [
        (2, {"direction": "server", "bytes": 100_000, "reason": "ring full"}),
        (2, {"direction": "client", "bytes": 100_000, "reason": "ring full"}),
    ]
    sorter = Sorter(store.data_dir, store.ring_dir)
    sorter.sort()
    sorter.close()
    kinds = [record.kind for record in read_journal(store.journal(2).path)]
    assert kinds[-3:] == [RecordKind.GAP, RecordKind.GAP, RecordKind.CLOSED]
    drain.close()


def test_what_was_said_once_there_was_room_is_not_said_again(store: Store, drain: Drain) -> None:
    store.open(1)
    tap = Tap(store.ring, 1)
    while not tap.missed_bytes:
        tap.chunk(SERVER, bytes(100_000))
    drain.drain()
    tap.chunk(SERVER, b"room again")
    store.ring.close()
    drain.drain()
    assert [kind for _, kind, _ in spooled(store)].count(RecordKind.GAP) == 1
    drain.close()


def test_it_comes_less_often_where_there_is_little_to_take() -> None:
    pace = Pace()
    seconds = [pace.seconds]
    for moved, fill in (
        (400_000, 0.01),
        (800_000, 0.01),
        (1 << 20, 0.01),
        (2 << 20, 0.01),
        (0, 0.0),
        (0, 0.0),
        (5000, 0.5),
    ):
        pace.took(moved, fill)
        seconds.append(round(pace.seconds, 3))
    assert seconds == [0.02, 0.04, 0.04, 0.04, 0.02, 0.04, 0.04, 0.02]
