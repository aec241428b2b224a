from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from recorder.errors import StoreError
from recorder.pipeline import compact as compacting
from recorder.pipeline import replace
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.replace import listed
from recorder.pipeline.seal import seal_all
from recorder.store import layout, manifests, merge, parquet
from tests.pipeline.crashing import CrashError, crash_at

TABLES = ("events", "parts", "audio", "sessions", "responses", "turns", "items", "usage")


def content(catalog: Catalog) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {name: catalog.query(f"SELECT * FROM {name} ORDER BY ALL").rows() for name in TABLES}
    ids = [row[0] for row in catalog.query("SELECT session_id FROM sessions ORDER BY ALL").rows()]
    rows["messages"] = [event.message() for each in ids for event in catalog.recorded_events(each)]
    return rows


def read(data_dir: Path) -> dict[str, list[Any]]:
    with Catalog(data_dir) as catalog:
        return content(catalog)


def data_files(data_dir: Path) -> set[str]:
    return {path.relative_to(data_dir).as_posix() for path in data_dir.glob("segments/*/*/*")}


@pytest.fixture
def store(data_dir: Path, new_journal: Callable[..., Any]) -> Path:
    """A store with three sessions of one date, and two of another."""
    for number in (1, 2, 3):
        new_journal(number).turn().closed()
    for number in (4, 5):
        new_journal(number, opened_at_ns=1_770_000_000_000_000_000).turn().closed()
    seal_all(data_dir)
    return data_dir


def test_a_date_becomes_one_manifest_and_one_file_of_each_data_set(store: Path) -> None:
    before = read(store)

    report = compact(store, grace_seconds=0)

    assert [(day.date, day.sessions) for day in report.days] == [("2026-01-31", 3), ("2026-02-02", 2)]
    assert read(store) == before
    counting = listed(store).counting
    assert [len(manifest.sessions) for manifest in counting] == [3, 2]
    for manifest in counting:
        assert len({file.data_set for file in manifest.files}) == len(manifest.files)
    assert data_files(store) == {file.path for manifest in counting for file in manifest.files}
    assert len(list(store.glob("manifests/*/*"))) == 2


def test_again_there_is_nothing_to_do(store: Path) -> None:
    compact(store, grace_seconds=0)
    was = {path: (store / path).stat().st_ino for path in data_files(store)}
    assert compact(store, grace_seconds=0).days == []
    assert {path: (store / path).stat().st_ino for path in data_files(store)} == was


def test_the_same_sessions_make_the_same_files(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    for each in (store, copy):
        compact(each)
    assert [manifest.files for manifest in listed(store).counting] == [
        manifest.files for manifest in listed(copy).counting
    ]


def test_a_dry_run_changes_nothing(store: Path) -> None:
    was = data_files(store)
    report = compact(store, dry_run=True, grace_seconds=0)
    assert [(day.sessions, day.files_after) for day in report.days] == [(3, None), (2, None)]
    assert data_files(store) == was


def test_dates(store: Path) -> None:
    assert [day.date for day in compact(store, dry_run=True, dates=["2026-02-02"]).days] == ["2026-02-02"]
    assert [day.date for day in compact(store, dry_run=True, until="2026-02-02").days] == ["2026-01-31"]


def test_what_was_replaced_stays_for_readers_a_while(store: Path) -> None:
    was = data_files(store)
    with Catalog(store) as catalog:
        before = content(catalog)
        compact(store)
        assert was < data_files(store)
        assert content(catalog) == before
        catalog.refresh()
        assert content(catalog) == before
    assert compact(store).removed_files == 0
    for path in store.glob("manifests/*/compact-*"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - manifests.GRACE_SECONDS - 1))
    assert compact(store).removed_files == len(was)
    assert not was & data_files(store)
    assert read(store) == before


def test_what_is_large_is_not_written_again_for_little(store: Path, new_journal: Callable[..., Any]) -> None:
    for number in range(10, 20):
        new_journal(number).turn().closed()
    seal_all(store)
    compact(store, grace_seconds=0)
    large = data_files(store)
    new_journal(6).turn().closed()
    seal_all(store)
    assert compact(store, grace_seconds=0).days == []

    new_journal(7).turn().closed()
    seal_all(store)
    before = read(store)
    assert [day.sessions for day in compact(store, grace_seconds=0).days] == [2]

    assert large < data_files(store)
    assert read(store) == before


def test_large_files_are_kept_and_a_session_lies_in_one(store: Path) -> None:
    before = read(store)
    compact(store, dates=["2026-01-31"], target_bytes=1, grace_seconds=0)
    (manifest,) = (each for each in listed(store).counting if each.date == "2026-01-31")
    events = [file for file in manifest.files if file.data_set == "events"]
    assert len(events) == 3
    assert read(store) == before


def test_small_row_groups(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP", 2)
    monkeypatch.setattr(merge, "_ROWS", 3)
    before = read(store)
    compact(store, grace_seconds=0)
    assert read(store) == before


STEPS = (
    (layout, "write_file"),
    (manifests, "write"),
    (replace, "_remove"),
    (layout, "sync_directories"),
    (Path, "unlink"),
)


def broken_off(act: Callable[[], object], steps: Sequence[tuple[object, str]] = STEPS) -> Iterator[int]:
    """Break an act off at each of its steps in turn, until it goes through."""
    for at in range(1, 2_000):
        with pytest.MonkeyPatch.context() as monkeypatch:
            crash_at(monkeypatch, at, steps, after=True)
            try:
                act()
            except CrashError:
                yield at
            else:
                return
    raise AssertionError("it never ends")


def test_broken_off_at_any_step_nothing_is_lost_or_doubled(store: Path) -> None:
    dates = ["2026-02-02"]
    before = read(store)
    act = lambda: compact(store, dates=dates, grace_seconds=0)  # noqa: E731 - short
    steps = [at for at in broken_off(act) if at % 16 or read(store) == before]
    assert len(steps) > 20
    assert read(store) == before
    compact(store, grace_seconds=0)
    assert data_files(store) == {file.path for manifest in listed(store).counting for file in manifest.files}


def test_a_reader_sees_neither_double_nor_hole(store: Path) -> None:
    before = read(store)["messages"]
    looks, stop, seen = threading.Semaphore(0), threading.Event(), set()

    def look() -> None:
        with Catalog(store) as catalog:
            while not stop.is_set():
                catalog.refresh()
                seen.add(catalog.query("SELECT count(*), count(DISTINCT session_id) FROM events").row(0))
                looks.release()

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in range(3):
            looks.acquire()
            compact(store, dates=["2026-01-31", "2026-02-02"][: number + 1])
    finally:
        stop.set()
        reader.join()
    assert seen == {(len(before), 5)}


def test_sealing_goes_on_meanwhile(
    store: Path, new_journal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = merge.merge

    def merge_while_sealing(*args: Any, **options: Any) -> Any:
        if new_journal(9).file.closed is False:
            new_journal(9).turn().closed()
            assert seal_all(store).sealed
        return real(*args, **options)

    monkeypatch.setattr(compacting, "merge", merge_while_sealing)
    compact(store, dates=["2026-02-02"])
    with Catalog(store) as catalog:
        assert catalog.query("SELECT count(*) FROM sessions").item() == 6


def test_two_at_once_wait_for_each_other_or_say_so(store: Path) -> None:
    with layout.rewriting(store), pytest.raises(BlockingIOError):
        compact(store, wait=False)


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        compact(tmp_path / "none")
