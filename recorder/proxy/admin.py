"""The admin address: health, metrics, running sessions, and the few things that can be asked of a running proxy.

It is served by a thread of the supervisor, which has nothing else to do: no request is answered by a process that
carries traffic, and what is asked of workers goes over their control sockets.

It is off unless asked for: nothing listens that nobody wants, two proxies of one machine do not quarrel about a port,
and other users of the machine, whom a loopback address does not keep out, cannot end recordings.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from recorder.errors import ListenError, UsageError
from recorder.proxy.adminserver import JSON, LOOPBACK, AdminServer, error_body
from recorder.proxy.control import list_sessions, stop_recording
from recorder.proxy.metrics import Metrics
from recorder.proxy.sockets import words_for
from recorder.store.exposition import CONTENT_TYPE

log = logging.getLogger(__name__)

TOKEN_VARIABLE: Final = "RECORDER_ADMIN_TOKEN"  # noqa: S105 - where it is, not what
_SESSION: Final = "/sessions/"
_STOP: Final = "/stop-recording"


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
        self._server = AdminServer(self.answer, _listen(address, self.token, shared=shared), self.token)
        host, port = self._server.socket.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Begin to answer, in a thread."""
        threading.Thread(target=self._server.serve_forever, name="admin", daemon=True).start()

    def close(self) -> None:
        """Answer what waits already, and give the address up. Doing so twice is no harm."""
        self._server.finish()

    def answer(self, method: str, path: str) -> tuple[int, str, bytes]:
        """Answer a request that may be made.

        Returns:
            Status, content type, body.
        """
        if method == "GET" and path == "/metrics":
            return 200, CONTENT_TYPE, self.metrics.text().encode()
        status, body = self._answer(method, path)
        return status, JSON, msgspec.json.encode(body) + b"\n"

    def _answer(self, method: str, path: str) -> tuple[int, Any]:
        if method == "POST" and path.startswith(_SESSION) and path.endswith(_STOP):
            return self._stop(path.removeprefix(_SESSION).removesuffix(_STOP))
        asked: Callable[[], tuple[int, Any]] | None = {
            ("GET", "/healthz"): self._health,
            ("GET", "/readyz"): self._readiness,
            ("GET", "/sessions"): self._sessions,
            ("POST", "/reload"): self._reload,
        }.get((method, path))
        return asked() if asked else (404, error_body("not_found", "docs/observability.md names what there is"))

    def _health(self) -> tuple[int, Any]:
        return 200, {"status": "ok"}

    def _readiness(self) -> tuple[int, Any]:
        problems = self.metrics.problems()
        return (503 if problems else 200), {"ready": not problems, "reasons": problems}

    def _sessions(self) -> tuple[int, Any]:
        return 200, {"sessions": list_sessions(self.ring_dir)}

    def _stop(self, session_id: str) -> tuple[int, Any]:
        session = stop_recording(self.ring_dir, session_id)
        return (200, session) if session else (404, error_body("session_not_found", "no such session is running"))

    def _reload(self) -> tuple[int, Any]:
        log.info("a reload was asked for")
        self.reload()
        return 202, {"reloading": True}


def _listen(address: str, token: str | None, *, shared: bool) -> socket.socket:
    host, colon, port = address.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--admin {address!r} is no address", hint="Give it as HOST:PORT, like 127.0.0.1:8766.")
    if token is None and host not in LOOPBACK:
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
        raise ListenError(address, words_for(error), option="--admin") from None
