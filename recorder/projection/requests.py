"""What the client asked for, until an `error` refuses it: by the event id that it names, else by what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from recorder.projection import payload as json
from recorder.projection.payload import Object
from recorder.protocol.envelope import RecordedEvent

Undo = Callable[[], None]

_BUSY: Final = "conversation_already_has_active_response"
_MOST: Final = 256
"""Requests that are remembered: an error follows what it refuses closely."""


class Requests:
    """The client's latest requests, with how to take each back."""

    def __init__(self) -> None:
        self._asked: list[tuple[str | None, str, int, Undo]] = []
        self._own_attempt: tuple[int, str] | None = None

    def ask(self, event: RecordedEvent, undo: Undo) -> None:
        """Remember a request."""
        self._asked.append((event.event_id or None, event.type or "", event.position, undo))
        del self._asked[:-_MOST]

    def answers_voice(self, position: int, item_id: str) -> None:
        """The server has committed a voice: with that it attempts a response, which can be refused as well."""
        self._own_attempt = position, item_id

    def replied(self, event: RecordedEvent) -> None:
        """The server has gone on since it committed a voice: what it refuses from now on is the client's."""
        if self._own_attempt is not None and event.item_id != self._own_attempt[1]:
            self._own_attempt = None

    def refuse(self, error: Object) -> None:
        """Take back what an error refuses, once."""
        attempt, self._own_attempt = self._own_attempt, None
        cause = json.identifier(error, "event_id")
        place = self._last(lambda event_id, _: cause is not None and event_id == cause)
        if place is None:
            kind = _refused_kind(error)
            place = self._last(lambda _, asked: asked == kind)
            busy = json.text(error, "code") == _BUSY
            if place is not None and attempt is not None and busy and self._asked[place][2] < attempt[0]:
                return  # the server's own: it comes with the commit, after what the client had asked for
        if place is not None:
            self._asked.pop(place)[3]()

    def _last(self, fits: Callable[[str | None, str], bool]) -> int | None:
        for place in range(len(self._asked) - 1, -1, -1):
            if fits(*self._asked[place][:2]):
                return place
        return None


def _refused_kind(error: Object) -> str | None:
    """The type of the request that an error which names none is about."""
    code, param, message = (json.text(error, key) or "" for key in ("code", "param", "message"))
    if code == _BUSY or param.startswith("response"):
        return "response.create"
    if code == "response_cancel_not_active":
        return "response.cancel"
    if code.startswith("input_audio_buffer_commit"):
        return "input_audio_buffer.commit"
    said = message.lower()
    if param == "audio_end_ms" or "truncat" in said or "already shorter than" in said:
        return "conversation.item.truncate"
    if param in {"item", "previous_item_id"} or param.startswith("item."):
        return "conversation.item.create"
    return None
