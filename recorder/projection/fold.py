"""What a conversation's fold works on: the state in the making, and what it remembers between events.

The handlers of `fold_session`, `fold_items` and `fold_content` change it, one event type each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from recorder.projection.input_buffer import InputBuffer
from recorder.projection.item_list import ItemList
from recorder.projection.payload import Object
from recorder.projection.playback import Playback
from recorder.projection.state import ActiveResponse, Item
from recorder.protocol.envelope import RecordedEvent


class Fold:
    """The working state.

    Attributes:
        position: of the last event applied; -1 before the first.
        at_ns: the latest monotonic time seen; None where unknown.
        session: effective configuration.
        items: the conversation and what stands outside.
        input: the server's input audio buffer.
        playback: what the listener has heard, by model.
        responses: created and not done.
        out_of_band: ids of responses outside the conversation.
        asked_out_of_band: for each `response.create` not yet used, whether it asked for that.
        answered: ids of calls that have an output.
        finished: (item, content index, field) whose text is whole: later pieces are doubles.
        created_by: the client's items by the `event_id` that created them, so that an error can take them back.
        closed: the session has ended.
    """

    def __init__(self) -> None:
        self.position = -1
        self.at_ns: int | None = None
        self.session: dict[str, Any] = {}
        self.items = ItemList()
        self.input = InputBuffer()
        self.playback = Playback()
        self.responses: list[ActiveResponse] = []
        self.out_of_band: set[str | None] = set()
        self.asked_out_of_band: deque[bool] = deque()
        self.answered: set[str | None] = set()
        self.finished: set[tuple[str, int, str]] = set()
        self.created_by: dict[str, Item] = {}
        self.closed = False

    def item(
        self,
        item_id: str,
        event: RecordedEvent,
        *,
        role: str | None = None,
        response_id: str | None = None,
        after: str | None = None,
    ) -> Item:
        """The item with this id, made where the event is the first to name it."""
        item = self.items.get(item_id)
        if item is not None:
            return item
        item = Item(item_id, "message", role, None, event.position, event.monotonic_ns, response_id=response_id)
        if response_id is not None and response_id in self.out_of_band:
            return self.items.add_out_of_band(item)
        return self.items.add(item, after=after)


Handler = Callable[[Fold, RecordedEvent, Object], None]
"""Takes the working state, an event, and the event's payload as an object."""

Handlers = dict[tuple[str, str], Handler]
"""By direction and canonical type."""
