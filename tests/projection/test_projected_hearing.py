"""What was heard of an answer."""

from __future__ import annotations

from typing import Any

import pytest

from recorder.projection.conversation import project
from recorder.projection.state import split_heard
from tests.projection.words import Session, audio_delta, message


def test_a_truncated_item_keeps_what_was_generated_and_says_what_was_heard(session: Session) -> None:
    where = {"response_id": "r1", "item_id": "a", "content_index": 0}
    text = "one two three four "
    events = session(
        ("server", {"type": "response.output_audio_transcript.done", **where, "transcript": text}),
        ("server", audio_delta("a", 1000)),
        ("server", {"type": "conversation.item.truncated", "item_id": "a", "content_index": 0, "audio_end_ms": 500}),
        ("server", {"type": "conversation.item.done", "item": {"id": "a", "content": [{"type": "output_audio"}]}}),
    )
    item = project(events).items[0]
    assert (item.truncated, item.audio_ms, item.heard_ms, item.heard_estimated) == (True, 1000.0, 500.0, False)
    assert item.text == text
    assert split_heard(item) == ("one two three", " four ")


@pytest.mark.parametrize(
    ("text", "heard_ms", "unheard"),
    [
        ("one two three", 500, " three"),
        ("one two three", 700, ""),
        ("one two three", 0, "one two three"),
        ("0123456789abcdefghij", 350, "789abcdefghij"),
        ("你好，请问有什么可以帮您", 500, "什么可以帮您"),
        ("on " + "x" * 57, 500, ""),
        ("on " + "x" * 58, 500, "x" * 31),
    ],
)
def test_a_word_that_has_begun_is_heard(session: Session, text: str, heard_ms: int, unheard: str) -> None:
    where = {"response_id": "r1", "item_id": "a", "content_index": 0}
    events = session(
        ("server", {"type": "response.output_audio_transcript.done", **where, "transcript": text}),
        ("server", audio_delta("a", 1000)),
        ("server", {"type": "conversation.item.truncated", "item_id": "a", "audio_end_ms": heard_ms}),
    )
    assert split_heard(project(events).items[0])[1] == unheard


def test_a_truncation_beyond_the_audio_is_clamped(session: Session) -> None:
    cut = {"type": "conversation.item.truncated", "item_id": "a", "content_index": 0, "audio_end_ms": 9999}
    item = project(session(("server", audio_delta("a", 100)), ("server", cut))).items[0]
    assert item.heard_ms == 100.0
    assert item.audio_end_ms == 9999.0


def test_a_barge_in_without_truncation_is_estimated(session: Session) -> None:
    events = session(
        ("server", audio_delta("a", 2000), 1.0),
        ("server", {"type": "input_audio_buffer.speech_started", "audio_start_ms": 0, "item_id": "u"}, 1.5),
        ("server", audio_delta("a", 1000), 1.6),
        ("server", {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 900, "item_id": "u"}, 9.0),
    )
    item = project(events).items[0]
    assert (item.heard_ms, item.heard_estimated, item.audio_ms) == (500.0, True, 3000.0)
    assert item.interrupted
    assert not item.truncated


@pytest.mark.parametrize(
    "stop",
    [
        {"type": "response.cancel"},
        {"type": "output_audio_buffer.clear"},
        {"type": "conversation.item.truncate", "item_id": "a"},
    ],
)
def test_a_client_that_stops_has_heard_so_far(session: Session, stop: dict[str, Any]) -> None:
    later = {"type": "rate_limits.updated", "rate_limits": []}
    state = project(session(("server", audio_delta("a", 2000), 1.0), ("client", stop, 1.25), ("server", later, 9.0)))
    assert [(item.heard_ms, item.heard_estimated, item.interrupted) for item in state.items] == [(250.0, True, True)]


def test_a_truncation_holds_from_the_request_on_until_it_is_refused(session: Session) -> None:
    ask = {"type": "conversation.item.truncate", "event_id": "e1", "item_id": "a", "audio_end_ms": 700}
    refusal = {"type": "error", "error": {"code": "invalid_value", "event_id": "e1"}}
    events = session(("server", audio_delta("a", 2000), 1.0), ("client", ask, 1.25), ("server", refusal, 1.3))
    items = [project(events, at=position).items[0] for position in (2, 3)]
    assert [(item.heard_ms, item.heard_estimated) for item in items] == [(700.0, False), (250.0, True)]
    assert [(item.interrupted, item.truncated) for item in items] == [(True, False)] * 2


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        ({"param": "audio_end_ms"}, False),
        ({"message": "Audio content of 2000ms is already shorter than 700ms"}, False),
        ({"code": "input_audio_buffer_commit_empty"}, True),
    ],
)
def test_a_refusal_that_names_nothing_is_matched_by_what_it_says(
    session: Session, error: dict[str, Any], kept: bool
) -> None:
    ask = {"type": "conversation.item.truncate", "item_id": "a", "audio_end_ms": 700}
    events = session(("server", audio_delta("a", 2000)), ("client", ask), ("server", {"type": "error", "error": error}))
    assert project(events).items[0].audio_end_ms == (700.0 if kept else None)


def test_a_sideband_tells_what_was_played(session: Session) -> None:
    buffer = {"response_id": "r1"}
    events = session(
        ("server", {"type": "response.created", "response": {"id": "r1"}}, 1.0),
        ("server", {"type": "response.output_item.added", "response_id": "r1", "item": message("a", "assistant")}, 1.1),
        ("server", {"type": "output_audio_buffer.started", **buffer}, 2.0),
        ("server", {"type": "input_audio_buffer.speech_started", "item_id": "u", "audio_start_ms": 0}, 3.4),
        ("server", {"type": "output_audio_buffer.cleared", **buffer}, 3.5),
        ("server", {"type": "response.done", "response": {"id": "r1", "status": "cancelled"}}, 4.0),
    )
    heard = [project(events, at=position).items[0] for position in (2, 3, 4, 6)]
    assert [(item.heard_ms, item.interrupted) for item in heard] == [
        (None, False),
        (0.0, False),
        (1400.0, True),
        (1500.0, True),
    ]


def test_content_without_ids_is_of_the_response_that_started_last_and_its_last_item(session: Session) -> None:
    delta = {"type": "response.output_audio_transcript.delta", "delta": "Hi"}
    events = session(
        ("server", {"type": "response.created", "response": {"id": "r1"}}),
        ("server", {"type": "response.output_item.added", "item": message("a", "assistant")}),
        ("server", delta),
        ("server", {"type": "response.done", "response": {"status": "completed"}}),
    )
    state = project(events)
    assert [(item.id, item.text, item.response_id) for item in state.items] == [("a", "Hi", "r1")]
    assert state.active_responses == []


def test_heard_is_unknown_without_times(session: Session) -> None:
    item = project(session(("server", audio_delta("a", 2000)))).items[0]
    assert (item.audio_ms, item.heard_ms) == (2000.0, None)
