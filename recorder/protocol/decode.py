"""Records → events: the one decode that live view, sealing, rebuilding and imports share.

`EventBuilder` makes rows out of messages; `SessionDecoder` makes messages out of a session's journal. Both are pure and
never raise on what a client or server sent: what is no JSON has no type, what is no readable frame is kept as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from recorder.protocol import envelope
from recorder.protocol.append_runs import AppendRun, Matches
from recorder.protocol.audio import Cut, Formats, audio_key, bytes_per_ms, cut_media, cut_verbatim, may_hold_media
from recorder.protocol.checkpoint import BuilderState, DecoderState
from recorder.protocol.envelope import Direction, Part, Record, RecordedEvent, RecordKind
from recorder.protocol.fields import Fields, read_fields, read_object
from recorder.protocol.frames import FrameDecoder, Message, Side, text_problem
from recorder.protocol.policy import ContentPolicy, LeftOut, hash_text
from recorder.protocol.redact import may_hold_secrets, redact_message

SIDES: Final[tuple[Side, ...]] = ("client", "server")
_OTHER: Final[dict[Side, Side]] = {"client": "server", "server": "client"}
_BYTES_OF: Final[dict[int, Side]] = {RecordKind.CLIENT_BYTES: "client", RecordKind.SERVER_BYTES: "server"}

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
_CONTROL_TYPES: Final = {8: "websocket.close", 9: "websocket.ping", 10: "websocket.pong"}
NO_STATUS: Final = 1005
"""The code that stands for a close frame without one (RFC 6455 section 7.1.5)."""

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
        event.type = _CONTROL_TYPES.get(opcode)
        if opaque or problem is not None or opcode == BINARY:
            _keep_bytes(event, data)
        elif opcode == TEXT:
            self._read_text(event, data)
        else:
            _read_control(event, data)
        if not self.policy.keeps_all:
            self._leave_out(direction, event)
        return event

    def appends(self, matches: Matches, rows: range, at_ns: Sequence[int]) -> AppendRun:
        """Audio appends that have been matched with one that came before: what `message` makes of each.

        Args:
            matches: with what.
            rows: which of them.
            at_ns: when their last bytes were read, on the monotonic clock.
        """
        monotonic_ns = [at - self._opened_monotonic_ns for at in at_ns]
        opened = self._opened_at_ns
        wall = None if opened is None else [opened + since for since in monotonic_ns]
        position, self.position = self.position, self.position + len(rows)
        return matches.run(rows, position, (wall, monotonic_ns), self.formats.input)

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
            _name(event, Fields(event.type if event.opcode in _CONTROL_TYPES else None))
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
            event.payload = _to_json({"code": code, "reason": reason})
            return
        event.problem = f"close frame: {fault}"
    _keep_bytes(event, data)


def _hash_reason(event: RecordedEvent, left_out: LeftOut, direction: Side) -> None:
    close = msgspec.json.decode(event.payload or "{}")
    if reason := close["reason"]:
        event.payload, event.redacted = _to_json({**close, "reason": hash_text(reason)}), True
        left_out.text_count += 1
        left_out.add_bytes(direction, len(reason.encode()))


def parse_close(data: bytes) -> tuple[int, str]:
    """Code and reason of a close frame's payload; 1005 and "" where it has none. Any code is taken as it is."""
    if len(data) < 2:
        return NO_STATUS, ""
    return int.from_bytes(data[:2]), data[2:].decode("utf-8", "replace")


class SessionDecoder:
    """Turns one session's journal records, fed in order, into its events.

    Records before `OPENED`, a second `OPENED` or `ACCEPTED`, records after `CLOSED` and records of unknown kinds give
    no events. Messages that the end or a gap left half-read come as undecodable events before it.
    """

    def __init__(self) -> None:
        self._builder: EventBuilder | None = None
        self._frames: dict[Side, FrameDecoder] = {}
        self._accepted = False
        self._close: tuple[Side, int, str] | None = None
        self._closed = False
        self._handlers: dict[int, Callable[[Record, dict[str, Any]], list[RecordedEvent]]] = {
            RecordKind.OPENED: self._open,
            RecordKind.ACCEPTED: self._accept,
            RecordKind.GAP: self._gap,
            RecordKind.CLOSED: self._end,
        }

    @classmethod
    def of(cls, state: DecoderState) -> SessionDecoder:
        """Go on from a state."""
        decoder = cls()
        decoder._builder = None if state.builder is None else EventBuilder.of(state.builder)
        decoder._frames = {side: FrameDecoder.of(side, frames) for side, frames in state.frames.items()}
        decoder._accepted, decoder._close, decoder._closed = state.accepted, state.close, state.closed
        return decoder

    def state(self) -> DecoderState:
        """What `of` goes on from; see `checkpoint`."""
        return DecoderState(
            None if self._builder is None else self._builder.state(),
            {side: frames.state() for side, frames in self._frames.items()},
            self._accepted,
            self._close,
            self._closed,
        )

    @property
    def session_id(self) -> str | None:
        """The session's id; None before its `OPENED`."""
        return None if self._builder is None else self._builder.session_id

    @property
    def closed(self) -> bool:
        """Whether `CLOSED` was seen: no more events will come."""
        return self._closed

    def feed(self, record: Record) -> list[RecordedEvent]:
        """Take the next record; give the events that it completes."""
        if self._closed or (self._builder is None) != (record.kind == RecordKind.OPENED):
            return []
        side = _BYTES_OF.get(record.kind)
        if side is not None:
            return self._messages(side, record.at_ns, self._decoder(side).feed(record.data))
        handle = self._handlers.get(record.kind)
        return [] if handle is None else handle(record, _facts(record))

    @property
    def expects_a_message(self) -> bool:
        """Whether a chunk of the client that is one message in one frame would be taken as just that, and kept."""
        builder = self._builder
        plain = builder is not None and builder.policy.keeps_all and not self._closed
        return plain and self._decoder("client").between_messages

    def appends(self, matches: Matches, rows: range, at_ns: Sequence[int]) -> AppendRun:
        """What `feed` makes of records that have been matched with an append that came before.

        To be called only while it `expects_a_message`; arguments as in `EventBuilder.appends`.
        """
        assert self._builder is not None
        return self._builder.appends(matches, rows, at_ns)

    def _open(self, record: Record, facts: dict[str, Any]) -> list[RecordedEvent]:
        opened_at, opened_monotonic = facts.get("opened_at_ns"), facts.get("monotonic_ns")
        self._builder = EventBuilder(
            str(facts.get("session_id") or ""),
            opened_at if isinstance(opened_at, int) else None,
            opened_monotonic if isinstance(opened_monotonic, int) else record.at_ns,
            ContentPolicy.of(facts),
        )
        return [self._own(envelope.SESSION_OPENED, facts, record)]

    def _accept(self, record: Record, facts: dict[str, Any]) -> list[RecordedEvent]:
        if self._accepted:
            return []
        self._accepted = True
        extensions = _header(facts, "sec-websocket-extensions")
        for side in SIDES:
            # A side that already sent something did so without an agreement on compression.
            self._frames.setdefault(side, FrameDecoder(side, extensions))
        return [self._own(envelope.HANDSHAKE_COMPLETED, facts, record)]

    def _gap(self, record: Record, facts: dict[str, Any]) -> list[RecordedEvent]:
        events = []
        for side in SIDES:
            if facts.get("direction") != _OTHER[side]:
                events += self._messages(side, record.at_ns, self._decoder(side).gap())
        return [*events, self._own(envelope.GAP, facts, record)]

    def _end(self, record: Record, facts: dict[str, Any]) -> list[RecordedEvent]:
        self._closed = True
        events = []
        for side, decoder in self._frames.items():
            events += self._messages(side, record.at_ns, decoder.eof())
        return [*events, self._own(envelope.SESSION_CLOSED, self._closing_facts(facts), record)]

    def _own(self, event_type: str, facts: dict[str, Any], record: Record) -> RecordedEvent:
        assert self._builder is not None
        return self._builder.own(event_type, _to_json(facts), record.at_ns)

    def _decoder(self, side: Side) -> FrameDecoder:
        decoder = self._frames.get(side)
        if decoder is None:
            decoder = self._frames[side] = FrameDecoder(side)
        return decoder

    def _messages(self, side: Side, at_ns: int, messages: list[Message]) -> list[RecordedEvent]:
        assert self._builder is not None
        events = []
        for message in messages:
            if message.opcode == CLOSE and self._close is None:
                code, reason = parse_close(message.data)
                self._close = (side, code, hash_text(reason) if self._builder.policy.hash_text else reason)
            events.append(
                self._builder.message(
                    side,
                    message.data,
                    opcode=message.opcode,
                    wire_bytes=message.wire_bytes,
                    at_ns=at_ns,
                    problem=message.problem,
                )
            )
        return events

    def _closing_facts(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Complete how the session ended with what the first close frame said, and what is not kept of it.

        Where the proxy left out the end itself, there was nobody to see a close frame: then it is not known who closed.
        """
        assert self._builder is not None
        unseen = facts.get("left_out")
        by, code, reason = facts.get("closed_by"), facts.get("close_code"), facts.get("close_reason")
        if self._close is not None:
            side, wire_code, wire_reason = self._close
            if by != "proxy":
                by, code, reason = ("client" if side == "client" else "upstream"), wire_code, wire_reason
            elif code is None:
                code, reason = wire_code, wire_reason
        facts = facts | {"closed_by": by or (None if unseen else "lost"), "close_code": code, "close_reason": reason}
        if not self._builder.policy.keeps_all:
            left_out = self._builder.left_out
            left_out.add(_left_out(unseen))
            facts["left_out"] = msgspec.structs.asdict(left_out)
        return facts


def _facts(record: Record) -> dict[str, Any]:
    """A record's JSON object; empty where a damaged journal holds something else."""
    try:
        facts = msgspec.json.decode(record.data)
    except (msgspec.MsgspecError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _left_out(facts: object) -> LeftOut:
    try:
        return msgspec.convert(facts or {}, LeftOut)
    except msgspec.ValidationError:
        return LeftOut()


def _header(facts: dict[str, Any], name: str) -> str | None:
    headers = facts.get("headers")
    pairs = [pair for pair in headers if isinstance(pair, list) and len(pair) == 2] if isinstance(headers, list) else []
    values = [str(value) for key, value in pairs if str(key).lower() == name]
    return ", ".join(values) if values else None


def _to_json(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
