"""What the server does on each client event: one function per type, gathered in `HANDLERS`."""

from __future__ import annotations

import binascii
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pybase64

from recorder.simulator.conversation import Item
from recorder.simulator.refusal import EventRefusedError
from recorder.simulator.shapes import CancelShape, CreateShape, RespondShape, check

if TYPE_CHECKING:
    from recorder.simulator.connection import Connection


async def _session_update(connection: Connection, event: dict[str, Any]) -> None:
    connection.session.update(event.get("session"), has_spoken=connection.truth.audio_out_ms > 0)
    await connection.send(connection.lane, "session.updated", session=connection.session.wire)


async def _append(connection: Connection, event: dict[str, Any]) -> None:
    try:
        data = pybase64.b64decode(str(event.get("audio", "?")), validate=True)
    except (binascii.Error, ValueError):
        message = "Invalid 'audio'. Expected base64-encoded audio bytes but got an invalid value."
        raise EventRefusedError("invalid_value", message, param="audio") from None
    await connection.hearing.append(data)


async def _commit(connection: Connection, _event: dict[str, Any]) -> None:
    await connection.hearing.commit()


async def _clear(connection: Connection, _event: dict[str, Any]) -> None:
    await connection.hearing.clear()


async def _item_create(connection: Connection, event: dict[str, Any]) -> None:
    check(event, CreateShape)
    given = {key: value for key, value in event["item"].items() if value is not None}
    wire = {"id": connection.lane.new("item"), **given}
    if wire["type"] == "message":
        wire.setdefault("status", "completed")
    item = Item(wire)
    if wire["type"] == "function_call_output":
        _answer(connection, wire)
    previous = event.get("previous_item_id")
    connection.conversation.insert(item, previous)
    before = connection.conversation.before(item)
    for name in ("conversation.item.added", "conversation.item.done"):
        await connection.send(connection.lane, name, previous_item_id=before, item=wire)


def _answer(connection: Connection, wire: dict[str, Any]) -> None:
    """Note a tool's output in the truth; an output without its call is refused."""
    call_id = wire.get("call_id")
    known = any(item.wire.get("call_id") == call_id for item in connection.conversation.items)
    if not known:
        message = f"Tool call ID '{call_id}' not found in conversation."
        raise EventRefusedError("invalid_tool_call_id", message, param="item.call_id")
    for call in connection.truth.tool_calls:
        if call.call_id == call_id:
            call.answered, call.output = True, str(wire.get("output", ""))


async def _item_delete(connection: Connection, event: dict[str, Any]) -> None:
    item = connection.conversation.delete(event.get("item_id"))
    await connection.send(connection.lane, "conversation.item.deleted", item_id=item.id)


async def _item_retrieve(connection: Connection, event: dict[str, Any]) -> None:
    item = connection.conversation.get(event.get("item_id"), "retrieve")
    wire = dict(item.wire)
    if item.audio:
        part = {**wire["content"][0], "audio": pybase64.b64encode_as_string(item.audio)}
        wire["content"] = [part, *wire["content"][1:]]
    await connection.send(connection.lane, "conversation.item.retrieved", item=wire)


async def _item_truncate(connection: Connection, event: dict[str, Any]) -> None:
    item_id, end = event.get("item_id"), event.get("audio_end_ms")
    last = connection.barge_ins.last
    if last is not None and last.item_id == item_id:
        connection.barge_ins.cut("client", stops_playback=True)
    try:
        connection.conversation.truncate(item_id, end)
    except EventRefusedError:
        if isinstance(end, int):
            connection.barge_ins.truncated(str(item_id), end, accepted=False)
        raise
    assert isinstance(end, int)
    connection.barge_ins.truncated(str(item_id), end, accepted=True)
    await connection.send(
        connection.lane,
        "conversation.item.truncated",
        item_id=item_id,
        content_index=event.get("content_index", 0),
        audio_end_ms=end,
    )


async def _response_create(connection: Connection, event: dict[str, Any]) -> None:
    check(event, RespondShape)
    connection.responding.start("client", event.get("response"))


async def _response_cancel(connection: Connection, event: dict[str, Any]) -> None:
    check(event, CancelShape)
    connection.responding.cancel(event.get("response_id"))


async def _output_clear(connection: Connection, _event: dict[str, Any]) -> None:
    connection.barge_ins.cut("client", stops_playback=True)
    if connection.responding.active is not None:
        connection.responding.cancel()
    last = connection.barge_ins.last
    if last is not None:
        await connection.send(connection.lane, "output_audio_buffer.cleared", response_id=last.response_id)


Handler = Callable[["Connection", dict[str, Any]], Awaitable[None]]

HANDLERS: dict[str, Handler] = {
    "session.update": _session_update,
    "input_audio_buffer.append": _append,
    "input_audio_buffer.commit": _commit,
    "input_audio_buffer.clear": _clear,
    "conversation.item.create": _item_create,
    "conversation.item.delete": _item_delete,
    "conversation.item.retrieve": _item_retrieve,
    "conversation.item.truncate": _item_truncate,
    "response.create": _response_create,
    "response.cancel": _response_cancel,
    "output_audio_buffer.clear": _output_clear,
}
