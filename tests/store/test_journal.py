import errno
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recorder.errors import NewerFormatError, StoreError
from recorder.protocol.envelope import Record, RecordKind
from recorder.store.journal import MAGIC, JournalTail, JournalWriter, encode_frame, finished, read_journal
from recorder.store.journal_files import by_session, journal_directory, journal_name, list_journals

RECORDS = [Record(RecordKind.CLIENT_BYTES, 1000 + n, bytes([n]) * (n * 7)) for n in range(12)]


def write(data_dir: Path, records: list[Record], *, finished: bool = False) -> Path:
    (data_dir / "journal").mkdir(exist_ok=True)
    writer = JournalWriter(data_dir, "s1")
    for number, record in enumerate(records):
        writer.write(encode_frame(writer.last_position + 1 + number * 40, record.at_ns, record.kind, record.data))
    writer.close(finished=finished)
    return writer.path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, RECORDS)
    assert list(read_journal(path)) == RECORDS
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_finished_journal_is_renamed_for_the_sealer(tmp_path: Path) -> None:
    write(tmp_path, RECORDS, finished=True)
    (journal,) = list_journals(tmp_path)
    assert (journal.session_id, journal.closed, journal.path.name) == ("s1", True, "s1.closed.journal")


def test_no_journal_directory_means_no_journals(tmp_path: Path) -> None:
    assert list_journals(tmp_path) == []


def test_a_journal_cut_at_any_byte_gives_its_whole_frames_and_can_be_gone_on_with(tmp_path: Path) -> None:
    path = write(tmp_path, RECORDS)
    whole = path.read_bytes()
    ends = [len(MAGIC)]
    for record in RECORDS:
        ends.append(ends[-1] + len(encode_frame(0, 0, 3, record.data)))
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = max((n for n, end in enumerate(ends) if end <= cut), default=0)
        assert list(read_journal(path)) == RECORDS[:kept], cut
        writer = JournalWriter(tmp_path, "s1")
        assert writer.last_position == (kept - 1) * 40 if kept else writer.last_position == -1
        writer.write(encode_frame(10**6, 5, RecordKind.SERVER_BYTES, b"after"))
        writer.close(finished=False)
        assert list(read_journal(path)) == [*RECORDS[:kept], Record(RecordKind.SERVER_BYTES, 5, b"after")], cut


@pytest.mark.parametrize("most", [1 << 30, 100_000], ids=["whole", "short"])
def test_frames_larger_than_a_read_are_read_however_short_reads_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    sizes = [10, 250_000, 300_000, 5, 1_100_000, 262_144, 7]
    records = [Record(RecordKind.SERVER_BYTES, n, bytes([n]) * size) for n, size in enumerate(sizes)]
    path = write(tmp_path, records)
    whole, end = path.read_bytes(), len(MAGIC)
    really = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: really(fd, min(size, most), at))
    for count, record in enumerate(records):
        end += len(encode_frame(0, 0, 3, record.data))
        for cut, kept in ((end - 1, count), (end, count + 1)):
            path.write_bytes(whole[:cut])
            tail = JournalTail(path)
            assert tail.read() == records[:kept]
            path.write_bytes(whole)
            assert tail.read() == records[kept:]
            tail.close()


def test_a_frame_drained_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path, RECORDS)
    body = path.read_bytes()[len(MAGIC) :]
    path.write_bytes(MAGIC + body + body)
    assert list(read_journal(path)) == RECORDS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_byte_costs_one_frame_and_is_said(tmp_path: Path, data: st.DataObject) -> None:
    path = write(tmp_path, RECORDS)
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(len(MAGIC), len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    got = list(read_journal(path))
    path.unlink()
    kept = [record for record in got if record.kind != RecordKind.GAP]
    assert len(kept) == len(RECORDS) - 1
    assert all(record in RECORDS for record in kept)
    gaps = [msgspec.json.decode(record.data) for record in got if record.kind == RecordKind.GAP]
    if kept[-1] == RECORDS[-1]:
        assert [gap["reason"] for gap in gaps] == ["journal damaged"]


def test_a_tail_reads_each_record_once_while_the_journal_grows(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    writer = JournalWriter(tmp_path, "s1")
    tail = JournalTail(writer.path)
    assert tail.read() == []
    frames = b"".join(encode_frame(n, r.at_ns, r.kind, r.data) for n, r in enumerate(RECORDS))
    got: list[Record] = []
    for start in range(0, len(frames), 50):
        writer.write(frames[start : start + 50])
        got += tail.read()
    writer.close(finished=True)
    got += tail.read()
    assert got == RECORDS
    tail.close()


def test_foreign_and_newer_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(StoreError, match="not a journal"):
        JournalTail(path)
    path.write_bytes(MAGIC[:-1] + b"\x07")
    with pytest.raises(NewerFormatError, match="7"):
        JournalTail(path)


def test_a_failed_write_leaves_the_journal_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, RECORDS)
    writer = JournalWriter(tmp_path, "s1")
    real = os.pwrite

    def full(fd: int, view: memoryview, at: int) -> int:
        if len(view) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, view[:60], at)

    monkeypatch.setattr("recorder.store.journal.os.pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        writer.write(encode_frame(10**6, 1, 3, b"x" * 100))
    monkeypatch.undo()
    writer.write(encode_frame(10**6, 1, 3, b"fits"))
    writer.close(finished=False)
    assert list(read_journal(path))[-1].data == b"fits"


@given(st.lists(st.binary(max_size=50), max_size=50), st.lists(st.integers(1, 400), max_size=20))
def test_pieces_are_written_whole_and_in_order_however_the_disk_takes_them(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], takes: list[int]
) -> None:
    real = os.pwrite

    def some(fd: int, view: memoryview, at: int) -> int:
        return real(fd, view[: takes.pop()] if takes else view, at)

    data_dir = tmp_path_factory.mktemp("store")
    journal_directory(data_dir).mkdir()
    writer = JournalWriter(data_dir, "s1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recorder.store.journal.os.pwrite", some)
        writer.write(*pieces)
    assert writer.path.read_bytes() == MAGIC + b"".join(pieces)
    assert writer.size == len(MAGIC) + sum(map(len, pieces))
    writer.close(finished=False)


FACTS = Record(RecordKind.OPENED, 900, b'{"session_id": "s1"}')


def parts(data_dir: Path) -> list[tuple[str, int, bool]]:
    return [(journal.path.name, journal.part, journal.closed) for journal in list_journals(data_dir)]


def chain(data_dir: Path) -> list[Record]:
    """The session as its journals give it, one after the other."""
    records: list[Record] = []
    last_position = -1
    for journal in list_journals(data_dir):
        tail = JournalTail(journal.path, last_position=last_position)
        records += tail.read()
        last_position = tail.last_position
        tail.close()
    return records


def put(writer: JournalWriter, position: int, record: Record) -> None:
    writer.write(encode_frame(position, record.at_ns, record.kind, record.data))
    writer.last_position = position


def rolled(data_dir: Path) -> JournalWriter:
    """A session with three of the records in each of its parts; the writer of the last."""
    (data_dir / "journal").mkdir()
    writer = JournalWriter(data_dir, "s1")
    put(writer, 0, FACTS)
    for number, record in enumerate(RECORDS):
        if number and number % 3 == 0:
            done, writer = writer, writer.roll()
            done.close(finished=True)
        put(writer, 40 * (number + 1), record)
    return writer


def test_a_session_goes_on_in_parts_and_reads_as_if_it_had_not(tmp_path: Path) -> None:
    writer = rolled(tmp_path)
    assert parts(tmp_path) == [
        ("s1.journal", 0, False),
        ("s1.00001.journal", 1, False),
        ("s1.00002.journal", 2, False),
        ("s1.00003.journal", 3, False),
    ]
    assert chain(tmp_path) == [FACTS, *RECORDS]
    assert {journal.path.stat().st_mode & 0o777 for journal in list_journals(tmp_path)} == {0o600}
    writer.close(finished=True)
    assert parts(tmp_path)[-1] == ("s1.00003.closed.journal", 3, True)
    assert chain(tmp_path) == [FACTS, *RECORDS]
    assert by_session(list_journals(tmp_path)).keys() == {"s1"}


def test_the_last_part_alone_says_whose_it_is_and_where_it_goes_on(tmp_path: Path) -> None:
    rolled(tmp_path).close(finished=False)
    for part in range(3):
        (tmp_path / "journal" / journal_name("s1", part)).unlink()
    (journal,) = list_journals(tmp_path)
    first = next(read_journal(journal.path))
    assert (first.kind, first.data) == (RecordKind.OPENED, FACTS.data)
    writer = JournalWriter(tmp_path, "s1", 3)
    assert writer.last_position == 40 * 12
    empty = writer.roll()
    assert empty.last_position == 40 * 12
    for each in (writer, empty):
        each.close(finished=False)


def test_a_part_is_finished_once_the_next_one_has_begun(tmp_path: Path) -> None:
    rolled(tmp_path).close(finished=False)
    journals = list_journals(tmp_path)
    assert finished(journals) == journals[:3]
    assert finished([]) == []
    assert finished(journals[:1]) == []
    journals[-1].path.write_bytes(MAGIC)  # what a power cut leaves of a file that was not synced
    assert finished(journals) == journals[:2]
    closed = [*journals[:2], journals[2]._replace(closed=True)]
    assert finished(closed) == closed


def test_what_is_missing_at_the_end_of_a_part_is_said(tmp_path: Path) -> None:
    rolled(tmp_path).close(finished=False)
    second = list_journals(tmp_path)[1].path
    second.write_bytes(second.read_bytes()[:-20])
    records = chain(tmp_path)
    assert records[:6] == [FACTS, *RECORDS[:5]]
    assert (records[6].kind, records[6].at_ns) == (RecordKind.GAP, FACTS.at_ns)
    assert msgspec.json.decode(records[6].data)["reason"] == "journal incomplete"
    assert records[7:] == RECORDS[6:]


def test_records_of_the_part_before_are_not_read_twice(tmp_path: Path) -> None:
    """A writer that was killed before it released the ring goes on in the new part, and drains some once more."""
    writer = rolled(tmp_path)
    for position, record in ((40 * 11, RECORDS[10]), (40 * 12, RECORDS[11])):
        put(writer, position, record)
    writer.close(finished=False)
    assert chain(tmp_path) == [FACTS, *RECORDS]


def test_a_full_disk_leaves_the_old_part_going(tmp_path: Path) -> None:
    writer = rolled(tmp_path)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for room, name in ((os, "open"), (os, "pwrite"), (Path, "rename")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(room, name, full)
            with pytest.raises(OSError, match="No space left"):
                writer.roll()
        assert len(list_journals(tmp_path)) == 4
    more = Record(RecordKind.SERVER_BYTES, 5, b"more")
    put(writer, 10**6, more)
    assert chain(tmp_path) == [FACTS, *RECORDS, more]
    writer.close(finished=True)
    assert parts(tmp_path)[-1][0] == "s1.00003.closed.journal"


def test_a_journal_without_its_facts_does_not_roll(tmp_path: Path) -> None:
    write(tmp_path, RECORDS)
    writer = JournalWriter(tmp_path, "s1")
    with pytest.raises(StoreError, match="does not begin with the facts"):
        writer.roll()
    writer.close(finished=False)


def test_reading_goes_on_where_another_reader_was(tmp_path: Path) -> None:
    path = write(tmp_path, RECORDS[:5])
    first = JournalTail(path)
    assert first.read() == RECORDS[:5]
    writer = JournalWriter(tmp_path, "s1")
    put(writer, 10**6, RECORDS[5])
    writer.close(finished=True)
    second = JournalTail(list_journals(tmp_path)[0].path, offset=first.offset, last_position=first.last_position)
    assert second.read() == RECORDS[5:6]
    for tail in (first, second):
        tail.close()


def test_a_writer_knows_whether_it_holds_more_than_the_facts(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    writer = JournalWriter(tmp_path, "s1")
    put(writer, 0, FACTS)
    put(writer, 40, RECORDS[0])
    following = writer.roll()
    assert (writer.has_news, following.has_news) == (True, False)
    again = JournalWriter(tmp_path, "s1", 1)
    assert (again.has_news, again.last_position) == (False, 40)
    put(following, 80, RECORDS[1])
    assert following.has_news
    assert JournalWriter(tmp_path, "s1", 1).has_news
