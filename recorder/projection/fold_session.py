"""Events about the session as a whole: its configuration, the input audio buffer, responses, errors."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from recorder.projection import payload as json
from recorder.projection.fold import Fold, Handlers
from recorder.projection.fold_items import take
from recorder.projection.item_list import part_at
from recorder.projection.payload import Object
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


def _session(fold: Fold, event: RecordedEvent, message: Object) -> None:
    fold.requests.replied(event)
    fold.session = merge_config(fold.session, json.child(message, "session"))


def _closed(fold: Fold, _event: RecordedEvent, _message: Object) -> None:
    fold.closed = True


def _error(fold: Fold, _event: RecordedEvent, message: Object) -> None:
    fold.requests.refuse(json.child(message, "error"))


# The input audio buffer


def _append(fold: Fold, event: RecordedEvent, _message: Object) -> None:
    fold.input.append(event.audio_ms or 0.0)


def _ask_commit(fold: Fold, event: RecordedEvent, _message: Object) -> None:
    fold.input.ask_commit()
    fold.requests.ask(event, fold.input.commit_refused)


def _ask_clear(fold: Fold, _event: RecordedEvent, _message: Object) -> None:
    fold.input.ask_clear()


def _cleared(fold: Fold, event: RecordedEvent, _message: Object) -> None:
    fold.requests.replied(event)
    fold.input.cleared()


def _speech(fold: Fold, event: RecordedEvent, message: Object) -> None:
    if event.item_id:
        start, end = json.number(message, "audio_start_ms"), json.number(message, "audio_end_ms")
        fold.input.speech(event.item_id, start, end)
        fold.voices.add(event.item_id)


def _committed(fold: Fold, event: RecordedEvent, _message: Object) -> None:
    audio_ms = fold.input.committed(event.item_id)
    fold.requests.replied(event)
    if event.item_id and event.item_id in fold.voices and fold.detection.get("create_response") is not False:
        fold.requests.answers_voice(event.position, event.item_id)
    if event.item_id:
        item = fold.item(event.item_id, event, role="user", after=event.previous_item_id)
        part = part_at(item, 0)
        part.type = part.type or "input_audio"
        part.audio_ms = item.audio_ms = audio_ms


# Responses


def _ask_response(fold: Fold, event: RecordedEvent, message: Object) -> None:
    asked = [json.text(json.child(message, "response"), "conversation") == "none"]
    fold.asked_out_of_band.append(asked)
    fold.requests.ask(event, lambda: _forget(fold, asked))


def _forget(fold: Fold, asked: list[bool]) -> None:
    fold.asked_out_of_band = deque(one for one in fold.asked_out_of_band if one is not asked)


def _response_created(fold: Fold, event: RecordedEvent, message: Object) -> None:
    response, described = fold.responses.of(event), json.child(message, "response")
    fold.requests.replied(event)
    asked = fold.asked_out_of_band.popleft()[0] if fold.asked_out_of_band else False
    # Servers that name the conversation say null for none; the others leave only the request to go by.
    if response is not None:
        response.out_of_band = described["conversation_id"] is None if "conversation_id" in described else asked


def _response_done(fold: Fold, event: RecordedEvent, message: Object) -> None:
    response = fold.responses.of(event)
    if response is not None:
        response.active = False
    for source in json.children(json.child(message, "response"), "output"):
        take(fold, event, source, response=response)


HANDLERS: Final[Handlers] = {
    ("recorder", SESSION_CLOSED): _closed,
    ("client", "input_audio_buffer.append"): _append,
    ("client", "session.input_audio_buffer.append"): _append,
    ("client", "input_audio_buffer.commit"): _ask_commit,
    ("client", "input_audio_buffer.clear"): _ask_clear,
    ("client", "response.create"): _ask_response,
    ("server", "error"): _error,
    ("server", "session.created"): _session,
    ("server", "session.updated"): _session,
    ("server", "transcription_session.created"): _session,
    ("server", "transcription_session.updated"): _session,
    ("server", "session.started"): _session,
    ("server", "input_audio_buffer.speech_stopped"): _speech,
    ("server", "input_audio_buffer.timeout_triggered"): _speech,
    ("server", "input_audio_buffer.committed"): _committed,
    ("server", "input_audio_buffer.cleared"): _cleared,
    ("server", "response.created"): _response_created,
    ("server", "response.done"): _response_done,
}
