"""Serving the admin address: who may ask, how long they may take for it, and how many at once.

Those who drip or say nothing cannot keep others out: whoever is slowest to say what it wants gives way to the next.
"""

from __future__ import annotations

import hmac
import http.server
import io
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec

log = logging.getLogger(__name__)

JSON: Final = "application/json"
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
AT_ONCE: Final = 16
"""Callers that are served at once."""

_OPEN: Final = frozenset({"/healthz", "/readyz"})
_PATIENCE_SECONDS: Final = 10.0
"""A request's head has to be there, and its answer taken, within so long each."""

_MAX_HEAD_BYTES: Final = 1 << 16

Answer = Callable[[str, str], tuple[int, str, bytes]]


def error_body(code: str, message: str) -> dict[str, Any]:
    """An error as JSON."""
    return {"error": {"code": code, "message": message}}


class AdminServer(http.server.ThreadingHTTPServer):
    """Answers callers, a thread for each.

    Args:
        answer: of a request's method and path that may be made: status, content type, body.
        listener: a socket that listens already.
        token: what callers must show; without one, only this machine may ask.
    """

    def __init__(self, answer: Answer, listener: socket.socket, token: str | None) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.answer = answer
        self.token = token
        self._lock = threading.Lock()
        self._callers: dict[socket.socket, float | None] = {}  # until when its head has to be there; None once it is

    def finish(self) -> None:
        """Stop serving, answer what waits already, and give the address up. Doing so twice is no harm."""
        self.shutdown()
        if self.fileno() >= 0:
            self.timeout = 0
            for _ in range(AT_ONCE):
                self.handle_request()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin with a caller; where there are too many, the one that is slowest to say what it wants is left."""
        with self._lock:
            full = len(self._callers) >= AT_ONCE
            slow = next((caller for caller, due in self._callers.items() if due is not None), None) if full else None
            if slow is not None:
                self._leave(slow)
            if admitted := not full or slow is not None:
                self._callers[request] = time.monotonic() + _PATIENCE_SECONDS
        if admitted:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a caller."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._callers.pop(request, None)

    def service_actions(self) -> None:
        """Called twice a second."""
        now = time.monotonic()
        with self._lock:
            for caller in [caller for caller, due in self._callers.items() if due is not None and due < now]:
                self._leave(caller)

    def asked(self, caller: socket.socket) -> None:
        """A caller has said what it wants."""
        with self._lock:
            if caller in self._callers:
                self._callers[caller] = None

    def _leave(self, caller: socket.socket) -> None:
        del self._callers[caller]
        with suppress(OSError):
            caller.shutdown(socket.SHUT_RDWR)  # wakes its thread, which closes it

    def handle_error(self, *_: object) -> None:
        """A caller that went away is not news."""


class _Head(io.RawIOBase):
    """A request's head. Half a one is none: what would have kept it from being answered may be in the other half."""

    def __init__(self, caller: socket.socket) -> None:
        self._caller = caller
        self._left = _MAX_HEAD_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = self._caller.recv_into(buffer, min(len(buffer), self._left)) if self._left else 0
        if not got:
            raise ConnectionAbortedError
        self._left -= got
        return got


class _Handler(http.server.BaseHTTPRequestHandler):
    server: AdminServer
    protocol_version = "HTTP/1.0"
    server_version = "recorder"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(_PATIENCE_SECONDS)
        self.rfile = io.BufferedReader(_Head(self.connection))

    def do_GET(self) -> None:
        self.server.asked(cast("socket.socket", self.request))
        self._handle()

    do_HEAD = do_POST = do_GET  # noqa: N815 - the names are http.server's

    def log_message(self, *_: object) -> None:
        """Scrapes are not news."""

    def _handle(self) -> None:
        try:
            path = urlsplit(self.path).path
            refusal = self._refusal(path)
        except ValueError:  # brackets that hold no address
            refusal = 400, "bad_request", "this is no path, or no host"
        if refusal is not None:
            status, content_type, body = refusal[0], JSON, msgspec.json.encode(error_body(*refusal[1:])) + b"\n"
        else:
            method = "GET" if self.command == "HEAD" else self.command
            try:
                status, content_type, body = self.server.answer(method, path)
            except Exception:
                log.exception("an admin request failed")
                status, content_type = 500, JSON
                body = msgspec.json.encode(error_body("internal", "see the log")) + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refusal(self, path: str) -> tuple[int, str, str] | None:
        """Why this caller gets no answer: a web page of elsewhere, or one without the token."""
        if "origin" in self.headers:
            return 403, "forbidden", "this address is not for web pages"
        token = self.server.token
        if token is None:
            # A name that somebody points at 127.0.0.1 (DNS rebinding) is not this machine's.
            known = urlsplit(f"//{self.headers.get('host', '')}").hostname in LOOPBACK
            return None if known else (421, "unknown_host", "this address answers to this machine's own name only")
        scheme, _, given = self.headers.get("authorization", "").partition(" ")
        shown = scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
        return None if shown or path in _OPEN else (401, "unauthorized", "a token is needed")
