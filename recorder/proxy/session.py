"""One client connection: its handshake with the upstream, then the splice."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from recorder.protocol.envelope import RecordKind
from recorder.proxy.config import WorkerConfig
from recorder.proxy.consent import Mode
from recorder.proxy.dial import dial
from recorder.proxy.facts import accepted_facts, new_session_id, opened_facts
from recorder.proxy.farewell import REASON, FrameWatch, say_farewell
from recorder.proxy.forward import request_head, response_head
from recorder.proxy.http import RefusedError, Request, read_request, read_response
from recorder.proxy.meter import Meter
from recorder.proxy.refusals import close_politely, pass_refusal_on
from recorder.proxy.routes import Route
from recorder.proxy.selector import SpliceSelector
from recorder.proxy.settings import Loaded
from recorder.proxy.sockets import send_all, words_for
from recorder.proxy.splice import Splice
from recorder.proxy.tap import Tap
from recorder.store.counters import CONNECT, ERROR, HTTP_REQUESTS, REFUSED, Counters
from recorder.store.ring import RingWriter

log = logging.getLogger(__name__)

_KINDS = (RecordKind.CLIENT_BYTES, RecordKind.SERVER_BYTES)


class Session:
    """Serves one accepted connection and closes it.

    Args:
        settings: those in force now.
        client: the client's socket, non-blocking, TLS done.
        address: who it is, for the record.
        session_no: its number in the ring.
        counters: the worker's.
        on_end: called once when all is over.
    """

    def __init__(
        self,
        *,
        config: WorkerConfig,
        settings: Loaded,
        selector: SpliceSelector,
        ring: RingWriter,
        client: socket.socket,
        address: str,
        session_no: int,
        counters: Counters,
        on_end: Callable[[], None],
    ) -> None:
        self._config = config
        self._settings = settings
        self._selector = selector
        self._ring = ring
        self._client = client
        self._address = address
        self._session_no = session_no
        self._counters = counters
        self._on_end = on_end
        self._tap: Tap | None = None
        self._unrecordable = False  # it should be recorded, and is not
        self._meter: Meter | None = None
        self._about: dict[str, Any] = {}
        self._splice: Splice | None = None
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
        request: Request | None = None
        try:
            async with asyncio.timeout(self._config.handshake_timeout_seconds) as deadline:
                began = asyncio.get_running_loop().time()
                request = await read_request(self._client, self._config.max_header_bytes)
                if request is None:
                    self._end()
                    return
                route, client_name = self._settings.admit(request)
                deadline.reschedule(began + route.handshake_timeout_seconds)
                if request.is_upgrade:
                    self._open(request, route, client_name)
                upstream = await self._dial(route)
                if request.is_upgrade:
                    await self._upgrade(request, route, upstream)
                else:
                    await send_all(upstream, request_head(request, route) + request.rest)
                    self._start_splice(upstream)
        except RefusedError as refusal:
            await self._refuse(refusal, upstream)
        except TimeoutError:
            status, problem = (504, "the upstream did not answer") if request else (408, "the request did not arrive")
            await self._refuse(RefusedError(status, "handshake_timeout", f"{problem} in time"), upstream)
        except OSError as error:
            await self._refuse(
                RefusedError(502, "connection_failed", f"the connection failed: {words_for(error)}"), upstream
            )
        except asyncio.CancelledError:
            self._abandon("the proxy stopped", upstream)
            raise
        except Exception:
            self._counters.add(ERROR, value="internal")
            log.exception("the handshake failed", extra=self._named)
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
        await self._watch.settle()
        if not splice.running:
            return
        code = await say_farewell(splice, self._watch)
        self._record_close(
            closed_by="proxy",
            close_code=code,
            close_reason=code and REASON,
            error=error,
        )
        self._end()

    def describe(self) -> dict[str, Any]:
        """What is known about the session, as JSON."""
        client_bytes, server_bytes = self._traffic
        return {
            **self._about,
            "state": "handshake" if self._splice is None else "running",
            "recorded": self._tap is not None and self._tap.stopped is None,
            "client_bytes": client_bytes,
            "server_bytes": server_bytes,
        }

    def stop_recording(self) -> bool:
        """Record nothing more of what is said; the session goes on. Returns whether it was being recorded."""
        if self._tap is None or self._tap.stopped is not None:
            return False
        self._tap.stop("stopped by request")
        log.info("recording was stopped by request", extra=self._named)
        return True

    @property
    def _named(self) -> dict[str, Any]:
        return {"session_id": self.session_id}

    @property
    def _traffic(self) -> tuple[int, int]:
        """Bytes from the client and from the upstream so far."""
        client, server = self._early_bytes
        if self._splice is not None:
            client, server = client + self._splice.client_bytes, server + self._splice.server_bytes
        return client, server

    def look_after(self, now: float) -> None:
        """Called now and then: ends a session that has been idle, or half-closed, for too long."""
        splice = self._splice
        if splice is None or not splice.running:
            return
        if self._meter is not None:
            self._meter.look(self._traffic, now)
        carried = splice.client_bytes + splice.server_bytes
        if carried != self._carried:
            self._carried, self._quiet_since = carried, now
        idle, half_open = self._config.idle_timeout_seconds, self._config.half_open_seconds
        quiet = now - self._quiet_since
        if idle and quiet >= idle:
            splice.abort(f"idle for {idle:g} s")
        elif splice.first_end is not None and quiet >= half_open:
            splice.abort(f"half-closed for {half_open:g} s")

    def _open(self, request: Request, route: Route, client_name: str | None) -> None:
        """Record that a session begins, if it is to be recorded."""
        self._began_ns = time.monotonic_ns()
        now_ns = time.time_ns()
        self.session_id = new_session_id(now_ns)
        recording = route.recording.decide(request, self.session_id)
        off = recording.mode is Mode.OFF
        labels = route.labels_for(request, client_name)
        opened_at = dt.datetime.fromtimestamp(now_ns / 1e9, dt.UTC).isoformat(timespec="milliseconds")
        self._about = {"session_id": self.session_id, "since": opened_at, "route": route.name, "labels": labels}
        if not self._config.recording:
            return
        tap = Tap(self._ring, self._session_no, off=off)
        facts = opened_facts(
            None if off else request,
            session_id=self.session_id,
            now_ns=now_ns,
            monotonic_ns=self._began_ns,
            client={} if off else {"address": self._address},
            upstream=route.upstream.url,
            route=route.name,
            labels=route.own_labels(client_name) if off else labels,
            recording=recording.facts(),
            ring=self._ring.name,
            session_no=self._session_no,
        )
        refuse = self._config.on_recording_failure == "refuse" and not off
        if not (refuse and self._ring.held_back) and tap.facts(RecordKind.OPENED, facts):
            self._tap = tap
        elif refuse:
            raise RefusedError(503, "cannot_record", "this session cannot be recorded now, and the policy is to refuse")
        else:
            self._unrecordable = not off
            self._counters.add(ERROR, value="not_recorded")
            log.error("the session is not recorded: the ring is full", extra=self._named)

    async def _dial(self, route: Route) -> socket.socket:
        began = time.monotonic_ns()
        upstream = await dial(route)
        self._connect_seconds = (time.monotonic_ns() - began) / 1e9
        self._counters.observe(CONNECT, self._connect_seconds)
        return upstream

    async def _upgrade(self, request: Request, route: Route, upstream: socket.socket) -> None:
        await send_all(upstream, request_head(request, route))
        response = await read_response(upstream, self._config.max_header_bytes)
        if response.status != HTTPStatus.SWITCHING_PROTOCOLS:
            await pass_refusal_on(response, upstream, self._client)
            self._record_close(closed_by="upstream", status=response.status, error=None)
            self._counters.add(REFUSED, value="upstream_refused")
            log.info("refused by the upstream: %d", response.status, extra=self._named)
            await close_politely(self._client)
            upstream.close()
            self._end()
            return
        now = time.monotonic_ns()
        if self._tap is not None:
            facts = accepted_facts(
                response,
                began_ns=self._began_ns,
                now_ns=now,
                connect_seconds=self._connect_seconds,
                headers=not self._tap.off,
            )
            self._tap.facts(RecordKind.ACCEPTED, facts)
            # Either side may already have said something in the packet that carried its head.
            for kind, data in zip(_KINDS, (request.rest, response.rest), strict=True):
                if data:
                    self._tap.chunk(kind, data)
        await send_all(self._client, response_head(response.head, request, route) + response.rest)
        if request.rest:
            await send_all(upstream, request.rest)
        self._early_bytes = (len(request.rest), len(response.rest))
        negotiated = [value for name, value in response.headers if name.lower() == "sec-websocket-extensions"]
        self._extensions = ", ".join(negotiated)
        self._start_splice(upstream)

    def _start_splice(self, upstream: socket.socket) -> None:
        def ended(splice: Splice) -> None:
            self._record_close(
                closed_by="proxy" if splice.first_end is None else "lost",
                error=splice.error,
                first_end=splice.first_end,
            )
            self._end()

        self._splice = Splice(
            self._selector,
            self._client,
            upstream,
            tap=self._tap,
            kinds=_KINDS,
            on_end=ended,
            observe=self._counters.observe_latency,
        )
        if self.session_id is None:
            self._counters.add(HTTP_REQUESTS)
        else:
            self._meter = Meter(self._counters, self.session_id, self._tap, wanted=self._unrecordable)
        self._splice.start()

    async def _refuse(self, refusal: RefusedError, upstream: socket.socket | None) -> None:
        self._counters.add(REFUSED, value=refusal.code)
        log.warning("refused: %d %s", refusal.status, refusal.message, extra=self._named)
        self._record_close(closed_by=refusal.by, status=refusal.status, error=refusal.message)
        try:
            async with asyncio.timeout(self._config.handshake_timeout_seconds):
                await send_all(self._client, refusal.response())
                await close_politely(self._client)
        except (OSError, TimeoutError):
            pass
        self._abandon(refusal.message, upstream)

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
        client_bytes, server_bytes = self._traffic
        facts = {"status": None, "client_bytes": client_bytes, "server_bytes": server_bytes, **facts}
        facts["missed_bytes"] = tap.missed_bytes
        if tap.stopped is not None:
            facts["left_out"] = dict(zip(("client_bytes", "server_bytes"), tap.left_out.values(), strict=True))
            if not tap.off:
                facts["recording_stopped"] = tap.stopped
            if facts["closed_by"] == "lost" and facts["error"] is None:
                facts["closed_by"] = None  # a close frame there may have been, but nobody looked
        facts["connect_seconds"] = self._connect_seconds
        if not tap.facts(RecordKind.CLOSED, facts):
            log.error("the session's end is not recorded: the ring is full", extra=self._named)

    def _end(self) -> None:
        if self._meter is not None:
            self._meter.finish(self._traffic, time.monotonic())
        if self._splice is not None and self._splice.error is not None:
            self._counters.add(ERROR, value="connection_lost" if self._splice.first_end else "proxy_closed")
        self._client.close()
        self._on_end()
