from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from recorder.pipeline import sealer
from recorder.pipeline.parent import ORDERLY, Parent
from recorder.pipeline.sealer import Sealer
from recorder.store import segments
from recorder.store.counters import ERROR, EVENTS, SEALED, UNSEALED, Counters
from recorder.store.journal_files import list_journals
from recorder.store.manifests import ManifestCache
from tests.pipeline.conftest import Journal


class Clock:
    """A monotonic clock that the test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    yield made
    monkeypatch.undo()


def listed(data_dir: Path) -> ManifestCache:
    cache = ManifestCache(data_dir)
    cache.refresh()
    return cache


def test_parts_and_ends_are_sealed_and_counted(data_dir: Path) -> None:
    running = Journal(data_dir, 1).turn().roll()
    Journal(data_dir, 2).turn().closed()
    counters = Counters()

    Sealer(data_dir, counters).work()

    assert (counters[SEALED], counters[UNSEALED], counters[EVENTS, "client"]) == (1, 0, 6)
    assert listed(data_dir).parts.keys() == {running.session_id}


def test_what_is_in_the_way_of_one_session_is_tried_less_and_less_often(
    data_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    Journal(data_dir, 1).turn().closed()
    counters = Counters()
    works = Sealer(data_dir, counters)
    tries: list[float] = []

    def full(*_: object) -> Any:
        tries.append(clock.now)
        raise OSError(errno.ENOSPC, "no space left")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "write", full)
        for _ in range(800):
            works.work()
            clock.now += 0.25
    pauses = [round(later - sooner) for sooner, later in pairwise(tries)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert counters[ERROR, "seal"] == len(tries)
    assert counters[UNSEALED] == 1

    other = Journal(data_dir, 2).turn().closed()
    works.work()
    assert listed(data_dir).sessions.keys() == {other.session_id}  # which does not wait for the first
    clock.now += 60
    works.work()
    assert counters[SEALED] == 2
    assert counters[UNSEALED] == 0


def test_a_stop_tries_everything_once_more_but_not_for_long(
    data_dir: Path, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        Journal(data_dir, number).turn().closed()
    monkeypatch.setattr("recorder.pipeline.seal._BATCH_JOURNALS", 1)
    real = segments.write

    def slow(*arguments: Any) -> Any:
        clock.now += 12
        return real(*arguments)

    monkeypatch.setattr(segments, "write", slow)

    Sealer(data_dir, Counters()).work(stopping=True)

    assert len(list_journals(data_dir)) == 1
    assert "1 journals are left" in caplog.text


def test_a_stop_does_not_wait_for_a_long_round(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        Journal(data_dir, number).turn().closed()
    monkeypatch.setattr("recorder.pipeline.seal._BATCH_JOURNALS", 1)
    monkeypatch.setattr(sealer, "LAST_ROUND_SECONDS", 0.0)  # the last round seals nothing
    inner, outer = os.pipe()
    stopped = Parent(inner)
    real = segments.write

    def stop_meanwhile(*arguments: Any) -> Any:
        if not stopped.stopped.is_set():
            os.write(outer, ORDERLY)
            os.close(outer)
            assert stopped.stopped.wait(20)
        return real(*arguments)

    monkeypatch.setattr(segments, "write", stop_meanwhile)
    monkeypatch.setattr(sealer, "Parent", lambda _: stopped)
    sealer.run(data_dir, inner)
    os.close(inner)
    assert len(list_journals(data_dir)) == 3


def test_the_process_ends_when_it_is_told_to(data_dir: Path) -> None:
    Journal(data_dir, 1).turn().closed()
    inner, outer = os.pipe()
    os.write(outer, ORDERLY)
    os.close(outer)

    sealer.run(data_dir, inner)

    assert len(listed(data_dir).sessions) == 1
    os.close(inner)


@pytest.mark.parametrize(("worked", "rest"), [(0.0, 0.25), (0.05, 0.25), (0.2, 0.8), (0.5, 2.0), (60.0, 2.0)])
def test_the_longer_it_worked_the_longer_it_waits_for_company(worked: float, rest: float) -> None:
    assert sealer.rest_seconds(worked) == rest


def test_a_damaged_manifest_is_no_fault_of_the_journals(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    Journal(data_dir, 1).turn().closed()
    room = data_dir / "manifests" / "date=2026-01-31"
    room.mkdir()
    (room / "compact-00000000.json").write_text("{")

    Sealer(data_dir, Counters()).work()

    assert "compact-00000000.json is damaged" in caplog.text
    assert len(list_journals(data_dir)) == 1
