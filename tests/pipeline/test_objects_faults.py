"""A bucket that fails, is away, or is damaged."""

from __future__ import annotations

import itertools
import threading
from unittest.mock import Mock

import pytest

from recorder.errors import (
    ObjectStoreError,
    StoreError,
)
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.erase import erase
from recorder.pipeline.upload import Uploader
from recorder.pipeline.verify import verify
from recorder.store import manifests
from recorder.store.counters import ERROR, NOT_UPLOADED, Counters
from recorder.store.remote import Mirror
from tests.pipeline.buckets import Open
from tests.pipeline.machines import everywhere, mirror, names, read_ids, rows, sealed
from tests.pipeline.s3_server import SECRET, FaultyProxy, once, wait_until


@everywhere
@pytest.mark.parametrize("fault", ["503", "cut", "lost", "slow"])
def test_faults_while_uploading_are_ridden_out(
    opened: Open, network: FaultyProxy, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    if fault == "slow":
        monkeypatch.setenv("RECORDER_OBJECTS_TIMEOUT", "1")
    here, there = opened("a"), opened("b")
    sealed(here, 1)
    for kind in ("segments/", "manifests/"):
        network.fault = once(*[fault] * (1 if fault == "slow" else 2), method="PUT", containing=kind)
        if kind == "segments/":
            mirror(here).push()
    sealed(here, 2)
    mirror(here).push()
    network.fault = once(fault if fault != "lost" else "half", method="GET", containing="segments/")
    assert rows(there, "sessions", "events") == rows(here, "sessions", "events")


@everywhere
@pytest.mark.parametrize("fault", ["500", "half", "slow"])
def test_faults_while_listing_erasing_and_rewriting_are_ridden_out(
    opened: Open, network: FaultyProxy, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    if fault == "slow":
        monkeypatch.setenv("RECORDER_OBJECTS_TIMEOUT", "1")
    here, there = opened("a"), opened("b")
    one, two = sealed(here, 1, 2)
    mirror(here).push()
    met: list[str] = []
    left = {"list": fault, "DELETE": fault, "GET": fault, "HEAD": fault}

    def fail_once_each(method: str, path: str) -> str | None:
        kind = "list" if "prefix=" in path else "DELETE" if "delete" in path or "comp=batch" in path else method
        met.extend([kind] if kind in left else [])
        return left.pop(kind, None)

    network.fault = fail_once_each
    compact(there, grace_seconds=0)
    erase(there, [one])
    assert {"list", "GET", "DELETE"} <= set(met)
    network.fault = lambda _method, _path: None
    assert read_ids(here) == [two]
    mirror(here).pull()
    assert rows(here, "sessions", "events", "audio") == rows(there, "sessions", "events", "audio")
    assert not {name for name in names(here) if one in name or "lease" in name}
    assert not list(verify(here))


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
    assert [(problem.kind, problem.file) for problem in verify(here)] == [("file_damaged", file.path)]


@everywhere
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


@everywhere
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
