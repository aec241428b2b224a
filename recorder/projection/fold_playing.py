"""Events about what is being played: barge-ins, cancels, truncations, and what a sideband sees of the player."""

from __future__ import annotations

from typing import Final

from recorder.projection import payload as json
from recorder.projection.fold import Fold, Handlers
from recorder.projection.payload import Object
from recorder.projection.responses import Response
from recorder.protocol.envelope import RecordedEvent


def _speech_started(fold: Fold, event: RecordedEvent, message: Object) -> None:
    if event.item_id:
        fold.input.speech(event.item_id, json.number(message, "audio_start_ms"), None)
    response = fold.responses.latest_speaking()
    if response is not None and response.is_met_at(event.monotonic_ns):
        _meet(fold, event, response, cuts=fold.detection.get("interrupt_response") is not False)


def _stop(fold: Fold, event: RecordedEvent, _message: Object) -> None:
    """The client plays no further, whatever the server makes of it."""
    named = fold.response_of.get(event.item_id or "") or fold.responses.get(event.response_id)
    response = named or fold.responses.latest_speaking()
    if response is not None and response.speaks and response.is_met_at(event.monotonic_ns):
        _meet(fold, event, response, cuts=True)


def _meet(fold: Fold, event: RecordedEvent, response: Response, *, cuts: bool) -> None:
    if not response.cut and not (event.direction == "client" and response.met):
        fold.interrupted.add(_met_item(event, response) or "")
    response.met = True
    response.cut = response.cut or cuts
    if cuts and event.monotonic_ns is not None:
        response.playback.cut(event.monotonic_ns)


def _met_item(event: RecordedEvent, response: Response) -> str | None:
    if event.type == "conversation.item.truncate" and event.item_id:
        return event.item_id
    playing = None if event.monotonic_ns is None else response.playback.playing(event.monotonic_ns)
    return playing or response.last_item_id


def _truncate(fold: Fold, event: RecordedEvent, message: Object) -> None:
    """The client says how much it has played. That holds unless the server refuses it."""
    _stop(fold, event, message)
    item, end_ms = fold.items.get(event.item_id), json.number(message, "audio_end_ms")
    if item is None or end_ms is None:
        return
    before, item.audio_end_ms = item.audio_end_ms, end_ms

    def restore() -> None:
        item.audio_end_ms = before

    fold.requests.ask(event, restore)


def _cancel(fold: Fold, event: RecordedEvent, message: Object) -> None:
    _stop(fold, event, message)
    fold.requests.ask(event, lambda: None)  # has been played no further all the same


def _buffer_started(fold: Fold, event: RecordedEvent, _message: Object) -> None:
    response = fold.responses.of(event)
    if response is not None and not response.has_buffer:
        response.has_buffer = True
        response.buffer_started_ns = event.monotonic_ns
        fold.responses.speaks(response)


def _buffer_ended(fold: Fold, event: RecordedEvent, _message: Object) -> None:
    response = fold.responses.of(event)
    if response is not None and not response.buffer_is_over:
        response.buffer_is_over = True
        response.buffer_ended_ns = event.monotonic_ns


HANDLERS: Final[Handlers] = {
    ("server", "input_audio_buffer.speech_started"): _speech_started,
    ("client", "response.cancel"): _cancel,
    ("client", "conversation.item.truncate"): _truncate,
    ("client", "output_audio_buffer.clear"): _stop,
    ("server", "output_audio_buffer.started"): _buffer_started,
    ("server", "output_audio_buffer.stopped"): _buffer_ended,
    ("server", "output_audio_buffer.cleared"): _buffer_ended,
}
