"""Events that add, change, truncate or delete conversation items."""

from __future__ import annotations

from typing import Final

from recorder.projection import payload as json
from recorder.projection.fold import Fold, Handlers
from recorder.projection.item_list import merge
from recorder.projection.payload import Object
from recorder.projection.responses import Response
from recorder.projection.state import Item
from recorder.protocol.envelope import RecordedEvent


def take(fold: Fold, event: RecordedEvent, source: Object, *, response: Response | None = None) -> Item | None:
    """Take over an item as the server describes it; None for one without an id, which can't be told from others."""
    item_id = json.identifier(source, "id")
    if not item_id:
        return None
    if fold.items.get(item_id) is None and response is None:
        fold.items.adopt(item_id, source)
    item = fold.item(item_id, event, response=response)
    if response is not None:
        item.response_id = item.response_id or response.id
        fold.response_of.setdefault(item_id, response)
    merge(item, source)
    if item.type == "function_call_output" and item.call_id:
        fold.answered.add(item.call_id)
    if (event.type or "").endswith(".done") and item.role != "user":
        _finish(fold, item)
    return item


def _finish(fold: Fold, item: Item) -> None:
    """The server has said all of an item. Not so of a user's: its transcript comes after the item is done."""
    item_id = item.id or ""
    for place, part in enumerate(item.content):
        fold.finished.update((item_id, place, field) for field in ("text", "transcript") if getattr(part, field))
    if item.arguments:
        fold.finished.add((item_id, 0, "arguments"))


def _create(fold: Fold, event: RecordedEvent, message: Object) -> None:
    """The client asks for an item: it stands where asked until the server has answered."""
    if fold.items.get(event.item_id) is not None:
        return
    source = json.child(message, "item")
    item = Item(event.item_id or None, "message", None, None, event.position, event.monotonic_ns, confirmed=False)
    merge(item, source)
    item.audio_ms = event.audio_ms
    if item.type == "function_call_output" and item.call_id:
        fold.answered.add(item.call_id)
    fold.items.add(item, after=event.previous_item_id)
    fold.requests.ask(event, lambda: _take_back(fold, item))


def _take_back(fold: Fold, item: Item) -> None:
    if not item.confirmed:
        fold.items.remove(item)
        fold.answered.discard(item.call_id)


def _added(fold: Fold, event: RecordedEvent, message: Object) -> None:
    item = _placed(fold, event, message)
    if item is not None:
        item.deleted = False


def _placed(fold: Fold, event: RecordedEvent, message: Object) -> Item | None:
    fold.requests.replied(event)
    item = take(fold, event, json.child(message, "item"))
    if item is not None:
        fold.items.into_conversation(item)
        fold.items.anchor(item, message)
        item.confirmed = True
    return item


def _done(fold: Fold, event: RecordedEvent, message: Object) -> None:
    _placed(fold, event, message)


def _output(fold: Fold, event: RecordedEvent, message: Object) -> None:
    take(fold, event, json.child(message, "item"), response=fold.responses.of(event))


def _deleted(fold: Fold, event: RecordedEvent, _message: Object) -> None:
    fold.requests.replied(event)
    item = fold.items.get(event.item_id)
    if item is not None:
        item.deleted = True


def _truncated(fold: Fold, event: RecordedEvent, message: Object) -> None:
    fold.requests.replied(event)
    item = fold.items.get(event.item_id)
    if item is not None:
        item.truncated = True
        end_ms = json.number(message, "audio_end_ms")
        item.audio_end_ms = item.audio_end_ms if end_ms is None else end_ms


HANDLERS: Final[Handlers] = {
    ("client", "conversation.item.create"): _create,
    ("server", "conversation.item.created"): _added,
    ("server", "conversation.item.added"): _added,
    ("server", "conversation.item.done"): _done,
    ("server", "conversation.item.retrieved"): _done,
    ("server", "conversation.item.deleted"): _deleted,
    ("server", "conversation.item.truncated"): _truncated,
    ("server", "response.output_item.added"): _output,
    ("server", "response.output_item.done"): _output,
}
