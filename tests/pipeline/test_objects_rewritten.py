"""What is compacted or erased in a bucket is so for every machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorder.errors import (
    StoreError,
)
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.erase import erase
from recorder.pipeline.seal import seal_all
from recorder.store import keys, layout, manifests
from tests.pipeline.buckets import Open
from tests.pipeline.conftest import Journal
from tests.pipeline.machines import everywhere, in_bucket, messages, mirror, names, rows, sealed
from tests.pipeline.scan import found
from tests.pipeline.test_erase import talk, words


@everywhere
def test_compaction_and_erasure_leave_nothing_in_the_bucket_nor_in_any_cache(opened: Open, tmp_path: Path) -> None:
    recording, maintaining, reading = opened("a"), opened("b"), opened("c")
    one, two, three = sealed(recording, 1, 2, 3)
    mirror(recording).push()
    before = rows(reading, "sessions", "events", "audio")
    for machine, number in ((reading, 1), (maintaining, 2)):  # a process was killed while it fetched
        (mirror(machine).temporary / f"{two}.parquet.{number}.{number}").write_bytes(b"secret-2")

    (day,) = compact(maintaining, grace_seconds=0).days
    assert (day.sessions, len(names(recording, "manifests/"))) == (3, 1)
    assert rows(reading, "sessions", "events", "audio") == before

    erase(maintaining, [two])
    mirror(recording).pull()
    mirror(reading).pull()
    bucket = tmp_path / "bucket"
    in_bucket(recording, bucket)
    assert {word for _, word in found(words(one, 1), bucket)} >= set(words(one, 1)[:6])
    assert not found(words(two, 2), bucket, recording, maintaining, reading)
    assert [row[0] for row in rows(reading, "sessions")[0]] == [one, three]
    assert messages(reading, three) == messages(recording, three)


def test_erased_it_is_gone_from_an_encrypted_bucket_and_the_memory_of_one_who_reads_it(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store.key").write_text("ab" * 32)
    monkeypatch.setenv(keys.KEY_FILE, str(tmp_path / "store.key"))
    recording, maintaining, reading = (opened(machine) for machine in "abc")
    _, two, _ = sealed(recording, 1, 2, 3)
    mirror(recording).push()
    compact(maintaining, grace_seconds=0)
    with Catalog(reading, keep=True) as catalog:
        views = catalog.query("SELECT table_schema, table_name FROM information_schema.tables").rows()

        def holds(word: str) -> bool:
            return any(word in str(catalog.query(f'FROM "{schema}"."{name}"').rows()) for schema, name in views)

        assert holds("secret-2")
        erase(maintaining, [two])
        for machine in (recording, reading):
            mirror(machine).pull()
        catalog.refresh()
        assert not holds("secret-2")
        assert not holds(two)
        assert holds("secret-3")
    in_bucket(recording, tmp_path / "bucket")
    places = (tmp_path / "bucket", recording, maintaining, reading)
    assert found([b"secret-1"], *places)
    assert not found(words(two, 2), *places)


@everywhere
def test_two_machines_do_not_rewrite_at_once(opened: Open) -> None:
    here, there = opened("a"), opened("b")
    sealed(here, 1, 2)
    with layout.rewriting(here), pytest.raises(StoreError, match="is compacting") as error:
        compact(there)
    assert "rewrite.lease" in error.value.hint
    mirror(here).bucket.create("rewrite.lease", b'{"holder":"gone","until":1}')
    assert compact(there).days[0].sessions == 2
    assert not {name for name in names(here) if "lease" in name}


@everywhere
def test_an_erased_session_that_never_ended(opened: Open) -> None:
    here, there = opened("a"), opened("b")
    journal = talk(Journal(here, 1), 1).roll()
    seal_all(here)
    mirror(here).push()
    erase(there, [journal.session_id])
    assert not names(here, "manifests/") | names(here, "segments/")
    mirror(here).pull()
    assert not manifests.list_manifests(here)
