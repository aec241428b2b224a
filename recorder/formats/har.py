"""HTTP archives (HAR 1.2): the WebSocket messages that browsers and mitmproxy put in them, in and out.

A request that became a WebSocket has the key `_webSocketMessages`: a list of `{"type": "send" | "receive", "time":
seconds since 1970, "opcode": 1 | 2, "data": text, or base64 for opcode 2}`. It is no part of the standard; Chromium's
form, which others follow. Control frames and the close are not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec
import pybase64

from recorder import __version__
from recorder.errors import ImportFormatError
from recorder.formats.foreign_jsonl import BINARY, TEXT, ForeignMessage, Side
from recorder.formats.foreign_session import ForeignSession, Place
from recorder.formats.times import format_iso_ns, parse_time
from recorder.protocol.envelope import SESSION_OPENED, RecordedEvent
from recorder.protocol.event_types import is_known
from recorder.protocol.redact import redact_headers, redact_target

SUFFIX: Final = ".har"
_START: Final = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"log"\s*:\s*\{')
_SIDES: Final[dict[str, Side]] = {"send": "client", "receive": "server"}
_WORDS: Final = {"client": "send", "server": "receive"}
_SCHEMES: Final = {"https": "wss", "http": "ws"}


class _Message(msgspec.Struct, gc=False):
    type: str
    time: msgspec.Raw
    opcode: float
    data: str


class _Header(msgspec.Struct):
    name: str
    value: str


class _Request(msgspec.Struct):
    url: str
    method: str = "GET"
    headers: list[_Header] = []


class _Entry(msgspec.Struct):
    request: _Request
    messages: list[_Message] | None = msgspec.field(default=None, name="_webSocketMessages")


class _Log(msgspec.Struct):
    entries: list[_Entry]


class _Archive(msgspec.Struct):
    log: _Log


class _Typed(msgspec.Struct):
    type: str


class _Spot(NamedTuple):
    path: Path
    entry: int
    message: int

    def error(self, problem: str) -> ImportFormatError:
        where = f"log.entries[{self.entry}]._webSocketMessages[{self.message}]"
        return ImportFormatError(str(self.path), None, f"{where}: {problem}")


def is_har(path: Path, start: bytes) -> bool:
    """Whether a file is an archive, by its name or how it starts."""
    return path.suffix.lower() == SUFFIX or _START.match(start) is not None


def read_har(path: Path) -> list[ForeignSession]:
    """The Realtime sessions of an archive: its WebSockets in which at least one message has a type that is known.

    Raises:
        ImportFormatError: the file is no archive, holds no such session, or a message of one is wrong.
    """
    try:
        entries = msgspec.json.decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=_Archive).log.entries
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ImportFormatError(str(path), None, f"not an HTTP archive: {error}") from None
    except OSError as error:
        raise ImportFormatError(str(path), None, error.strerror or str(error)) from error
    found = [
        ForeignSession(path, partial(_messages, path, number, entry.messages), _facts(entry.request))
        for number, entry in enumerate(entries)
        if entry.messages and any(each.opcode == TEXT and is_realtime(each.data) for each in entry.messages)
    ]
    if not found:
        sockets = sum(1 for entry in entries if entry.messages is not None)
        raise ImportFormatError(
            str(path), None, f"no Realtime session in it ({len(entries)} requests, {sockets} with WebSocket messages)"
        )
    return found


def _facts(request: _Request) -> dict[str, Any]:
    return request_facts(request.url, [(header.name, header.value) for header in request.headers])


def request_facts(url: str, headers: list[tuple[str, str]]) -> dict[str, Any]:
    """What an opening tells of the request that became a WebSocket, without its secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that hold no address
        parts = SplitResult("", "", "", "", "")
    target = parts.path + ("?" + parts.query if parts.query else "")
    return {
        "upstream": redact_target(f"{_SCHEMES.get(parts.scheme, parts.scheme)}://{parts.netloc}"),
        "request": {"method": "GET", "target": redact_target(target), "headers": redact_headers(headers)},
    }


def is_realtime(text: str | bytes) -> bool:
    """Whether a message is an event whose type is known."""
    try:
        return is_known(msgspec.json.decode(text, type=_Typed).type)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _messages(path: Path, number: int, messages: list[_Message]) -> Iterator[tuple[Place, ForeignMessage]]:
    for at, message in enumerate(messages):
        spot = _Spot(path, number, at)
        side = _SIDES.get(message.type)
        if side is not None and message.opcode in {TEXT, BINARY}:  # others are notes of the browser's: errors, say
            yield spot, _message(spot, side, message)


def _message(spot: _Spot, side: Side, message: _Message) -> ForeignMessage:
    time = parse_time(bytes(message.time).decode(), 10**9)
    if time is None or time.absolute_ns is None:
        raise spot.error(f"time is no number of seconds since 1970: {bytes(message.time)[:60].decode()}")
    if message.opcode == TEXT:
        return ForeignMessage(side, TEXT, message.data.encode(), time)
    try:
        return ForeignMessage(side, BINARY, pybase64.b64decode(message.data, validate=True), time)
    except ValueError as error:
        raise spot.error(f"data is not base64: {error}") from None


def export_har(events: Iterable[RecordedEvent], file: BinaryIO) -> int:
    """Write a session as an archive of one request. Returns how many messages it holds.

    Times are cut to microseconds, as browsers give them. Control frames, the recorder's own events and messages that
    could not be decoded have no place in this form and are left out; untimed recordings get the time 0.
    """
    opened: dict[str, Any] = {}
    messages: list[dict[str, Any]] = []
    first_ns: int | None = None
    last_ns = 0
    for event in events:
        if event.position == 0 and event.type == SESSION_OPENED:
            opened = msgspec.json.decode(event.payload or "{}")
            first_ns = event.recorded_at_ns
        last_ns = max(last_ns, event.monotonic_ns or 0)
        if event.direction in _WORDS and event.opcode in {TEXT, BINARY} and event.problem is None:
            messages.append(_exported(event))
    entry = _exported_entry(opened, first_ns, last_ns, messages)
    creator = {"name": "realtime-recorder", "version": __version__}
    archive = {"log": {"version": "1.2", "creator": creator, "pages": [], "entries": [entry]}}
    file.write(msgspec.json.format(msgspec.json.encode(archive), indent=1) + b"\n")
    return len(messages)


def _exported(event: RecordedEvent) -> dict[str, Any]:
    data = event.message()
    text = pybase64.b64encode_as_string(data) if event.opcode == BINARY else data.decode()
    time = (event.recorded_at_ns or 0) // 1000 / 1e6
    return {"type": _WORDS[event.direction], "time": time, "opcode": event.opcode, "data": text}


def _exported_entry(
    opened: dict[str, Any], first_ns: int | None, last_ns: int, messages: list[dict[str, Any]]
) -> dict[str, Any]:
    request = opened.get("request") or {}
    url = str(opened.get("upstream") or "wss://unknown") + str(request.get("target") or "/")
    headers = [{"name": name, "value": value} for name, value in request.get("headers") or []]
    plain = {"httpVersion": "HTTP/1.1", "cookies": [], "headersSize": -1, "bodySize": -1}
    return {
        "startedDateTime": format_iso_ns(first_ns or 0),
        "time": last_ns / 1e6,
        "request": {"method": "GET", "url": url, "headers": headers, "queryString": [], **plain},
        "response": {
            "status": 101,
            "statusText": "Switching Protocols",
            "headers": [],
            "content": {"size": 0, "mimeType": ""},
            "redirectURL": "",
            **plain,
        },
        "cache": {},
        "timings": {"send": 0, "wait": 0, "receive": last_ns / 1e6},
        "_resourceType": "websocket",
        "_webSocketMessages": messages,
    }
