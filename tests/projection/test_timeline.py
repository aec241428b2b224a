from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.projection.summary import SNIPPET, quote, summarize
from recorder.projection.timeline import timeline
from recorder.protocol.envelope import RecordedEvent

Session = Callable[..., list[RecordedEvent]]

APPEND = ("client", {"type": "input_audio_buffer.append", "audio": "AAAA" * 320})
AUDIO = ("server", {"type": "response.output_audio.delta", "item_id": "a", "response_id": "r", "delta": "AAAA" * 640})


def words(text: str) -> tuple[str, dict[str, Any]]:
    event = {"type": "response.output_audio_transcript.delta", "item_id": "a", "response_id": "r", "delta": text}
    return "server", event


def test_streams_side_by_side_fold_into_one_line_each(session: Session) -> None:
    events = session(APPEND, AUDIO, APPEND, words("Hel"), AUDIO, words("lo"), APPEND)
    lines = list(timeline(events))
    assert [(line.position, line.last_position, line.count, line.summary) for line in lines] == [
        (0, 0, 1, ""),
        (1, 7, 3, "60 ms"),
        (2, 5, 2, "80 ms"),
        (4, 6, 2, "“Hello”"),
    ]


def test_an_event_that_stands_for_itself_ends_the_runs(session: Session) -> None:
    commit = ("client", {"type": "input_audio_buffer.commit"})
    lines = list(timeline(session(APPEND, APPEND, commit, APPEND, APPEND)))
    assert [(line.type, line.count) for line in lines[1:]] == [
        ("input_audio_buffer.append", 2),
        ("input_audio_buffer.commit", 1),
        ("input_audio_buffer.append", 2),
    ]


def test_without_folding_each_event_has_its_line(session: Session) -> None:
    lines = list(timeline(session(APPEND, APPEND, AUDIO), collapse=False))
    assert [(line.position, line.count) for line in lines] == [(0, 1), (1, 1), (2, 1), (3, 1)]


@given(choices=st.lists(st.sampled_from([APPEND, AUDIO, words("x"), ("client", {"type": "response.cancel"})])))
def test_no_event_is_lost_or_counted_twice(session: Session, choices: list[tuple[str, dict[str, Any]]]) -> None:
    events = session(*choices)
    lines = list(timeline(events))
    assert sum(line.count for line in lines) == len(events)
    assert [line.position for line in lines] == sorted(line.position for line in lines)
    assert sum(line.audio_ms or 0 for line in lines) == sum(event.audio_ms or 0 for event in events)


USAGE = {"input_tokens": 1200, "output_tokens": 34, "input_token_details": {"cached_tokens": 1000}}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            {
                "type": "session.created",
                "session": {
                    "id": "sess_1",
                    "model": "gpt-realtime",
                    "output_modalities": ["audio"],
                    "audio": {"input": {"turn_detection": {"type": "server_vad"}}, "output": {"voice": "marin"}},
                    "tools": [{"type": "function"}],
                    "instructions": "Be  brief.",
                },
            },
            "sess_1 · gpt-realtime · audio · voice marin · server_vad · 1 tool · “Be brief.”",
        ),
        (
            {"type": "response.done", "response": {"status": "completed", "usage": USAGE}},
            "completed · tokens 1,200 in, 34 out, 1,000 cached",
        ),
        (
            {
                "type": "response.done",
                "response": {"status": "cancelled", "status_details": {"reason": "turn_detected"}},
            },
            "cancelled · turn_detected",
        ),
        (
            {
                "type": "response.done",
                "usage": USAGE,
                "response": {"status": "failed", "status_details": "unimplemented"},
            },
            "failed · unimplemented · tokens 1,200 in, 34 out, 1,000 cached",
        ),
        (
            {"type": "error", "error": {"code": "bad", "message": "No.", "param": "x.y", "event_id": "e7"}},
            "bad · “No.” · param x.y · caused by e7",
        ),
        (
            {"type": "input_audio_buffer.speech_started", "audio_start_ms": 1460, "item_id": "i"},
            "at 1,460 ms of audio",
        ),
        ({"type": "conversation.item.truncate", "item_id": "i", "audio_end_ms": 1500}, "at 1,500 ms · i"),
        (
            {
                "type": "conversation.item.added",
                "item": {"type": "function_call", "name": "f", "arguments": '{"a": 1}', "status": "in_progress"},
            },
            'function_call · f({"a": 1}) · in_progress',
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            },
            "user · “Hi”",
        ),
        (
            {"type": "rate_limits.updated", "rate_limits": [{"name": "tokens", "limit": 50000, "remaining": 49950}]},
            "tokens 49,950 of 50,000 left",
        ),
        ({"type": "something.new", "text": "content"}, "“content”"),
        ({"type": "something.new"}, ""),
    ],
)
def test_summaries(session: Session, message: dict[str, Any], expected: str) -> None:
    assert summarize(session(("server", message))[1]) == expected


def test_messages_without_a_type_are_summarized_by_size(session: Session) -> None:
    event = session(("server", b"hello"))[1]
    assert summarize(event) == "not a Realtime event · 5 bytes · “hello”"


def test_what_could_not_be_decoded_is_told_from_what_is_no_text(session: Session) -> None:
    broken, binary = session(("server", b"\xff\xfe"), ("server", b"\xff\xfe"))[1:]
    binary.opcode, binary.problem = 2, None
    assert summarize(broken) == "undecodable: invalid UTF-8 at byte 0 · 2 bytes"
    assert summarize(binary) == "binary · 2 bytes"


@pytest.mark.parametrize("name", ["recorder.session_closed", "websocket.close"])
def test_a_message_under_a_name_of_ours_is_summarized_as_any_other(session: Session, name: str) -> None:
    forged = session(("server", {"type": name, "closed_by": "proxy", "code": 1000, "reason": "a lie"}))[1]
    assert summarize(forged) == "“a lie”"


def test_snippets_are_short() -> None:
    assert quote("x" * 500) == "“" + "x" * SNIPPET + "…”"
    assert quote("") == ""


JUNK = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "type", "content"]), inner),
    max_leaves=4,
)
FIELDS = ["item", "session", "response", "part", "error", "rate_limits", "usage", "status", "delta", "audio_end_ms"]


@given(
    name=st.sampled_from(["response.done", "session.updated", "error", "rate_limits.updated", "x.delta", "x"])
    | st.sampled_from(["conversation.item.added", "conversation.item.truncated", "input_audio_buffer.speech_started"]),
    fields=st.dictionaries(st.sampled_from(FIELDS), JUNK),
)
def test_summaries_never_raise(session: Session, name: str, fields: dict[str, Any]) -> None:
    for event in session(("server", {"type": name, **fields})):
        assert isinstance(summarize(event), str)
