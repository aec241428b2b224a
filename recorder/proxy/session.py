"""One client connection: its handshake with the upstream, then the splice."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from recorder.proxy.calls import Call, call_begun, may_begin_a_call
from recorder.proxy.config import WorkerConfig
from recorder.proxy.dial import dial
from recorder.proxy.exchange import Answer, RequestBody
from recorder.proxy.farewell import REASON, FrameWatch, say_farewell
from recorder.proxy.forward import request_head, response_head
from recorder.proxy.http import RefusedError, Request, Response, read_request, read_response
from recorder.proxy.logbook import KINDS, Logbook
from recorder.proxy.meter import Meter
from recorder.proxy.overhead import Overhead
from recorder.proxy.refusals import close_politely, pass_refusal_on
from recorder.proxy.routes import Route
from recorder.proxy.selector import SpliceSelector
from recorder.proxy.settings import Loaded
from recorder.proxy.sockets import reset_on_close, send_all, words_for
from recorder.proxy.splice import SAMPLE_EVERY, Splice
from recorder.proxy.tap import Tap
from recorder.store.counters import CONNECT, ERROR, HTTP_REQUESTS, REFUSED, Counters
from recorder.store.ring import RingWriter

log = logging.getLogger(__name__)


class Session:
    """Serves one accepted connection and closes it.

    Args:
        settings: those in force now.
        client: the client's socket, non-blocking, TLS done.
        address: who it is, for the record.
        session_no: its number in the ring.
        counters: the worker's.
        on_call: told of a call that this connection's request has begun, and that is to be joined.
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
        on_call: Callable[[Call], None],
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
        self._on_call = on_call
        self._on_end = on_end
        self._book: Logbook | None = None  # for WebSockets only
        self._meter: Meter | None = None
        self._overhead = Overhead(SAMPLE_EVERY, counters.observe_latency)
        self._splice: Splice | None = None
        self._extensions: str | None = None  # what the handshake negotiated; None until it has
        self._watch: FrameWatch | None = None
        self._client_error: str | None = None  # why it is gone, if it reset during the handshake
        self._answered = False  # it has got an answer's first bytes: no other can follow
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
                route, client_name = self._settings.admit(request, self._address)
                deadline.reschedule(began + route.handshake_timeout_seconds)
                body = None
                if request.is_upgrade:
                    self._open(request, route, client_name)
                else:
                    body = RequestBody(request, self._config.max_header_bytes)
                self._notice_a_reset()
                upstream = await self._dial(route)
                if body is None:
                    await self._upgrade(request, route, upstream)
                else:
                    await send_all(upstream, request_head(request, route) + body.first)
                    self._start_splice(upstream, (body, self._answer_to(request, route, client_name)))
        except RefusedError as refusal:
            await self._refuse(refusal, upstream)
        except TimeoutError:
            status, problem = (504, "the upstream did not answer") if request else (408, "the request did not arrive")
            await self._refuse(RefusedError(status, "handshake_timeout", f"{problem} in time"), upstream)
        except OSError as error:
            if self._answered:  # nobody refused anything
                self._record_close(closed_by="lost", error=words_for(error))
            await self._refuse(
                RefusedError(502, "connection_failed", f"the connection failed: {words_for(error)}"), upstream
            )
        except asyncio.CancelledError:
            if self._client_error is None:
                self._abandon("the proxy stopped", upstream)
                raise
            self._record_close(closed_by="lost", first_end="client", error=self._client_error)
            self._abandon(self._client_error, upstream, reset=True)
        except Exception:
            self._counters.add(ERROR, value="internal")
            log.exception("the handshake failed", extra=self._provoked("internal"))
            self._abandon("internal error", upstream)

    def _notice_a_reset(self) -> None:
        """From now until the splice begins, a client that resets ends the handshake. A FIN does not: it waits."""
        task, fd = asyncio.current_task(), self._client.fileno()
        assert task is not None

        def on_trouble(_mask: int) -> None:
            self._selector.unwatch(fd)
            if error := self._client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._client_error = os.strerror(error)
                task.cancel()
                self._selector.interrupt()

        self._selector.watch(fd, 0, on_trouble)  # errors and hang-ups are always reported

    def begin_drain(self) -> None:
        """Prepare for `end`: a running session goes on as it is, for now. Doing so twice is no harm."""
        splice = self._running
        if splice is not None and self._extensions is not None and self._watch is None:
            self._watch = FrameWatch(self._tap, self._extensions)
            splice.replace_tap(self._watch)

    async def end(self, error: str) -> None:
        """End a running session from the proxy's side: Close 1001 to both, if it is a WebSocket's."""
        splice = self._running
        if splice is None:
            return
        if self._watch is None:
            splice.abort(error)
            return
        await self._watch.settle()
        if self._running is None:
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
            **(self._book.about if self._book else {}),
            "state": "handshake" if self._splice is None else "running",
            "recorded": self._book is not None and self._book.records,
            "client_bytes": client_bytes,
            "server_bytes": server_bytes,
        }

    def stop_recording(self) -> bool:
        """Record nothing more of what is said; the session goes on. Returns whether it was being recorded."""
        stopped = self._book is not None and self._book.stop()
        if stopped and self._meter is not None:
            self._meter.look(self._traffic, time.monotonic())
        return stopped

    @property
    def _running(self) -> Splice | None:
        """The splice while it runs."""
        return self._splice if self._splice is not None and self._splice.running else None

    @property
    def _tap(self) -> Tap | None:
        return self._book.tap if self._book is not None else None

    def _provoked(self, cause: str) -> dict[str, Any]:
        """The fields of a line that anybody can cause, again and again: only so many of them are written."""
        return {"session_id": self.session_id, "cause": cause}

    @property
    def _traffic(self) -> tuple[int, int]:
        """Bytes from the client and from the upstream so far."""
        client, server = self._early_bytes
        if self._splice is not None:
            client, server = client + self._splice.client_bytes, server + self._splice.server_bytes
        return client, server

    def look_after(self, now: float) -> None:
        """Called now and then: ends a session that has been idle, or half-closed, for too long."""
        if self._book is not None and self._book.is_bereft:
            self._book.begin_anew(self._traffic)
            if self._meter is not None:
                self._meter.look(self._traffic, now)
        splice = self._running
        if splice is None:
            return
        carried = splice.carried
        if carried != self._carried:  # most of thousands are silent
            self._carried, self._quiet_since = carried, now
            if self._meter is not None:
                self._meter.look(self._traffic, now)
        idle, half_open = self._config.idle_timeout_seconds, self._config.half_open_seconds
        quiet = now - self._quiet_since
        if idle and quiet >= idle:
            splice.abort(f"idle for {idle:g} s")
        elif splice.first_end is not None and quiet >= half_open:
            splice.abort(f"half-closed for {half_open:g} s")

    def _open(self, request: Request, route: Route, client_name: str | None) -> None:
        self._book = Logbook(self._ring, self._session_no, self._counters)
        self.session_id = self._book.session_id
        self._book.open(request, route, client_name, address=self._address, config=self._config)

    async def _dial(self, route: Route) -> socket.socket:
        began = time.monotonic_ns()
        upstream = await dial(route)
        seconds = (time.monotonic_ns() - began) / 1e9
        self._counters.observe(CONNECT, seconds)
        if self._book is not None:
            self._book.connected(seconds)
        return upstream

    async def _upgrade(self, request: Request, route: Route, upstream: socket.socket) -> None:
        await send_all(upstream, request_head(request, route))
        response = await read_response(upstream, self._config.max_header_bytes, on_interim=self._pass_on)
        if response.status != HTTPStatus.SWITCHING_PROTOCOLS:
            self._record_close(closed_by="upstream", status=response.status, error=None)
            self._counters.add(REFUSED, value="upstream_refused")
            log.info("refused by the upstream: %d", response.status, extra=self._provoked("upstream_refused"))
            self._answered = True
            await pass_refusal_on(response, upstream, self._client)
            await close_politely(self._client)
            upstream.close()
            self._end()
            return
        self._early_bytes = (len(request.rest), len(response.rest))
        if self._book is not None:
            self._book.accept(request, response)
        self._answered = True
        await send_all(self._client, response_head(response.head, request, route) + response.rest)
        if request.rest:
            await send_all(upstream, request.rest)
        negotiated = [value for name, value in response.headers if name.lower() == "sec-websocket-extensions"]
        self._extensions = ", ".join(negotiated)
        self._start_splice(upstream)

    async def _pass_on(self, interim: Response) -> None:
        """Give the client an answer that is not the last, at once: it may be waiting for that alone."""
        self._answered = True  # in the middle of it no other can begin
        await send_all(self._client, interim.head)
        self._answered = False
        if self._book is not None:
            self._book.note_interim(interim.status)

    def _answer_to(self, request: Request, route: Route, client_name: str | None) -> Answer:
        """What becomes of the answer to a plain request; a call that it begins is told of once it has been sent on."""
        loop = asyncio.get_running_loop()

        def tell(response: Response) -> None:
            if call := call_begun(request, response, route, client_name, address=self._address):
                self._on_call(call)
            elif HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
                self._counters.add(ERROR, value="sideband")
                log.error("a call is not recorded: the answer that begins it (%d) names none", response.status)

        def notice(response: Response) -> None:
            if route.sideband and may_begin_a_call(request):
                loop.call_soon(tell, response)
                self._selector.interrupt()

        return Answer(self._config.max_header_bytes, notice)

    def _start_splice(self, upstream: socket.socket, filters: tuple[RequestBody, Answer] | None = None) -> None:
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
            kinds=KINDS,
            on_end=ended,
            observe=self._overhead.observe,
            filters=filters,
        )
        if self._book is None:
            self._counters.add(HTTP_REQUESTS)
        else:
            book = self._book
            self._meter = Meter(self._counters, book.session_id, book.tap)
        self._splice.start()

    async def _refuse(self, refusal: RefusedError, upstream: socket.socket | None) -> None:
        self._selector.unwatch(self._client.fileno())
        if self._answered:
            log.warning("failed in mid-answer: %s", refusal.message, extra=self._provoked(refusal.code))
            self._record_close(closed_by=refusal.by, status=None, error=refusal.message)
            reset_on_close(self._client)  # a mere end could pass for the answer's
            self._abandon(refusal.message, upstream)
            return
        self._counters.add(REFUSED, value=refusal.code)
        level = logging.DEBUG if refusal.status == HTTPStatus.TOO_MANY_REQUESTS else logging.WARNING
        log.log(level, "refused: %d %s", refusal.status, refusal.message, extra=self._provoked(refusal.code))
        self._record_close(closed_by=refusal.by, status=refusal.status, error=refusal.message)
        try:
            async with asyncio.timeout(self._config.handshake_timeout_seconds):
                await send_all(self._client, refusal.response())
                await close_politely(self._client)
        except (OSError, TimeoutError):
            pass
        finally:  # also where the worker stops meanwhile
            self._abandon(refusal.message, upstream)

    def _abandon(self, error: str, upstream: socket.socket | None, *, reset: bool = False) -> None:
        self._record_close(closed_by="proxy", error=error)
        if upstream is not None:
            if reset:
                reset_on_close(upstream)
            upstream.close()
        self._end()

    def _record_close(self, **facts: Any) -> None:
        if self._book is not None:
            self._book.close(self._traffic, **facts, **self._overhead.facts())

    def _end(self) -> None:
        if self._meter is not None:
            self._meter.finish(self._traffic, time.monotonic())
        if self._splice is not None and self._splice.error is not None:
            self._counters.add(ERROR, value="connection_lost" if self._splice.first_end else "proxy_closed")
        if self._splice is None:  # else that has closed it, or will: a reset waits until all is sent
            self._selector.unwatch(self._client.fileno())
            self._client.close()
        self._on_end()
