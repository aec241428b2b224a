"""Running sessions, sealed in parts at any cut, and compacted meanwhile by the thread that does so by itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.pipeline import replace
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.compactor import Compactor
from recorder.pipeline.replace import listed
from recorder.pipeline.seal import seal_all
from recorder.store import layout, manifests
from recorder.store.counters import Counters
from recorder.store.journal import JournalWriter, encode_frame
from recorder.store.objects import Bucket
from tests.drawing import examples
from tests.pipeline.buckets import Open
from tests.pipeline.conftest import Journal
from tests.pipeline.machines import mirror
from tests.pipeline.test_compact import STEPS, broken_off, read
from tests.pipeline.test_seal_parts import records

FEW = 2
OTHERS = (2, 3)
COUNT = "SELECT session_id, list(position ORDER BY position) AS positions FROM events GROUP BY ALL ORDER BY ALL"
BUCKET_STEPS = [(Bucket, name) for name in ("create", "overwrite", "delete")]


def aged(data_dir: Path) -> None:
    """Have the time of readers pass since what is replaced was."""
    for path in data_dir.glob("manifests/*/compact-*"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - manifests.GRACE_SECONDS - 1))


def compacted(data_dir: Path) -> bool:
    """What the sealer process does every half minute, long after the last time."""
    aged(data_dir)
    return Compactor(data_dir, Counters(), FEW).look() is not None


class Reader:
    """Stays open, and looks again and again: what it saw once stays, and nothing is there twice."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._seen: dict[str, int] = {}
        self.looks = 0

    def look(self) -> None:
        self._catalog.refresh()
        seen = {}
        for session_id, positions in self._catalog.query(COUNT).rows():
            assert positions == list(range(len(positions))), session_id
            seen[session_id] = len(positions)
        assert all(seen.get(session_id, 0) >= count for session_id, count in self._seen.items())
        derived = self._catalog.query("SELECT session_id FROM sessions ORDER BY ALL")["session_id"].to_list()
        assert derived == sorted(seen)
        self._seen = seen
        self.looks += 1


def watched(patch: pytest.MonkeyPatch, look: Callable[[], object], steps: Sequence[tuple[Any, str]]) -> None:
    """Have a reader look after each step."""

    def then_look(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            result = real(*args, **options)
            look()
            return result

        return call

    for place, name in steps:
        patch.setattr(place, name, then_look(getattr(place, name)))


def others(data_dir: Path) -> None:
    for number in OTHERS:
        Journal(data_dir, number).turn().closed()
    seal_all(data_dir)


@pytest.mark.hypothesis
def test_whatever_the_cuts_and_compactions_the_rows_are_those_of_one_seal(tmp_path: Path) -> None:
    session = records(tmp_path / "source")
    session_id = Journal(tmp_path / "name").session_id

    def record(data_dir: Path, cuts: set[int], compactions: set[int]) -> None:
        others(data_dir)
        writer = JournalWriter(data_dir, session_id)
        with Catalog(data_dir) as catalog:
            reader = Reader(catalog)
            for number, (position, at_ns, kind, data) in enumerate(session):
                if number in cuts:
                    done, writer = writer, writer.roll()
                    done.close(finished=True)
                    seal_all(data_dir)
                if number in compactions:
                    with pytest.MonkeyPatch.context() as patch:
                        watched(patch, reader.look, [(manifests, "write"), (replace, "_remove")])
                        compacted(data_dir)
                writer.write(encode_frame(position, at_ns, kind, data))
                writer.last_position = position
            writer.close(finished=True)
            seal_all(data_dir)
            reader.look()
            while compacted(data_dir):
                reader.look()

    record(tmp_path / "whole", set(), set())
    expected = read(tmp_path / "whole")
    assert len(expected["sessions"]) == 1 + len(OTHERS)
    places = st.sets(st.integers(1, len(session) - 1), max_size=5)

    @settings(max_examples=examples(4))
    @given(cuts=places, compactions=places)
    def any_cuts(cuts: set[int], compactions: set[int]) -> None:
        store = tmp_path / "cut"
        record(store, cuts, compactions)
        found = read(store)
        assert without_blocks(found) == without_blocks(expected)
        assert len(listed(store).counting) == 1
        named = {file.path for file in listed(store).counting[0].files}
        assert {path.relative_to(store).as_posix() for path in store.glob("segments/*/*/*")} == named
        shutil.rmtree(store)

    any_cuts()


def without_blocks(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """A block of audio ends where a part does; what was said is in the messages."""
    return {name: found for name, found in rows.items() if name not in {"audio", "parts"}}


def recorded_in_parts(data_dir: Path) -> str:
    others(data_dir)
    journal = Journal(data_dir).turn()
    for number in range(3):
        journal.roll()
        seal_all(data_dir)
        journal.client(f'{{"type":"input_audio_buffer.append","audio":"AAA{number}"}}'.encode())
    journal.closed()
    seal_all(data_dir)
    return journal.session_id


def test_compaction_by_itself_in_a_bucket_shows_readers_neither_double_nor_hole(opened: Open) -> None:
    recording, reading, afresh = opened("a"), opened("b"), opened("c")
    recorded_in_parts(recording)
    mirror(recording).push()
    before = read(recording)
    with Catalog(reading) as catalog:
        reader = Reader(catalog)

        def look() -> None:
            mirror(reading).pull()
            reader.look()

        with pytest.MonkeyPatch.context() as patch:
            watched(patch, look, BUCKET_STEPS)
            assert compacted(recording)
            assert compacted(recording)  # here its readers had their time, in the bucket not yet
            aged(mirror(recording).known)
            assert compacted(recording)
            assert not compacted(recording)
        assert reader.looks > 10
    for machine in (recording, reading, afresh):
        mirror(machine).pull()
        assert read(machine) == before
    in_bucket = {each.name for each in mirror(recording).bucket.list("")}
    (manifest,) = listed(recording).counting
    assert in_bucket == {file.path for file in manifest.files} | {layout.manifest_path(manifest.date, manifest.name)}


def test_compaction_by_itself_in_a_bucket_may_be_broken_off_at_any_step(opened: Open) -> None:
    recording, reading = opened("a"), opened("b")
    recorded_in_parts(recording)
    mirror(recording).push()
    before = read(recording)

    def act() -> None:
        compact(recording, at_least=FEW, grace_seconds=0, wait=False)

    steps = 0
    for at in broken_off(act, [*STEPS, *BUCKET_STEPS]):
        steps += 1
        if at % 10 == 0:
            mirror(reading).pull()
            assert read(reading) == before
    assert steps > 40
    mirror(reading).pull()
    assert read(reading) == read(recording) == before
    named = {file.path for manifest in listed(recording).counting for file in manifest.files}
    assert {each.name for each in mirror(recording).bucket.list("segments/")} == named


def test_a_machine_that_compacts_leaves_it_to_another_that_is_at_it(opened: Open) -> None:
    here, there = opened("a"), opened("b")
    recorded_in_parts(here)
    mirror(here).push()
    mirror(there).pull()
    with layout.rewriting(here), pytest.raises(Exception, match="is compacting"):
        Compactor(there, Counters(), FEW).look()
    assert compacted(there)
    mirror(here).pull()
    assert read(here) == read(there)
