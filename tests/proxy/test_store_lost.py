"""Sessions whose store was removed go on in the next: begun anew there, with a gap for all that they had said."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recorder.pipeline.locks import RecorderLock
from recorder.protocol.envelope import RecordKind
from recorder.proxy.tap import Tap
from recorder.store.journal import read_journal
from recorder.store.ring import RingWriter, note_loss
from recorder.store.ring_reader import RingReader, RingRecord
from tests.pipeline.rings import Store
from tests.proxy.conftest import RunningWorker, accept, read_exactly, take, upgrade
from tests.proxy.fault_stage import eventually
from tests.proxy.test_handshake import MakeUpstream, MakeWorker

OPENED, ACCEPTED, GAP, CLOSED = RecordKind.OPENED, RecordKind.ACCEPTED, RecordKind.GAP, RecordKind.CLOSED
CLIENT, SERVER = RecordKind.CLIENT_BYTES, RecordKind.SERVER_BYTES


class Lossy:
    """A ring with a session's tap, and a reader whose store can be lost."""

    def __init__(self, directory: Path, *, off: bool = False) -> None:
        self.directory = directory
        self.ring = RingWriter(directory, 1 << 16)
        self.reader = RingReader(self.ring.path)
        self.tap = Tap(self.ring, 1, off=off)
        self.tap.facts(OPENED, {"session_id": "s"})
        self.tap.facts(ACCEPTED, {"status": 101})

    def lose(self) -> None:
        take(self.reader)
        note_loss(self.directory)

    def has_lost_it(self) -> bool:
        return self.tap.is_bereft

    def told(self) -> list[tuple[int, Any]]:
        return [(one.kind, shown(one)) for one in take(self.reader)]


def shown(record: RingRecord) -> Any:
    return bytes(record.data) if record.kind in {CLIENT, SERVER} else msgspec.json.decode(record.data)


def gap(direction: str, count: int, reason: str = "store removed") -> tuple[int, Any]:
    return (GAP, {"direction": direction, "bytes": count, "reason": reason})


BEGUN = [(OPENED, {"session_id": "s"}), (ACCEPTED, {"status": 101})]


@pytest.fixture
def lossy(tmp_path: Path) -> Lossy:
    return Lossy(tmp_path)


def test_it_begins_anew_once(lossy: Lossy) -> None:
    lossy.tap.chunk(CLIENT, b"12345")
    assert not lossy.has_lost_it()
    lossy.lose()
    assert lossy.has_lost_it()
    lossy.tap.begin_anew({CLIENT: 5, SERVER: 0})
    assert not lossy.has_lost_it()
    lossy.tap.chunk(SERVER, b"on")
    assert lossy.told() == [*BEGUN, gap("client", 5), (SERVER, b"on")]
    assert (lossy.tap.missed, lossy.tap.gaps, lossy.tap.why) == ({CLIENT: 5, SERVER: 0}, 1, "store removed")


def test_what_the_next_store_has_whole_is_no_loss(lossy: Lossy) -> None:
    lossy.lose()
    later = Tap(lossy.ring, 2)
    assert not later.is_bereft
    later.facts(OPENED, {"session_id": "later"})
    assert not later.is_bereft


def test_what_had_been_missed_or_left_out_is_not_missed_twice(lossy: Lossy) -> None:
    lossy.tap.chunk(CLIENT, bytes(100))
    lossy.tap.chunk(CLIENT, bytes(1 << 17))  # more than the ring holds: a gap that no record tells of yet
    lossy.lose()
    lossy.tap.begin_anew({CLIENT: 100 + (1 << 17), SERVER: 0})
    assert lossy.told() == [*BEGUN, gap("client", 100), gap("client", 1 << 17, "ring full")]
    assert (lossy.tap.missed[CLIENT], lossy.tap.gaps) == (100 + (1 << 17), 2)
    lossy.tap.stop("stopped by request")
    lossy.tap.chunk(CLIENT, bytes(7))
    lossy.lose()
    lossy.tap.begin_anew({CLIENT: 107 + (1 << 17), SERVER: 0})
    stopped = (GAP, {"direction": "recorder", "bytes": 0, "reason": "stopped by request"})
    assert lossy.told() == [*BEGUN, stopped, gap("client", 100 + (1 << 17))]
    assert (lossy.tap.missed[CLIENT], lossy.tap.left_out[CLIENT], lossy.tap.gaps) == (100 + (1 << 17), 7, 2)


def test_of_what_is_not_to_be_recorded_nothing_is_missing(tmp_path: Path) -> None:
    lossy = Lossy(tmp_path, off=True)
    lossy.tap.chunk(CLIENT, bytes(5))
    lossy.lose()
    lossy.tap.begin_anew({CLIENT: 5, SERVER: 0})
    assert lossy.told() == BEGUN
    assert (lossy.tap.missed_bytes, lossy.tap.gaps) == (5, 0)


def test_where_the_ring_has_no_room_it_waits(lossy: Lossy) -> None:
    lossy.tap.chunk(CLIENT, bytes(5))
    lossy.lose()
    while lossy.ring.append(SERVER, 9, 0, bytes(1000)):
        pass
    lossy.tap.begin_anew({CLIENT: 5, SERVER: 0})
    assert not lossy.has_lost_it()  # once is enough
    lossy.tap.chunk(CLIENT, bytes(3))
    assert {kind for kind, _ in lossy.told()} == {SERVER}
    lossy.tap.chunk(CLIENT, b"on")
    assert lossy.told() == [*BEGUN, gap("client", 5), gap("client", 3, "ring full"), (CLIENT, b"on")]
    assert lossy.tap.missed[CLIENT] == 8


def begun_anew(records: list[RingRecord], more: list[RingRecord]) -> bool:
    records += more
    return [record.kind for record in records].count(GAP) == 2


@pytest.mark.parametrize("silent", [True, False], ids=["it is silent", "it ends at once"])
def test_a_session_does_so_by_itself_or_at_its_end(upstream: MakeUpstream, worker: MakeWorker, silent: bool) -> None:
    def behave(connection: Any) -> None:
        accept(connection)
        connection.sendall(read_exactly(connection, 5))
        assert connection.recv(1) == b""

    proxy: RunningWorker = worker(upstream(behave).url)
    records: list[RingRecord] = []
    with upgrade(proxy) as client:
        client.sendall(b"12345")
        assert read_exactly(client, 5) == b"12345"
        take(proxy.reader)
        note_loss(proxy.ring_dir)
        if silent:
            eventually(lambda: begun_anew(records, take(proxy.reader)), "it has begun anew")
    records = [one for one in records + proxy.records() if one.kind != SERVER]  # what is still in use is read again
    assert [record.kind for record in records] == [OPENED, ACCEPTED, GAP, GAP, CLOSED]
    assert [shown(record)["bytes"] for record in records[2:4]] == [5, 5]
    closed = shown(records[-1])
    assert (closed["client_bytes"], closed["server_bytes"], closed["missed_bytes"]) == (5, 5, 10)


def test_a_sorter_takes_up_a_session_where_it_begins_anew(tmp_path: Path) -> None:
    """Whatever of it lies before that in the same block of a spool."""
    store = Store(tmp_path)
    recorder = store.recorder()
    store.say(1, CLIENT, b"of a session that the lost store had")
    store.open(1)
    store.say(1, CLIENT, b"on")
    store.say(2, CLIENT, b"of one that does not begin")
    recorder.drain()
    assert store.journals() == [("session-1", False)]
    assert [record.data for record in read_journal(store.journal(1).path)][1:] == [b"on"]
    recorder.close()


def test_a_recorder_process_that_finds_a_store_without_a_past_says_so(tmp_path: Path) -> None:
    """Also where none was at work while the store was removed."""
    store = Store(tmp_path)
    first = RecorderLock(store.data_dir, store.ring_dir)
    assert first.is_first
    first.release()
    store.open(1)
    store.recorder().drain()
    second = RecorderLock(store.data_dir, store.ring_dir)
    assert not second.is_first
    second.release()
    shutil.rmtree(store.data_dir)
    lock = RecorderLock(store.data_dir, store.ring_dir)
    assert lock.is_first
    lock.release()
    assert store.ring.lost_until == 0
    note_loss(store.ring_dir)
    assert store.ring.lost_until == store.ring.head > 0
