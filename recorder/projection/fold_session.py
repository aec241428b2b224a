"""Events about the session as a whole: its configuration, the input audio buffer, responses, errors."""

from __future__ import annotations

from typing import Any, Final

from recorder.projection import payload as json
from recorder.projection.fold import Fold, Handlers
from recorder.projection.fold_items import take
from recorder.projection.item_list import part_at
from recorder.projection.payload import Object
from recorder.projection.state import ActiveResponse
from recorder.protocol.envelope import SESSION_CLOSED, RecordedEvent


def merge_config(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Lay one configuration over another, object by object.

    Objects that say by `type` that they are of another kind replace what was there: a semantic VAD keeps no
    threshold of the server VAD before it.
    """
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        if (
            isinstance(before, dict)
            and isinstance(value, dict)
            and value.get("type", before.get("type")) == before.get("type")
        ):
            merged[key] = merge_config(before, value)
        else:
            merged[key] = value
    return merged


def _session(fold: Fold, _event: RecordedEvent, message: Object) -> None:
    fold.session = merge_config(fold.session, json.child(message, "session"))


def _closed(fold: Fold, _event: RecordedEvent, _message: Object) -> None:
    fold.closed = True


def _error(fold: Fold, _event: RecordedEvent, message: Object) -> None:
    error = json.child(message, "error")
    if (json.text(error, "code") or "").startswith("input_audio_buffer_commit"):
        fold.input.commit_refused()
    refused = json.identifier(error, "event_id")
    item = fold.created_by.pop(refused, None) if refused else None
    if item is not None and not item.confirmed:
        fold.items.remove(item)
        fold.answered.discard(item.call_id)


# The input audio buffer


def _append(fold: Fold, event: RecordedEvent, _message: Object) -> None:
    fold.input.append(event.audio_ms or 0.0)


def _ask_commit(fold: Fold, _event: RecordedEvent, _message: Object) -> None:
    fold.input.ask_commit()


def _ask_clear(fold: Fold, _event: RecordedEvent, _message: Object) -> None:
    fold.input.ask_clear()


def _cleared(fold: Fold, _event: RecordedEvent, _message: Object) -> None:
    fold.input.cleared()


def _speech(fold: Fold, event: RecordedEvent, message: Object) -> None:
    if event.item_id:
        start, end = json.number(message, "audio_start_ms"), json.number(message, "audio_end_ms")
        fold.input.speech(event.item_id, start, end)


def _speech_started(fold: Fold, event: RecordedEvent, message: Object) -> None:
    _speech(fold, event, message)
    audio_input = json.child(json.child(fold.session, "audio"), "input")
    detection = json.child(audio_input, "turn_detection") or json.child(fold.session, "turn_detection")
    if detection.get("interrupt_response") is not False:
        _cut(fold, event, message)


def _committed(fold: Fold, event: RecordedEvent, _message: Object) -> None:
    audio_ms = fold.input.committed(event.item_id)
    if event.item_id:
        item = fold.item(event.item_id, event, role="user", after=event.previous_item_id)
        part = part_at(item, 0)
        part.type = part.type or "input_audio"
        part.audio_ms = item.audio_ms = audio_ms


# Responses


def _ask_response(fold: Fold, _event: RecordedEvent, message: Object) -> None:
    fold.asked_out_of_band.append(json.text(json.child(message, "response"), "conversation") == "none")


def _response_created(fold: Fold, event: RecordedEvent, message: Object) -> None:
    response, response_id = json.child(message, "response"), event.response_id
    asked = fold.asked_out_of_band.popleft() if fold.asked_out_of_band else False
    # Servers that name the conversation say null for none; the others leave only the request to go by.
    outside = response["conversation_id"] is None if "conversation_id" in response else asked
    if outside and response_id:
        fold.out_of_band.add(response_id)
    if response_id is None or all(active.id != response_id for active in fold.responses):
        fold.responses.append(ActiveResponse(response_id, event.position, event.monotonic_ns, outside))


def _response_done(fold: Fold, event: RecordedEvent, message: Object) -> None:
    for active in fold.responses:
        if active.id == event.response_id:
            fold.responses.remove(active)
            break
    for source in json.children(json.child(message, "response"), "output"):
        take(fold, event, source, response_id=event.response_id)


def _cut(fold: Fold, event: RecordedEvent, _message: Object) -> None:
    """The client plays no further, whatever the server makes of it."""
    if event.monotonic_ns is not None:
        fold.playback.cut(event.monotonic_ns)


HANDLERS: Final[Handlers] = {
    ("recorder", SESSION_CLOSED): _closed,
    ("client", "input_audio_buffer.append"): _append,
    ("client", "input_audio_buffer.commit"): _ask_commit,
    ("client", "input_audio_buffer.clear"): _ask_clear,
    ("client", "response.create"): _ask_response,
    ("client", "response.cancel"): _cut,
    ("client", "conversation.item.truncate"): _cut,
    ("client", "output_audio_buffer.clear"): _cut,
    ("server", "output_audio_buffer.cleared"): _cut,
    ("server", "error"): _error,
    ("server", "session.created"): _session,
    ("server", "session.updated"): _session,
    ("server", "transcription_session.created"): _session,
    ("server", "transcription_session.updated"): _session,
    ("server", "input_audio_buffer.speech_started"): _speech_started,
    ("server", "input_audio_buffer.speech_stopped"): _speech,
    ("server", "input_audio_buffer.timeout_triggered"): _speech,
    ("server", "input_audio_buffer.committed"): _committed,
    ("server", "input_audio_buffer.cleared"): _cleared,
    ("server", "response.created"): _response_created,
    ("server", "response.done"): _response_done,
}
