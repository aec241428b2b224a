"""Records → events: the one decode that live view, sealing, rebuilding and imports share.

`SessionDecoder` makes messages out of a session's journal, and has `EventBuilder` make rows of them. It is pure and
never raises on what a client or server sent: what is no readable frame is kept as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from recorder.protocol import envelope
from recorder.protocol.builder import EventBuilder, to_json
from recorder.protocol.checkpoint import DecoderState
from recorder.protocol.control_frames import CLOSE, parse_close
from recorder.protocol.envelope import Record, RecordedEvent, RecordKind
from recorder.protocol.frames import FrameDecoder, Message, Side
from recorder.protocol.policy import ContentPolicy, LeftOut, hash_text

SIDES: Final[tuple[Side, ...]] = ("client", "server")
_OTHER: Final[dict[Side, Side]] = {"client": "server", "server": "client"}
_BYTES_OF: Final[dict[int, Side]] = {RecordKind.CLIENT_BYTES: "client", RecordKind.SERVER_BYTES: "server"}
_RECORD_OF: Final = {envelope.SESSION_OPENED: RecordKind.OPENED, envelope.HANDSHAKE_COMPLETED: RecordKind.ACCEPTED}


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

    @classmethod
    def after(cls, events: Iterable[RecordedEvent]) -> SessionDecoder:
        """Go on after events of which no state was kept: without what of a message had come, and what was left out.

        Args:
            events: all of the session so far, in order; their parts are not needed.
        """
        decoder = cls()
        for event in events:
            kind = _RECORD_OF.get(event.type or "") if event.direction == "recorder" else None
            if kind is not None:
                decoder.feed(Record(kind, event.monotonic_ns or 0, (event.payload or "").encode()))
            elif event.opcode == CLOSE and event.payload and decoder._close is None and event.direction != "recorder":
                said = msgspec.json.decode(event.payload)
                decoder._close = (event.direction, said["code"], said["reason"])
            if decoder._builder is not None:
                decoder._builder.note(event)
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

    @property
    def builder(self) -> EventBuilder:
        """What makes its events; to be asked for only while it `expects_a_message`."""
        assert self._builder is not None
        return self._builder

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
        return self._builder.own(event_type, to_json(facts), record.at_ns)

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
