"""Every event of the vocabulary, from the wire to the pages: recorded, decoded, projected, shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.app import create_app
from recorder.cli.main import app
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.seal import seal_all
from recorder.projection.conversation import HANDLERS, Conversation
from recorder.projection.state import ConversationState
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


Message: TypeAlias = tuple[Literal["client", "server"], dict[str, Any]]

BEFORE: Final[tuple[Message, ...]] = (
    ("server", {"type": "session.created", "session": {"model": "m"}}),
    ("client", {"type": "input_audio_buffer.append", "audio": AUDIO}),
    ("server", {"type": "conversation.item.added", "item": {"id": "item_0", "type": "message", "role": "user"}}),
    ("server", {"type": "response.created", "response": {"id": "resp_0", "conversation_id": "conv_1"}}),
    ("server", {"type": "conversation.item.added", "item": {"id": "item_1", "type": "message", "role": "assistant"}}),
    ("server", {"type": "response.output_audio.delta", "response_id": "resp_1", "item_id": "item_1", "delta": AUDIO}),
)


class Heeded(NamedTuple):
    """What an event changes that others bring to light.

    Attributes:
        shown: where in the state that is seen.
        without, with_it: what stands there.
        before: what precedes it, after `BEFORE`.
        after: what follows.
        says: what it says otherwise than `payload_of`.
    """

    shown: Callable[[ConversationState], object]
    without: object
    with_it: object
    before: tuple[Message, ...] = ()
    after: tuple[Message, ...] = ()
    says: Mapping[str, object] = {}


OVER: Final[Message] = ("server", {"type": "response.done", "response": {"id": "resp_1", "status": "completed"}})
PLAYS: Final[Message] = ("server", {"type": "output_audio_buffer.started", "response_id": "resp_1"})
SPEECH: Final[Message] = ("server", {"type": "input_audio_buffer.speech_started", "item_id": "item_9"})
MORE: Final[Message] = ("client", {"type": "input_audio_buffer.append", "audio": AUDIO})
COMMITTED: Final[Message] = ("server", {"type": "input_audio_buffer.committed", "item_id": "item_1"})
ASKED: Final[Message] = ("client", {"type": "response.create", "response": {"conversation": "none"}})
TRUNCATE: Final = {"type": "conversation.item.truncate", "item_id": "item_1", "audio_end_ms": 10, "event_id": "wish"}


def _was_interrupted(state: ConversationState) -> bool:
    return state.items[1].interrupted


def _stands_outside(state: ConversationState) -> bool:
    return state.active_responses[-1].out_of_band


HEEDED: Final = {
    "response.create": Heeded(
        _stands_outside, False, True, (), (("server", {"type": "response.created", "response": {"id": "resp_2"}}),),
        {"response": {"conversation": "none"}},
    ),
    "response.created": Heeded(_stands_outside, False, True, (ASKED,)),
    "error": Heeded(
        lambda state: state.items[1].audio_end_ms, 10, None, (("client", TRUNCATE),), (),
        {"error": {"type": "invalid_request_error", "event_id": "wish"}},
    ),
    "input_audio_buffer.commit": Heeded(lambda state: state.uncommitted_audio_ms, 0, 20, (), (MORE, COMMITTED)),
    "input_audio_buffer.clear": Heeded(
        lambda state: state.uncommitted_audio_ms, 0, 20, (), (MORE, ("server", {"type": "input_audio_buffer.cleared"}))
    ),
    "input_audio_buffer.speech_started": Heeded(_was_interrupted, False, True),
    "input_audio_buffer.speech_stopped": Heeded(lambda state: state.items[1].audio_ms, 20, 15, (), (COMMITTED,),
        {"audio_end_ms": 15}),
    "input_audio_buffer.timeout_triggered": Heeded(lambda state: state.items[1].audio_ms, 20, 13, (), (COMMITTED,),
        {"audio_start_ms": 2, "audio_end_ms": 15}),
    "response.cancel": Heeded(_was_interrupted, False, True),
    "output_audio_buffer.clear": Heeded(_was_interrupted, False, True),
    "output_audio_buffer.started": Heeded(_was_interrupted, False, True, (OVER,), (SPEECH,)),
    "output_audio_buffer.stopped": Heeded(_was_interrupted, True, False, (PLAYS,), (SPEECH,)),
    "output_audio_buffer.cleared": Heeded(_was_interrupted, True, False, (PLAYS,), (SPEECH,)),
}  # fmt: skip
"""Those that by themselves change nothing or little that is shown: what they are heeded for."""


def _state(messages: Iterable[Message]) -> ConversationState:
    builder, conversation = EventBuilder("session", None, 0), Conversation()
    for direction, message in messages:
        conversation.apply(builder.message(direction, json.dumps(message).encode()))
    return conversation.state()


def test_it_is_projected(row: EventType) -> None:
    before = _state(BEFORE)
    after = _state([*BEFORE, (direction_of(row), payload_of(row))])
    assert after.position == len(BEFORE)
    before.position = after.position
    if (direction_of(row), row.canonical) not in HANDLERS:
        assert after == before
    elif row.name not in HEEDED:
        assert after != before


@pytest.mark.parametrize("name", HEEDED)
def test_what_it_is_heeded_for_comes_to_light(name: str) -> None:
    (row,) = [each for each in WIRE if each.name == name]
    case = HEEDED[name]
    event: Message = (direction_of(row), {**payload_of(row), **case.says})
    assert case.shown(_state([*BEFORE, *case.before, *case.after])) == case.without
    assert case.shown(_state([*BEFORE, *case.before, event, *case.after])) == case.with_it


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
