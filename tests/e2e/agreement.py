"""What the fold of the projection and the rows of the SQL models both say of a session, compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from recorder.projection.conversation import Conversation
from recorder.projection.state import ConversationState, Item
from recorder.protocol.envelope import RecordedEvent

Rows = list[dict[str, Any]]


def fold(events: Iterable[RecordedEvent]) -> ConversationState:
    conversation = Conversation()
    for event in events:
        conversation.apply(event)
    return conversation.state()


def words(text: str | None) -> str:
    return " ".join((text or "").split())


def near(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, abs=1e-3)


def compare(state: ConversationState, tables: dict[str, Rows]) -> None:
    """Everything that both say of a session's end."""
    rows = [row for row in sorted(tables["items"], key=lambda row: row["item_no"]) if not row["out_of_band"]]
    assert [(item.id, item.type, item.role) for item in state.items] == [
        (row["item_id"], row["type"], row["role"]) for row in rows
    ]
    items = [item for item in state.items if item.id is not None]
    outside = {row["item_id"] for row in tables["items"] if row["out_of_band"]}
    assert {item.id for item in state.out_of_band} == outside
    by_id = {item.id: item for item in [*items, *state.out_of_band]}
    for row in (row for row in tables["items"] if row["item_id"] is not None):
        compare_item(by_id[row["item_id"]], row)
    compare_turns(state, by_id, tables["turns"])
    compare_responses(state, tables["responses"])
    compare_tool_calls(state, by_id, tables["tool_calls"])
    for row in tables["interruptions"]:
        if row["item_id"] is not None:
            item = by_id[row["item_id"]]
            assert item.interrupted
            assert (item.heard_ms, item.audio_ms) == (near(row["heard_ms"]), near(row["generated_ms"]))


def compare_item(item: Item, row: dict[str, Any]) -> None:
    assert (item.type, item.role, item.status) == (row["type"], row["role"], row["status"])
    assert (item.name, item.call_id, item.response_id) == (row["name"], row["call_id"], row["response_id"])
    assert words(item.text) == words(row["text"])
    assert item.deleted == (row["deleted_position"] is not None)
    assert item.audio_end_ms == row["audio_end_ms"]
    if item.role != "user":
        assert item.audio_ms == near(row["generated_ms"])
        assert item.heard_ms == near(row["heard_ms"])
        assert item.heard_ms is None or item.heard_estimated == row["heard_estimated"]


def compare_turns(state: ConversationState, by_id: dict[str | None, Item], rows: Rows) -> None:
    unended = {response.id for response in state.active_responses}
    said = {
        item.id: item.role
        for item in by_id.values()
        if item.type == "message"
        and (
            item.role == "user" or (item.role == "assistant" and not item.out_of_band and (item.text or item.audio_ms))
        )
    }
    named = [row for row in rows if row["item_id"] is not None]
    full = [row for row in named if row["speaker"] == "user" or row["text"] or row["audio_ms"]]
    assert {row["item_id"]: row["speaker"] for row in full} == said
    for row in full:
        item = by_id[row["item_id"]]
        assert words(item.text) == words(row["text"])
        if row["interrupted"]:
            assert item.interrupted
        elif item.interrupted and not item.truncated:
            # A response without an end is active for the fold, which does not know what comes; for the models, which
            # see all, only up to its last event. What met it after that had nothing left to cut off.
            assert item.response_id in unended
            assert not item.heard_estimated or item.heard_ms == near(item.audio_ms)


def compare_responses(state: ConversationState, rows: Rows) -> None:
    active = [row for row in sorted(rows, key=lambda row: row["response_no"]) if row["done_position"] is None]
    assert [(one.id, one.out_of_band) for one in state.active_responses] == [
        (row["response_id"], row["out_of_band"]) for row in active
    ]


def compare_tool_calls(state: ConversationState, by_id: dict[str | None, Item], rows: Rows) -> None:
    assert [row["item_id"] for row in rows] == [
        item.id for item in sorted(by_id.values(), key=lambda item: item.position) if item.type == "function_call"
    ]
    outputs = {item.call_id: item.output for item in state.items if item.type == "function_call_output"}
    pending = {call.item_id: call for call in state.pending_tool_calls}
    for row in rows:
        item = by_id[row["item_id"]]
        assert (item.name, item.call_id, item.arguments) == (row["name"], row["call_id"], row["arguments"] or "")
        assert outputs.get(row["call_id"]) == row["output"]
        if not item.deleted:
            assert (item.id in pending) == (row["output_position"] is None)
            assert (item.id in pending and pending[item.id].complete) == row["unanswered"]
