"""The responses of a session, as far as the fold has come: who is active, what is playing, what has been cut off.

An event without a response id belongs to the response that started last. Whether speech or a client's action meets a
response is decided as in the analytics: it has begun to speak, and is still active, or audible by the playback model.
"""

from __future__ import annotations

from recorder.projection.playback import Playback
from recorder.protocol.envelope import RecordedEvent


class Response:
    """One response.

    Attributes:
        id: the server's; None where it gave none.
        position: of its first event.
        at_ns: its monotonic time; None where unknown.
        out_of_band: it stands outside the conversation.
        active: it is not done.
        speaks: it has begun to be heard.
        last_item_id: the item that its events named last.
        playback: what is heard of it.
        met: speech or an action has met it while it could be heard; `cut` where that stopped it.
        buffer_started_ns, buffer_ended_ns: what a sideband says of its playing, which stands for the model then.
        has_buffer, buffer_is_over: that it says so, with times or without.
    """

    def __init__(self, response_id: str | None, event: RecordedEvent) -> None:
        self.id = response_id
        self.position = event.position
        self.at_ns = event.monotonic_ns
        self.out_of_band = False
        self.active = True
        self.speaks = self.met = self.cut = False
        self.last_item_id: str | None = None
        self.playback = Playback()
        self.has_buffer = self.buffer_is_over = False
        self.buffer_started_ns: int | None = None
        self.buffer_ended_ns: int | None = None

    def is_met_at(self, at_ns: int | None) -> bool:
        """Whether what happens now happens while it can be heard, or while it is still speaking."""
        if self.has_buffer:
            return not self.buffer_is_over
        until = self.playback.audible_until_ns
        return self.active or (at_ns is not None and until is not None and at_ns < until)

    def shown_ms(self, now_ns: int | None) -> float | None:
        """How long a sideband has seen it playing by now; None where none has."""
        end = now_ns if self.buffer_ended_ns is None else self.buffer_ended_ns
        if self.buffer_started_ns is None or end is None:
            return None
        return (end - self.buffer_started_ns) / 1e6


class Responses:
    """All responses by id, in order of their first events."""

    def __init__(self) -> None:
        self.all: list[Response] = []
        self._by_id: dict[str, Response] = {}
        self._speaking: list[Response] = []

    def of(self, event: RecordedEvent) -> Response | None:
        """The response that a server's event belongs to, made where it is the first to name it."""
        found = self._by_id.get(event.response_id or "")
        if found is not None:
            return found
        is_start = event.response_id is not None or event.type == "response.created"
        if is_start and (event.type or "").startswith("response."):
            found = Response(event.response_id, event)
            self.all.append(found)
            if event.response_id:
                self._by_id[event.response_id] = found
        if found is None and event.response_id is None and self.all:
            found = self.all[-1]
        return found

    def get(self, response_id: str | None) -> Response | None:
        """The response with this id."""
        return self._by_id.get(response_id or "")

    def speaks(self, response: Response) -> None:
        """A response begins to be heard."""
        response.speaks = True
        if response in self._speaking:
            self._speaking.remove(response)
        self._speaking.append(response)

    def latest_speaking(self) -> Response | None:
        """The response of the conversation that was the last to begin to speak."""
        return next((one for one in reversed(self._speaking) if not one.out_of_band), None)
