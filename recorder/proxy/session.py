"""One client connection: its handshake with the upstream, then the splice."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
import socket
import ssl
import time
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from recorder import __version__
from recorder.protocol.envelope import RecordKind
from recorder.protocol.redact import redact_headers, redact_target
from recorder.proxy.config import WorkerConfig
from recorder.proxy.farewell import REASON, FrameWatch, say_farewell
from recorder.proxy.http import RefusedError, Request, Response, read_request, read_response
from recorder.proxy.selector import SpliceSelector
from recorder.proxy.sockets import connect, receive, send_all, start_tls, words_for
from recorder.proxy.splice import Splice
from recorder.proxy.tap import Tap
from recorder.store.ring import RingWriter

log = logging.getLogger(__name__)

_KINDS = (RecordKind.CLIENT_BYTES, RecordKind.SERVER_BYTES)


def new_session_id(now_ns: int) -> str:
    """A UUIDv7 (RFC 9562 section 5.7): Unix milliseconds, then random bits, so that ids sort by time."""
    milliseconds = now_ns // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = (milliseconds & (1 << 48) - 1) << 80 | random & (1 << 80) - 1
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


class Session:
    """Serves one accepted connection and closes it.

    Args:
        client: the client's socket, non-blocking, TLS done.
        address: who it is, for the record.
        session_no: its number in the ring.
        on_end: called once when all is over.
    """

    def __init__(
        self,
        *,
        config: WorkerConfig,
        selector: SpliceSelector,
        ring: RingWriter,
        client: socket.socket,
        address: str,
        session_no: int,
        on_end: Callable[[], None],
    ) -> None:
        self._config = config
        self._selector = selector
        self._ring = ring
        self._client = client
        self._address = address
        self._session_no = session_no
        self._on_end = on_end
        self._tap: Tap | None = None
        self._splice: Splice | None = None
        self._upstream_tls = config.upstream_context()
        self._began_ns = 0
        self._connect_seconds: float | None = None
        self._extensions: str | None = None  # what the handshake negotiated; None until it has
        self._watch: FrameWatch | None = None
        self._early_bytes = (0, 0)  # sent by (client, upstream) along with their heads
        self._carried = 0
        self._quiet_since = time.monotonic()
        self.session_id: str | None = None

    async def run(self) -> None:
        """Handshake, then hand over to the splice (which goes on after this returns)."""
        upstream: socket.socket | None = None
        try:
            async with asyncio.timeout(self._config.handshake_timeout_seconds):
                request = await read_request(self._client, self._config.max_header_bytes)
                if request is None:
                    self._end()
                    return
                if request.is_upgrade:
                    self._open(request)
                upstream = await self._dial()
                if request.is_upgrade:
                    await self._upgrade(request, upstream)
                else:
                    await send_all(upstream, request.head_for(self._config.upstream) + request.rest)
                    self._start_splice(upstream)
        except RefusedError as refusal:
            await self._refuse(refusal, upstream)
        except TimeoutError:
            party = "the upstream did not answer" if upstream or self._began_ns else "the request did not arrive"
            status = 504 if self._began_ns else 408
            await self._refuse(RefusedError(status, "handshake_timeout", f"{party} in time"), upstream)
        except OSError as error:
            await self._refuse(
                RefusedError(502, "connection_failed", f"the connection failed: {words_for(error)}"), upstream
            )
        except asyncio.CancelledError:
            self._abandon("the proxy stopped", upstream)
            raise
        except Exception:
            log.exception("session failed in its handshake")
            self._abandon("internal error", upstream)

    def begin_drain(self) -> None:
        """Prepare for `end`: a running session goes on as it is, for now."""
        if self._splice is not None and self._splice.running and self._extensions is not None:
            self._watch = FrameWatch(self._tap, self._extensions)
            self._splice.replace_tap(self._watch)

    async def end(self, error: str) -> None:
        """End a running session from the proxy's side: Close 1001 to both, if it is a WebSocket's."""
        splice = self._splice
        if splice is None or not splice.running:
            return
        if self._watch is None:
            splice.abort(error)
            return
        code = await say_farewell(splice, self._watch)
        self._record_close(
            closed_by="proxy",
            close_code=code,
            close_reason=code and REASON,
            error=error,
            client_bytes=self._early_bytes[0] + splice.client_bytes,
            server_bytes=self._early_bytes[1] + splice.server_bytes,
        )
        self._end()

    def look_after(self, now: float) -> None:
        """Called now and then: ends a session that has been idle, or half-closed, for too long."""
        splice = self._splice
        if splice is None or not splice.running:
            return
        carried = splice.client_bytes + splice.server_bytes
        if carried != self._carried:
            self._carried, self._quiet_since = carried, now
        idle, half_open = self._config.idle_timeout_seconds, self._config.half_open_seconds
        quiet = now - self._quiet_since
        if idle and quiet >= idle:
            splice.abort(f"idle for {idle:g} s")
        elif splice.first_end is not None and quiet >= half_open:
            splice.abort(f"half-closed for {half_open:g} s")

    def _open(self, request: Request) -> None:
        """Record that a session begins. Secrets are replaced before anything is written anywhere."""
        self._began_ns = time.monotonic_ns()
        now_ns = time.time_ns()
        self.session_id = new_session_id(now_ns)
        if not self._config.recording:
            return
        tap = Tap(self._ring, self._session_no)
        facts = {
            "session_id": self.session_id,
            "source": "proxy",
            "opened_at": dt.datetime.fromtimestamp(now_ns / 1e9, dt.UTC).isoformat(timespec="microseconds"),
            "opened_at_ns": now_ns,
            "monotonic_ns": self._began_ns,
            "client": {"address": self._address},
            "request": {
                "method": request.method,
                "target": redact_target(request.target),
                "headers": redact_headers(request.headers),
            },
            "upstream": self._config.upstream.url,
            "labels": {},
            "ring": self._ring.name,
            "session_no": self._session_no,
            "recorder_version": __version__,
        }
        if tap.facts(RecordKind.OPENED, facts):
            self._tap = tap
        elif self._config.on_recording_failure == "refuse":
            raise RefusedError(503, "cannot_record", "this session cannot be recorded now, and the policy is to refuse")
        else:
            log.error("session %s is not recorded: the ring is full", self.session_id)

    async def _dial(self) -> socket.socket:
        target = self._config.upstream
        began = time.monotonic_ns()
        try:
            async with asyncio.timeout(self._config.connect_timeout_seconds):
                sock = await connect(target.host, target.port)
                if target.tls:
                    sock = await start_tls(sock, self._upstream_tls, server_hostname=target.host)
        except TimeoutError:
            raise RefusedError(504, "upstream_timeout", f"no connection to {target.authority} in time") from None
        except ssl.SSLError as error:
            raise RefusedError(
                502, "upstream_tls_failed", f"TLS with {target.authority} failed: {error.reason or error}"
            ) from None
        except OSError as error:
            raise RefusedError(
                502, "upstream_unreachable", f"no connection to {target.authority}: {words_for(error)}"
            ) from None
        self._connect_seconds = (time.monotonic_ns() - began) / 1e9
        return sock

    async def _upgrade(self, request: Request, upstream: socket.socket) -> None:
        await send_all(upstream, request.head_for(self._config.upstream))
        response = await read_response(upstream, self._config.max_header_bytes)
        if response.status != HTTPStatus.SWITCHING_PROTOCOLS:
            await self._pass_refusal_on(response, upstream)
            return
        now = time.monotonic_ns()
        if self._tap is not None:
            facts = {
                "status": response.status,
                "headers": redact_headers(response.headers),
                "connect_seconds": self._connect_seconds,
                "handshake_seconds": (now - self._began_ns) / 1e9,
                "monotonic_ns": now,
            }
            self._tap.facts(RecordKind.ACCEPTED, facts)
            # Either side may already have said something in the packet that carried its head.
            for kind, data in zip(_KINDS, (request.rest, response.rest), strict=True):
                if data:
                    self._tap.chunk(kind, data)
        await send_all(self._client, response.head + response.rest)
        if request.rest:
            await send_all(upstream, request.rest)
        self._early_bytes = (len(request.rest), len(response.rest))
        negotiated = [value for name, value in response.headers if name.lower() == "sec-websocket-extensions"]
        self._extensions = ", ".join(negotiated)
        self._start_splice(upstream)

    async def _pass_refusal_on(self, response: Response, upstream: socket.socket) -> None:
        """Give the client the upstream's refusal, byte for byte, to its end."""
        await send_all(self._client, response.head + response.rest)
        length = next((value for name, value in response.headers if name.lower() == "content-length"), None)
        missing = int(length) - len(response.rest) if length and length.isdigit() else None
        while missing is None or missing > 0:
            data = await receive(upstream)
            if not data:
                break
            await send_all(self._client, data)
            missing = missing if missing is None else missing - len(data)
        self._record_close(closed_by="upstream", status=response.status, error=None)
        log.info("session %s refused by the upstream: %d", self.session_id, response.status)
        await self._close_politely()
        upstream.close()
        self._end()

    def _start_splice(self, upstream: socket.socket) -> None:
        def ended(splice: Splice) -> None:
            self._record_close(
                closed_by="proxy" if splice.first_end is None else "lost",
                error=splice.error,
                client_bytes=self._early_bytes[0] + splice.client_bytes,
                server_bytes=self._early_bytes[1] + splice.server_bytes,
                first_end=splice.first_end,
            )
            self._end()

        self._splice = Splice(self._selector, self._client, upstream, tap=self._tap, kinds=_KINDS, on_end=ended)
        self._splice.start()

    async def _refuse(self, refusal: RefusedError, upstream: socket.socket | None) -> None:
        log.warning("session %s refused: %d %s", self.session_id or "-", refusal.status, refusal.message)
        self._record_close(closed_by=refusal.by, status=refusal.status, error=refusal.message)
        try:
            async with asyncio.timeout(self._config.handshake_timeout_seconds):
                await send_all(self._client, refusal.response())
                await self._close_politely()
        except (OSError, TimeoutError):
            pass
        self._abandon(refusal.message, upstream)

    async def _close_politely(self) -> None:
        """FIN, then read what the client still sends: closing on unread bytes would be a reset, and eat our answer."""
        try:
            async with asyncio.timeout(1):
                self._client.shutdown(socket.SHUT_WR)
                while await receive(self._client):
                    pass
        except (OSError, TimeoutError):
            pass

    def _abandon(self, error: str, upstream: socket.socket | None) -> None:
        self._record_close(closed_by="proxy", error=error)
        if upstream is not None:
            upstream.close()
        self._end()

    def _record_close(self, **facts: Any) -> None:
        """Write the session's last record, once."""
        if self._tap is None:
            return
        tap, self._tap = self._tap, None
        facts = {"status": None, "client_bytes": 0, "server_bytes": 0, **facts}
        facts["missed_bytes"] = tap.missed_bytes
        facts["connect_seconds"] = self._connect_seconds
        if not tap.facts(RecordKind.CLOSED, facts):
            log.error("session %s: the ring is full, its end is not recorded", self.session_id)

    def _end(self) -> None:
        self._client.close()
        self._on_end()
