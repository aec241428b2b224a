"""The fold of a session's events into the state of its conversation, at any position.

    Conversation().apply(event) …                  one event after the other
    project(events, at=42)                         the state right after position 42

Pure, and never raises whatever the payloads hold: what cannot be read changes nothing. GA and beta names are one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Final

from recorder.projection import fold_content, fold_items, fold_session, payload
from recorder.projection.fold import Fold, Handlers
from recorder.projection.state import ConversationState, Item, PendingToolCall
from recorder.protocol.envelope import RecordedEvent
from recorder.protocol.event_types import canonical

HANDLERS: Final[Handlers] = fold_session.HANDLERS | fold_items.HANDLERS | fold_content.HANDLERS


class Conversation:
    """A conversation as its events build it up."""

    def __init__(self) -> None:
        self._fold = Fold()

    @property
    def items(self) -> list[Item]:
        """The conversation in order, deleted items included. Live: `state()` gives a copy, with `heard_ms` filled."""
        return self._fold.items.ordered

    def apply(self, event: RecordedEvent) -> None:
        """Take in one event. Events come in order of position."""
        fold = self._fold
        fold.position = event.position
        if event.monotonic_ns is not None:
            fold.at_ns = max(fold.at_ns or 0, event.monotonic_ns)
        if event.type is not None:
            handler = HANDLERS.get((event.direction, canonical(event.type)))
            if handler is not None:
                handler(fold, event, payload.read(event.payload))

    def state(self) -> ConversationState:
        """The state right after the last event applied; independent of later ones."""
        fold = self._fold
        return ConversationState(
            position=fold.position,
            at_ns=fold.at_ns,
            session=copy.deepcopy(fold.session),
            items=[_settled(item, fold) for item in fold.items.ordered],
            out_of_band=[_settled(item, fold) for item in fold.items.out_of_band],
            active_responses=copy.deepcopy(fold.responses),
            pending_tool_calls=_pending_tool_calls(fold),
            uncommitted_audio_ms=fold.input.uncommitted_ms,
            closed=fold.closed,
        )


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


def _settled(item: Item, fold: Fold) -> Item:
    """A copy with what has been heard of it by now."""
    settled = copy.deepcopy(item)
    settled.interrupted = item.truncated or fold.playback.was_cut(item.id or "")
    if item.role == "user" or not item.audio_ms:
        return settled
    if item.audio_end_ms is not None:
        settled.heard_ms = min(max(item.audio_end_ms, 0.0), item.audio_ms)
    elif fold.at_ns is not None and item.id:
        settled.heard_ms, settled.heard_estimated = fold.playback.heard_ms(item.id, fold.at_ns), True
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
