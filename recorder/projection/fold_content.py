"""Events that carry an item's content: text, transcripts, audio, arguments, in pieces and whole."""

from __future__ import annotations

from typing import Final

from recorder.projection import payload as json
from recorder.projection.fold import Fold, Handlers
from recorder.projection.item_list import part_at
from recorder.projection.payload import Object
from recorder.projection.state import Item
from recorder.protocol.envelope import RecordedEvent
from recorder.protocol.event_types import canonical

TEXT_FIELDS: Final = {
    "response.output_text": "text",
    "response.output_audio_transcript": "transcript",
    "conversation.item.input_audio_transcription": "transcript",
}
"""Streams of a part's text, and the field of the part (and of the message that has it whole) they fill."""


def _item(fold: Fold, event: RecordedEvent) -> Item | None:
    """The item that content is for. Content alone makes one: some servers announce none.

    Content without an item id is for the item that its response named last.
    """
    if not (event.type or "").startswith("response."):
        return fold.item(event.item_id, event, role="user") if event.item_id else None
    response = fold.responses.of(event)
    item_id = event.item_id or (response.last_item_id if response else None)
    return fold.item(item_id, event, role="assistant", response=response) if item_id else None


def _part(fold: Fold, event: RecordedEvent, message: Object) -> None:
    item = _item(fold, event)
    if item is not None:
        part, source = part_at(item, json.index(message, "content_index")), json.child(message, "part")
        part.type = json.text(source, "type") or part.type
        part.text = json.text(source, "text") or part.text
        part.transcript = json.text(source, "transcript") or part.transcript


def _text(fold: Fold, event: RecordedEvent, message: Object) -> None:
    item = _item(fold, event)
    if item is None:
        return
    stream, _, phase = canonical(event.type or "").rpartition(".")
    field, place = TEXT_FIELDS[stream], json.index(message, "content_index")
    key, part = (item.id or "", place, field), part_at(item, place)
    if phase == "delta":
        if key not in fold.finished:
            setattr(part, field, getattr(part, field) + (json.text(message, "delta") or ""))
        return
    whole = json.text(message, field)
    if whole is not None:
        setattr(part, field, whole)
    if phase != "updated":  # cumulative so far: more will come
        fold.finished.add(key)


def _audio(fold: Fold, event: RecordedEvent, _message: Object) -> None:
    response = fold.responses.of(event)
    if response is not None and not response.speaks:
        fold.responses.speaks(response)
    item = _item(fold, event)
    if response is not None and event.audio_ms:
        response.playback.add(item.id if item else None, event.monotonic_ns, event.audio_ms)
    if item is None or not event.audio_ms:
        return
    place = event.content_index or 0
    part = part_at(item, place if 0 <= place < json.MOST_INDEX else 0)
    part.audio_ms = (part.audio_ms or 0.0) + event.audio_ms
    item.audio_ms = (item.audio_ms or 0.0) + event.audio_ms


def _arguments(fold: Fold, event: RecordedEvent, message: Object) -> None:
    item = _item(fold, event)
    if item is None:
        return
    if item.type == "message":
        item.type, item.role = "mcp_call" if "mcp_call" in (event.type or "") else "function_call", None
    item.call_id = item.call_id or event.call_id
    item.name = item.name or json.text(message, "name")
    key = (item.id or "", 0, "arguments")
    whole = json.text(message, "arguments")
    if (event.type or "").endswith(".delta"):
        if key not in fold.finished:
            item.arguments += json.text(message, "delta") or ""
        return
    item.arguments = item.arguments if whole is None else whole
    fold.finished.add(key)


BLIND: Final = frozenset({"response.output_audio.delta"})
"""Canonical types whose handlers need no payload: all is in the event's columns, and they are many."""

HANDLERS: Final[Handlers] = {
    ("server", "response.content_part.added"): _part,
    ("server", "response.content_part.done"): _part,
    ("server", "response.output_audio.delta"): _audio,
    ("server", "response.function_call_arguments.delta"): _arguments,
    ("server", "response.function_call_arguments.done"): _arguments,
    ("server", "response.mcp_call_arguments.delta"): _arguments,
    ("server", "response.mcp_call_arguments.done"): _arguments,
    **{
        ("server", f"{stream}.{phase}"): _text
        for stream in TEXT_FIELDS
        for phase in ("delta", "done", "updated", "completed")
    },
}
