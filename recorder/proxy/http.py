"""The HTTP side of the handshake: heads are parsed by h11 and forwarded as they were, but for the edits named here.

Only heads are looked at. What follows them belongs to the splice.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import h11
import msgspec

from recorder.errors import RecorderError
from recorder.proxy.sockets import receive

Headers = list[tuple[str, str]]

ENCODING: Final = "latin-1"  # HTTP heads are bytes; this maps each to one character and back
RETRY_SECONDS: Final = 60
"""What a client that is refused with 429 is told to wait."""

_ADVICE: Final = {401: "WWW-Authenticate: Bearer\r\n", 429: f"Retry-After: {RETRY_SECONDS}\r\n"}
_END_OF_HEAD: Final = b"\r\n\r\n"
_TLS: Final = b"\x16"  # how a handshake begins, and no HTTP method does
_UNFIT: Final = frozenset({b"CONNECT", b"TRACE"})


class RefusedError(RecorderError):
    """An HTTP answer that ends the connection before any upgrade.

    Attributes:
        status: the HTTP status to answer with.
        party: who refused: "client" sent something unusable, "proxy" has a limit or no upstream.
    """

    def __init__(self, status: int, code: str, message: str, *, by: str = "proxy") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.by = by

    def response(self) -> bytes:
        """The whole answer, in the form of the API's own errors so that SDKs can show it."""
        error = {"error": {"type": "recorder_proxy_error", "code": self.code, "message": self.message}}
        body = msgspec.json.encode(error)
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n{_ADVICE.get(self.status, '')}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode(ENCODING) + body


class Request(msgspec.Struct, frozen=True):
    """A client's request head, and what came with it of what follows.

    Attributes:
        version: of HTTP, "1.0" or "1.1" (which stands for later ones of the same major number, too).
    """

    method: str
    target: str
    headers: Headers
    rest: bytes
    version: str = "1.1"

    def values(self, name: str) -> list[str]:
        """A header's comma-separated values, lower case."""
        found = [value for key, value in self.headers if key.lower() == name]
        return [item.strip().lower() for value in found for item in value.split(",")]

    @property
    def is_upgrade(self) -> bool:
        """Whether this asks for a WebSocket and nothing else, which an upstream could choose and nobody look into.

        Before HTTP/1.1 there is no asking (RFC 9110 section 7.8): that is a request like any other.
        """
        asks = set(self.values("upgrade")) == {"websocket"} and "upgrade" in self.values("connection")
        return asks and self.method == "GET" and self.version != "1.0"

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def host(self) -> str:
        """The Host header's name or address, in lower case, without a port; "" for none (HTTP/1.0)."""
        value = next((value for name, value in self.headers if name.lower() == "host"), "").strip().lower()
        host, _, port = value.rpartition(":")
        return (host if host and port.isdigit() else value).strip("[]").rstrip(".")

    def header(self, name: str) -> str | None:
        """The first value of a header, by its name in lower case."""
        return next((value.strip() for key, value in self.headers if key.lower() == name), None)


class Response(msgspec.Struct, frozen=True):
    """An upstream's response head, verbatim in `head`, and what came with it of what follows."""

    status: int
    headers: Headers
    head: bytes
    rest: bytes


def words_of(error: h11.RemoteProtocolError) -> str:
    """What h11 found, without the bytes that it found it in: a malformed header may be one with a key."""
    return re.split(r":? *(?:bytearray\(|b['\"])", str(error), maxsplit=1)[0]


def _headers(event: h11.Request | h11.Response | h11.InformationalResponse) -> Headers:
    return [(name.decode(ENCODING), value.decode(ENCODING)) for name, value in event.headers.raw_items()]


async def read_request(sock: socket.socket, max_bytes: int) -> Request | None:
    """Read a request's head; None if the client left without a word.

    Raises:
        RefusedError: it is malformed, too large, or in a form that cannot be forwarded safely.
        OSError: the connection failed.
    """
    raw = await _read_head(sock, max_bytes)
    if raw is None:
        return None
    end = raw.index(_END_OF_HEAD)
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=max_bytes + 4)
    try:
        parser.receive_data(raw[: end + 4])
        event = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise RefusedError(error.error_status_hint, "bad_request", words_of(error), by="client") from None
    if isinstance(event, h11.Request) and not event.http_version.startswith(b"1."):
        raise RefusedError(505, "bad_request", "only HTTP/1.0 and HTTP/1.1 are spoken here", by="client")
    if isinstance(event, h11.Request) and event.method in _UNFIT:
        # a tunnel would carry what nobody looked at; a trace would show a client what is put into its requests
        raise RefusedError(501, "bad_request", "neither CONNECT nor TRACE is for this proxy", by="client")
    if not isinstance(event, h11.Request) or not event.target.startswith(b"/") or b"#" in event.target:
        # what follows a `#` one reader takes for a part of the path, and another for none
        raise RefusedError(400, "bad_request", "the request target must be a path", by="client")
    if parser.trailing_data[0]:  # what h11 took for the end of the head was a line feed too few
        raise RefusedError(400, "bad_request", "lines of a request head end with CR LF", by="client")
    headers = _headers(event)
    names = {name.lower() for name, _ in headers}
    if "transfer-encoding" in names and event.http_version < b"1.1":
        raise RefusedError(400, "bad_request", "Transfer-Encoding before HTTP/1.1", by="client")
    if {"content-length", "transfer-encoding"} <= names:
        # RFC 9112 section 6.1: what two readers may frame differently is an attempt to smuggle a request
        raise RefusedError(400, "bad_request", "both Content-Length and Transfer-Encoding", by="client")
    version = "1.0" if event.http_version == b"1.0" else "1.1"
    request = Request(event.method.decode(ENCODING), event.target.decode(ENCODING), headers, raw[end + 4 :], version)
    if request.is_upgrade and ("transfer-encoding" in names or int(request.header("content-length") or 0)):
        # what one reader takes for the body are messages to another
        raise RefusedError(400, "bad_request", "a WebSocket's request has no body", by="client")
    return request


async def _read_head(sock: socket.socket, max_bytes: int) -> bytes | None:
    raw = b""
    skipped = 0
    while (end := raw.find(_END_OF_HEAD)) < 0 and skipped + len(raw) <= max_bytes:
        data = await receive(sock)
        if not data:
            if raw:
                raise RefusedError(400, "bad_request", "the connection ended inside the request head", by="client")
            return None
        raw += data
        begun = raw.lstrip(b"\r\n")  # empty lines before a request are none of it (RFC 9112 section 2.2)
        skipped += len(raw) - len(begun)
        raw = begun
        if raw.startswith(_TLS):  # there will be no end of a head, and the client would wait for the timeout
            words = "the client speaks TLS, and this address does not (--tls-cert, --tls-self-signed)"
            raise RefusedError(400, "bad_request", words, by="client")
    if not 0 <= end <= max_bytes:
        raise RefusedError(431, "headers_too_large", f"the request head is over {max_bytes} bytes", by="client")
    return raw


async def read_response(
    sock: socket.socket,
    max_bytes: int,
    *,
    who: str = "the upstream",
    on_interim: Callable[[Response], Awaitable[None]] | None = None,
) -> Response:
    """Read the head of the answer that `who` gives, past 1xx answers other than 101: each is `on_interim`'s first.

    Raises:
        RefusedError: 502, it is no HTTP, too large, or nothing.
        OSError: the connection failed.
    """
    raw = b""
    while True:
        end = raw.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        if end >= len(_END_OF_HEAD):
            status, headers = parse_response_head(raw[:end], who)
            response = Response(status, headers, raw[:end], raw[end:])
            if status == HTTPStatus.SWITCHING_PROTOCOLS or status >= HTTPStatus.OK:
                return response
            raw = response.rest
            if on_interim is not None:
                await on_interim(response)
            continue
        if len(raw) > max_bytes:
            raise RefusedError(502, "bad_upstream", f"the response head of {who} is over {max_bytes} bytes")
        data = await receive(sock)
        if not data:
            what = "garbage" if raw else "nothing"
            raise RefusedError(502, "bad_upstream", f"{who} answered {what} and closed the connection")
        raw += data


def parse_response_head(head: bytes, who: str = "the upstream") -> tuple[int, Headers]:
    """Status and headers of the answer that `who` gave, 1xx ones too.

    Raises:
        RefusedError: 502, it is no HTTP.
    """
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(head) + 1)
    parser.send(
        h11.Request(
            method="GET", target="/", headers=[("Host", "-"), ("Connection", "upgrade"), ("Upgrade", "websocket")]
        )
    )
    try:
        parser.receive_data(head)
        event = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise RefusedError(502, "bad_upstream", f"the answer of {who} is not HTTP: {words_of(error)}") from None
    if not isinstance(event, h11.Response | h11.InformationalResponse):
        raise RefusedError(502, "bad_upstream", f"the answer of {who} is not HTTP")
    return event.status_code, _headers(event)
