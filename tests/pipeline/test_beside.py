"""What lies beside the data is in the bucket, too: the audit record, and what could not be sealed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder.errors import EncryptionKeyError, ObjectStoreError
from recorder.pipeline import upload
from recorder.pipeline.compact import compact
from recorder.pipeline.erase import erase, find
from recorder.pipeline.repair import repair
from recorder.pipeline.seal import quarantine_journal, seal_all
from recorder.pipeline.upload import Uploader
from recorder.pipeline.verify import verify
from recorder.store import audit, beside, keys
from recorder.store.counters import ERROR, Counters
from recorder.store.objects import Bucket, Object
from tests.pipeline.buckets import Open
from tests.pipeline.conftest import Journal
from tests.pipeline.machines import in_bucket, mirror, names, read_ids, sealed
from tests.pipeline.s3_server import FaultyProxy, wait_until
from tests.pipeline.scan import found
from tests.pipeline.test_erase import talk, words


def broken(data_dir: Path, number: int = 9) -> str:
    """A session whose journal cannot be sealed."""
    journal = talk(Journal(data_dir, number), number).closed()
    quarantine_journal(data_dir, journal.file, ValueError("secret-9"))
    mirror(data_dir).push()
    return str(journal.session_id)


def aside(data_dir: Path) -> set[str]:
    return {path.name for path in (data_dir / "quarantine").iterdir()}


def actions(data_dir: Path) -> list[str]:
    return [json.loads(line)["action"] for line in audit.lines(data_dir)]


def test_the_audit_record_is_everywhere(opened: Open) -> None:
    here, there, later = opened("a"), opened("b"), opened("c")
    one, two, three = sealed(here, 1, 2, 3)
    mirror(here).push()
    erase(here, [one], reason="asked for here")
    erase(there, [two], reason="asked for there")
    erase(here, [three])
    compact(later)
    assert actions(here) == actions(later) == ["erase"] * 3
    reasons = {json.loads(line).get("reason") for line in audit.lines(later)}
    assert reasons == {"asked for here", "asked for there", None}
    assert set(audit.lines(later)) == set(audit.lines(here))
    assert len(names(here, "audit/")) == 3
    assert not beside.has_news(mirror(here))


def test_what_could_not_be_sealed_can_be_seen_elsewhere_and_tried_again_there(opened: Open) -> None:
    here, there, third = opened("a"), opened("b"), opened("c")
    session_id = broken(here)
    assert names(here, "quarantine/") == {f"quarantine/{session_id}.{kind}" for kind in ("journal", "txt")}
    assert [(problem.kind, problem.sessions) for problem in verify(there)] == [("quarantined", (session_id,))]
    assert aside(there) == aside(here)
    list(verify(third))

    (there / f"quarantine/{session_id}.txt").unlink()
    (there / f"quarantine/{session_id}.journal").rename(there / f"journal/{session_id}.closed.journal")
    assert seal_all(there).sealed == [session_id]
    mirror(there).push()

    assert not names(there, "quarantine/")
    beside.pull(mirror(here), fetch=False)
    assert aside(here) == set()
    assert not list(verify(third))
    assert aside(third) == set()
    assert read_ids(here) == [session_id]


def test_erased_anywhere_it_is_gone_from_every_quarantine(opened: Open, tmp_path: Path) -> None:
    here, there, third = opened("a"), opened("b"), opened("c")
    session_id = broken(here)
    list(verify(third))
    assert find(there, [session_id]) == [session_id]
    erase(there, [session_id])
    for machine in (here, third):
        beside.pull(mirror(machine), fetch=False)
    in_bucket(here, tmp_path / "bucket")
    assert not found(words(session_id, 9), tmp_path / "bucket", here, there, third)
    assert actions(there) == ["erase"]


def test_an_erasure_that_could_not_reach_the_bucket_says_so_and_is_done_by_the_next(
    opened: Open, network: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.store.objects._RETRIES", 0)
    here, there = opened("a"), opened("b")
    session_id = broken(here)
    away = threading.Event()
    away.set()
    network.fault = lambda method, _path: "503" if away.is_set() and method in {"POST", "DELETE"} else None
    with pytest.raises(ObjectStoreError):
        erase(there, [session_id])
    away.clear()
    assert names(there, "quarantine/")
    compact(there)
    assert not names(there, "quarantine/")


def test_it_is_encrypted_where_data_files_are(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store.key").write_text("ab" * 32)
    monkeypatch.setenv(keys.KEY_FILE, str(tmp_path / "store.key"))
    here, there = opened("a"), opened("b")
    sealed(here, 1)
    session_id = broken(here)
    in_bucket(here, tmp_path / "bucket")
    raw = b"".join(path.read_bytes() for path in (tmp_path / "bucket").rglob("*.*") if path.is_file())
    assert not [word for word in words("-", 9) if word != b"-" and word in raw]
    list(verify(there))
    name = f"quarantine/{session_id}.journal"
    assert (there / name).read_bytes() == (here / name).read_bytes()
    monkeypatch.delenv(keys.KEY_FILE)
    elsewhere = opened("c")
    assert list(verify(elsewhere, quick=True)) == []
    with pytest.raises(EncryptionKeyError):
        compact(elsewhere)


def test_a_recorder_brings_it_by_itself_and_loses_what_was_erased(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(upload, "LIST_SECONDS", 0.1)
    here, there = opened("a"), opened("b")
    uploader = Uploader(mirror(here), Counters())
    journal = talk(Journal(here, 9), 9).closed()
    quarantine_journal(here, journal.file, ValueError())
    wait_until(lambda: len(names(there, "quarantine/")) == 2)
    erase(there, [journal.session_id])
    wait_until(lambda: aside(here) == set())
    uploader.stop(5)
    assert not names(there, "quarantine/")


def test_what_is_pushed_while_another_thread_looks_stays(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    here = opened("a")
    real = Bucket.list

    def list_then_push(bucket: Bucket, folder: str) -> Iterator[Object]:
        there = list(real(bucket, folder))
        monkeypatch.setattr(Bucket, "list", real)
        broken(here)
        return iter(there)

    monkeypatch.setattr(Bucket, "list", list_then_push)
    beside.pull(mirror(here), fetch=False)
    assert len(aside(here)) == len(names(here, "quarantine/")) == 2


def test_without_a_key_it_waits_and_the_recorder_goes_on(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(upload, "LAST_RETRY_SECONDS", 0.05)
    here = opened("a")
    keys.mark(here)
    journal = talk(Journal(here, 9), 9).closed()
    quarantine_journal(here, journal.file, ValueError())
    counters = Counters()
    uploader = Uploader(mirror(here), counters)
    wait_until(lambda: counters[ERROR, "upload"] >= 2)
    uploader.stop(5)
    assert not names(here)
    assert len(aside(here)) == 2


def test_names_that_are_no_file_names_are_left_alone(opened: Open) -> None:
    here = opened("a")
    for name in ("quarantine/deep/x.journal", "quarantine/.hidden"):
        mirror(here).bucket.create(name, b"x")
    beside.pull(mirror(here))
    assert aside(here) == set()


def flipped(content: bytes, place: float) -> bytes:
    at = int(place * (len(content) - 1))
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("place", [0.0, 0.4, 1.0])
def test_what_is_changed_in_the_bucket_is_found_wherever_it_was_known(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, place: float, encrypted: bool
) -> None:
    if encrypted:
        (tmp_path / "store.key").write_text("ab" * 32)
        monkeypatch.setenv(keys.KEY_FILE, str(tmp_path / "store.key"))
    here, fresh = opened("a"), opened("b")
    (one,) = sealed(here, 1)
    session_id = broken(here)
    erase(here, [one], reason="asked for")
    kept = {name: mirror(here).bucket.get(name) for name in names(here, "quarantine/") | names(here, "audit/")}
    (entry,) = names(here, "audit/")
    for name, content in kept.items():
        mirror(here).bucket.overwrite(name, flipped(content, place))

    found = {each.file: each for each in verify(here) if each.kind.endswith("_damaged")}

    assert found.keys() == kept.keys()
    assert {each.kind for name, each in found.items() if name != entry} == {"quarantine_damaged"}
    assert {each.sessions for name, each in found.items() if name != entry} == {(session_id,)}
    assert found[entry].kind == "audit_damaged"
    compact(fresh)  # which takes in what others have
    assert actions(fresh) == []
    told = [each for each in verify(fresh) if each.kind.endswith("_damaged") or each.problem != "set aside"]
    assert {each.file for each in told} >= {entry, f"quarantine/{session_id}.journal"}  # which has checksums of its own

    assert repair(here).restored == [entry]
    assert mirror(here).bucket.get(entry) == kept[entry]
    mirror(here).bucket.delete([entry])
    assert [each.file for each in verify(here) if each.kind == "audit_damaged"] == [entry]
    assert repair(here).restored == [entry]
    compact(fresh)
    assert actions(fresh) == ["erase"]
