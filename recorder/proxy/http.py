"""The HTTP side of the handshake: heads are parsed by h11 and forwarded as they were, but for the edits named here.

Only heads are looked at. What follows them belongs to the splice.
"""

from __future__ import annotations

import socket
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import h11
import msgspec

from recorder.errors import RecorderError, UsageError
from recorder.proxy.sockets import receive

Headers = list[tuple[str, str]]

_ENCODING: Final = "latin-1"  # HTTP heads are bytes; this maps each to one character and back
_PORTS: Final = {"ws": 80, "http": 80, "wss": 443, "https": 443}


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
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode(_ENCODING) + body


class Upstream(msgspec.Struct, frozen=True):
    """Where connections go: `scheme://host:port/prefix`.

    Attributes:
        tls: whether to speak TLS.
        host: a name or address.
        port: TCP port.
        prefix: path put before the client's path; "" for none.
    """

    tls: bool
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Upstream:
        """From ws://, wss://, http:// or https://. Raises UsageError for anything else."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"--upstream {url!r}: {error}", hint="Give it as wss://host[:port].") from None
        if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise UsageError(f"--upstream {url!r} is no WebSocket URL", hint="Give it as wss://host[:port][/prefix].")
        return cls(
            tls=parts.scheme in {"wss", "https"},
            host=parts.hostname,
            port=port or _PORTS[parts.scheme],
            prefix=parts.path.rstrip("/"),
        )

    @property
    def authority(self) -> str:
        """What stands in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The upstream as a WebSocket URL."""
        return f"{'wss' if self.tls else 'ws'}://{self.authority}{self.prefix}"


class Request(msgspec.Struct, frozen=True):
    """A client's request head, and what came with it of what follows."""

    method: str
    target: str
    headers: Headers
    rest: bytes

    def values(self, name: str) -> list[str]:
        """A header's comma-separated values, lower case."""
        found = [value for key, value in self.headers if key.lower() == name]
        return [item.strip().lower() for value in found for item in value.split(",")]

    @property
    def is_upgrade(self) -> bool:
        """Whether this asks for a WebSocket."""
        return "websocket" in self.values("upgrade") and "upgrade" in self.values("connection")

    def head_for(self, upstream: Upstream) -> bytes:
        """The head to send: the client's own, with the upstream's Host and, if no upgrade, `Connection: close`.

        The latter because the splice forwards one request a connection: a second one would not be routed.
        """
        lines = [f"{self.method} {upstream.prefix}{self.target} HTTP/1.1"]
        for name, value in self.headers:
            if name.lower() == "host":
                lines.append(f"{name}: {upstream.authority}")
            elif self.is_upgrade or name.lower() not in {"connection", "keep-alive"}:
                lines.append(f"{name}: {value}")
        if not self.is_upgrade:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode(_ENCODING)


class Response(msgspec.Struct, frozen=True):
    """An upstream's response head, verbatim in `head`, and what came with it of what follows."""

    status: int
    headers: Headers
    head: bytes
    rest: bytes


def _headers(event: h11.Request | h11.Response | h11.InformationalResponse) -> Headers:
    return [(name.decode(_ENCODING), value.decode(_ENCODING)) for name, value in event.headers.raw_items()]


async def read_request(sock: socket.socket, max_bytes: int) -> Request | None:
    """Read a request's head; None if the client left without a word.

    Raises:
        RefusedError: it is malformed, too large, or in a form that cannot be forwarded safely.
        OSError: the connection failed.
    """
    raw = b""
    while (end := raw.find(b"\r\n\r\n")) < 0 and len(raw) <= max_bytes:
        data = await receive(sock)
        if not data:
            if raw:
                raise RefusedError(400, "bad_request", "the connection ended inside the request head", by="client")
            return None
        raw += data
    if not 0 <= end <= max_bytes:
        raise RefusedError(431, "headers_too_large", f"the request head is over {max_bytes} bytes", by="client")
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=max_bytes + 4)
    try:
        parser.receive_data(raw[: end + 4])
        event = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise RefusedError(error.error_status_hint, "bad_request", str(error), by="client") from None
    if not isinstance(event, h11.Request) or not event.target.startswith(b"/"):
        raise RefusedError(400, "bad_request", "the request target must be a path", by="client")
    headers = _headers(event)
    if {"content-length", "transfer-encoding"} <= {name.lower() for name, _ in headers}:
        # RFC 9112 section 6.1: what two readers may frame differently is an attempt to smuggle a request
        raise RefusedError(400, "bad_request", "both Content-Length and Transfer-Encoding", by="client")
    return Request(event.method.decode(_ENCODING), event.target.decode(_ENCODING), headers, raw[end + 4 :])


async def read_response(sock: socket.socket, max_bytes: int) -> Response:
    """Read the head of the upstream's answer, past 1xx answers other than 101.

    Raises:
        RefusedError: 502, it is no HTTP, too large, or nothing.
        OSError: the connection failed.
    """
    raw = b""
    start = 0
    while True:
        end = raw.find(b"\r\n\r\n", start)
        if end >= 0:
            status, headers = _parse_response(raw[start : end + 4])
            if status == HTTPStatus.SWITCHING_PROTOCOLS or status >= HTTPStatus.OK:
                return Response(status, headers, raw[: end + 4], raw[end + 4 :])
            start = end + 4
            continue
        if len(raw) > max_bytes:
            raise RefusedError(502, "bad_upstream", f"the upstream's response head is over {max_bytes} bytes")
        data = await receive(sock)
        if not data:
            what = "garbage" if raw else "nothing"
            raise RefusedError(502, "bad_upstream", f"the upstream answered {what} and closed the connection")
        raw += data


def _parse_response(head: bytes) -> tuple[int, Headers]:
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
        raise RefusedError(502, "bad_upstream", f"the upstream's answer is not HTTP: {error}") from None
    if not isinstance(event, h11.Response | h11.InformationalResponse):
        raise RefusedError(502, "bad_upstream", "the upstream's answer is not HTTP")
    return event.status_code, _headers(event)
