r"""Recordings that others made: one message a line, wrapped with its direction, or bare.

    {"seq": 0, "dir": "server", "event": {"type": "session.created", …}}
    {"direction": "sent", "message": "{\"type\": \"response.create\"}", "ts": "2026-01-31T12:00:00.5Z"}
    {"dir": "client", "base64": "AAEC"}
    {"dir": "server", "close": {"code": 1000, "reason": "bye"}}
    {"type": "response.create"}

A message given as an object is taken as its text stands in the file; one given as text is that text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, cast

import msgspec
import pybase64

from recorder.formats.lines import Fields, Line, read_lines
from recorder.formats.times import Time, find_time
from recorder.protocol.event_types import VOCABULARY

Side = Literal["client", "server"]

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8

DIRECTION_KEYS: Final = ("dir", "direction", "sender", "from")
MESSAGE_KEYS: Final = ("event", "message", "payload", "data", "text")
BINARY_KEYS: Final = ("base64", "message_base64", "data_base64", "binary")
DIRECTIONS: Final[dict[str, Side]] = {
    **dict.fromkeys(["client", "sent", "send", "out", "outgoing", "outbound", "up", "tx"], "client"),
    **dict.fromkeys(["client_to_server", "client-to-server", "client->server", "c2s", "to_server"], "client"),
    **dict.fromkeys(["server", "received", "receive", "recv", "in", "incoming", "inbound", "down", "rx"], "server"),
    **dict.fromkeys(["server_to_client", "server-to-client", "server->client", "s2c", "to_client"], "server"),
}
"""Who sent a message, by the words in use; most recordings are made by the client, which sends and receives."""

_BY_TYPE: Final[dict[str, Side]] = {
    kind.name: kind.direction for kind in VOCABULARY if kind.direction in {"client", "server"}
}
_NO_STATUS: Final = 1005
_NO_CLOSE_FRAME: Final = 1006


class ForeignMessage(msgspec.Struct, frozen=True, gc=False):
    """One message, or the end, of a foreign recording.

    Attributes:
        direction: who sent it; None only for a close that names nobody.
        opcode: 1 text, 2 binary, 8 close.
        data: the message; of a close, its frame's payload; None for an end without a close frame.
        time: when, if the line says so.
        guessed: nothing tells who sent it. Taken for the server's, which is the side that learns new words.
    """

    direction: Side | None
    opcode: int
    data: bytes | None
    time: Time | None
    guessed: bool = False


def read_messages(path: Path) -> Iterator[tuple[Line, ForeignMessage]]:
    """The messages of a file, in order.

    Raises:
        ImportFormatError: a line is no message, or its direction is none.
    """
    for line in read_lines(path):
        yield line, parse_line(line)


def parse_line(line: Line) -> ForeignMessage:
    """One line of a foreign recording.

    Raises:
        ImportFormatError: it is no message, or its direction is none.
    """
    fields = line.fields()
    kind = _text(line, fields, "type")
    said = next((key for key in DIRECTION_KEYS if key in fields), None)
    if said is None and (kind in _BY_TYPE or (kind is not None and not fields.keys() & _WRAPPED)):
        return _told_by_type(kind, line.text, None)
    direction = None if said is None else _read_direction(line, said, fields)
    time = find_time(line, fields)
    if "close" in fields:
        return ForeignMessage(direction, CLOSE, _read_close(line, fields["close"]), time)
    for key in BINARY_KEYS:
        if (encoded := _text(line, fields, key)) is not None:
            return ForeignMessage(_known(line, direction), BINARY, _decode_base64(line, encoded), time)
    for key in MESSAGE_KEYS:
        if key in fields and bytes(fields[key]) != b"null":
            data = _read_message(line, key, fields[key])
            return (
                ForeignMessage(direction, TEXT, data, time) if direction else _told_by_type(_type_of(data), data, time)
            )
    raise line.error(f"no message in it: expected one of {', '.join((*MESSAGE_KEYS, BINARY_KEYS[0], 'close'))}")


_WRAPPED: Final = frozenset((*MESSAGE_KEYS, *BINARY_KEYS, "close"))


def _text(line: Line, fields: Fields, key: str) -> str | None:
    raw = bytes(fields.get(key, b""))
    value = line.value(msgspec.Raw(raw)) if raw.startswith(b'"') else None
    return value if isinstance(value, str) else None


def _read_direction(line: Line, key: str, fields: Fields) -> Side:
    word = _text(line, fields, key)
    direction = DIRECTIONS.get((word or "").strip().lower())
    if direction is None:
        shown = bytes(fields[key])[:40].decode(errors="replace")
        raise line.error(f"unknown direction {shown}: expected client or server")
    return direction


def _read_message(line: Line, key: str, raw: msgspec.Raw) -> bytes:
    text = bytes(raw)
    if text.startswith(b"{"):
        line.value(raw)
        return text
    if text.startswith(b'"'):
        return cast("str", line.value(raw)).encode()
    raise line.error(f"{key!r} is neither an object nor text")


def _type_of(data: bytes) -> str | None:
    try:
        return msgspec.json.decode(data, type=_Typed).type
    except (msgspec.MsgspecError, RecursionError):
        return None


class _Typed(msgspec.Struct):
    type: str


def _told_by_type(kind: str | None, data: bytes, time: Time | None) -> ForeignMessage:
    direction = _BY_TYPE.get(kind or "")
    return ForeignMessage(direction or "server", TEXT, data, time, guessed=direction is None)


def _known(line: Line, direction: Side | None) -> Side:
    if direction is None:
        raise line.error("no direction, and a binary message does not tell it")
    return direction


def _decode_base64(line: Line, encoded: str) -> bytes:
    try:
        return pybase64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise line.error(f"not base64 ({error})") from None


class _Close(msgspec.Struct):
    code: int | None = None
    reason: str | None = None


def _read_close(line: Line, raw: msgspec.Raw) -> bytes | None:
    """The payload of a close frame; None for an end without one (code 1006)."""
    try:
        said = msgspec.json.decode(raw, type=_Close | int | str | bool | None)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise line.error(f"close: {error}") from None
    close = said if isinstance(said, _Close) else _Close(said if type(said) is int else None)
    if close.code == _NO_CLOSE_FRAME:
        return None
    return encode_close(_NO_STATUS if close.code is None else close.code, close.reason or "", line)


def encode_close(code: int, reason: str, line: Line) -> bytes:
    """The payload of the close frame with this code and reason.

    Raises:
        ImportFormatError: there is no such code.
    """
    if not 0 <= code <= 0xFFFF:
        raise line.error(f"no close code: {code}")
    return b"" if code == _NO_STATUS and not reason else code.to_bytes(2) + reason.encode()
