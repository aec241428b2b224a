"""A running session of which a sealed part's manifest is damaged or gone is mended, and goes on."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.frames import Frame, Opcode

from recorder.pipeline.repair import RepairReport, repair
from recorder.pipeline.seal import seal_all
from recorder.pipeline.verify import verify
from recorder.protocol import checkpoint
from recorder.protocol.envelope import RecordKind
from recorder.store import copies, encrypted, keys, layout
from recorder.store.journal_files import list_journals
from tests.pipeline.buckets import Open
from tests.pipeline.conftest import Journal
from tests.pipeline.machines import everywhere, messages, mirror, names, rows
from tests.pipeline.test_objects_repair import object_of

Damage = Callable[[Path], None]
SPLIT = Frame(Opcode.TEXT, b'{"type":"response.created","response":{"id":"resp_7"}}').serialize(mask=False)
G711 = {"type": "session.updated", "session": {"input_audio_format": "g711_ulaw"}}
APPEND = {"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(80)).decode()}


def running(data_dir: Path) -> Journal:
    """A session of which two parts are sealed; the second ends in the middle of a message."""
    journal = Journal(data_dir, 1).turn().server(G711).roll()
    seal_all(data_dir)
    journal.client({"type": "response.create"}).record(RecordKind.SERVER_BYTES, SPLIT[:20])
    journal.roll()
    seal_all(data_dir)
    return journal


def ended(journal: Journal) -> Journal:
    """How it goes on: what the message had left, and another one whose length depends on the format in force."""
    journal.record(RecordKind.SERVER_BYTES, SPLIT[20:])
    journal.client(APPEND).client({"type": "response.cancel"}).closed()
    assert seal_all(journal.data_dir).sealed == [journal.session_id]
    return journal


def spoil_count(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"event_count": ', b'"event_count": 1'))


def spoil_resume(path: Path) -> None:
    found = msgspec.json.decode(path.read_bytes())["resume"].encode()
    middle = len(found) // 2
    other = b"A" if found[middle : middle + 1] != b"A" else b"B"
    path.write_bytes(path.read_bytes().replace(found, found[:middle] + other + found[middle + 1 :]))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def remove(path: Path) -> None:
    path.unlink()


def sound(tmp_path: Path) -> tuple[list[bytes], list[Any]]:
    """Messages and rows of the session to which nothing happened."""
    other = tmp_path / "sound"
    journal = ended(running(other))
    return messages(other, journal.session_id), rows(other, "events", "sessions", "responses", "turns")


@pytest.mark.parametrize("is_encrypted", [False, True])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("damage", [spoil_count, spoil_resume, cut, remove])
def test_it_goes_on(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage, which: int, *, is_encrypted: bool
) -> None:
    if is_encrypted:
        (tmp_path / "store.key").write_text("ab" * 32)
        monkeypatch.setenv(keys.KEY_FILE, str(tmp_path / "store.key"))
    wanted, wanted_rows = sound(tmp_path)
    journal = running(data_dir)
    path = sorted(data_dir.glob("manifests/*/*.json"))[which]
    name = path.relative_to(data_dir).as_posix()
    damage(path)

    report = repair(data_dir)

    assert report.recovered == [journal.session_id]
    assert report.manifests == ([] if damage is remove else [name])
    assert {problem.kind for problem in report.left} <= {"quarantined"}
    ended(journal)
    found = messages(data_dir, journal.session_id)
    if which == 0 or damage is spoil_count:
        assert found == wanted
        assert rows(data_dir, "events", "sessions", "responses", "turns") == wanted_rows
    else:  # what had come of the message is lost, and where the next one begins is seen
        at = wanted.index(b'{"type":"response.created","response":{"id":"resp_7"}}')
        assert found[:at] == wanted[:at]
        assert b"journal incomplete" in found[at]
        assert found[at + 1] == SPLIT[20:]
        assert found[at + 2 : -1] == wanted[at + 1 : -1]
        (lengths,) = rows(data_dir, "(SELECT audio_ms FROM events WHERE audio_ms IS NOT NULL ORDER BY position DESC)")
        assert (10.0,) in lengths  # 80 bytes of G.711
    assert {problem.kind for problem in verify(data_dir)} <= {"quarantined"}


def test_a_part_that_is_not_whole_is_kept_in_the_quarantine(data_dir: Path) -> None:
    journal = running(data_dir)
    first, second = sorted(data_dir.glob("manifests/*/*.json"))
    events = data_dir / layout.segment_path("events", "2026-01-31", second.stem)
    lost = events.read_bytes()[:-9]
    events.write_bytes(lost)
    cut(second)

    report = repair(data_dir)

    assert report.recovered == []
    assert (data_dir / "quarantine" / "repair" / events.relative_to(data_dir)).read_bytes() == lost
    assert first.exists()
    assert b"journal incomplete" in messages(data_dir, journal.session_id)[13]


def test_journals_wait_while_it_is_mended(data_dir: Path) -> None:
    journal = running(data_dir)
    journal.client({"type": "response.cancel"}).roll()
    for path in data_dir.glob(f"manifests/*/{journal.session_id}.00001.json"):
        path.unlink()

    with layout.rewriting(data_dir):
        report = seal_all(data_dir)

    assert report.postponed.keys() == {journal.session_id}
    assert report.quarantined == {}
    repair(data_dir)
    assert seal_all(data_dir).parts == 1
    assert [file.part for file in list_journals(data_dir)] == [3]


def test_the_state_that_is_made_of_events_is_the_one_that_was_kept(data_dir: Path) -> None:
    """But for the frames' own, of which a gap makes nothing."""
    journal = Journal(data_dir, 1).turn().server(G711).roll()
    seal_all(data_dir)
    (path,) = data_dir.glob("manifests/*/*.json")
    kept = checkpoint.decode(_resume(path), "")
    remove(path)

    repair(data_dir)

    made = checkpoint.decode(_resume(path), "")
    for state in ("builder", "accepted", "close", "closed"):
        assert getattr(made.decoder, state) == getattr(kept.decoder, state)
    assert (made.ring_position, made.events) == (0, kept.events)
    journal.closed()


def _resume(path: Path) -> bytes:
    return encrypted.unseal(base64.b64decode(msgspec.json.decode(path.read_bytes())["resume"]), path.stem)


@everywhere
@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_in_a_bucket_too(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setattr(copies, "UPLOAD_SECONDS", -60.0)
    here, there, elsewhere = (opened(machine) for machine in "abc")
    wanted, _ = sound(tmp_path)
    journal = running(here)
    mirror(here).push()
    name = max(names(here, "manifests/"))
    bucket = mirror(here).bucket
    if damage == "gone":
        bucket.delete([name])
    else:
        bucket.overwrite(name, bucket.get(name).replace(b'"event_count": ', b'"event_count": 1'))

    report: RepairReport = repair(there)

    assert report.recovered == [journal.session_id]
    assert {problem.kind for problem in report.left} <= {"quarantined"}
    assert object_of(here, "events", f"{journal.session_id}.00001") in names(here)
    mirror(here).pull()
    ended(journal)
    mirror(here).push()
    mirror(elsewhere).pull()
    assert messages(elsewhere, journal.session_id) == wanted  # the machine that records knows where it was
    assert {problem.kind for problem in verify(elsewhere)} <= {"quarantined"}
