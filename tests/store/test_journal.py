import errno
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recorder.errors import NewerFormatError, StoreError
from recorder.protocol.envelope import Record, RecordKind
from recorder.store.journal import (
    MAGIC,
    JournalTail,
    JournalWriter,
    encode_frame,
    journal_directory,
    list_journals,
    read_journal,
)

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
    real = os.pwritev

    def full(fd: int, pieces: list[bytes], at: int) -> int:
        if len(b"".join(pieces)) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, [b"".join(pieces)[:60]], at)

    monkeypatch.setattr("recorder.store.journal.os.pwritev", full)
    with pytest.raises(OSError, match="No space left"):
        writer.write(encode_frame(10**6, 1, 3, b"x" * 100))
    monkeypatch.undo()
    writer.write(encode_frame(10**6, 1, 3, b"fits"))
    writer.close(finished=False)
    assert list(read_journal(path))[-1].data == b"fits"


@given(st.lists(st.binary(max_size=50), max_size=3000), st.lists(st.integers(1, 400), max_size=20))
def test_pieces_are_written_whole_and_in_order_however_the_disk_takes_them(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], takes: list[int]
) -> None:
    real = os.pwritev

    def some(fd: int, pieces: list[bytes], at: int) -> int:
        return real(fd, [b"".join(pieces)[: takes.pop()]] if takes else pieces, at)

    data_dir = tmp_path_factory.mktemp("store")
    journal_directory(data_dir).mkdir()
    writer = JournalWriter(data_dir, "s1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recorder.store.journal.os.pwritev", some)
        writer.write(*pieces)
    assert writer.path.read_bytes() == MAGIC + b"".join(pieces)
    assert writer.size == len(MAGIC) + sum(map(len, pieces))
    writer.close(finished=False)
