"""Responses, tool calls, and what stays outside the conversation."""

from __future__ import annotations

from typing import Any

import pytest

from recorder.projection.conversation import project
from tests.projection.words import Session, added, message


def call_events() -> list[tuple[str, dict[str, Any]]]:
    item = {"id": "f", "type": "function_call", "status": "in_progress", "name": "get_weather", "call_id": "c1"}
    where = {"response_id": "r1", "item_id": "f", "call_id": "c1"}
    return [
        ("server", {"type": "response.created", "response": {"id": "r1", "conversation_id": "conv"}}),
        ("server", {"type": "response.output_item.added", "response_id": "r1", "item": item}),
        ("server", {"type": "response.function_call_arguments.delta", **where, "delta": '{"city":'}),
        ("server", {"type": "response.function_call_arguments.done", **where, "arguments": '{"city": "Bonn"}'}),
        ("server", {"type": "response.done", "response": {"id": "r1", "status": "completed", "output": []}}),
        (
            "client",
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            },
        ),
    ]


def test_a_tool_call_is_pending_until_its_output(session: Session) -> None:
    events = session(*call_events())
    pending = [project(events, at=position).pending_tool_calls for position in range(7)]
    assert [len(calls) for calls in pending] == [0, 0, 1, 1, 1, 1, 0]
    assert (pending[3][0].arguments, pending[3][0].complete) == ('{"city":', False)
    assert (pending[4][0].arguments, pending[4][0].complete) == ('{"city": "Bonn"}', True)
    assert project(events).items[-1].output == "rain"


def test_responses_are_active_from_created_to_done(session: Session) -> None:
    events = session(*call_events())
    assert [[active.id for active in project(events, at=n).active_responses] for n in (0, 1, 4, 5)] == [
        [],
        ["r1"],
        ["r1"],
        [],
    ]


@pytest.mark.parametrize("response", [{"id": "r9", "conversation_id": None}, {"id": "r9"}])
def test_out_of_band_responses_stay_outside(session: Session, response: dict[str, Any]) -> None:
    events = session(
        added("a", None, text="Hi"),
        ("client", {"type": "response.create", "response": {"conversation": "none"}}),
        ("server", {"type": "response.created", "response": response}),
        ("server", {"type": "response.output_item.added", "response_id": "r9", "item": message("o", "assistant")}),
        ("server", {"type": "response.output_text.delta", "response_id": "r9", "item_id": "o", "delta": "aside"}),
    )
    state = project(events)
    assert [item.id for item in state.items] == ["a"]
    assert [(item.id, item.text, item.out_of_band) for item in state.out_of_band] == [("o", "aside", True)]
    assert state.active_responses[0].out_of_band


def test_response_done_alone_tells_the_answer(session: Session) -> None:
    done = {"id": "r1", "status": "completed", "output": [message("a", "assistant", "All at once.")]}
    state = project(session(("server", {"type": "response.done", "response": done})))
    assert [(item.id, item.text, item.response_id) for item in state.items] == [("a", "All at once.", "r1")]


@pytest.mark.parametrize("own", [True, False])
def test_the_servers_own_attempt_that_is_refused_takes_back_nothing_of_the_clients(session: Session, own: bool) -> None:
    """A voice is committed and its answer refused, after the client has asked for two; without the voice it is B."""
    stopped = {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 300, "item_id": "u"}
    events = session(
        ("client", {"type": "response.create"}),
        ("client", {"type": "response.create", "response": {"conversation": "none"}}),
        ("server", stopped if own else {"type": "rate_limits.updated"}),
        ("server", {"type": "input_audio_buffer.committed", "item_id": "u"}),
        ("server", {"type": "error", "error": {"code": "conversation_already_has_active_response"}}),
        ("server", {"type": "response.created", "response": {"id": "A"}}),
        ("server", {"type": "response.created", "response": {"id": "B"}}),
    )
    assert [(one.id, one.out_of_band) for one in project(events).active_responses] == [("A", False), ("B", own)]
