"""One line about an event: what a reader of a timeline wants to know of it.

The words hold recorded text as it is; whoever prints them on a terminal neutralises control characters first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from recorder.projection import payload as json
from recorder.protocol import envelope
from recorder.protocol.envelope import RecordedEvent
from recorder.protocol.event_types import canonical

SNIPPET = 120
"""Characters of a text that are shown; a terminal cuts further."""


def summarize(event: RecordedEvent) -> str:
    """A few words about an event; "" where the type says it all. Never raises.

    Args:
        event: any event; its parts are not needed.
    """
    if event.problem is not None:
        return _join(f"undecodable: {event.problem}", f"{event.wire_bytes:,} bytes")
    if event.type is None:
        kind = "binary" if event.opcode == 2 else "not a Realtime event"
        redacted = "redacted" if event.redacted else ""
        return _join(kind, f"{event.wire_bytes:,} bytes", redacted, quote((event.payload or "")[:SNIPPET]))
    name = canonical(event.type)
    writer = WRITERS.get(name) if _is_what_it_says(event) else None
    if writer is None and name.endswith(".delta"):
        writer = _delta
    return (writer or _other)(json.read(event.payload), event)


def _is_what_it_says(event: RecordedEvent) -> bool:
    """Whether it is not a message of the wire under a name of the recorder's own, or of a control frame."""
    name = event.type or ""
    if name.startswith("recorder."):
        return event.direction == "recorder"
    return not name.startswith("websocket.") or (event.opcode or 0) >= 8


def milliseconds(value: float | None) -> str:
    """`1,040 ms`, or "" where there is none."""
    return "" if value is None else f"{value:,.0f} ms"


def quote(text: str | None) -> str:
    """A snippet in quotes, blanks and line ends folded; "" for no text."""
    if not text:
        return ""
    folded = " ".join(text[: 2 * SNIPPET].split())
    cut = len(folded) > SNIPPET or len(text) > 2 * SNIPPET
    return f"“{folded[:SNIPPET]}…”" if cut else f"“{folded}”"


def _join(*pieces: str | None) -> str:
    return " · ".join(piece for piece in pieces if piece)


def _say(label: str, value: object) -> str:
    return "" if value is None else f"{label} {value}"


def _item_words(item: json.Object) -> str:
    kind = json.text(item, "type") or "item"
    if kind == "function_call_output":
        return _join(kind, quote(json.text(item, "output")), json.text(item, "call_id"))
    if kind == "message":
        parts = json.children(item, "content")
        said = " ".join(filter(None, (json.text(part, "text") or json.text(part, "transcript") for part in parts)))
        kinds = "" if said else ", ".join(json.text(part, "type") or "?" for part in parts)
        return _join(json.text(item, "role"), quote(said), kinds, _unless_completed(item))
    name, arguments = json.text(item, "name"), json.text(item, "arguments")
    called = f"{name}({_fold(arguments)})" if name else quote(arguments)
    return _join(kind, called, json.text(item, "server_label"), _unless_completed(item))


def _fold(text: str | None) -> str:
    folded = " ".join((text or "")[: 2 * SNIPPET].split())
    return folded if len(folded) <= SNIPPET else folded[:SNIPPET] + "…"


def _unless_completed(item: json.Object) -> str:
    status = json.text(item, "status")
    return "" if status in (None, "completed") else status or ""


# One writer a type


def _opened(message: json.Object, _event: RecordedEvent) -> str:
    request = json.child(message, "request")
    return _join(
        _say("file", json.text(message, "file")),
        json.text(message, "upstream"),
        json.text(request, "target"),
        json.text(json.child(message, "client"), "address"),
    )


def _handshake(message: json.Object, _event: RecordedEvent) -> str:
    took = json.number(message, "handshake_seconds")
    return _join(_say("status", message.get("status")), "" if took is None else f"{took * 1000:,.0f} ms")


def _closed(message: json.Object, _event: RecordedEvent) -> str:
    return _join(
        _say("by", json.text(message, "closed_by")),
        _say("code", message.get("close_code")),
        quote(json.text(message, "close_reason")),
        _say("status", message.get("status")),
        json.text(message, "error"),
        _left_out(json.child(message, "left_out")),
    )


def _left_out(counts: json.Object) -> str:
    sides = [json.number(counts, f"{side}_bytes") or 0 for side in ("client", "server")]
    return f"{sum(sides):,.0f} bytes left out" if counts else ""


def _gap(message: json.Object, _event: RecordedEvent) -> str:
    return _join(
        f"{json.number(message, 'bytes') or 0:,.0f} bytes not recorded",
        json.text(message, "direction"),
        json.text(message, "reason"),
    )


def _websocket_close(message: json.Object, _event: RecordedEvent) -> str:
    return _join(_say("code", message.get("code")), quote(json.text(message, "reason")))


def _session(message: json.Object, _event: RecordedEvent) -> str:
    session = json.child(message, "session")
    audio = json.child(session, "audio")
    sides = json.child(audio, "input"), json.child(audio, "output")
    modalities = session.get("output_modalities", session.get("modalities"))
    detection = json.child(sides[0], "turn_detection") or json.child(session, "turn_detection")
    tools = session.get("tools")
    return _join(
        json.text(session, "id"),
        json.text(session, "model"),
        "+".join(map(str, modalities)) if isinstance(modalities, list) else "",
        _say("voice", json.text(sides[1], "voice") or json.text(session, "voice")),
        json.text(detection, "type"),
        f"{len(tools)} tool{'s' if len(tools) > 1 else ''}" if isinstance(tools, list) and tools else "",
        quote(json.text(session, "instructions")),
    )


def _item_event(message: json.Object, _event: RecordedEvent) -> str:
    return _item_words(json.child(message, "item"))


def _item_create(message: json.Object, _event: RecordedEvent) -> str:
    return _join(_item_words(json.child(message, "item")), _say("after", json.text(message, "previous_item_id")))


def _truncation(message: json.Object, _event: RecordedEvent) -> str:
    return _join(_say("at", milliseconds(json.number(message, "audio_end_ms")) or None), json.text(message, "item_id"))


def _response_create(message: json.Object, _event: RecordedEvent) -> str:
    asked = json.child(message, "response")
    outside = "out of band" if json.text(asked, "conversation") == "none" else ""
    return _join(outside, quote(json.text(asked, "instructions")))


def _response_created(message: json.Object, event: RecordedEvent) -> str:
    return json.text(json.child(message, "response"), "id") or event.response_id or ""


def _response_done(message: json.Object, _event: RecordedEvent) -> str:
    response = json.child(message, "response")
    details = response.get("status_details")
    why = details if isinstance(details, str) else json.text(json.child(response, "status_details"), "reason")
    error = json.child(json.child(response, "status_details"), "error")
    usage = json.child(response, "usage") or json.child(message, "usage")
    tokens = json.number(usage, "input_tokens"), json.number(usage, "output_tokens")
    cached = json.number(json.child(usage, "input_token_details"), "cached_tokens")
    counted = "" if tokens[0] is None or tokens[1] is None else f"{tokens[0]:,.0f} in, {tokens[1]:,.0f} out"
    return _join(
        json.text(response, "status"),
        why if why != json.text(response, "status") else "",
        json.text(error, "message") or json.text(error, "code"),
        f"tokens {counted}" + (f", {cached:,.0f} cached" if cached else "") if counted else "",
    )


def _speech(message: json.Object, _event: RecordedEvent) -> str:
    start, end = json.number(message, "audio_start_ms"), json.number(message, "audio_end_ms")
    if start is not None and end is not None:
        return f"{start:,.0f}–{end:,.0f} ms of audio"
    at = end if start is None else start
    return "" if at is None else f"at {milliseconds(at)} of audio"


def _committed(message: json.Object, _event: RecordedEvent) -> str:
    return json.text(message, "item_id") or ""


def _error(message: json.Object, _event: RecordedEvent) -> str:
    error = json.child(message, "error")
    return _join(
        json.text(error, "code") or json.text(error, "type"),
        quote(json.text(error, "message")),
        _say("param", json.text(error, "param")),
        _say("caused by", json.text(error, "event_id")),
    )


def _rate_limits(message: json.Object, _event: RecordedEvent) -> str:
    return _join(*(_limit(limit) for limit in json.children(message, "rate_limits")))


def _limit(limit: json.Object) -> str:
    left, most = json.number(limit, "remaining"), json.number(limit, "limit")
    if left is None or most is None:
        return ""
    return f"{json.text(limit, 'name') or '?'} {left:,.0f} of {most:,.0f} left"


def _delta(message: json.Object, event: RecordedEvent) -> str:
    if event.audio_ms is not None or (event.type or "").endswith("audio.delta"):
        return milliseconds(event.audio_ms)
    return quote(json.text(message, "delta"))


def _append(_message: json.Object, event: RecordedEvent) -> str:
    return milliseconds(event.audio_ms)


def _other(message: json.Object, event: RecordedEvent) -> str:
    """Anything else: the first thing in it that reads like content."""
    for key in ("transcript", "text", "arguments", "reason", "message", "event"):
        found = json.text(message, key)
        if found:
            return quote(found)
    error = json.child(message, "error")
    part = json.child(message, "part")
    return _join(
        quote(json.text(error, "message")),
        quote(json.text(part, "transcript") or json.text(part, "text")),
        json.text(part, "type"),
        milliseconds(event.audio_ms),
        json.text(message, "item_id") if not part else None,
    )


Writer = Callable[[json.Object, RecordedEvent], str]

WRITERS: Final[dict[str, Writer]] = {
    envelope.SESSION_OPENED: _opened,
    envelope.HANDSHAKE_COMPLETED: _handshake,
    envelope.SESSION_CLOSED: _closed,
    envelope.GAP: _gap,
    "websocket.close": _websocket_close,
    "session.created": _session,
    "session.update": _session,
    "session.updated": _session,
    "transcription_session.created": _session,
    "transcription_session.update": _session,
    "transcription_session.updated": _session,
    "input_audio_buffer.append": _append,
    "session.input_audio_buffer.append": _append,
    "input_audio_buffer.speech_started": _speech,
    "input_audio_buffer.speech_stopped": _speech,
    "input_audio_buffer.timeout_triggered": _speech,
    "input_audio_buffer.committed": _committed,
    "conversation.item.create": _item_create,
    "conversation.item.created": _item_event,
    "conversation.item.added": _item_event,
    "conversation.item.done": _item_event,
    "conversation.item.retrieved": _item_event,
    "response.output_item.added": _item_event,
    "response.output_item.done": _item_event,
    "conversation.item.truncate": _truncation,
    "conversation.item.truncated": _truncation,
    "response.create": _response_create,
    "response.created": _response_created,
    "response.done": _response_done,
    "rate_limits.updated": _rate_limits,
    "error": _error,
}
