from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from recorder.errors import AudioRemovedError, SessionNotFoundError, SessionRunningError, UsageError
from recorder.pipeline import commit as committing
from recorder.pipeline import seal
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.erase import erase, find
from recorder.pipeline.prune import prune
from recorder.pipeline.remove import stored_sessions
from recorder.pipeline.replace import listed
from recorder.pipeline.seal import quarantine_journal, seal_all
from recorder.store import audit, layout
from recorder.store.journal import JournalWriter
from tests.pipeline.scan import found
from tests.pipeline.test_compact import broken_off

MakeJournal = Callable[..., Any]
DAY_NS = 86_400_000_000_000
OPENED_AT_NS = 1_769_860_800_000_000_000


def audio(seed: int) -> bytes:
    """100 ms that sound like nothing else."""
    return np.random.default_rng(seed).integers(-9_000, 9_000, 2_400).astype("<i2").tobytes()


def talk(journal: Any, seed: int) -> Any:
    """A session in which words and sounds are said that no other has."""
    journal.accepted()
    journal.server(
        {"type": "session.created", "session": {"id": f"sess_of_{seed}", "instructions": f"secret-{seed}-a"}}
    )
    for number in range(3):
        sound = base64.b64encode(audio(100 * seed + number)).decode()
        journal.client({"type": "input_audio_buffer.append", "audio": sound})
    odd = base64.b64encode(audio(100 * seed + 50)).decode().replace("/", "\\/")
    journal.client(b'{"type":"input_audio_buffer.append","audio":"%s"}' % odd.encode())
    journal.server(
        {
            "type": "conversation.item.input_audio_transcription.completed",
            "item_id": "item_1",
            "content_index": 0,
            "transcript": f"my name is secret-{seed}-b",
        }
    )
    journal.server(f"no JSON but secret-{seed}-c".encode())
    return journal


def words(session_id: str, seed: int) -> list[bytes]:
    sounds = [audio(100 * seed + number) for number in (0, 1, 2)]
    odd = base64.b64encode(audio(100 * seed + 50)).replace(b"/", b"\\/")
    texts = [f"secret-{seed}".encode(), f"sess_of_{seed}".encode(), session_id.encode()]
    return [*texts, *sounds, *(base64.b64encode(sound) for sound in sounds), odd]


def ids(data_dir: Path) -> list[str]:
    with Catalog(data_dir) as catalog:
        return sorted(catalog.query("SELECT session_id FROM sessions")["session_id"].to_list())


@pytest.fixture
def store(data_dir: Path, new_journal: MakeJournal) -> tuple[Path, list[str]]:
    """Three sealed sessions of one date."""
    journals = [talk(new_journal(number), number).closed() for number in (1, 2, 3)]
    seal_all(data_dir)
    return data_dir, [journal.session_id for journal in journals]


@pytest.mark.parametrize("compacted", ["no", "in_grace", "wholly"])
def test_nothing_of_an_erased_session_is_left_in_any_byte(store: tuple[Path, list[str]], compacted: str) -> None:
    data_dir, (one, two, three) = store
    if compacted != "no":
        compact(data_dir, grace_seconds=60 if compacted == "in_grace" else 0)
    assert {word for _, word in found(words(two, 2), data_dir)} >= set(words(two, 2)[:6])
    with Catalog(data_dir) as catalog:
        before = [event.message() for event in catalog.recorded_events(three)]

    report = erase(data_dir, [two], reason="asked for")

    assert (report.sessions, report.events) == ([two], 10)
    assert not found(words(two, 2), data_dir)
    assert ids(data_dir) == [one, three]
    with Catalog(data_dir) as catalog:
        assert [event.message() for event in catalog.recorded_events(three)] == before
        assert catalog.query("SELECT count(*) FROM events").item() == 20
    (line,) = audit.path(data_dir).read_text().splitlines()
    entry = json.loads(line)
    assert entry.pop("at").endswith("+00:00")
    assert line.endswith(f',"digest":"{entry.pop("digest")}"}}')
    assert not audit.damaged(data_dir)
    digest = hashlib.sha256(two.encode()).hexdigest()
    assert entry == {
        "action": "erase", "sessions": 1, "events": 10, "reason": "asked for", "session_digests": [digest]
    }  # fmt: skip


def test_all_of_a_store(store: tuple[Path, list[str]]) -> None:
    data_dir, everyone = store
    compact(data_dir)
    erase(data_dir, everyone)
    assert not found([word for n, each in enumerate(everyone, 1) for word in words(each, n)], data_dir)
    assert ids(data_dir) == []
    assert not list(data_dir.glob("manifests/*/*"))
    assert not list(data_dir.glob("segments/*/*/*"))


def test_erased_it_can_be_compacted_and_recorded_anew(store: tuple[Path, list[str]], new_journal: MakeJournal) -> None:
    data_dir, (one, two, three) = store
    compact(data_dir)
    erase(data_dir, [one])
    talk(new_journal(1), 1).closed()
    seal_all(data_dir)
    compact(data_dir, grace_seconds=0)
    assert ids(data_dir) == [one, two, three]


def test_journals_and_quarantine(data_dir: Path, new_journal: MakeJournal) -> None:
    closed, broken = talk(new_journal(1), 1).closed(), talk(new_journal(2), 2).closed()
    quarantine_journal(data_dir, broken.file, ValueError("secret-2"))
    erase(data_dir, [closed.session_id, broken.session_id])
    assert not found(words(closed.session_id, 1) + words(broken.session_id, 2), data_dir)


def test_sealed_parts(data_dir: Path, new_journal: MakeJournal) -> None:
    """One whose last journal could not be sealed never closes."""
    journal = talk(new_journal(1), 1)
    writer = JournalWriter(data_dir, journal.session_id)
    tail = writer.roll()
    writer.close(finished=True)
    tail.close(finished=False)
    assert seal_all(data_dir).parts == 1
    with pytest.raises(SessionRunningError):
        erase(data_dir, [journal.session_id])
    tail.path.unlink()

    assert erase(data_dir, [journal.session_id]).events == 9
    assert not found(words(journal.session_id, 1), data_dir)
    assert not list(data_dir.glob("manifests/*/*"))


def test_a_running_session_is_left_alone(store: tuple[Path, list[str]], new_journal: MakeJournal) -> None:
    data_dir, everyone = store
    running = talk(new_journal(7), 7)
    with pytest.raises(SessionRunningError, match=running.session_id):
        erase(data_dir, [everyone[0], running.session_id])
    assert len(ids(data_dir)) == 4
    with pytest.raises(SessionNotFoundError):
        erase(data_dir, ["019c1410-7c00-7000-8000-0000000000ff"])
    assert not audit.path(data_dir).exists()


def test_what_a_sealer_is_about_to_write_is_not_written(
    data_dir: Path, new_journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = talk(new_journal(1), 1).closed()
    real = committing.commit

    def commit(*args: Any) -> Any:
        erase(data_dir, [journal.session_id])
        return real(*args)

    monkeypatch.setattr(seal, "commit", commit)
    seal_all(data_dir)
    assert not found(words(journal.session_id, 1), data_dir)


def test_what_broken_off_work_left_goes_too(store: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir, (one, *_) = store
    for _ in zip(broken_off(lambda: compact(data_dir)), range(30), strict=False):
        pass
    (data_dir / f"segments/events/date=2026-01-31/.{one}.parquet.tmp").write_bytes(b"secret-1")
    (data_dir / f"segments/items/date=2026-01-31/{one}.parquet").write_bytes(b"secret-1")
    erase(data_dir, [one])
    assert not found(words(one, 1), data_dir)


def test_broken_off_and_done_again(store: tuple[Path, list[str]]) -> None:
    data_dir, (one, two, three) = store
    compact(data_dir, grace_seconds=0)

    def act() -> None:
        if two in stored_sessions(data_dir):
            erase(data_dir, [two])

    for at in broken_off(act):
        if at % 9 == 0:
            assert ids(data_dir) in ([one, three], [one, two, three])
    compact(data_dir)  # what was left to remove
    assert not found(words(two, 2), data_dir)
    assert ids(data_dir) == [one, three]


def test_an_open_reader_goes_on(store: tuple[Path, list[str]]) -> None:
    data_dir, (_, two, three) = store
    compact(data_dir, grace_seconds=0)
    with Catalog(data_dir) as catalog:
        assert catalog.query("SELECT count(*) FROM events").item() == 30
        erase(data_dir, [two])
        catalog.refresh()
        assert catalog.query("SELECT count(*) FROM events").item() == 20
        assert len(catalog.recorded_events(three)) == 10
        with pytest.raises(SessionNotFoundError):
            catalog.events(two)


def test_finding_sessions(store: tuple[Path, list[str]], new_journal: MakeJournal) -> None:
    data_dir, everyone = store
    assert find(data_dir, ["sess_of_2", everyone[0]]) == everyone[:2]
    assert find(data_dir, [], ["team=a"]) == everyone
    assert find(data_dir, [], ["team=a", "team=b"]) == []
    for label in ("team", "=a", 'te"am=a'):
        with pytest.raises(UsageError):
            find(data_dir, [], [label])
    broken = new_journal(9).turn().closed()
    quarantine_journal(data_dir, broken.file, ValueError())
    assert find(data_dir, [broken.session_id]) == [broken.session_id]


# Pruning


def test_old_sessions_go_and_young_and_running_ones_stay(data_dir: Path, new_journal: MakeJournal) -> None:
    now_ns = OPENED_AT_NS + 100 * DAY_NS
    old, young, running = (
        talk(new_journal(number, opened_at_ns=now_ns - days * DAY_NS), number)
        for number, days in ((1, 31), (2, 29), (3, 31))
    )
    old.closed(), young.closed()
    seal_all(data_dir)
    assert prune(data_dir, older_than=timedelta(days=30), now_ns=now_ns, dry_run=True).sessions == [old.session_id]
    assert len(ids(data_dir)) == 3

    report = prune(data_dir, older_than=timedelta(days=30), now_ns=now_ns)

    assert (report.sessions, report.audio_sessions, report.events) == ([old.session_id], [], 10)
    assert report.bytes is not None
    assert report.bytes > 0
    assert ids(data_dir) == [young.session_id, running.session_id]
    assert not found(words(old.session_id, 1), data_dir)
    assert msgspec.json.decode(audit.path(data_dir).read_bytes())["action"] == "prune"
    assert prune(data_dir, older_than=timedelta(days=30), now_ns=now_ns).sessions == []
    assert len(audit.path(data_dir).read_text().splitlines()) == 1


@pytest.mark.parametrize("compacted", [False, True])
def test_only_the_audio(store: tuple[Path, list[str]], compacted: bool) -> None:
    data_dir, (one, two, three) = store
    if compacted:
        compact(data_dir, grace_seconds=0)
    with Catalog(data_dir) as catalog:
        texts = catalog.query("SELECT * FROM events WHERE audio_ms IS NULL ORDER BY ALL").rows()
        derived = catalog.query("SELECT * FROM turns ORDER BY ALL").rows()
        lengths = catalog.query("SELECT position, audio_ms FROM events ORDER BY ALL").rows()

    report = prune(data_dir, audio_older_than=timedelta(days=7), now_ns=OPENED_AT_NS + 8 * DAY_NS)

    assert (report.sessions, report.audio_sessions) == ([], [one, two, three])
    sounds = [word for number, each in enumerate((one, two, three), 1) for word in words(each, number)[3:]]
    assert not found(sounds, data_dir)
    with Catalog(data_dir) as catalog:
        assert catalog.query("SELECT * FROM events WHERE audio_ms IS NULL ORDER BY ALL").rows() == texts
        assert catalog.query("SELECT * FROM turns ORDER BY ALL").rows() == derived
        assert catalog.query("SELECT position, audio_ms FROM events ORDER BY ALL").rows() == lengths
        flagged = catalog.query("SELECT DISTINCT redacted FROM events WHERE audio_ms IS NOT NULL").rows()
        assert flagged == [(True,)]
        with pytest.raises(AudioRemovedError):
            catalog.message(two, 3)
        assert catalog.message(two, 6) == b'{"type":"input_audio_buffer.append","audio":""}'
        assert catalog.query("SELECT sum(size_bytes) FROM parts WHERE kind = 'audio'").item() == 9 * 4_800
    assert prune(data_dir, audio_older_than=timedelta(days=7), now_ns=OPENED_AT_NS + 8 * DAY_NS).audio_sessions == []


def test_pruning_needs_an_age(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        prune(tmp_path)


def test_quarantine_is_pruned_by_the_age_in_the_id(data_dir: Path, new_journal: MakeJournal) -> None:
    broken = talk(new_journal(2), 2).closed()
    quarantine_journal(data_dir, broken.file, ValueError())
    report = prune(data_dir, older_than=timedelta(days=1), now_ns=OPENED_AT_NS + 2 * DAY_NS)
    assert report.sessions == [broken.session_id]
    assert not list(layout.quarantine(data_dir).iterdir())


def test_both_ages_in_one_go(data_dir: Path, new_journal: MakeJournal) -> None:
    for number, days in ((1, 0), (2, 20)):
        talk(new_journal(number, opened_at_ns=OPENED_AT_NS + days * DAY_NS), number).closed()
    seal_all(data_dir)
    now_ns = OPENED_AT_NS + 40 * DAY_NS
    report = prune(data_dir, older_than=timedelta(days=30), audio_older_than=timedelta(days=7), now_ns=now_ns)
    assert [len(report.sessions), len(report.audio_sessions)] == [1, 1]
    (manifest,) = listed(data_dir).counting
    assert {file.data_set for file in manifest.files} & {"audio"} == set()
