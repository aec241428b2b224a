"""Starting, cancelling and counting responses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from recorder.simulator.conversation import Item, Tokens, audio_tokens, text_tokens
from recorder.simulator.plan import audio_ms
from recorder.simulator.refusal import EventRefusedError
from recorder.simulator.response import Response
from recorder.simulator.script import Turn
from recorder.simulator.truth import ResponseTruth, Trigger
from recorder.simulator.usage import Meter

if TYPE_CHECKING:
    from recorder.simulator.connection import Connection

_CUT_ENDS = {"incomplete", "failed", "dangling", "close", "disconnect"}


class Responding:
    """The responses of one connection: one at a time in the default conversation, any number outside it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._meter = Meter()
        self._running: dict[str, Response] = {}
        self._count = 0

    @property
    def active(self) -> Response | None:
        """The default conversation's response in progress."""
        return next((run for run in self._running.values() if not run.truth.out_of_band), None)

    def start(self, trigger: Trigger, params: dict[str, Any] | None = None, *, trigger_ns: int | None = None) -> None:
        """Start a response.

        Args:
            trigger: what caused it.
            params: the `response` object of a `response.create`.
            trigger_ns: when it was caused, if not now.

        Raises:
            EventRefusedError: the default conversation has a response in progress.
        """
        params = params or {}
        out_of_band = params.get("conversation") == "none"
        if not out_of_band and self.active is not None:
            message = (
                f"Conversation already has an active response in progress: {self.active.id}. "
                "Wait until the response is finished before creating a new one."
            )
            raise EventRefusedError("conversation_already_has_active_response", message)
        connection, session = self._connection, self._connection.session
        context = self._context(params)
        tools, choice = params.get("tools") or session.tools, params.get("tool_choice") or session.tool_choice
        turn = (
            connection.director.out_of_band_turn(context)
            if out_of_band
            else connection.director.next_turn(context, tools, choice)
        )
        self._count += 1
        lane = connection.ids.lane(f"response {self._count}")
        modalities = params.get("output_modalities") or params.get("modalities") or session.modalities
        truth = ResponseTruth(
            id=lane.new("resp"),
            trigger=trigger,
            trigger_ns=trigger_ns or time.monotonic_ns(),
            out_of_band=out_of_band,
            modality=turn.modality or ("audio" if "audio" in modalities else "text"),
        )
        connection.truth.responses.append(truth)
        pacing = msgspec.structs.replace(connection.script.pacing, **turn.pacing)
        run = Response(connection, turn, pacing=pacing, lane=lane, truth=truth, params=params)
        run.prompt, run.cached = self._meter.prompt(
            params.get("instructions") or session.instructions, tools, context, remember=not out_of_band
        )
        self._running[run.id] = run
        connection.spawn(self._play(run, turn))

    def cancel(self, response_id: str | None = None) -> None:
        """Cancel on the client's wish.

        Raises:
            EventRefusedError: nothing to cancel.
        """
        run = self.active if response_id is None else self._running.get(response_id)
        if run is None or not run.truth.out_of_band:  # what is done may still play: its listener wants no more of it
            self._connection.barge_ins.cut("client", stops_playback=True)
        if run is None:
            raise EventRefusedError("response_cancel_not_active", "Cancellation failed: no active response found")
        run.stop("client_cancelled")

    def interrupt(self) -> None:
        """Cancel the default conversation's response because the user speaks."""
        if self.active is not None:
            self.active.stop("turn_detected")

    async def _play(self, run: Response, turn: Turn) -> None:
        before = self._connection.script.rate_limits == "before_done"
        status, cut_at = _ending(turn, run.truth, self._limit(run))
        await run.run(status, cut_at, self._rate_limits if before else None)
        del self._running[run.id]
        self._connection.barge_ins.finished(run.id)
        if run.truth.done_ns is None:
            return
        if not run.truth.out_of_band:
            self._connection.hearing.answered()
        if self._connection.script.rate_limits == "after_done":
            await self._rate_limits(run)

    async def _rate_limits(self, run: Response) -> None:
        used = sum(_total_tokens(one) for one in self._connection.truth.responses)
        limits = [
            {"name": "requests", "limit": 20_000, "remaining": 20_000 - self._count, "reset_seconds": 0.003},
            {
                "name": "tokens",
                "limit": 15_000_000,
                "remaining": 15_000_000 - used,
                "reset_seconds": round(used / 250_000, 3),
            },
        ]
        await self._connection.send(run.lane, "rate_limits.updated", rate_limits=limits)

    def _context(self, params: dict[str, Any]) -> list[Item]:
        """What the model reads: the conversation, or the items that the client gave for this response."""
        given = params.get("input")
        if given is None:
            return list(self._connection.conversation.items)
        context = []
        for item in given:
            if item["type"] == "item_reference":
                context.append(self._connection.conversation.get(item.get("id"), "retrieve"))
            else:
                context.append(Item({"id": "", **item}))
        return context

    def _limit(self, run: Response) -> int | None:
        limit = run.params.get("max_output_tokens", self._connection.session.max_output_tokens)
        return limit if isinstance(limit, int) else None


def _total_tokens(response: ResponseTruth) -> int:
    """What a response used; a script may give usage of any shape."""
    total = (response.usage or {}).get("total_tokens")
    return total if isinstance(total, int) else 0


def _ending(turn: Turn, truth: ResponseTruth, limit: int | None) -> tuple[str, float]:
    """How a turn ends, and the share of it that comes out before; a token limit cuts a turn that was to complete."""
    if turn.end in _CUT_ENDS:
        return turn.end, turn.cut_at
    spoken = audio_tokens(audio_ms(turn), "assistant") if truth.modality == "audio" and turn.say is not None else 0
    expected = Tokens(text_tokens(turn.say or ""), spoken).total
    if limit is not None and expected > limit:
        return "incomplete", max(0.0, limit / expected)
    return "completed", 1.0
