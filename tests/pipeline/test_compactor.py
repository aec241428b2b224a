from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from recorder.errors import StoreError
from recorder.pipeline import compactor
from recorder.pipeline.compact import compact
from recorder.pipeline.compactor import Compactor
from recorder.pipeline.replace import listed
from recorder.pipeline.seal import seal_all
from recorder.store import layout, manifests
from recorder.store.counters import ERROR, Counters
from tests.pipeline.conftest import Journal
from tests.pipeline.test_compact import broken_off, data_files, read

SMALL = 8


@pytest.fixture
def store(data_dir: Path) -> Path:
    """A store with a session that was sealed in parts, and a small one of another date."""
    journal = Journal(data_dir).turn()
    for _ in range(4):
        journal.roll()
        seal_all(data_dir)
        for number in range(3):
            journal.client(f'{{"type":"input_audio_buffer.append","audio":"AAA{number}"}}'.encode())
    journal.closed()
    Journal(data_dir, 2, opened_at_ns=1_770_000_000_000_000_000).turn().closed()
    seal_all(data_dir)
    return data_dir


def looking(data_dir: Path, at_least: int = SMALL) -> Compactor:
    return Compactor(data_dir, Counters(), at_least)


def aged(data_dir: Path) -> None:
    """Have the readers' time pass."""
    for path in data_dir.glob("manifests/*/compact-*"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - manifests.GRACE_SECONDS - 1))


def test_a_session_that_was_sealed_in_parts_gets_one_file_of_each_data_set(store: Path) -> None:
    before = read(store)
    assert len([path for path in data_files(store) if path.startswith("segments/appends/date=2026-01-31")]) > 3

    report = looking(store).look()

    assert report is not None
    assert [(day.date, day.sessions) for day in report.days] == [("2026-01-31", 1)]
    assert read(store) == before
    first, second = sorted(listed(store).counting, key=lambda manifest: manifest.date)
    assert len({file.data_set for file in first.files}) == len(first.files)
    assert second.name == next(iter(second.sessions))


def test_what_was_replaced_goes_when_its_readers_have_had_their_time(store: Path) -> None:
    before = read(store)
    looks = looking(store)
    looks.look()
    was = len(data_files(store))

    assert looks.look() is not None  # too early
    assert len(data_files(store)) == was
    aged(store)
    looks.look()

    assert data_files(store) == {file.path for manifest in listed(store).counting for file in manifest.files}
    assert looks.look() is None
    assert read(store) == before


def test_few_files_stay_as_they_are(store: Path) -> None:
    was = data_files(store)
    assert looking(store, 1_000).look() is None
    assert data_files(store) == was


def test_small_sessions_do_not_keep_a_large_one_in_pieces(store: Path) -> None:
    for number in (3, 4):
        Journal(store, number).closed()
    seal_all(store)
    looking(store).look()
    assert all(len({file.data_set for file in each.files}) == len(each.files) for each in listed(store).counting)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_that_is_nearly_full_is_left_to_the_recorder(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    was = data_files(store)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 1 << 40, 1 << 20))
    assert looking(store).look() is None
    assert data_files(store) == was


def test_broken_off_at_any_step_nothing_is_lost_or_doubled(store: Path) -> None:
    before = read(store)
    steps = [at for at in broken_off(lambda: looking(store).look()) if at % 12 or read(store) == before]
    assert len(steps) > 20
    aged(store)
    looking(store).look()
    assert read(store) == before
    assert data_files(store) == {file.path for manifest in listed(store).counting for file in manifest.files}


def test_others_who_replace_manifests_are_left_alone(store: Path) -> None:
    with layout.rewriting(store), pytest.raises(BlockingIOError):
        looking(store).look()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space left"), StoreError("damaged")])
def test_the_thread_goes_on_after_a_failure(store: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(compactor, "LOOK_SECONDS", 0.001)
    done = threading.Event()
    tries: list[int] = []
    real: Callable[..., Any] = compact

    def failing(*args: Any, **options: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise error
        if len(tries) == 2:
            raise BlockingIOError
        report = real(*args, **options)
        done.set()
        return report

    monkeypatch.setattr(compactor, "compact", failing)
    counters = Counters()
    works = Compactor(store, counters, SMALL)
    works.start()
    assert done.wait(20)
    works.stop(20)

    assert counters[ERROR, "compact"] == 1
    assert any(manifest.name.startswith("compact-") for manifest in listed(store).counting)


def test_one_that_was_never_started_can_be_stopped(data_dir: Path) -> None:
    looking(data_dir).stop(0)
