"""Messages → rows: positions, times, audio formats in force, redaction and policy of one session's events.

Pure, and never raises on what a client or server sent: what is no JSON has no type, and keeps its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from recorder.protocol.append_runs import AppendRun, Matches
from recorder.protocol.audio import Cut, Formats, audio_key, bytes_per_ms, cut_media, cut_verbatim, may_hold_media
from recorder.protocol.checkpoint import BuilderState
from recorder.protocol.control_frames import BINARY, CLOSE, CONTROL_TYPES, TEXT, parse_close
from recorder.protocol.envelope import Direction, Part, RecordedEvent
from recorder.protocol.fields import Fields, read_fields, read_object
from recorder.protocol.frames import Side, text_problem
from recorder.protocol.policy import ContentPolicy, LeftOut, hash_text
from recorder.protocol.redact import may_hold_secrets, redact_message

_FORMAT_TYPES: Final = frozenset(
    {
        "session.created",
        "session.start",
        "session.started",
        "session.update",
        "session.updated",
        "transcription_session.created",
        "transcription_session.updated",
        "transcription_session.update",
        "response.created",
    }
)


class EventBuilder:
    """Makes the events of one session, in order: positions, times, formats in force, redaction.

    Args:
        session_id: of all its events.
        opened_at_ns: UTC wall time of the opening in Unix nanoseconds; None where unknown, then no event has one.
        opened_monotonic_ns: the same instant on the clock that `at_ns` arguments are read from.
        policy: what of its messages is not to be kept.
    """

    def __init__(
        self,
        session_id: str,
        opened_at_ns: int | None,
        opened_monotonic_ns: int,
        policy: ContentPolicy | None = None,
    ) -> None:
        self.session_id = session_id
        self.position = 0
        """Position of the next event."""
        self.formats = Formats()
        self.policy = policy or ContentPolicy()
        self.left_out = LeftOut()
        """What the policy took out so far."""
        self._opened_at_ns = opened_at_ns
        self._opened_monotonic_ns = opened_monotonic_ns

    @classmethod
    def of(cls, state: BuilderState) -> EventBuilder:
        """Go on from a state."""
        builder = cls(state.session_id, state.opened_at_ns, state.opened_monotonic_ns, state.policy)
        builder.position, builder.formats = state.position, Formats.of(state.formats)
        builder.left_out = msgspec.structs.replace(state.left_out)
        return builder

    def state(self) -> BuilderState:
        """What `of` goes on from."""
        return BuilderState(
            self.session_id,
            self.position,
            self._opened_at_ns,
            self._opened_monotonic_ns,
            self.policy,
            msgspec.structs.replace(self.left_out),
            self.formats.state(),
        )

    def own(self, event_type: str, payload: str, at_ns: int | None) -> RecordedEvent:
        """An event of the recorder itself.

        Args:
            event_type: `recorder.…`.
            payload: its facts as JSON.
            at_ns: when, on the monotonic clock; None where unknown.
        """
        event = self._event("recorder", at_ns)
        event.type, event.payload = event_type, payload
        return event

    def message(
        self,
        direction: Side,
        data: bytes,
        *,
        opcode: int = TEXT,
        wire_bytes: int | None = None,
        at_ns: int | None = None,
        problem: str | None = None,
        opaque: bool = False,
    ) -> RecordedEvent:
        """A message of the wire.

        Args:
            direction: who sent it.
            data: its payload.
            opcode: the WebSocket opcode.
            wire_bytes: bytes of its frames; the length of `data` where there were none (imports).
            at_ns: when its last byte was read, on the monotonic clock; None where unknown.
            problem: why it is undecodable; its bytes are kept then, whatever the opcode.
            opaque: keep its bytes although nothing is wrong with it: what a recorder kept as bytes stays so.
        """
        event = self._event(direction, at_ns)
        event.opcode, event.problem = opcode, problem
        event.wire_bytes = len(data) if wire_bytes is None else wire_bytes
        event.type = CONTROL_TYPES.get(opcode)
        if opaque or problem is not None or opcode == BINARY:
            _keep_bytes(event, data)
        elif opcode == TEXT:
            self._read_text(event, data)
        else:
            _read_control(event, data)
        if not self.policy.keeps_all:
            self._leave_out(direction, event)
        return event

    def note(self, event: RecordedEvent) -> None:
        """Go on after an event that was made before: what it says about formats holds from here on."""
        self.position = event.position + 1
        if event.type in _FORMAT_TYPES and event.payload is not None:
            self._note_formats(event, event.payload.encode())

    def claim(self, count: int) -> range:
        """The next positions, for events that come later, in a run."""
        self.position += count
        return range(self.position - count, self.position)

    def appends(
        self, matches: Matches, rows: range, positions: list[int], at_ns: Sequence[int], bytes_per_ms: float | None
    ) -> AppendRun:
        """Audio appends that have been matched with one that came before: what `message` makes of each.

        Args:
            matches: with what.
            rows: which of them.
            positions: what `claim` gave for each.
            at_ns: when their last bytes were read, on the monotonic clock.
            bytes_per_ms: of the audio in force then; None where it is not known.
        """
        monotonic_ns = [at - self._opened_monotonic_ns for at in at_ns]
        opened = self._opened_at_ns
        wall = None if opened is None else [opened + since for since in monotonic_ns]
        return matches.run(rows, positions, (wall, monotonic_ns), bytes_per_ms)

    def _leave_out(self, direction: Side, event: RecordedEvent) -> None:
        """Apply the policy to a message whose duration and formats have been read."""
        if event.opcode == CLOSE and event.payload is not None:
            if self.policy.hash_text:
                _hash_reason(event, self.left_out, direction)
            return
        whole = event.message()
        if not whole:
            return
        kept = None if event.payload is None else self.policy.apply(whole, direction, self.left_out)
        if kept == whole:
            return
        event.redacted = True
        if kept is None:
            self.left_out.message_count += 1
            self.left_out.add_bytes(direction, len(whole))
            event.payload, event.parts = None, ()
            _name(event, Fields(event.type if event.opcode in CONTROL_TYPES else None))
            return
        fields = read_fields(kept)
        cut = _cut(kept, fields)
        event.payload, event.parts = cut.text, cut.parts
        _name(event, fields)

    def _event(self, direction: Direction, at_ns: int | None) -> RecordedEvent:
        since_opening = None if at_ns is None else at_ns - self._opened_monotonic_ns
        wall = None if since_opening is None or self._opened_at_ns is None else self._opened_at_ns + since_opening
        event = RecordedEvent(self.session_id, self.position, direction, wall, since_opening, None)
        self.position += 1
        return event

    def _read_text(self, event: RecordedEvent, text: bytes) -> None:
        fields = read_fields(text)
        try:
            cut = _cut(text, fields)
            if may_hold_secrets(cut.text):
                text, event.redacted = redact_message(text)
                cut = cut_media(text, fields.type) if event.redacted else cut
        except UnicodeDecodeError:
            event.problem = text_problem(text)
            _keep_bytes(event, text)
            return
        _name(event, fields)
        event.payload = cut.text
        event.parts = cut.parts
        if fields.type in _FORMAT_TYPES:
            self._note_formats(event, text)
        if cut.audio_bytes is not None:
            rate = self._rate(event, fields)
            event.audio_ms = cut.audio_bytes / rate if rate else None

    def _rate(self, event: RecordedEvent, fields: Fields) -> float | None:
        """Bytes a millisecond of the audio in a message."""
        if fields.sample_rate is not None:
            return bytes_per_ms("pcm16", fields.sample_rate, fields.channels)
        is_input = event.direction == "client" or "input_audio" in (event.type or "")
        if is_input or (event.payload is not None and '"input_audio"' in event.payload):
            return self.formats.input
        return self.formats.output(fields.response_id)

    def _note_formats(self, event: RecordedEvent, text: bytes) -> None:
        message = read_object(text)
        if event.type == "response.created":
            self.formats.response_created(event.response_id or "", message.get("response"))
        elif event.direction == "client":
            self.formats.client_asks(message.get("session"))
        else:
            self.formats.server_confirms(message.get("session"))


def _name(event: RecordedEvent, fields: Fields) -> None:
    event.type = fields.type
    event.event_id = fields.event_id
    event.response_id = fields.response_id
    event.item_id = fields.item_id
    event.call_id = fields.call_id
    event.previous_item_id = fields.previous_item_id
    event.output_index = fields.output_index
    event.content_index = fields.content_index


def _cut(text: bytes, fields: Fields) -> Cut:
    is_delta = audio_key(fields.type) == "delta"
    if is_delta:
        key, value = b'"delta"', bytes(fields.delta)
    else:
        key, value = b'"audio"', bytes(fields.audio)
    cut = cut_verbatim(text, key, value) if value.startswith(b'"') else None
    if cut is not None:
        return cut
    whole = text.decode()
    return cut_media(text, fields.type) if is_delta or value or may_hold_media(whole) else Cut(whole, (), None)


def _keep_bytes(event: RecordedEvent, data: bytes) -> None:
    """No text: the payload is None and the bytes are a part."""
    if may_hold_secrets(data.decode("latin-1")):
        data, event.redacted = redact_message(data)
    if data:
        event.parts = (Part(0, 0, "binary", "raw", data),)


def _read_control(event: RecordedEvent, data: bytes) -> None:
    if event.opcode == CLOSE:
        fault = "a code of one byte" if len(data) == 1 else text_problem(data[2:])
        if fault is None:
            code, reason = parse_close(data)
            event.payload = to_json({"code": code, "reason": reason})
            return
        event.problem = f"close frame: {fault}"
    _keep_bytes(event, data)


def _hash_reason(event: RecordedEvent, left_out: LeftOut, direction: Side) -> None:
    close = msgspec.json.decode(event.payload or "{}")
    if reason := close["reason"]:
        event.payload, event.redacted = to_json({**close, "reason": hash_text(reason)}), True
        left_out.text_count += 1
        left_out.add_bytes(direction, len(reason.encode()))


def to_json(value: dict[str, Any]) -> str:
    """A payload that the recorder writes itself."""
    return msgspec.json.encode(value).decode()
