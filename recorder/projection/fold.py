"""What a conversation's fold works on: the state in the making, and what it remembers between events.

The handlers of `fold_session`, `fold_items` and `fold_content` change it, one event type each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from recorder.projection import payload as json
from recorder.projection.input_buffer import InputBuffer
from recorder.projection.item_list import ItemList
from recorder.projection.payload import Object
from recorder.projection.requests import Requests
from recorder.projection.responses import Response, Responses
from recorder.projection.state import Item
from recorder.protocol.envelope import RecordedEvent


class Fold:
    """The working state.

    Attributes:
        position: of the last event applied; -1 before the first.
        at_ns: the latest monotonic time seen; None where unknown.
        session: effective configuration.
        items: the conversation and what stands outside.
        input: the server's input audio buffer.
        voices: items whose speech, or silence, the server has seen the end of.
        responses: what they are, and what of them is heard.
        response_of: the response that made an item, by the item's id.
        interrupted: ids of items that speech or an action met while they could be heard.
        asked_out_of_band: for each `response.create` not yet used, whether it asked to stay outside the conversation.
        requests: what an `error` may yet refuse.
        answered: ids of calls that have an output.
        finished: (item, content index, field) whose text is whole: later pieces are doubles.
        closed: the session has ended.
    """

    def __init__(self) -> None:
        self.position = -1
        self.at_ns: int | None = None
        self.session: dict[str, Any] = {}
        self.items = ItemList()
        self.input = InputBuffer()
        self.voices: set[str] = set()
        self.responses = Responses()
        self.response_of: dict[str, Response] = {}
        self.interrupted: set[str] = set()
        self.asked_out_of_band: deque[list[bool]] = deque()
        self.requests = Requests()
        self.answered: set[str | None] = set()
        self.finished: set[tuple[str, int, str]] = set()
        self.closed = False

    @property
    def detection(self) -> Object:
        """The effective turn detection; empty where there is none."""
        audio_input = json.child(json.child(self.session, "audio"), "input")
        return json.child(audio_input, "turn_detection") or json.child(self.session, "turn_detection")

    def attribute(self, event: RecordedEvent) -> Response | None:
        """The response that an event of the server's belongs to. An item that it names is that response's."""
        response = self.responses.of(event)
        if response is not None and event.item_id:
            response.last_item_id = event.item_id
            self.response_of.setdefault(event.item_id, response)
        return response

    def item(
        self,
        item_id: str,
        event: RecordedEvent,
        *,
        role: str | None = None,
        response: Response | None = None,
        after: str | None = None,
    ) -> Item:
        """The item with this id, made where the event is the first to name it."""
        item = self.items.get(item_id)
        if item is not None:
            return item
        response_id = None if response is None else response.id
        item = Item(item_id, "message", role, None, event.position, event.monotonic_ns, response_id=response_id)
        if response is not None and response.out_of_band:
            return self.items.add_out_of_band(item)
        return self.items.add(item, after=after)


Handler = Callable[[Fold, RecordedEvent, Object], None]
"""Takes the working state, an event, and the event's payload as an object."""

Handlers = dict[tuple[str, str], Handler]
"""By direction and canonical type."""
