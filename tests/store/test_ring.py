import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import NewerFormatError, StoreError
from recorder.store.ring import PAGE, WINDOW, RingWriter, ring_directory
from recorder.store.ring_reader import RingReader


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, PAGE)
    assert writer.append(3, 7, 111, b"hello")
    assert writer.append(4, 8, 222, b"")
    with RingReader(writer.path) as reader:
        records, position = reader.read()
        assert [(r.session_no, r.at_ns, r.kind, r.data) for r in records] == [(7, 111, 3, b"hello"), (8, 222, 4, b"")]
        assert [r.position for r in records] == [0, 32]
        reader.release(position)
        assert reader.read() == ([], position)
    assert writer.used_bytes() == 0
    writer.close()


@given(
    st.lists(st.tuples(st.integers(0, 1500), st.booleans()), max_size=200),
    st.integers(200, 8000),
)
def test_a_full_ring_refuses_and_nothing_read_is_lost_or_doubled(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]], read_limit: int
) -> None:
    writer = RingWriter(tmp_path_factory.mktemp("ring"), PAGE)
    expected: list[bytes] = []
    got: list[bytes] = []
    with RingReader(writer.path) as reader:
        for number, (size, drain) in enumerate(steps):
            data = bytes([number % 256]) * size
            if writer.append(3, 1, number, data):
                expected.append(data)
            if drain:
                records, position = reader.read(read_limit)
                got += [bytes(record.data) for record in records]
                reader.release(position)
        while reader.used_bytes:  # a read may find no more than that the rest of the ring is left out
            records, position = reader.read(read_limit)
            got += [bytes(record.data) for record in records]
            reader.release(position)
        assert got == expected
    writer.close()


def test_a_ring_takes_what_it_can_hold_and_says_no_to_the_rest(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, PAGE)
    taken = 0
    while writer.append(3, 1, 0, b"x" * 104):
        taken += 1
    assert taken == PAGE // 128
    assert writer.used_bytes() == PAGE
    with RingReader(writer.path) as reader:
        records, position = reader.read()
        assert len(records) == taken
        assert not writer.append(3, 1, 0, b"still full: nothing released")
        reader.release(position)
    assert writer.append(3, 1, 0, b"room again")
    writer.close()


def test_records_survive_a_kill_of_the_writer(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from recorder.store.ring import WINDOW, RingWriter\n"
        f"ring = RingWriter(Path({str(tmp_path)!r}), 65536)\n"
        "ring.append(3, 1, 5, b'tapped'); print(ring.path, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        path = Path(child.stdout.readline().strip())
        reader = RingReader(path)
        assert not reader.writer_is_dead()
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert reader.writer_is_dead()
        assert [record.data for record in reader.read()[0]] == [b"tapped"]
        reader.close(remove=True)
    assert not path.exists()


def test_the_reader_sees_a_ring_only_when_it_is_whole(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, PAGE)
    assert [path.name for path in tmp_path.iterdir()] == [writer.name + ".ring"]
    assert writer.path.stat().st_mode & 0o777 == 0o600
    writer.close()


def test_no_room_is_said_before_any_session(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no room for a ring"):
        RingWriter(tmp_path, 1 << 50)
    assert list(tmp_path.iterdir()) == []


def test_foreign_and_newer_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "x.ring"
    foreign.write_bytes(b"something else" * 1000)
    with pytest.raises(StoreError, match="not a recorder ring"):
        RingReader(foreign)
    writer = RingWriter(tmp_path, PAGE)
    writer.close()
    raw = bytearray(writer.path.read_bytes())
    raw[8] = 99
    writer.path.write_bytes(raw)
    with pytest.raises(NewerFormatError, match="99"):
        RingReader(writer.path)


def test_each_store_has_a_directory_of_its_own(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert ring_directory(one) != ring_directory(two)
    assert ring_directory(one) == ring_directory(tmp_path / "x" / ".." / "one")
    assert ring_directory(one, tmp_path / "absent") == one / "ring"


def test_what_was_released_is_wiped(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, PAGE)
    with RingReader(writer.path) as reader:
        for number in range(200):  # several times around
            assert writer.append(1, 7, number, b"a secret word" * (number % 20))
            records, position = reader.read()
            assert bytes(records[0].data) == b"a secret word" * (number % 20)
            del records
            reader.release(position)
            assert b"secret" not in writer.path.read_bytes()
            assert not any(writer.path.read_bytes()[PAGE:])


def test_a_reader_killed_while_it_wipes_loses_nothing(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, PAGE)
    writer.append(1, 7, 1, b"taken")
    with RingReader(writer.path) as reader:
        taken = reader.read()[1]
    writer.append(1, 7, 2, b"not taken")
    with writer.path.open("r+b") as file:  # its last deeds: it said how far it was, and wiped half a record
        file.seek(32 * 8)
        file.write(taken.to_bytes(8, sys.byteorder))
        file.seek(PAGE)
        file.write(bytes(12))

    with RingReader(writer.path) as reader:
        records, _ = reader.read()
        assert [bytes(record.data) for record in records] == [b"not taken"]
        del records
        assert writer.used_bytes() == 40


@pytest.mark.parametrize("trap", ["link", "open", "file"])
def test_a_directory_that_somebody_else_made_is_not_used(tmp_path: Path, trap: str) -> None:
    """In /dev/shm everybody can make one of its name first."""
    place = tmp_path / "ring"
    if trap == "file":
        place.write_bytes(b"")
    elif trap == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.mkdir()
        place.chmod(0o777)
    with pytest.raises(StoreError, match="not a directory of this user's alone"):
        RingWriter(place, 1 << 16)


def test_a_directory_of_another_owner_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ring").mkdir(mode=0o700)
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    with pytest.raises(StoreError, match="not a directory of this user's alone"):
        RingWriter(tmp_path / "ring", 1 << 16)


def receiving(data: bytes) -> Callable[[memoryview, int], int]:
    def receive(buffer: memoryview, most: int) -> int:
        assert len(data) <= most
        buffer[: len(data)] = data
        return len(data)

    return receive


def test_what_is_received_into_the_ring_is_a_record_at_once(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, 4 * WINDOW)
    take = writer.receiver(receiving(b"hello"), 4, 7, (), lambda: memoryview(b""))
    assert bytes(take()) == b"hello"
    with RingReader(writer.path) as reader:
        ((position, session_no, _, kind, data),) = [
            (one.position, one.session_no, one.at_ns, one.kind, bytes(one.data)) for one in reader.read()[0]
        ]
    assert (position, session_no, kind, data) == (0, 7, 4, b"hello")
    writer.close()


def test_an_end_is_no_record_and_an_error_passes(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, 4 * WINDOW)

    def fails(_buffer: memoryview, _most: int) -> int:
        raise BlockingIOError

    assert bytes(writer.receiver(receiving(b""), 4, 1, (), lambda: memoryview(b""))()) == b""
    with pytest.raises(BlockingIOError):
        writer.receiver(fails, 4, 1, (), lambda: memoryview(b""))()
    assert writer.used_bytes() == 0
    writer.close()


def test_without_room_or_while_blocked_it_is_received_otherwise(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, 2 * WINDOW)
    blocked: list[int] = []
    take = writer.receiver(receiving(b"x" * WINDOW), 4, 1, blocked, lambda: memoryview(b"otherwise"))
    assert len(take()) == WINDOW
    assert bytes(take()) == b"otherwise"
    writer.settle()
    with RingReader(writer.path) as reader:
        reader.release(reader.head)
        assert len(take()) == WINDOW  # from the start again
        assert len(reader.read()[0]) == 1
        writer.settle()
        reader.release(reader.head)
        blocked.append(1)
        assert bytes(take()) == b"otherwise"
    writer.close()


def test_what_the_writer_may_still_send_on_is_not_wiped(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, 4 * WINDOW)
    take = writer.receiver(receiving(b"on its way"), 4, 1, (), lambda: memoryview(b""))
    writer.append(4, 1, 1, b"before")
    data = take()
    with RingReader(writer.path) as reader:
        reader.release(reader.head)
        assert bytes(data) == b"on its way"
        assert reader.used_bytes == 40
        writer.settle()
        reader.release(reader.head)
        assert bytes(data) == bytes(10)
        assert reader.used_bytes == 0
    writer.close()
