from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recorder.errors import StoreError, UsageError
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.erase import erase
from recorder.pipeline.file_list import counting_files, data_sets
from recorder.pipeline.seal import seal_all
from recorder.store.stored_form import CLOCK


def read(data_dir: Path, *names: str) -> pl.DataFrame:
    """What polars finds in exactly the files that count."""
    files = counting_files(data_dir, names)
    assert files == sorted(files, key=lambda file: (file.data_set, file.date, file.place))
    return pl.concat([pl.read_parquet(file.place) for file in files])


def agree(data_dir: Path) -> bool:
    """Whether what polars reads is what the views have."""
    with Catalog(data_dir) as catalog:
        wall = (pl.col(CLOCK) + pl.col("monotonic_ns").fill_null(0)).cast(pl.Datetime("ns", "UTC"))
        events = read(data_dir, "events", "appends").with_columns(recorded_at=wall).drop(CLOCK)
        view = catalog.query("SELECT * FROM events ORDER BY session_id, position").with_columns(
            pl.col("recorded_at").cast(pl.Datetime("ns", "UTC"))
        )
        assert events.select(view.columns).sort("session_id", "position").equals(view)
        for name in ("sessions", "responses", "turns"):
            rows = catalog.query(f"SELECT * FROM stored.{name} ORDER BY ALL")
            found = read(data_dir, name).select(rows.columns)
            assert found.cast(rows.schema).sort(rows.columns, nulls_last=True).rows() == rows.rows()
    return True


def test_polars_reads_what_the_views_have(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    first = new_journal(1).turn().roll().turn()
    new_journal(2).turn().closed()
    gone = new_journal(3).turn().closed()
    seal_all(data_dir)
    first.turn().closed()
    seal_all(data_dir)
    assert agree(data_dir)

    compact(data_dir)  # what it replaces is still there
    assert agree(data_dir)
    assert len(counting_files(data_dir, ["responses"])) == 1
    assert len(list(data_dir.glob("segments/responses/*/*.parquet"))) > 1

    erase(data_dir, [gone.session_id])
    assert agree(data_dir)


def test_parts_of_running_sessions(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    new_journal(1).turn().roll()
    new_journal(2).turn().closed()
    seal_all(data_dir)

    assert len(counting_files(data_dir, ["events"])) == 2
    (file,) = counting_files(data_dir, ["events"], closed=True)
    assert file.place == str(next(data_dir.glob(f"segments/events/*/{file.manifest}.parquet")))
    assert (file.rows, file.bytes) == (pl.read_parquet(file.place).height, Path(file.place).stat().st_size)
    assert {each.data_set for each in counting_files(data_dir)} <= set(data_sets())


def test_what_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no data directory"):
        counting_files(tmp_path / "none")
    with pytest.raises(UsageError, match="no data set 'respones'"):
        counting_files(tmp_path, ["respones"])
    assert counting_files(tmp_path) == []
