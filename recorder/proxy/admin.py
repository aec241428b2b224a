"""The admin address: health, metrics, running sessions, and the few things that can be asked of a running proxy.

It is served by a thread of the supervisor, which has nothing else to do: no request is answered by a process that
carries traffic, and what is asked of workers goes over their control sockets.

It is off unless asked for: nothing listens that nobody wants, two proxies of one machine do not quarrel about a port,
and other users of the machine, whom a loopback address does not keep out, cannot end recordings.
"""

from __future__ import annotations

import hmac
import http.server
import logging
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from recorder.errors import ListenError, UsageError
from recorder.proxy.control import list_sessions, stop_recording
from recorder.proxy.metrics import Metrics
from recorder.store.exposition import CONTENT_TYPE

log = logging.getLogger(__name__)

TOKEN_VARIABLE: Final = "RECORDER_ADMIN_TOKEN"  # noqa: S105 - where it is, not what
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_OPEN: Final = frozenset({"/healthz", "/readyz"})
_PATIENCE_SECONDS: Final = 10.0
_AT_ONCE: Final = 16
_SESSION: Final = "/sessions/"
_STOP: Final = "/stop-recording"
_JSON: Final = "application/json"


class Admin:
    """The admin server; `start` it, and `close` it at the end.

    Args:
        address: HOST:PORT; port 0 takes a free one.
        metrics: what it tells.
        ring_dir: where workers are found.
        reload: makes the proxy read its settings again.
        token: what callers must show as `Authorization: Bearer`; without one, only this machine may ask.
        shared: whether a predecessor may still be listening there, to be succeeded.

    Attributes:
        url: where it is.

    Raises:
        UsageError: the address makes no sense, or others could reach it without a token.
        ListenError: it cannot be had.
    """

    def __init__(
        self,
        address: str,
        *,
        metrics: Metrics,
        ring_dir: Path,
        reload: Callable[[], None],
        token: str | None = None,
        shared: bool = False,
    ) -> None:
        self.metrics = metrics
        self.ring_dir = ring_dir
        self.reload = reload
        self.token = token or None
        self._server = _Server(self, _listen(address, self.token, shared=shared))
        host, port = self._server.socket.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Begin to answer, in a thread."""
        threading.Thread(target=self._server.serve_forever, name="admin", daemon=True).start()

    def close(self) -> None:
        """Answer what waits already, and give the address up. Doing so twice is no harm."""
        self._server.shutdown()
        if self._server.fileno() >= 0:
            self._server.timeout = 0
            for _ in range(_AT_ONCE):
                self._server.handle_request()
        self._server.server_close()

    def answer(self, method: str, path: str) -> tuple[int, str, bytes]:
        """Answer a request that may be made.

        Returns:
            Status, content type, body.
        """
        if method == "GET" and path == "/metrics":
            return 200, CONTENT_TYPE, self.metrics.text().encode()
        status, body = self._answer(method, path)
        return status, _JSON, msgspec.json.encode(body) + b"\n"

    def _answer(self, method: str, path: str) -> tuple[int, Any]:
        if method == "POST" and path.startswith(_SESSION) and path.endswith(_STOP):
            return self._stop(path.removeprefix(_SESSION).removesuffix(_STOP))
        asked: Callable[[], tuple[int, Any]] | None = {
            ("GET", "/healthz"): self._health,
            ("GET", "/readyz"): self._readiness,
            ("GET", "/sessions"): self._sessions,
            ("POST", "/reload"): self._reload,
        }.get((method, path))
        return asked() if asked else (404, _error("not_found", "docs/observability.md names what there is"))

    def _health(self) -> tuple[int, Any]:
        return 200, {"status": "ok"}

    def _readiness(self) -> tuple[int, Any]:
        problems = self.metrics.problems()
        return (503 if problems else 200), {"ready": not problems, "reasons": problems}

    def _sessions(self) -> tuple[int, Any]:
        return 200, {"sessions": list_sessions(self.ring_dir)}

    def _stop(self, session_id: str) -> tuple[int, Any]:
        session = stop_recording(self.ring_dir, session_id)
        return (200, session) if session else (404, _error("session_not_found", "no such session is running"))

    def _reload(self) -> tuple[int, Any]:
        log.info("a reload was asked for")
        self.reload()
        return 202, {"reloading": True}


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _listen(address: str, token: str | None, *, shared: bool) -> socket.socket:
    host, colon, port = address.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--admin {address!r} is no address", hint="Give it as HOST:PORT, like 127.0.0.1:8766.")
    if token is None and host not in _LOOPBACK:
        raise UsageError(
            f"--admin {address} can be reached from elsewhere, and asks for no token",
            hint=f"Set {TOKEN_VARIABLE} to a long random text, or listen on 127.0.0.1.",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if not shared:  # a bind that does not share finds whoever is there; sharing would slip in beside
            socket.create_server((host, int(port)), family=family).close()
        return socket.create_server((host, int(port)), family=family, reuse_port=True)
    except OSError as error:
        raise ListenError(address, error.strerror or str(error), option="--admin") from None


class _Server(http.server.ThreadingHTTPServer):
    """On a socket that listens already, with a bound on how many are answered at once."""

    def __init__(self, admin: Admin, listener: socket.socket) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.admin = admin
        self._slots = threading.BoundedSemaphore(_AT_ONCE)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, *_: object) -> None:
        """A caller that went away is not news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE_SECONDS
    protocol_version = "HTTP/1.0"
    server_version = "recorder"
    sys_version = ""

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_GET  # noqa: N815 - the names are http.server's

    def _handle(self) -> None:
        path = urlsplit(self.path).path
        refusal = self._refusal(path)
        if refusal is not None:
            status, content_type, body = refusal[0], _JSON, msgspec.json.encode(_error(*refusal[1:])) + b"\n"
        else:
            method = "GET" if self.command == "HEAD" else self.command
            try:
                status, content_type, body = self.server.admin.answer(method, path)
            except Exception:
                log.exception("an admin request failed")
                status, content_type, body = 500, _JSON, msgspec.json.encode(_error("internal", "see the log")) + b"\n"
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
        token = self.server.admin.token
        if token is None:
            # A name that somebody points at 127.0.0.1 (DNS rebinding) is not this machine's.
            known = urlsplit(f"//{self.headers.get('host', '')}").hostname in _LOOPBACK
            return None if known else (421, "unknown_host", "this address answers to this machine's own name only")
        scheme, _, given = self.headers.get("authorization", "").partition(" ")
        shown = scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
        return None if shown or path in _OPEN else (401, "unauthorized", "a token is needed")

    def log_message(self, *_: object) -> None:
        """Scrapes are not news."""
