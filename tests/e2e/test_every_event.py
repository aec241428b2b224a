"""Every event of the vocabulary, from the wire to the pages: recorded, decoded, projected, shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.app import create_app
from recorder.cli.main import app
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.seal import seal_all
from recorder.projection.conversation import HANDLERS, Conversation
from recorder.projection.timeline import timeline
from recorder.protocol.builder import EventBuilder
from recorder.protocol.envelope import RecordedEvent
from recorder.protocol.event_types import VOCABULARY, EventType
from tests.pipeline.conftest import Journal

EXAMPLES: Final = Path(__file__).parents[3] / "shared" / "real" / "openapi_examples.jsonl"

AUDIO: Final = "AAAA" * 320
VALUES: Final[dict[str, Any]] = {
    "response_id": "resp_1",
    "item_id": "item_1",
    "call_id": "call_1",
    "previous_item_id": "item_0",
    "output_index": 0,
    "content_index": 0,
    "audio": AUDIO,
    "session": {"id": "sess_1", "model": "gpt-realtime", "instructions": "Be brief."},
    "conversation": {"id": "conv_1"},
    "item": {"id": "item_1", "type": "function_call", "name": "f", "call_id": "call_1", "arguments": "{}"},
    "part": {"type": "output_text", "text": "Hi."},
    "response": {"id": "resp_1", "status": "completed", "output": []},
    "error": {"type": "invalid_request_error", "code": "bad", "message": "No."},
    "warning": {"code": "odd", "message": "Hm."},
    "usage": {"type": "duration", "seconds": 1},
    "rate_limits": [{"name": "tokens", "limit": 10, "remaining": 9, "reset_seconds": 1}],
    "delegation": {"id": "del_1"},
    "decision": {"id": "dec_1"},
    "annotation": {"type": "url"},
    "frames": [[0.1]],
    "logprobs": None,
    "languages": ["en"],
    "approve": True,
    **dict.fromkeys(("audio_start_ms", "audio_end_ms", "start_ms", "end_ms", "offset_ms", "elapsed_ms"), 100),
    **dict.fromkeys(("audio_offset_ms", "audio_duration_ms", "frame_index", "viseme_id", "channels", "ts"), 1),
    **dict.fromkeys(("start", "end", "received_at", "annotation_index"), 1),
    "sample_rate": 24_000,
}
"""Values for fields by name; all others are text. What has none in `fields` is optional."""


def payload_of(row: EventType) -> dict[str, Any]:
    """A small message with all fields of a row."""
    message: dict[str, Any] = {"type": row.name, "event_id": f"event_{row.name}"}
    for name in (*row.fields, *row.optional):
        message.setdefault(name, VALUES.get(name, "text"))
    if row.name.endswith("audio.delta"):
        message["delta"] = AUDIO
    if row.name == "conversation.item.create":
        message["item"] = {**message["item"], "id": "item_2"}
    return message


def direction_of(row: EventType) -> Literal["client", "server"]:
    return "client" if row.direction in ("client", "both") else "server"


WIRE: Final = [row for row in VOCABULARY if row.is_on_the_wire]


class Recording:
    """All events in one session, sealed in a store."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        journal = Journal(data_dir).accepted()
        for row in WIRE:
            (journal.client if direction_of(row) == "client" else journal.server)(payload_of(row))
        journal.closed()
        seal_all(data_dir)
        self.session_id = journal.session_id
        with Catalog(data_dir) as catalog:
            self.events = {event.type or "": event for event in catalog.recorded_events(journal.session_id)}
        shown = CliRunner().invoke(app, ["show", journal.session_id, "--all", "--data", str(data_dir)])
        assert shown.exit_code == 0, shown.output
        self.lines = {line.split()[3]: line for line in shown.stdout.splitlines()[3:]}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return Recording(tmp_path_factory.mktemp("vocabulary") / "data")


@pytest.fixture(scope="module")
def served(recording: Recording) -> Iterator[dict[str, dict[str, Any]]]:
    """What the pages' list of events gets, by type."""
    with TestClient(create_app(recording.data_dir), base_url="http://127.0.0.1") as client:
        answer = client.get(f"/api/v1/sessions/{recording.session_id}/events", params={"limit": 1000})
        yield {event["type"]: event for event in answer.json()["data"]}


@pytest.fixture(params=WIRE, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> EventType:
    found: EventType = request.param
    return found


def test_it_is_recorded_and_decoded(recording: Recording, row: EventType) -> None:
    event, sent = recording.events[row.name], payload_of(row)
    assert json.loads(event.message()) == sent
    assert (event.direction, event.problem, event.redacted) == (direction_of(row), None, False)
    filled = {name for name in row.ids if getattr(event, name) is not None}
    assert filled == set(row.ids)
    assert event.event_id == sent["event_id"]
    carries_audio = "audio" in row.fields or row.name.endswith("audio.delta")
    assert (event.audio_ms is not None) == carries_audio


BEFORE: Final = (
    ("server", {"type": "session.created", "session": {"model": "m"}}),
    ("client", {"type": "input_audio_buffer.append", "audio": AUDIO}),
    ("server", {"type": "conversation.item.added", "item": {"id": "item_0", "type": "message", "role": "user"}}),
    ("server", {"type": "response.created", "response": {"id": "resp_0", "conversation_id": "conv_1"}}),
    ("server", {"type": "conversation.item.added", "item": {"id": "item_1", "type": "message", "role": "assistant"}}),
    ("server", {"type": "response.output_audio.delta", "response_id": "resp_1", "item_id": "item_1", "delta": AUDIO}),
)

QUIET: Final = {
    "response.create", "response.cancel", "input_audio_buffer.commit", "input_audio_buffer.clear",
    "input_audio_buffer.speech_stopped", "input_audio_buffer.timeout_triggered", "output_audio_buffer.clear", "error",
    "output_audio_buffer.started", "output_audio_buffer.stopped", "output_audio_buffer.cleared",
    "input_audio_buffer.speech_started", "response.created",
}  # fmt: skip
"""Heeded, for what comes after them; by themselves they change nothing that is shown, in this session."""


def test_it_is_projected(row: EventType) -> None:
    builder = EventBuilder("session", None, 0)
    conversation = Conversation()
    for direction, message in BEFORE:
        conversation.apply(builder.message(direction, json.dumps(message).encode()))  # type: ignore[arg-type]
    before = conversation.state()
    event = builder.message(direction_of(row), json.dumps(payload_of(row)).encode())
    conversation.apply(event)
    after = conversation.state()
    assert after.position == len(BEFORE)
    before.position = after.position
    if (event.direction, row.canonical) not in HANDLERS:
        assert after == before
    elif row.name not in QUIET:
        assert after != before


def test_it_is_shown(recording: Recording, served: dict[str, dict[str, Any]], row: EventType) -> None:
    line = recording.lines[row.name]
    assert ("↑" if direction_of(row) == "client" else "↓") in line
    assert "unknown" not in line
    assert len(list(timeline([recording.events[row.name]]))) == 1
    assert served[row.name]["unknown"] is False
    assert served[row.name]["payload"]["type"] == row.name


def test_what_is_not_in_the_vocabulary_is_marked() -> None:
    builder = EventBuilder("session", None, 0)
    names = ["something.new", "recorder.gap", "response.done"]
    events: list[RecordedEvent] = [builder.message("server", json.dumps({"type": name}).encode()) for name in names]
    assert [line.unknown for line in timeline([builder.own("recorder.gap", "{}", None), *events])] == [
        False, True, True, False,
    ]  # fmt: skip


def test_the_records_of_our_own_and_control_frames_are_in_the_vocabulary() -> None:
    others = {row.name for row in VOCABULARY if not row.is_on_the_wire}
    assert others == {
        "websocket.ping", "websocket.pong", "websocket.close", "recorder.session_opened",
        "recorder.handshake_completed", "recorder.gap", "recorder.session_closed",
    }  # fmt: skip


@pytest.mark.skipif(not EXAMPLES.exists(), reason="the official examples are no part of the repository")
def test_the_official_examples_hold_nothing_unknown(tmp_path: Path) -> None:
    examples = [json.loads(line)["event"] for line in EXAMPLES.read_text("utf-8").splitlines()]
    journal = Journal(tmp_path / "data").accepted()
    for example in examples:
        if "." in example.get("type", "") or example.get("type") == "error":
            journal.server(example)
    journal.closed()
    seal_all(tmp_path / "data")
    result = CliRunner().invoke(app, ["drift", "--json", "--data", str(tmp_path / "data")])
    assert [(row["type"], row["field"]) for row in json.loads(result.stdout)] == []
