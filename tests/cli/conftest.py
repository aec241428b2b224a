"""A store with three sessions: a barge-in with hostile words, one without times, one that is running."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from recorder.cli.main import app
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.commit import write_segments
from recorder.protocol.builder import EventBuilder
from recorder.protocol.envelope import RecordedEvent, RecordKind
from recorder.store.journal import JournalWriter, encode_frame

VOICE = "0199c2f1-0000-7000-8000-000000000001"
UNTIMED = "5f0c2b9e-1111-8000-8000-000000000002"
RUNNING = "0199c9a0-0000-7000-8000-000000000003"

OPENED_NS = 1_790_000_000_000_000_000
"""2026-09-21T14:13:20Z."""


def pcm(milliseconds: int) -> str:
    return "AAAA" * (milliseconds * 16)


SESSION_CREATED = {
    "type": "session.created",
    "session": {
        "id": "sess_voice",
        "model": "gpt-realtime",
        "output_modalities": ["audio"],
        "audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 0.5}}, "output": {"voice": "marin"}},
    },
}
ANSWER = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}
USER_ITEM = {
    "id": "item_u",
    "type": "message",
    "role": "user",
    "status": "completed",
    "content": [{"type": "input_audio"}],
}
CALL = {"id": "item_f", "type": "function_call", "name": "get_weather", "call_id": "call_1", "arguments": "{}"}

VOICE_LINES: list[tuple[str, dict[str, Any], float]] = [
    ("server", SESSION_CREATED, 0.25),
    *[("client", {"type": "input_audio_buffer.append", "audio": pcm(20)}, 0.3 + n / 50) for n in range(50)],
    ("server", {"type": "input_audio_buffer.speech_started", "audio_start_ms": 100, "item_id": "item_u"}, 1.4),
    ("server", {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 900, "item_id": "item_u"}, 2.0),
    ("server", {"type": "input_audio_buffer.committed", "item_id": "item_u", "previous_item_id": None}, 2.0),
    ("server", {"type": "conversation.item.added", "item": USER_ITEM, "previous_item_id": None}, 2.01),
    ("server", {"type": "response.created", "response": {"id": "resp_1", "conversation_id": "conv_1"}}, 2.1),
    (
        "server",
        {
            "type": "conversation.item.input_audio_transcription.completed",
            "item_id": "item_u",
            "content_index": 0,
            "transcript": "Clear \x1b[2J the \u202escreen\x9b1m!",
        },
        2.2,
    ),
    *[
        ("server", {"type": "response.output_audio_transcript.delta", "delta": w, **ANSWER}, 2.5)
        for w in ("No ", "way.")
    ],
    ("server", {"type": "response.output_audio.delta", "delta": pcm(2000), **ANSWER}, 2.6),
    ("server", {"type": "input_audio_buffer.speech_started", "audio_start_ms": 950, "item_id": "item_v"}, 3.1),
    (
        "client",
        {"type": "conversation.item.truncate", "item_id": "item_a", "content_index": 0, "audio_end_ms": 500},
        3.2,
    ),
    (
        "server",
        {"type": "conversation.item.truncated", "item_id": "item_a", "content_index": 0, "audio_end_ms": 500},
        3.3,
    ),
    ("server", {"type": "response.output_item.added", "response_id": "resp_1", "item": CALL}, 3.4),
    ("server", {"type": "error", "error": {"code": "bad_thing", "message": "No such \x1b]0;item\x07."}}, 3.5),
    ("server", {"type": "evil\x1b[31m.event"}, 3.6),
    (
        "server",
        {
            "type": "response.done",
            "response": {
                "id": "resp_1",
                "status": "cancelled",
                "status_details": {"reason": "turn_detected"},
                "usage": {"input_tokens": 120, "output_tokens": 30, "total_tokens": 150},
            },
        },
        12.0,
    ),
]


def _events(session_id: str, lines: list[tuple[Any, ...]], *, opened_ns: int | None) -> list[RecordedEvent]:
    builder = EventBuilder(session_id, opened_ns, 0)

    def at_ns(seconds: float) -> int | None:
        return None if opened_ns is None else round(seconds * 1e9)

    facts = {
        "session_id": session_id,
        "source": "proxy",
        "opened_at_ns": opened_ns,
        "monotonic_ns": 0,
        "upstream": "wss://upstream.test",
    }
    events = [builder.own("recorder.session_opened", json.dumps(facts), at_ns(0))]
    for direction, message, seconds in lines:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        events.append(builder.message(direction, data, at_ns=at_ns(seconds)))
    end = {"closed_by": "client", "close_code": 1000, "close_reason": ""}
    events.append(builder.own("recorder.session_closed", json.dumps(end), at_ns(lines[-1][2] + 0.5)))
    return events


def _untimed() -> list[RecordedEvent]:
    created = {"type": "session.created", "session": {"id": "sess_text", "model": "gpt-realtime-mini"}}
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello there"}]}
    lines: list[tuple[Any, ...]] = [
        ("server", created, 0),
        ("client", {"type": "conversation.item.create", "item": item}, 0),
        ("server", b"\xff\xfe not text", 0),
    ]
    return _events(UNTIMED, lines, opened_ns=None)


def _write_running(data_dir: Path) -> None:
    """A journal as the recorder process leaves it while a session goes on: opened, accepted, one message."""
    facts = {"session_id": RUNNING, "source": "proxy", "opened_at_ns": OPENED_NS + 3_600_000_000_000, "monotonic_ns": 0}
    created = json.dumps({"type": "session.created", "session": {"id": "sess_running", "model": "gpt-realtime"}})
    records = [
        (RecordKind.OPENED, 0, json.dumps(facts).encode()),
        (RecordKind.ACCEPTED, 10**7, json.dumps({"status": 101, "headers": [], "monotonic_ns": 10**7}).encode()),
        (RecordKind.SERVER_BYTES, 10**8, bytes([0x81, len(created)]) + created.encode()),
    ]
    writer = JournalWriter(data_dir, RUNNING)
    for position, (kind, at_ns, data) in enumerate(records):
        writer.write(encode_frame(position, at_ns, kind, data))
    writer.close(finished=False)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only to be read."""
    data_dir = tmp_path_factory.mktemp("store")
    write_segments(data_dir, [_events(VOICE, VOICE_LINES, opened_ns=OPENED_NS), _untimed()])
    _write_running(data_dir)
    return data_dir


@pytest.fixture(scope="session")
def catalog(store: Path) -> Iterator[Catalog]:
    """One for all commands: opening a store takes longer than reading it."""
    with Catalog(store) as opened:
        yield opened


@pytest.fixture
def run(store: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command on the store; the result's exception is the command's own."""
    monkeypatch.setenv("RECORDER_DATA", str(store))

    def open_store(data_dir: Path, *, prices: Path | None = None) -> AbstractContextManager[Catalog]:
        return nullcontext(catalog) if data_dir == store and prices is None else Catalog(data_dir, prices=prices)

    monkeypatch.setattr("recorder.pipeline.catalog.Catalog", open_store)

    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=stdin)

    return invoke
