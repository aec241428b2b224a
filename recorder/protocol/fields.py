"""The fields of a message that every event row carries, out of any JSON: typed and fast, else lenient.

Ids are read where they stand: at the top, or else in the `item` or `response` that the message is about. What is not
of its type is bent where its meaning is plain (a number as id) and None otherwise; nothing raises. Texts are such as
Parquet and DuckDB can hold: NUL characters stay, lone surrogates do not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from recorder.protocol.json_scan import scalars, string_value

_NO_VALUE: Final = msgspec.Raw(b"")
_MAX_INDEX: Final = 2**31 - 1
_MAX_ID_DIGITS: Final = 32
_MAX_OBJECT_BYTES: Final = 4 << 20
"""Of texts that objects are made of: empty lists take thirty times their text, and of 64 MiB that is too much."""


class Holder(msgspec.Struct, gc=False):
    """The ids of an `item` or `response` within a message."""

    id: str | None = None
    call_id: str | None = None


class Fields(msgspec.Struct, gc=False):
    """What a message says of itself. `audio` and `delta` are the values' tokens, empty where absent."""

    type: str | None = None
    event_id: str | None = None
    response_id: str | None = None
    item_id: str | None = None
    call_id: str | None = None
    previous_item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    audio: msgspec.Raw = _NO_VALUE
    delta: msgspec.Raw = _NO_VALUE
    item: Holder | None = None
    response: Holder | None = None
    sample_rate: float | None = None
    channels: float | None = None


_decode: Final = msgspec.json.Decoder(Fields).decode


def read_fields(text: bytes) -> Fields:
    """Read a message's fields.

    Args:
        text: valid UTF-8.

    Returns:
        All fields None when the text is no JSON object.
    """
    try:
        fields = _decode(text)
    except (msgspec.MsgspecError, RecursionError):
        fields = _read_leniently(text)
    if fields.item is not None:
        fields.item_id = fields.item_id or fields.item.id
        fields.call_id = fields.call_id or fields.item.call_id
    if fields.response is not None:
        fields.response_id = fields.response_id or fields.response.id
    fields.output_index = _index(fields.output_index)
    fields.content_index = _index(fields.content_index)
    return fields


def read_object(text: bytes) -> dict[str, Any]:
    """A message as a dict: for those few whose content matters to the decode. Empty when it is none, or huge."""
    if len(text) > _MAX_OBJECT_BYTES:
        return {}
    if b"{" not in text:  # it costs little to be sent, by the million
        return {}
    try:
        value = _lenient.decode(text.decode("utf-8", "replace").removeprefix("\ufeff"))
    except ValueError:
        return {}
    except RecursionError:
        return _read_flat(text)
    return value if isinstance(value, dict) else {}


def _read_leniently(text: bytes) -> Fields:
    message = read_object(text)
    if not message:
        return Fields()
    kind = message.get("type")
    fields = Fields(_text(kind) if isinstance(kind, str) else None)
    for name in ("event_id", "response_id", "item_id", "call_id", "previous_item_id"):
        setattr(fields, name, _text(message.get(name)))
    fields.output_index = _index(message.get("output_index"))
    fields.content_index = _index(message.get("content_index"))
    fields.item = _holder(message.get("item"))
    fields.response = _holder(message.get("response"))
    fields.sample_rate = _number(message.get("sample_rate"))
    fields.channels = _number(message.get("channels"))
    return fields


def _read_flat(text: bytes) -> dict[str, Any]:
    """The top-level strings, and the ids one level down, of a text nested too deep for a parser."""
    message: dict[str, Any] = {}
    for path, start, end in scalars(text):
        if not 0 < len(path) <= 2 or not text.startswith(b'"', start):
            continue
        holder = message if len(path) == 1 else message.setdefault(str(path[0]), {})
        if isinstance(holder, dict):
            holder[str(path[-1])] = string_value(text[start:end])
    return message


def _holder(value: object) -> Holder | None:
    if not isinstance(value, Mapping):
        return None
    return Holder(_text(value.get("id")), _text(value.get("call_id")))


def _text(value: object) -> str | None:
    """A string that can be stored, or a number as text; lone surrogates become `?`, since no file can hold them."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _index(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not -_MAX_INDEX <= value <= _MAX_INDEX:
        return None
    return value


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _integer(digits: str) -> int | None:
    """An integer of the size that ids and counts have; Python refuses to convert the endless ones."""
    return int(digits) if len(digits) <= _MAX_ID_DIGITS else None


_lenient: Final = json.JSONDecoder(parse_int=_integer, strict=False)
