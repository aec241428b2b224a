"""The fold of a session's events into the state of its conversation, at any position.

    Conversation().apply(event) …                  one event after the other
    project(events, at=42)                         the state right after position 42

Pure, and never raises whatever the payloads hold: what cannot be read changes nothing. GA and beta names are one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import structs

from recorder.projection import fold_content, fold_items, fold_playing, fold_session, payload
from recorder.projection.fold import Fold, Handlers
from recorder.projection.state import ActiveResponse, ConversationState, Item, PendingToolCall
from recorder.protocol.envelope import RecordedEvent
from recorder.protocol.event_types import canonical

HANDLERS: Final[Handlers] = fold_session.HANDLERS | fold_items.HANDLERS | fold_content.HANDLERS | fold_playing.HANDLERS


class Conversation:
    """A conversation as its events build it up."""

    def __init__(self) -> None:
        self._fold = Fold()

    @property
    def items(self) -> list[Item]:
        """The conversation in order, deleted items included. Live: `state()` gives a copy, with `heard_ms` filled."""
        return self._fold.items.ordered

    def spans(self, item_id: str) -> list[tuple[int, int]]:
        """When the listener heard an item, by the playback model; see `Playback.spans`."""
        response = self._fold.response_of.get(item_id)
        return [] if response is None else response.playback.spans(item_id)

    def advance(self, position: int, at_ns: int | None) -> None:
        """Move on to a position and its monotonic time, past events that change nothing."""
        fold = self._fold
        fold.position = position
        if at_ns is not None:
            fold.at_ns = max(fold.at_ns or 0, at_ns)

    def appended(self, total_ms: float) -> None:
        """Take in all audio appends so far at once: how much audio they brought, in milliseconds."""
        self._fold.input.appended(total_ms)

    def apply(self, event: RecordedEvent) -> None:
        """Take in one event. Events come in order of position."""
        fold = self._fold
        self.advance(event.position, event.monotonic_ns)
        if event.type is None:
            return
        if event.direction == "server" and event.type.startswith("response."):
            fold.attribute(event)
        name = canonical(event.type)
        handler = HANDLERS.get((event.direction, name))
        if handler is not None:
            handler(fold, event, {} if name in fold_content.BLIND else payload.read(event.payload))

    def state(self) -> ConversationState:
        """The state right after the last event applied; independent of later ones."""
        fold = self._fold
        shown = _shown(fold)
        return ConversationState(
            position=fold.position,
            at_ns=fold.at_ns,
            session=fold.session,  # never changed in place
            items=[_settled(item, fold, shown) for item in fold.items.ordered],
            out_of_band=[_settled(item, fold, shown) for item in fold.items.out_of_band],
            active_responses=[
                ActiveResponse(one.id, one.position, one.at_ns, one.out_of_band)
                for one in fold.responses.all
                if one.active
            ],
            pending_tool_calls=_pending_tool_calls(fold),
            uncommitted_audio_ms=fold.input.uncommitted_ms,
            closed=fold.closed,
        )


def heeds(direction: str, name: str | None) -> bool:
    """Whether events of this sender and wire name can change more than position and time."""
    if name is None:
        return False
    return (direction, canonical(name)) in HANDLERS or (direction == "server" and name.startswith("response."))


def project(events: Iterable[RecordedEvent], at: int | None = None) -> ConversationState:
    """Fold events into the state of the conversation.

    Args:
        events: of one session, in order of position.
        at: the last position to take in; None for all.

    Returns:
        The state right after the event at `at`.
    """
    conversation = Conversation()
    for event in events:
        if at is not None and event.position > at:
            break
        conversation.apply(event)
    return conversation.state()


def _shown(fold: Fold) -> dict[str, float]:
    """What a sideband saw of the playing of each response, by the response's last message."""
    items = [item for item in fold.items.ordered + fold.items.out_of_band if item.type == "message" and item.id]
    last = {
        id(fold.response_of[item.id or ""]): item
        for item in sorted(items, key=_position)
        if item.id in fold.response_of
    }
    played = ((last.get(id(response)), response.shown_ms(fold.at_ns)) for response in fold.responses.all)
    return {item.id or "": ms for item, ms in played if item is not None and ms is not None}


def _position(item: Item) -> int:
    return item.position


def _settled(item: Item, fold: Fold, shown: dict[str, float]) -> Item:
    """A copy with what has been heard of it by now."""
    settled = structs.replace(item, content=[structs.replace(part) for part in item.content])
    item_id = item.id or ""
    settled.interrupted = item.truncated or item_id in fold.interrupted
    response = fold.response_of.get(item_id)
    if item.role == "user":
        return settled
    most = item.audio_ms or float("inf")
    if item.audio_end_ms is not None:
        settled.heard_ms = min(max(item.audio_end_ms, 0.0), most)
    elif item_id in shown:
        settled.heard_ms, settled.heard_estimated = min(shown[item_id], most), True
    elif item.audio_ms and response is not None and fold.at_ns is not None:
        settled.heard_ms, settled.heard_estimated = response.playback.heard_ms(item_id, fold.at_ns), True
    return settled


def _pending_tool_calls(fold: Fold) -> list[PendingToolCall]:
    return [
        PendingToolCall(
            call_id=item.call_id,
            item_id=item.id,
            name=item.name,
            arguments=item.arguments,
            complete=item.status == "completed" or (item.id or "", 0, "arguments") in fold.finished,
            position=item.position,
        )
        for item in [*fold.items.ordered, *fold.items.out_of_band]
        if item.type == "function_call"
        and not item.deleted
        and (item.call_id is None or item.call_id not in fold.answered)
    ]
