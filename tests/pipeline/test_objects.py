"""Stores in a bucket: S3, Azure and Google."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from recorder.errors import (
    CacheTooSmallError,
    EncryptionKeyError,
    ObjectGoneError,
    UsageError,
)
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.file_list import counting_files
from recorder.pipeline.seal import seal_all
from recorder.pipeline.verify import verify
from recorder.store import keys, manifests, workspace
from recorder.store.objects import Bucket
from recorder.store.workspace import remote_of, resolve
from tests.pipeline.buckets import Open
from tests.pipeline.conftest import Journal
from tests.pipeline.machines import everywhere, messages, mirror, names, read_ids, rows, sealed
from tests.pipeline.s3_server import FaultyProxy
from tests.pipeline.test_erase import talk, words

APPEND = "input_audio_buffer.append"


@everywhere
def test_objects_come_and_go_as_the_store_needs_it(url: str) -> None:
    bucket = Bucket(url)
    assert bucket.create("a/date=1/x.json", b"first")
    assert not bucket.create("a/date=1/x.json", b"second")
    assert bucket.get("a/date=1/x.json") == b"first"
    bucket.overwrite("a/date=1/x.json", b"third")
    assert bucket.digest("a/date=1/x.json") == hashlib.sha256(b"third").hexdigest()
    bucket.create("b/y", b"")
    assert {(each.name, each.bytes) for each in bucket.list("a/")} == {("a/date=1/x.json", 5)}
    assert {each.name for each in bucket.list("")} == {"a/date=1/x.json", "b/y"}
    assert (bucket.exists("b/y"), bucket.exists("b/z")) == (True, False)
    bucket.delete(["0", "a/date=1/x.json", "b/y", "c"])
    bucket.delete(["b/y"])
    assert not list(bucket.list(""))
    with pytest.raises(ObjectGoneError):
        bucket.get("b/y")


@everywhere
def test_what_one_machine_seals_another_reads(opened: Open) -> None:
    here, there = opened("a"), opened("b")
    one, two = sealed(here, 1, 2)
    assert mirror(here).push() == 2
    assert mirror(here).push() == 0

    views = ("sessions", "turns", "items", "events", "parts", "audio")
    assert rows(there, *views) == rows(here, *views)
    assert messages(there, one) == messages(here, one)
    assert len(rows(there, "sessions")[0]) == 2
    assert names(here) == {path.relative_to(here).as_posix() for path in here.glob("[sm]e*/**/*.*")} | {
        path.relative_to(here).as_posix() for path in here.glob("manifests/*/*")
    }
    with Catalog(there) as catalog:
        position = next(event.position for event in catalog.recorded_events(two) if event.parts)
        assert catalog.message(two, position) == messages(here, two)[position]


def test_polars_reads_the_files_that_count_from_the_bucket(opened: Open, network: FaultyProxy) -> None:
    here = opened("a")
    sealed(here, 1, 2)
    mirror(here).push()
    places = [file.place for file in counting_files(here, ["events"])]
    assert all(place.startswith("s3://") for place in places)
    options = {"endpoint_url": network.url, "allow_http": "true"}
    read = pl.read_parquet(places, storage_options=options).select("session_id", "position").sort(pl.all())
    with Catalog(here) as catalog:
        wanted = catalog.query(
            "SELECT session_id, position FROM events WHERE type IS DISTINCT FROM ? ORDER BY ALL", [APPEND]
        )
    assert read.rows() == wanted.rows()


def test_derived_tables_come_at_once_and_all_else_when_it_is_asked_for(opened: Open, network: FaultyProxy) -> None:
    here, there = opened("a"), opened("b")
    (one,) = sealed(here, 1)
    mirror(here).push()
    with Catalog(there) as catalog:
        assert catalog.query("SELECT count(*) FROM sessions").item() == 1
        assert not list(there.glob("segments/events/*/*"))
        assert catalog.events(one, limit=1).height == 1
        assert list(there.glob("segments/events/*/*"))
        assert not list(there.glob("segments/audio/*/*"))
        assert catalog.query_user("SELECT count(*) AS n FROM audio").item() == 1
        network.seen.clear()
        assert catalog.query("SELECT count(*) FROM audio").item() == 1
        assert not network.seen


@everywhere
def test_a_session_stored_from_elsewhere_stays_as_it_was_first(opened: Open) -> None:
    here, there = opened("a"), opened("b")
    sealed(here, 1)
    sealed(there, 1)
    mirror(here).push()
    before = {name: mirror(here).bucket.get(name) for name in names(here)}
    mirror(there).push()
    assert {name: mirror(here).bucket.get(name) for name in names(here)} == before
    assert rows(there, "sessions", "events") == rows(here, "sessions", "events")


@everywhere
def test_a_session_stored_from_elsewhere_stays_though_it_was_compacted_since(opened: Open) -> None:
    here, there, reading = opened("a"), opened("b"), opened("c")
    sealed(here, 1, 2)
    sealed(there, 1, 3)
    mirror(here).push()
    compact(here, grace_seconds=0)
    mirror(there).pull()
    mirror(there).push()
    assert len(names(here, "manifests/")) == 2
    for machine in (reading, there):
        mirror(machine).pull()
        assert len(read_ids(machine)) == len(set(read_ids(machine))) == 3
        assert not list(verify(machine))


@everywhere
def test_two_sealers_of_one_session_at_once_store_it_once(opened: Open) -> None:
    here, there, reading = opened("a"), opened("b"), opened("c")
    for machine in (here, there):
        sealed(machine, 1, 2)
        talk(Journal(machine, 3), 3).roll()
        seal_all(machine)
    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(lambda machine: mirror(machine).push(), (here, there))) >= 3
    assert rows(reading, "sessions", "events", "audio") == rows(here, "sessions", "events", "audio")
    assert len(read_ids(reading)) == 3
    assert {problem.kind for problem in verify(reading)} == set()


@everywhere
def test_leftovers_without_a_manifest_are_written_over(opened: Open) -> None:
    here, there = opened("a"), opened("b")
    sealed(here, 1)
    (manifest,) = manifests.list_manifests(here)
    mirror(here).bucket.create(manifest.files[0].path, b"half a file")
    mirror(here).push()
    assert rows(there, "sessions", "events", "audio") == rows(here, "sessions", "events", "audio")


@everywhere
def test_parts_of_a_running_session_are_there_before_its_end(opened: Open) -> None:
    here, there = opened("a"), opened("b")
    journal = talk(Journal(here, 1), 1).roll()
    seal_all(here)
    mirror(here).push()
    with Catalog(there) as catalog:
        assert catalog.query("SELECT count(*) FROM events").item() == 9
        assert catalog.query("SELECT count(*) FROM sessions").item() == 1
    journal.server({"type": "session.updated"}).closed()
    seal_all(here)
    mirror(here).push()
    assert len(names(here, "manifests/")) == 1
    with Catalog(there) as catalog:
        assert messages(there, journal.session_id) == messages(here, journal.session_id)
        assert catalog.query("SELECT count(*) FROM events").item() == 11
    assert len(list(there.glob("manifests/*/*.json"))) == 1


def test_the_cache_has_a_limit_and_never_evicts_what_is_here_alone(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = opened("a"), opened("b")
    one, two = sealed(here, 1, 2)
    mirror(here).push()
    (three,) = sealed(there, 3)
    own = {path for path in there.glob("segments/*/*/*") if three in path.name}
    monkeypatch.setattr(mirror(there), "cache_bytes", 1)
    with Catalog(there) as catalog:
        with pytest.raises(CacheTooSmallError) as refused:
            catalog.query("SELECT count(*) FROM events")
        assert "RECORDER_CACHE_MB" in refused.value.hint
        assert catalog.query("SELECT count(*) FROM sessions").item() == 3
        catalog.recorded_events(one)
        cached = set(there.glob("segments/events/*/*"))
        assert {path.name.partition(".")[0] for path in cached} == {one, three}
        for path in cached:
            os.utime(path, (1, 1))
        catalog.recorded_events(two)
        left = {path.name.partition(".")[0] for path in there.glob("segments/events/*/*")}
    assert left == {two, three}
    assert all(path.exists() for path in own)


def test_the_command_line_takes_urls_everywhere(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = str(Path(sys.executable).with_name("recorder"))

    def run(machine: str, *arguments: str) -> str:
        environment = {**os.environ, "RECORDER_CACHE_DIR": str(tmp_path / machine), "RECORDER_DATA": url}
        done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    recording = tmp_path / "talk.jsonl"
    recording.write_text('{"dir": "client", "event": {"type": "response.create"}}\n')
    session_id = json.loads(run("a", "import", str(recording), "--json"))[0]["session_id"]
    assert json.loads(run("b", "query", "--json", "SELECT session_id FROM sessions")) == [{"session_id": session_id}]
    run("b", "erase", "last", "--yes")
    assert json.loads(run("a", "sessions", "--json")) == []


def test_an_encrypted_store_is_so_everywhere(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store.key").write_text("ab" * 32)
    monkeypatch.setenv(keys.KEY_FILE, str(tmp_path / "store.key"))
    here, there, elsewhere = (opened(machine) for machine in "abc")
    (one,) = sealed(here, 1)
    mirror(here).push()
    assert messages(there, one) == messages(here, one)
    assert all(mirror(here).bucket.get(name).startswith(b"PARE") for name in names(here, "segments/"))
    assert not any(word in path.read_bytes() for word in words("-", 1)[3:] for path in there.rglob("*.*"))
    monkeypatch.delenv(keys.KEY_FILE)
    with pytest.raises(EncryptionKeyError):
        Catalog(elsewhere)
    talk(Journal(elsewhere, 2), 2).closed()
    assert "no key was given" in str(seal_all(elsewhere).postponed)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ftp://host/x", "no kind of store"),
        ("s3://", "needs the form"),
        ("s3://key:secret@bucket/x", "credentials"),
        ("s3://bucket/x?a=b", "needs the form"),
    ],
)
def test_urls_that_are_none(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as error:
        resolve(text)
    assert "secret" not in str(error.value)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(UsageError) as error:
        resolve("s3://bucket/x")
    assert "pip install '.[objects]'" in error.value.hint


def test_directories_are_no_workspaces(tmp_path: Path) -> None:
    assert resolve(str(tmp_path)) == tmp_path
    assert remote_of(tmp_path) is None
    assert not workspace.is_url("C:/data")
