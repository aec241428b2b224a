"""Stores in a bucket: S3, Azure and Google."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import polars as pl
import pytest

from recorder.errors import (
    CacheTooSmallError,
    EncryptionKeyError,
    ObjectGoneError,
    ObjectStoreError,
    StoreError,
    UsageError,
)
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.erase import erase
from recorder.pipeline.file_list import counting_files
from recorder.pipeline.seal import seal_all
from recorder.pipeline.upload import Uploader
from recorder.pipeline.verify import verify
from recorder.store import keys, layout, manifests, workspace
from recorder.store.counters import ERROR, NOT_UPLOADED, Counters
from recorder.store.objects import Bucket
from recorder.store.remote import Mirror
from recorder.store.workspace import remote_of, resolve
from tests.pipeline.buckets import Open
from tests.pipeline.conftest import Journal
from tests.pipeline.s3_server import SECRET, FaultyProxy, once, wait_until
from tests.pipeline.scan import found
from tests.pipeline.test_erase import talk, words

APPEND = "input_audio_buffer.append"
everywhere = pytest.mark.parametrize("provider", ["s3", "az", "gs"])
"""What holds of one kind of object store holds of each."""


def mirror(data_dir: Path) -> Mirror:
    found = remote_of(data_dir)
    assert found is not None
    return found


def names(data_dir: Path, folder: str = "") -> set[str]:
    return {each.name for each in mirror(data_dir).bucket.list(folder)}


def in_bucket(data_dir: Path, copy: Path) -> None:
    """A copy of all that is in the bucket."""
    for name in names(data_dir):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(mirror(data_dir).bucket.get(name))


def read_ids(data_dir: Path) -> list[str]:
    with Catalog(data_dir) as catalog:
        return catalog.query("SELECT session_id FROM sessions ORDER BY ALL")["session_id"].to_list()


def sealed(data_dir: Path, *numbers: int) -> list[str]:
    journals = [talk(Journal(data_dir, number), number).closed() for number in numbers]
    seal_all(data_dir)
    return [journal.session_id for journal in journals]


def rows(data_dir: Path, *views: str) -> list[Any]:
    with Catalog(data_dir) as catalog:
        return [sorted(catalog.query(f"FROM {view}").rows(), key=repr) for view in views]


def messages(data_dir: Path, session_id: str) -> list[bytes]:
    with Catalog(data_dir) as catalog:
        return [event.message() for event in catalog.recorded_events(session_id)]


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
def test_leftovers_without_a_manifest_are_written_over(opened: Open) -> None:
    here, there = opened("a"), opened("b")
    sealed(here, 1)
    (manifest,) = manifests.list_manifests(here)
    mirror(here).bucket.create(manifest.files[0].path, b"half a file")
    mirror(here).push()
    assert rows(there, "sessions", "events", "audio") == rows(here, "sessions", "events", "audio")


@everywhere
@pytest.mark.parametrize("fault", ["503", "cut", "lost"])
def test_faults_while_uploading_are_ridden_out(opened: Open, network: FaultyProxy, fault: str) -> None:
    here, there = opened("a"), opened("b")
    sealed(here, 1)
    for kind in ("segments/", "manifests/"):
        network.fault = once(fault, fault, method="PUT", containing=kind)
        if kind == "segments/":
            mirror(here).push()
    sealed(here, 2)
    mirror(here).push()
    network.fault = once(fault if fault != "lost" else "half", method="GET", containing="segments/")
    assert rows(there, "sessions", "events") == rows(here, "sessions", "events")


def test_a_crash_between_data_and_manifest_shows_nothing_and_loses_nothing(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = opened("a"), opened("b")
    (one,) = sealed(here, 1)
    with monkeypatch.context() as crash:
        crash.setattr(Mirror, "_push_manifest", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            mirror(here).push()
    assert names(here, "segments/")
    assert not names(here, "manifests/")
    assert mirror(here).push() == 1
    mirror(there).pull()
    assert [each.name for each in manifests.list_manifests(there)] == [one]


@everywhere
def test_damage_in_the_bucket_is_found(opened: Open) -> None:
    here, there = opened("a"), opened("b")
    sealed(here, 1)
    mirror(here).push()
    (manifest,) = manifests.list_manifests(here)
    file = next(file for file in manifest.files if file.data_set == "events")
    content = bytearray((here / file.path).read_bytes())
    content[100] ^= 1
    mirror(here).bucket.overwrite(file.path, bytes(content))
    with Catalog(there) as catalog, pytest.raises(StoreError, match="is damaged"):
        catalog.query("SELECT count(*) FROM events")
    assert not (there / file.path).exists()
    assert [(problem.kind, problem.file) for problem in verify(there)] == [("file_damaged", file.path)]
    assert not list(verify(here))


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


def test_a_bucket_that_is_away_loses_nothing(
    opened: Open, network: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECORDER_OBJECTS_TIMEOUT", "0.2")
    monkeypatch.setattr("recorder.store.objects._RETRIES", 1)
    monkeypatch.setattr("recorder.pipeline.upload.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("recorder.pipeline.upload.LAST_RETRY_SECONDS", 0.05)
    here = opened("a")
    own, counters = mirror(here), Counters()
    away = threading.Event()
    away.set()
    faults = itertools.cycle(["503", "cut", "slow"])
    network.fault = lambda _method, _path: next(faults) if away.is_set() else None
    uploader = Uploader(own, counters)
    (one,) = sealed(here, 1)
    wait_until(lambda: counters[ERROR, "upload"] >= 3)
    assert (counters[NOT_UPLOADED], [each.name for each in own.pending()]) == (1, [one])
    away.clear()
    wait_until(lambda: counters[NOT_UPLOADED] == 0)
    uploader.stop(5)
    assert not own.pending()
    assert len(names(here, "manifests/")) == 1


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


def test_a_bucket_that_is_away_is_said_without_secrets(
    opened: Open, network: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.store.objects._RETRIES", 0)
    here = opened("a")
    own = mirror(here)
    network.fault = lambda _method, _path: "503"
    with pytest.raises(ObjectStoreError) as error, Catalog(here):
        pass
    assert SECRET not in str(error.value)
    assert "cannot list manifests/" in error.value.message
    assert not own.pending()


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
