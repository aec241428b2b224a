"""One client's connection: its events come in here, and everything that follows from them is started here."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Coroutine
from typing import Any

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from recorder.simulator.bargein import BargeIns
from recorder.simulator.conversation import Conversation
from recorder.simulator.director import Director
from recorder.simulator.handlers import HANDLERS
from recorder.simulator.hearing import Hearing
from recorder.simulator.ids import Ids, Lane
from recorder.simulator.refusal import EventRefusedError
from recorder.simulator.responding import Responding
from recorder.simulator.script import Script, Turn
from recorder.simulator.session import Session
from recorder.simulator.truth import CloseTruth, ItemTruth, Truth
from recorder.simulator.wire import Outbox

BINARY, UNDECODABLE, UNTYPED = "(binary)", "(undecodable)", "(untyped)"
"""What stands in a truth's `client_events` for messages that have no event type."""


class Connection:
    """A session from its first event to its close.

    Args:
        socket: the accepted WebSocket.
        script: what to play.
        seed: seeds ids and delays.
        speed: divides all delays.
        model: the model the client asked for, or None for the script's.
        number: counts the simulator's connections from 1.
    """

    def __init__(
        self, socket: ServerConnection, script: Script, *, seed: str, speed: float, model: str | None, number: int
    ) -> None:
        self.socket = socket
        self.script = script
        self.speed = speed
        self.ids = Ids(f"{seed}/{number}")
        self.lane = self.ids.lane("main")
        self.session = Session(
            self.lane.new("sess"), model or script.model, dialect=script.dialect, overrides=script.session
        )
        self.truth = Truth(
            session_id=self.session.wire["id"],
            conversation_id=self.lane.new("conv"),
            script=script.name,
            seed=seed,
            speed=speed,
            connection_no=number,
            model=self.session.wire["model"],
            path=socket.request.path if socket.request else "",
            opened_ns=time.monotonic_ns(),
        )
        self.outbox = Outbox(socket, script, self.session, self.truth)
        self.conversation = Conversation()
        self.director = Director(script)
        self.barge_ins = BargeIns(speed, self.truth.interruptions)
        self.responding = Responding(self)
        self.hearing = Hearing(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._hung_up = False

    async def run(self) -> None:
        """Serve the connection until it is closed; never raises for what a client does."""
        try:
            if self.script.refuse is not None:
                await self._refuse()
            else:
                await self.send(self.lane, "session.created", session=self.session.wire)
            async for message in self.socket:
                await self._receive(message)
        except ConnectionClosed:
            pass
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._settle()

    async def send(self, lane: Lane, event_type: str, **fields: Any) -> None:
        """Send an event, counted in the truth."""
        await self.outbox.send(lane, event_type, **fields)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let `work` go on beside the reading of events, for as long as the connection is open."""
        task = asyncio.create_task(_while_open(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def pause(self, delay_ms: float) -> None:
        """Sleep, in the script's time."""
        await asyncio.sleep(delay_ms / 1000 / self.speed)

    async def hang_up(self, turn: Turn) -> None:
        """End the connection: with the turn's close, or without any."""
        self._hung_up = True
        if turn.end == "close":
            await self.socket.close(turn.close.code, turn.close.reason)
        else:
            self.socket.transport.abort()

    async def _refuse(self) -> None:
        refusal = self.script.refuse
        assert refusal is not None
        error = {**msgspec.to_builtins(refusal.error), "event_id": None}
        self.truth.errors.append(error)
        self.truth.error_causes.append(None)
        await self.send(self.lane, "error", error=error)
        self._hung_up = True
        await self.socket.close(refusal.close.code, refusal.close.reason)

    async def _receive(self, message: str | bytes) -> None:
        """Handle one message; whatever is wrong with it becomes a non-fatal `error` event.

        What came before the client's close is handled and counted, though nobody can be answered any more.
        """
        with contextlib.suppress(ConnectionClosed):
            await self._answer(message)

    async def _answer(self, message: str | bytes) -> None:
        event: dict[str, Any] = {}
        try:
            event = _parsed(message)
            await self._handle(event)
        except EventRefusedError as problem:
            if not event:
                self.truth.client_events.append(BINARY if isinstance(message, bytes) else UNDECODABLE)
            number = len(self.truth.client_events) - 1
            await self.outbox.error(self.lane, problem, event.get("event_id"), number=number)

    async def _handle(self, event: dict[str, Any]) -> None:
        name = event.get("type")
        # Interned, since a long load run counts millions of the same few names.
        self.truth.client_events.append(sys.intern(name) if isinstance(name, str) else UNTYPED)
        if name is None:
            message = "Missing required parameter: 'type'."
            raise EventRefusedError("missing_required_parameter", message, param="type")
        handler = HANDLERS.get(name) if isinstance(name, str) else None
        if handler is None:
            supported = ", ".join(f"'{known}'" for known in HANDLERS)
            message = f"Invalid value: '{name}'. Supported values are: {supported}."
            raise EventRefusedError("invalid_value", message, param="type")
        await handler(self, event)

    def _settle(self) -> None:
        self.truth.closed_ns = time.monotonic_ns()
        self.truth.audio_in_ms = self.hearing.buffer.total_ms
        self.truth.items += [
            ItemTruth(
                id=item.id,
                type=item.wire["type"],
                role=item.role,
                text=item.said or item.text,
                audio_ms=item.audio_ms,
                truncated_ms=item.truncated_ms,
                deleted=item in self.conversation.deleted,
            )
            for item in [*self.conversation.items, *self.conversation.deleted]
        ]
        self.barge_ins.close()
        self.truth.close = self._close_truth()

    def _close_truth(self) -> CloseTruth:
        """Who closed, by the first close frame; without one, whether it was us who cut the line."""
        protocol = self.socket.protocol
        by_server = protocol.close_rcvd is None or not protocol.close_rcvd_then_sent
        first = protocol.close_sent if by_server else protocol.close_rcvd
        if first is None:
            return CloseTruth(by="server" if self._hung_up else "lost", code=None, reason=None)
        return CloseTruth(by="server" if by_server else "client", code=first.code, reason=first.reason)


async def _while_open(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(ConnectionClosed):
        await work


def _parsed(message: str | bytes) -> dict[str, Any]:
    """A client event as JSON.

    Raises:
        EventRefusedError: the message is not a JSON object.
    """
    if isinstance(message, bytes):
        raise EventRefusedError("invalid_event", "Binary messages are not supported; send JSON as text.")
    try:
        event = msgspec.json.decode(message)
    except (msgspec.DecodeError, RecursionError):
        raise EventRefusedError("invalid_json", "We could not parse the JSON of your event.") from None
    if not isinstance(event, dict) or not event:
        raise EventRefusedError("invalid_event", "An event must be a JSON object.")
    return event
