"""mitmproxy's flow files (`mitmdump -w FILE`): the WebSocket messages of each flow that has any.

A file is one typed netstring after another, each a flow's state. Of a flow this reads
`request.{scheme, host, port, path, headers}` and `websocket.{messages, closed_by_client, close_code, close_reason,
timestamp_end}`; a message is `[opcode, from_client, content, timestamp, dropped, …]`, as since mitmproxy 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from recorder.errors import ImportFormatError
from recorder.formats import tnetstring
from recorder.formats.foreign_jsonl import BINARY, CLOSE, TEXT, ForeignMessage, Side
from recorder.formats.foreign_session import ForeignSession, Place
from recorder.formats.har import is_realtime, request_facts
from recorder.formats.lines import MAX_FILE_BYTES
from recorder.formats.times import parse_time
from recorder.protocol.control_frames import NO_STATUS

SUFFIXES: Final = frozenset({".flow", ".flows"})

_NO_CLOSE_FRAME: Final = 1006


class _Spot(NamedTuple):
    path: Path
    flow: int
    message: int

    def error(self, problem: str) -> ImportFormatError:
        return ImportFormatError(str(self.path), None, f"flow {self.flow}, message {self.message}: {problem}")


def is_flow_file(start: bytes) -> bool:
    """Whether a file looks like one: a length, and a flow's first key."""
    digits, colon, rest = start[:16].partition(b":")
    return bool(colon) and digits.isdigit() and rest[:1].isdigit()


def read_flows(path: Path) -> list[ForeignSession]:
    """The Realtime sessions of a flow file: its WebSockets in which at least one message has a type that is known.

    Raises:
        ImportFormatError: the file is damaged, holds no such session, or a message of one is wrong.
    """
    sessions, count = [], 0
    for number, flow in enumerate(_flows(path), 1):
        count += 1
        websocket = flow.get("websocket")
        if isinstance(websocket, dict) and any(map(_is_realtime, _list(websocket.get("messages")))):
            sessions.append(
                ForeignSession(path, partial(_messages, path, number, websocket), _facts(flow.get("request")))
            )
    if not sessions:
        raise ImportFormatError(str(path), None, f"no Realtime session in it ({count} flows)")
    return sessions


def _flows(path: Path) -> Iterator[dict[Any, Any]]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ImportFormatError(str(path), None, f"larger than {MAX_FILE_BYTES >> 30} GiB")
        with path.open("rb") as file:
            while True:
                start = file.tell()
                try:
                    flow = tnetstring.read(file)
                except EOFError:
                    return
                except tnetstring.TnetstringError as error:
                    raise ImportFormatError(str(path), None, f"not a flow at byte {start}: {error}") from None
                if not isinstance(flow, dict):
                    raise ImportFormatError(str(path), None, f"not a flow at byte {start}")
                yield flow
    except OSError as error:
        raise ImportFormatError(str(path), None, error.strerror or str(error)) from error


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_realtime(message: object) -> bool:
    return isinstance(message, list) and len(message) > 2 and message[0] == TEXT and is_realtime(message[2])


def _messages(path: Path, number: int, websocket: dict[Any, Any]) -> Iterator[tuple[Place, ForeignMessage]]:
    at = 0
    for at, message in enumerate(_list(websocket.get("messages")), 1):
        spot = _Spot(path, number, at)
        match message:
            case [int(opcode), bool(from_client), bytes(content), time, *_] if opcode in {TEXT, BINARY}:
                moment = parse_time(str(time), 10**9)
                if moment is None or moment.absolute_ns is None:
                    raise spot.error(f"its time is no number of seconds since 1970: {str(time)[:60]}")
                yield spot, ForeignMessage("client" if from_client else "server", opcode, content, moment)
            case _:
                raise spot.error("not [opcode, from_client, content, timestamp, …]")
    if (code := websocket.get("close_code")) is not None:
        spot = _Spot(path, number, at + 1)
        if not isinstance(code, int) or not 0 <= code <= 0xFFFF:
            raise spot.error(f"no close code: {str(code)[:60]}")
        yield spot, _close(websocket, code)


def _close(websocket: dict[Any, Any], code: int) -> ForeignMessage:
    by = websocket.get("closed_by_client")
    side: Side | None = None if by is None else "client" if by else "server"
    reason = str(websocket.get("close_reason") or "").encode()
    time = parse_time(str(websocket.get("timestamp_end")), 10**9)
    if code == _NO_CLOSE_FRAME:
        return ForeignMessage(side, CLOSE, None, time)
    data = b"" if code == NO_STATUS and not reason else code.to_bytes(2) + reason
    return ForeignMessage(side, CLOSE, data, time)


def _facts(request: object) -> dict[str, Any]:
    if not isinstance(request, dict):
        return {}
    scheme, host, path = (_text(request.get(key)) for key in ("scheme", "host", "path"))
    headers = [
        (_text(pair[0]), _text(pair[1]))
        for pair in _list(request.get("headers"))
        if isinstance(pair, list) and len(pair) == 2
    ]
    port = request.get("port")
    place = host if (scheme, port) in {("https", 443), ("http", 80)} else f"{host}:{port}"
    return request_facts(f"{scheme}://{place}{path}", headers)


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else "" if value is None else str(value)
