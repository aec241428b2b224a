from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recorder.store import lookup, parquet
from recorder.store.lookup import Wanted
from recorder.store.schema import FORMAT_VERSION

SESSIONS = [f"019c1410-7c00-7000-8000-{number:012x}" for number in range(5)]


def rows(*, shuffled: bool = False) -> pa.Table:
    table = pa.table(
        {
            "session_id": [name for name in SESSIONS for _ in range(40)],
            "position": [position for _ in SESSIONS for position in range(40)],
            "type": [["a", "b", None][position % 3] for _ in SESSIONS for position in range(40)],
            "payload": [f"{name}/{position}" for name in SESSIONS for position in range(40)],
        }
    )
    return table.take(list(range(0, 200, 2)) + list(range(1, 200, 2))) if shuffled else table


def write(path: Path, table: pa.Table, group: int = 30) -> Path:
    with path.open("wb") as file, parquet.writer(file, table.schema) as writer:
        writer.write_table(table, row_group_size=group)
    return path


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(SESSIONS[0]),
        Wanted(SESSIONS[2], 5, 9),
        Wanted(SESSIONS[4], 38),
        Wanted(None, 10, 12),
        Wanted("019c1410-7c00-7000-8000-ffffffffffff"),
        Wanted(SESSIONS[1], 100),
    ],
)
def test_the_rows_that_a_filter_gives(tmp_path: Path, wanted: Wanted, shuffled: bool) -> None:
    path = write(tmp_path / "a.parquet", rows(shuffled=shuffled))
    filters: list[tuple[str, str, object]] = [("position", ">", wanted.after)]
    filters += [] if wanted.until is None else [("position", "<=", wanted.until)]
    filters += [] if wanted.session_id is None else [("session_id", "=", wanted.session_id)]

    for columns in (None, ["payload"], ["type", "position"]):
        found = lookup.read(path, wanted, columns=columns).rows
        assert found.equals(pq.read_table(path, filters=filters, columns=columns, partitioning=None))


def test_only_row_groups_that_can_have_them_are_read(tmp_path: Path) -> None:
    footer = lookup.read(write(tmp_path / "a.parquet", rows(), group=20)).footer
    assert footer.num_row_groups == 10
    assert list(lookup.groups_of(footer, Wanted(SESSIONS[1]))) == [2, 3]
    assert list(lookup.groups_of(footer, Wanted(SESSIONS[1], 25))) == [3]
    assert list(lookup.groups_of(footer, Wanted(None, -1, 3))) == [0, 2, 4, 6, 8]
    assert list(lookup.groups_of(footer, Wanted("0"))) == []


def test_a_file_without_rows_and_one_that_was_written_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", rows().slice(0, 0))
    assert lookup.read(path, Wanted(SESSIONS[0])).rows.num_rows == 0
    write(path, rows())
    found = lookup.read(path, Wanted(SESSIONS[0]))
    assert found.rows.num_rows == 40
    assert parquet.checked_version(path, found.footer) == FORMAT_VERSION
