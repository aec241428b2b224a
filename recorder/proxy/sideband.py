"""A sideband connection: the recorder joins a call that goes past it, by WebSocket, and puts down what the server says.

It is an endpoint of its own, and the quietest there can be: it answers pings and closes, and says nothing else. What it
does say is on record as the client's, for on that connection it is the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.http11 import Response as WebSocketResponse
from websockets.uri import parse_uri

from recorder.protocol.envelope import RecordKind
from recorder.protocol.frames import FrameDecoder
from recorder.proxy.calls import Call
from recorder.proxy.config import WorkerConfig
from recorder.proxy.dial import dial
from recorder.proxy.farewell import REASON
from recorder.proxy.forward import request_head
from recorder.proxy.http import RefusedError, Response, read_response
from recorder.proxy.logbook import Logbook
from recorder.proxy.meter import Meter
from recorder.proxy.sockets import end_sending, receive, send_all, words_for
from recorder.store.counters import CONNECT, ERROR, Counters
from recorder.store.ring import RingWriter

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Waits between attempts to join: the upstream knows a call by its name a moment after it has given that name."""

_FINAL: Final = frozenset({400, 401, 403})
"""Answers that another attempt would get again."""

_ANYWHERE: Final = parse_uri("ws://upstream/")  # where it really leads is the route's matter
_PATIENCE_SECONDS: Final = 2.0
_MAX_FRAME_BYTES: Final = 1 << 20  # of a frame that is looked at; larger ones are recorded as they come


class Sideband:
    """One call on record. `start` it; it ends with the call, or by `end`.

    Args:
        call: that is joined.
        config: fixed settings.
        ring: where records go.
        session_no: its number in the ring.
        counters: the worker's.
        on_end: called once when all is over.

    Attributes:
        session_id: of the recording.
    """

    def __init__(
        self,
        call: Call,
        *,
        config: WorkerConfig,
        ring: RingWriter,
        session_no: int,
        counters: Counters,
        on_end: Callable[[], None],
    ) -> None:
        self._config = config
        self._counters = counters
        self._on_end = on_end
        self._book = Logbook(ring, session_no, counters)
        self.session_id: str | None = self._book.session_id
        self._handshake = ClientProtocol(_ANYWHERE)  # makes the key, and checks the answer to it
        own = list(self._handshake.connect().headers.raw_items())
        headers = [(name, value) for name, value in own if name.lower() != "host"]
        self._call = call
        self._request = msgspec.structs.replace(call.request, headers=call.request.headers + headers)
        self._decoder = FrameDecoder("server", max_message_bytes=_MAX_FRAME_BYTES)
        self._socket: socket.socket | None = None  # once joined
        self._meter: Meter | None = None
        self._task: asyncio.Task[None] | None = None
        self._farewell = Close(CloseCode.GOING_AWAY, REASON)
        self._error: str | None = None  # why it is ended from here
        self._speaking = False  # a frame may be half sent
        self._over = False  # the Close handshake is done, or under way
        self._traffic = [0, 0]  # bytes sent and received
        self._heard_at = time.monotonic()

    def start(self) -> None:
        """Join the call, and follow it."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def begin_drain(self) -> None:
        """Nothing to prepare: between two of its own frames a Close may always stand."""

    async def end(self, error: str) -> None:
        """Leave the call, which goes on without."""
        self._leave_for(error)
        if self._task is not None:
            await asyncio.wait([self._task])

    def describe(self) -> dict[str, Any]:
        """What is known about it, as JSON."""
        return {
            **self._book.about,
            "state": "handshake" if self._socket is None else "running",
            "recorded": self._book.records,
            "client_bytes": self._traffic[0],
            "server_bytes": self._traffic[1],
        }

    def stop_recording(self) -> bool:
        """Record nothing more of what is said. Returns whether it was being recorded."""
        return self._book.stop()

    def look_after(self, now: float) -> None:
        """Called now and then: counts, and leaves a call in which nothing has been said for too long."""
        if self._book.is_bereft:
            self._book.begin_anew(self._so_far)
        if self._meter is not None:
            self._meter.look(self._so_far, now)
        idle = self._config.idle_timeout_seconds
        if idle and self._socket is not None and now - self._heard_at >= idle:
            self._farewell = Close(CloseCode.NORMAL_CLOSURE, "idle")
            self._leave_for(f"idle for {idle:g} s")

    @property
    def _so_far(self) -> tuple[int, int]:
        return self._traffic[0], self._traffic[1]

    def _leave_for(self, error: str) -> None:
        if self._task is not None and self._error is None and not self._over:
            self._error = error
            self._task.cancel()

    async def _run(self) -> None:
        facts: dict[str, Any] = {"closed_by": "lost", "first_end": "upstream", "error": None}
        try:
            if self._open():
                await self._join()
                await self._follow()
                if not self._over:
                    self._lost("the upstream ended the connection without a Close")
            else:
                facts = {"closed_by": "proxy", "error": "not joined: nothing of this call is to be recorded"}
        except asyncio.CancelledError:
            facts = await self._leave()
        except RefusedError as refusal:
            facts = self._failed(refusal)
        except OSError as error:
            facts["error"] = words_for(error)
            self._lost(words_for(error))
        except Exception:
            self._counters.add(ERROR, value="internal")
            log.exception("a sideband connection failed", extra=self._book.named)
            facts = {"closed_by": "proxy", "error": "internal error"}
        finally:
            self._end(facts)

    def _open(self) -> bool:
        """Begin the record. Returns whether there is one to be made."""
        call = self._call
        self._book.open(
            self._request, call.route, call.client_name, address=call.address, config=self._config, call_id=call.call_id
        )
        return self._book.records

    async def _join(self) -> None:
        """Connect, again and again for a few seconds. Raises RefusedError with the last reason."""
        for wait in (*RETRY_SECONDS, None):
            try:
                await self._connect()
            except RefusedError as refusal:
                if wait is None or refusal.status in _FINAL:
                    raise
                log.info("not joined yet: %s", refusal.message, extra=self._book.named)
                await asyncio.sleep(wait)
            else:
                return

    async def _connect(self) -> None:
        began = time.monotonic()
        sock = await dial(self._call.route)
        seconds = time.monotonic() - began
        self._counters.observe(CONNECT, seconds)
        try:
            response = await self._shake_hands(sock)
        except BaseException:
            sock.close()
            raise
        self._socket = sock
        self._book.connected(seconds)
        self._book.accept(self._request, response)  # with what came together with the head
        self._traffic[1] += len(response.rest)
        self._meter = Meter(self._counters, self._book.session_id, self._book.tap)
        log.info("joined call %s", self._call.call_id, extra=self._book.named)
        self._heard_at = time.monotonic()
        await self._answer(response.rest)

    async def _shake_hands(self, sock: socket.socket) -> Response:
        """Upgrade the connection. Raises RefusedError."""
        try:
            async with asyncio.timeout(self._call.route.handshake_timeout_seconds):
                await send_all(sock, request_head(self._request, self._call.route))
                response = await read_response(sock, self._config.max_header_bytes)
        except TimeoutError:
            raise RefusedError(504, "handshake_timeout", "the upstream did not answer in time") from None
        except OSError as error:
            raise RefusedError(502, "connection_failed", f"the connection failed: {words_for(error)}") from None
        if response.status != HTTPStatus.SWITCHING_PROTOCOLS:
            problem = f"the upstream answered {response.status}"
            raise RefusedError(response.status, "upstream_refused", problem, by="upstream")
        try:
            self._handshake.process_response(WebSocketResponse(response.status, "", Headers(response.headers)))
        except InvalidHandshake as error:
            raise RefusedError(502, "bad_upstream", f"the handshake failed: {type(error).__name__}") from None
        return response

    async def _follow(self) -> None:
        """Listen until the upstream has ended the connection. Raises OSError as that does."""
        assert self._socket is not None
        while not self._over:
            data = await receive(self._socket)
            if not data:
                return
            self._record(RecordKind.SERVER_BYTES, data)
            self._heard_at = time.monotonic()
            await self._answer(data)
        await self._listen_to_the_end()

    async def _answer(self, data: bytes) -> None:
        """Answer what has to be answered: pings, and a Close."""
        frames = []
        for message in self._decoder.feed(data):
            if message.opcode == Opcode.PING and message.problem is None:
                frames.append(Frame(Opcode.PONG, message.data))
            elif message.opcode == Opcode.CLOSE and message.problem is None:
                frames.append(Frame(Opcode.CLOSE, message.data[:2]))
                self._over = True
                break
        if frames:
            await self._say(*frames)

    async def _say(self, *frames: Frame) -> None:
        assert self._socket is not None
        data = b"".join(frame.serialize(mask=True) for frame in frames)
        self._record(RecordKind.CLIENT_BYTES, data)
        self._speaking = True
        await send_all(self._socket, data)
        self._speaking = False

    def _record(self, kind: RecordKind, data: bytes) -> None:
        self._traffic[kind is RecordKind.SERVER_BYTES] += len(data)
        if self._book.tap is not None:
            self._book.tap.chunk(kind, data)

    async def _leave(self) -> dict[str, Any]:
        """Say goodbye where one may stand. Gives how it ended."""
        facts: dict[str, Any] = {"closed_by": "proxy", "error": self._error or "the proxy stopped"}
        if self._socket is None:
            return facts
        if not self._speaking:
            facts |= {"close_code": self._farewell.code, "close_reason": self._farewell.reason}
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self._say(Frame(Opcode.CLOSE, self._farewell.serialize()))
        await self._listen_to_the_end()
        return facts

    async def _listen_to_the_end(self) -> None:
        """FIN, then what the upstream still says, for a moment."""
        assert self._socket is not None
        end_sending(self._socket)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while data := await receive(self._socket):
                    self._record(RecordKind.SERVER_BYTES, data)

    def _failed(self, refusal: RefusedError) -> dict[str, Any]:
        self._counters.add(ERROR, value="sideband")
        log.error("call %s is not recorded: %s", self._call.call_id, refusal.message, extra=self._book.named)
        return {"closed_by": refusal.by, "status": refusal.status, "error": refusal.message}

    def _lost(self, why: str) -> None:
        """The call may go on; what is said in it from now on is not heard."""
        self._counters.add(ERROR, value="sideband")
        log.error("call %s is recorded no further: %s", self._call.call_id, why, extra=self._book.named)

    def _end(self, facts: dict[str, Any]) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._meter is not None:
            self._meter.finish(self._so_far, time.monotonic())
        self._book.close(self._so_far, **facts)
        self._on_end()
