from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recorder.errors import SessionNotFoundError, SessionRunningError, StoreError
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.redact_store import Mute, redact
from recorder.pipeline.seal import seal_all
from recorder.store import audit
from tests.pipeline.scan import found

MakeJournal = Callable[..., Any]

ANSWER = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}
NAME = re.compile(r"Ada\s+Lovelace")


def sound(value: int, milliseconds: int = 100) -> bytes:
    """24 kHz PCM that is the same loudness all the time, and no other piece has."""
    return bytes([value % 256, value // 256]) * (24 * milliseconds)


def talk(journal: Any) -> Any:
    journal.accepted()
    journal.server({"type": "session.created", "session": {"id": "sess_1", "instructions": "Ask Ada Lovelace."}})
    for value in (1001, 1002, 1003):
        audio = base64.b64encode(sound(value)).decode()
        journal.client({"type": "input_audio_buffer.append", "audio": audio})
        journal.at_ns += 99_000_000
    journal.server({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}})
    for word in ("I am A", "da Love", "lace, ", "you know."):
        journal.server({"type": "response.output_audio_transcript.delta", **ANSWER, "delta": word})
    audio = base64.b64encode(sound(2001)).decode()
    odd = {"note": "Ada Lovelace", "delta": audio, "logprobs": [{"token": "Ada"}]}
    journal.server({"type": "response.output_audio.delta", **ANSWER, **odd})
    arguments = json.dumps({"name": "Ada\nLovelace", "city": "London"})
    call = {"id": "item_f", "type": "function_call", "name": "look_up", "call_id": "call_1", "arguments": arguments}
    journal.server({"type": "response.output_item.done", "response_id": "resp_1", "output_index": 1, "item": call})
    journal.server(b"Ada Lovelace, and no JSON")
    return journal


def messages(data_dir: Path, session_id: str) -> list[bytes]:
    with Catalog(data_dir) as catalog:
        return [event.message() for event in catalog.recorded_events(session_id)]


def audio_of(data_dir: Path, session_id: str) -> list[bytes]:
    with Catalog(data_dir) as catalog:
        events = catalog.recorded_events(session_id)
    return [part.data for event in events for part in event.parts if part.kind == "audio"]


@pytest.fixture
def store(data_dir: Path, new_journal: MakeJournal) -> tuple[Path, str, str]:
    """A store with the session that is to be redacted, and one like it."""
    one, other = (talk(new_journal(number)).closed() for number in (1, 2))
    seal_all(data_dir)
    return data_dir, one.session_id, other.session_id


@pytest.mark.parametrize("compacted", [False, True])
def test_text(store: tuple[Path, str, str], compacted: bool) -> None:
    data_dir, one, other = store
    if compacted:
        compact(data_dir, grace_seconds=0)
    before, others = messages(data_dir, one), messages(data_dir, other)

    (report,) = redact(data_dir, [one], patterns=[NAME], reason="asked for")

    assert (report.matches, report.events) == (5, 7)
    after = messages(data_dir, one)
    pairs = enumerate(zip(before, after, strict=True))
    changed = {number: json.loads(new) for number, (old, new) in pairs if new != old and new[:1] == b"{"}
    assert changed[2]["session"]["instructions"] == "Ask [redacted]."
    assert [changed[number]["delta"] for number in (7, 8, 9)] == ["I am [redacted]", "", ", "]
    assert (changed[11]["note"], changed[11]["logprobs"]) == ("[redacted]", [{"token": ""}])
    assert base64.b64decode(changed[11]["delta"]) == sound(2001)
    assert json.loads(changed[12]["item"]["arguments"]) == {"name": "[redacted]", "city": "London"}
    assert after[13] == b"[redacted], and no JSON"
    assert len(changed) == 6
    assert messages(data_dir, other) == others
    with Catalog(data_dir) as catalog:
        flags = catalog.query("SELECT position FROM events WHERE redacted ORDER BY ALL")["position"].to_list()
        assert flags == [2, 7, 8, 9, 11, 12, 13]
        texts = {each: str(catalog.query("FROM items WHERE session_id = ?", [each]).rows()) for each in (one, other)}
        assert ("[redacted]" in texts[one], "Lovelace" in texts[one]) == (True, False)
        assert "Lovelace" in texts[other]
    assert '"matches":5' in audit.path(data_dir).read_text()


def test_the_originals_are_gone(store: tuple[Path, str, str]) -> None:
    data_dir, one, other = store
    compact(data_dir)
    redact(data_dir, [one, other], patterns=[re.compile("Ada"), re.compile("da Love"), re.compile("Lovelace|lace")])
    assert not found([b"Lovelace", b"Ada ", b"da Love", b"Ada\\nLove"], data_dir)


def test_nothing_found_changes_nothing(store: tuple[Path, str, str]) -> None:
    data_dir, one, _ = store
    was = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*.*")}
    (report,) = redact(data_dir, [one], patterns=[re.compile("nobody said this"), re.compile("")])
    assert (report.matches, report.events) == (0, 0)
    assert {path: path.stat().st_mtime_ns for path in data_dir.rglob("*.*")} | was == was | {
        data_dir / "rewrite.lock": (data_dir / "rewrite.lock").stat().st_mtime_ns
    }


def test_muting_by_position(store: tuple[Path, str, str]) -> None:
    data_dir, one, other = store
    compact(data_dir)
    with Catalog(data_dir) as catalog:
        lengths = catalog.query("SELECT position, audio_ms FROM events ORDER BY ALL").rows()
    (report,) = redact(data_dir, [one], mutes=[Mute(0, 4, by_position=True, speaker="caller")])

    assert (report.events, report.muted_ms) == (2, 200.0)
    silence = bytes(4_800)
    assert audio_of(data_dir, one) == [silence, silence, sound(1003), sound(2001)]
    assert audio_of(data_dir, other) == [sound(1001), sound(1002), sound(1003), sound(2001)]
    with Catalog(data_dir) as catalog:
        assert catalog.query("SELECT position, audio_ms FROM events ORDER BY ALL").rows() == lengths
        redacted = catalog.query("SELECT session_id, position FROM events WHERE redacted ORDER BY ALL").rows()
        assert redacted == [(one, 3), (one, 4)]
    redact(data_dir, [one, other], mutes=[Mute(0, 99, by_position=True)])
    assert not found([sound(1001, 1), sound(1002, 1), sound(2001, 1)], data_dir)


def test_muting_by_time(store: tuple[Path, str, str]) -> None:
    """What was sent 2 ms after the opening had been spoken by then; the line is 100 ms a piece."""
    data_dir, one, _ = store
    (report,) = redact(data_dir, [one], mutes=[Mute(0.05, 0.06, speaker="caller"), Mute(0.055, 0.06)])
    first, second, third, answer = audio_of(data_dir, one)
    assert len(first + second + third) == 3 * 4_800
    quiet = sum(piece.count(bytes(48)) for piece in (first, second, third))
    assert 8 <= quiet <= 12
    assert 9.0 <= report.muted_ms <= 11.0
    assert answer == sound(2001)


def test_g711_is_muted_by_its_own_silence(data_dir: Path, new_journal: MakeJournal) -> None:
    journal = new_journal(1).accepted()
    kind = {"audio": {"input": {"format": {"type": "audio/pcma"}}}}
    journal.server({"type": "session.created", "session": {"id": "sess_1", **kind}})
    journal.client({"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(range(160))).decode()})
    journal.client({"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(160)).decode()})
    journal.closed()
    seal_all(data_dir)
    redact(data_dir, [journal.session_id], mutes=[Mute(3, 3, by_position=True)])
    assert audio_of(data_dir, journal.session_id) == [b"\xd5" * 160, bytes(160)]


def test_audio_that_is_no_exact_base64_is_emptied(data_dir: Path, new_journal: MakeJournal) -> None:
    journal = new_journal().turn().closed()
    seal_all(data_dir)
    redact(data_dir, [journal.session_id], mutes=[Mute(4, 4, by_position=True)])
    assert messages(data_dir, journal.session_id)[4] == b'{"type":"input_audio_buffer.append","audio":""}'


def test_what_cannot_be_redacted(store: tuple[Path, str, str], new_journal: MakeJournal) -> None:
    data_dir, one, _ = store
    running, waiting = talk(new_journal(7)), talk(new_journal(8)).closed()
    for session_id, error in (
        (running.session_id, SessionRunningError),
        (waiting.session_id, StoreError),
        ("019c1410-7c00-7000-8000-0000000000ff", SessionNotFoundError),
    ):
        with pytest.raises(error):
            redact(data_dir, [one, session_id], patterns=[NAME])
    assert b"Ada Lovelace" in messages(data_dir, one)[13]
