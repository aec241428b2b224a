import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import NewerFormatError, StoreError
from recorder.store import layout
from recorder.store.spool import MAGIC, SpoolTail, SpoolWriter, list_spools, spool_directory


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    layout.create(tmp_path)
    return tmp_path


def write(data_dir: Path, blocks: list[tuple[int, bytes]]) -> Path:
    spool = SpoolWriter(data_dir, "ring", len(list_spools(data_dir)))
    for position, data in blocks:
        spool.append(position, memoryview(data), lambda: None)
    spool.sync()
    spool.close()
    return spool.path


def read(path: Path, *, finished: bool = True) -> list[tuple[int, bytes]]:
    tail = SpoolTail(path)
    try:
        return list(tail.blocks(finished=finished))
    finally:
        tail.close()


def test_blocks_come_back_as_they_were(data_dir: Path) -> None:
    blocks = [(0, b"a"), (8, bytes(300_000)), (300_008, b"")]
    path = write(data_dir, blocks)
    assert read(path) == blocks
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("most", [1, 7, 100_000, 200_000])
def test_what_the_kernel_takes_in_parts_is_written_whole(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    pwritev = os.pwritev

    def some(fd: int, pieces: list[bytes], at: int) -> int:
        return pwritev(fd, [b"".join(pieces)[:most]], at)

    monkeypatch.setattr("recorder.store.spool.os.pwritev", some)
    blocks = [(0, bytes(range(250)) * 1200), (300_000, b""), (300_000, b"end")]
    assert read(write(data_dir, blocks)) == blocks


def test_a_tail_gives_each_block_once_while_more_come(data_dir: Path) -> None:
    spool = SpoolWriter(data_dir, "ring", 0)
    tail = SpoolTail(spool.path)
    assert list(tail.blocks(finished=False)) == []
    for position in (0, 8):
        spool.append(position, memoryview(b"x" * 8), lambda: None)
        assert list(tail.blocks(finished=False)) == [(position, b"x" * 8)]
    spool.close()
    tail.close()


@given(blocks=st.lists(st.binary(max_size=50), min_size=1, max_size=5), cut=st.integers(0, 400))
def test_a_torn_end_is_no_block(tmp_path_factory: pytest.TempPathFactory, blocks: list[bytes], cut: int) -> None:
    data_dir = tmp_path_factory.mktemp("store")
    layout.create(data_dir)
    path = write(data_dir, [(8 * number, data) for number, data in enumerate(blocks)])
    whole = path.read_bytes()[:cut]
    path.write_bytes(whole)
    ends = [len(MAGIC) + sum(24 + len(data) for data in blocks[: count + 1]) for count in range(len(blocks))]
    expected = [(8 * n, data) for n, data in enumerate(blocks) if ends[n] <= len(whole)]
    assert read(path) == read(path, finished=False) == expected


@given(place=st.integers(len(MAGIC), 8 + 3 * 124 - 1), flip=st.integers(1, 255))
def test_a_damaged_byte_costs_its_block_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    data_dir = tmp_path_factory.mktemp("store")
    layout.create(data_dir)
    blocks = [(100 * number, bytes([65 + number]) * 100) for number in range(3)]
    path = write(data_dir, blocks)
    content = bytearray(path.read_bytes())
    content[place] ^= flip
    path.write_bytes(content)
    hit = (place - len(MAGIC)) // 124
    found = read(path)
    assert [block for block in found if block[0] >= 0] == [block for n, block in enumerate(blocks) if n != hit]
    if hit < 2:  # the last one's ruin could be a torn end
        assert [len(data) for position, data in found if position < 0] == [124]


def test_files_that_are_no_spools_are_said_to_be_none(data_dir: Path) -> None:
    path = spool_directory(data_dir) / "ring.00000.spool"
    path.write_bytes(b"something")
    with pytest.raises(StoreError, match="is not a spool"):
        SpoolTail(path)
    path.write_bytes(MAGIC[:-1] + b"\x02")
    with pytest.raises(NewerFormatError):
        SpoolTail(path)
    (spool_directory(data_dir) / "notes.txt").write_bytes(b"")
    assert [spool.number for spool in list_spools(data_dir)] == [0]
