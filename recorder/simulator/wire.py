"""Sending: one connection's outgoing messages, in order, counted as they leave."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import State

from recorder.simulator.dialect import rewritten, to_beta
from recorder.simulator.ids import Lane
from recorder.simulator.refusal import EventRefusedError
from recorder.simulator.script import Inject, Script
from recorder.simulator.session import Session
from recorder.simulator.truth import Truth


class Outbox:
    """Sends events in the session's dialect, with the script's changes, and writes each into the truth."""

    def __init__(self, socket: ServerConnection, script: Script, session: Session, truth: Truth) -> None:
        self._socket = socket
        self._script = script
        self._session = session
        self._truth = truth
        self._lock = asyncio.Lock()
        self._pending = list(script.inject)

    async def send(self, lane: Lane, event_type: str, **fields: Any) -> None:
        """Send one event, and what the script wants injected after it.

        Raises:
            ConnectionClosed: it cannot be sent any more; the truth does not have it.
        """
        event = {"type": event_type, "event_id": lane.new("event"), **fields}
        shaped = to_beta(event, self._session) if self._session.dialect == "beta" else event
        if shaped is None:
            return
        shaped = rewritten(shaped, self._script.rewrite)
        async with self._lock:
            await self._write(shaped)
            for injected in self._due(str(shaped.get("type"))):
                await self._write({"event_id": lane.new("event"), **injected})

    async def error(self, lane: Lane, problem: EventRefusedError, cause: Any, *, number: int | None = None) -> None:
        """Send a non-fatal error.

        Args:
            lane: where its id is from.
            problem: what is wrong.
            cause: the `event_id` of the client event, if it has one.
            number: of the client's message, from 0; None where it answers none.
        """
        body = {
            "type": "invalid_request_error",
            "code": problem.code,
            "message": problem.message,
            "param": problem.param,
            "event_id": cause,
        }
        self._truth.errors.append(body)
        self._truth.error_causes.append(number)
        await self.send(lane, "error", error=body)

    def check_open(self) -> None:
        """Nothing leaves once either side has said goodbye; whoever tells the truth asks before.

        Raises:
            ConnectionClosed: so it is.
        """
        if self._socket.state is not State.OPEN:
            raise ConnectionClosedError(None, None)

    async def _write(self, event: dict[str, Any]) -> None:
        self.check_open()  # `send` would find out as well, but be cancelled before it says so
        self._truth.server_events.append(str(event.get("type")))
        await self._socket.send(msgspec.json.encode(event), text=True)

    def _due(self, event_type: str) -> list[dict[str, Any]]:
        due: list[Inject] = [rule for rule in self._pending if rule.after == event_type]
        self._pending = [rule for rule in self._pending if rule.every or rule not in due]
        return [rule.event for rule in due]
