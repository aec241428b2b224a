"""Our own JSON Lines: everything that a session's rows are made of, one event a line, nothing lost.

Messages stand there as they were on the wire, audio included; what was not text is base64. Ids, durations and parts
are not written: the decode that made them makes them again. But for a duration whose audio was not kept: that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import pybase64

from recorder.errors import ImportFormatError
from recorder.formats.foreign_jsonl import CLOSE, TEXT, encode_close
from recorder.formats.lines import Fields, Line, read_lines
from recorder.formats.times import format_iso_ns, parse_iso_ns
from recorder.protocol.builder import EventBuilder
from recorder.protocol.envelope import SESSION_CLOSED, SESSION_OPENED, RecordedEvent

_MARKS: Final = frozenset({"session_id", "position", "direction", "opcode", "wire_bytes"})
_LAST_NS: Final = 2**63 - 1
_UUID: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=_LAST_NS)]


class _Row(msgspec.Struct, gc=False, omit_defaults=True):
    session_id: Annotated[str, msgspec.Meta(pattern=_UUID)]
    position: Annotated[int, msgspec.Meta(ge=0)]
    direction: Literal["client", "server", "recorder"]
    recorded_at: str | None
    monotonic_ns: _Int64 | None
    type: str | None
    opcode: Annotated[int, msgspec.Meta(ge=0, le=15)] | None
    wire_bytes: Annotated[int, msgspec.Meta(ge=0, le=_LAST_NS)]
    redacted: bool
    problem: str | None = None
    audio_ms: Annotated[float, msgspec.Meta(ge=0)] | None = None
    message: str | msgspec.UnsetType = msgspec.UNSET
    message_base64: str | msgspec.UnsetType = msgspec.UNSET


class _Opened(msgspec.Struct):
    session_id: str
    opened_at_ns: Annotated[int, msgspec.Meta(ge=0, le=_LAST_NS)] | None = None


_closed_unknown: Final = msgspec.json.encode(
    {"closed_by": "lost", "close_code": None, "close_reason": None, "status": None}
    | {"error": "exported while it was running", "client_bytes": None, "server_bytes": None}
).decode()


def export_line(event: RecordedEvent) -> bytes:
    """One event, with its parts, as a line with its line end."""
    row = _Row(
        session_id=event.session_id,
        position=event.position,
        direction=event.direction,
        recorded_at=None if event.recorded_at_ns is None else format_iso_ns(event.recorded_at_ns),
        monotonic_ns=event.monotonic_ns,
        type=event.type,
        opcode=event.opcode,
        wire_bytes=event.wire_bytes,
        redacted=event.redacted,
        problem=event.problem,
        audio_ms=event.audio_ms if event.redacted else None,
    )
    if event.payload is None:
        row.message_base64 = pybase64.b64encode_as_string(event.message())
    else:
        row.message = event.message().decode()
    return msgspec.json.encode(row) + b"\n"


def is_own(fields: Fields) -> bool:
    """Whether a line is of this form."""
    return fields.keys() >= _MARKS


class OwnSession:
    """A session that a recorder exported.

    Attributes:
        session_id: as it was.

    Raises:
        ImportFormatError: the file is not what was exported.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.session_id = ""
        for line, row in self._rows():
            if row.position == 0:
                self._check_opening(line, row)
            if row.direction != "recorder":
                _message(line, row)

    def _rows(self) -> Iterator[tuple[Line, _Row]]:
        position = 0
        for line in read_lines(self._path):
            line.fields()
            try:
                row = msgspec.json.decode(line.text, type=_Row)
            except msgspec.ValidationError as error:
                raise line.error(f"not a line of an export: {error}") from None
            if row.session_id != (self.session_id or row.session_id):
                raise line.error(f"another session begins here, {row.session_id}: one file holds one")
            if row.position != position:
                raise line.error(f"position {row.position} where {position} is due: lines are missing or moved")
            if (row.message is msgspec.UNSET) == (row.message_base64 is msgspec.UNSET):
                raise line.error("expected one of message and message_base64")
            position += 1
            yield line, row
        if not position:
            raise ImportFormatError(str(self._path), None, "no events in it")

    def _check_opening(self, line: Line, row: _Row) -> None:
        if row.direction != "recorder" or row.type != SESSION_OPENED:
            raise line.error(f"an export starts with {SESSION_OPENED}")
        try:
            facts = msgspec.json.decode(row.message or "", type=_Opened)
        except msgspec.MsgspecError as error:
            raise line.error(f"{SESSION_OPENED}: {error}") from None
        if facts.session_id != row.session_id:
            raise line.error(f"{SESSION_OPENED} is that of another session, {facts.session_id}")
        self.session_id = row.session_id

    def events(self) -> Iterator[RecordedEvent]:
        """The session's events, as they were. One that still ran when it was exported ends as lost."""
        builder = EventBuilder(self.session_id, None, 0)
        event: RecordedEvent | None = None
        for line, row in self._rows():
            event = _event(builder, line, row)
            yield event
        if event is not None and (event.direction, event.type) != ("recorder", SESSION_CLOSED):
            closed = builder.own(SESSION_CLOSED, _closed_unknown, None)
            closed.recorded_at_ns, closed.monotonic_ns = event.recorded_at_ns, event.monotonic_ns
            yield closed


def _event(builder: EventBuilder, line: Line, row: _Row) -> RecordedEvent:
    if row.direction == "recorder":
        event = builder.own(row.type or "", str(row.message), None)
    else:
        event = builder.message(row.direction, wire_bytes=row.wire_bytes, **_message(line, row))
        event.redacted |= row.redacted
        event.audio_ms = event.audio_ms if row.audio_ms is None else row.audio_ms
    event.recorded_at_ns, event.monotonic_ns = _time(line, row), row.monotonic_ns
    return event


def _message(line: Line, row: _Row) -> dict[str, Any]:
    """The arguments of `EventBuilder.message` that make this row again."""
    opcode = TEXT if row.opcode is None else row.opcode
    if isinstance(row.message_base64, str):
        try:
            data = pybase64.b64decode(row.message_base64, validate=True)
        except ValueError as error:
            raise line.error(f"message_base64: {error}") from None
        return {"data": data, "opcode": opcode, "problem": row.problem, "opaque": True}
    text = str(row.message)
    if opcode == CLOSE:
        return {"data": _close_frame(line, text), "opcode": CLOSE}
    return {"data": text.encode(), "opcode": opcode}


class _Close(msgspec.Struct):
    code: int
    reason: str


def _close_frame(line: Line, text: str) -> bytes:
    try:
        close = msgspec.json.decode(text, type=_Close)
    except msgspec.MsgspecError as error:
        raise line.error(f"close: {error}") from None
    return encode_close(close.code, close.reason, line)


def _time(line: Line, row: _Row) -> int | None:
    if row.recorded_at is None:
        return None
    unix_ns = parse_iso_ns(row.recorded_at)
    if unix_ns is None or abs(unix_ns) > _LAST_NS:
        raise line.error(f"recorded_at is no time: {row.recorded_at[:60]!r}")
    return unix_ns
