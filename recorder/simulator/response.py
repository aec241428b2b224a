"""One response of the server, from `response.created` to `response.done`, paced by its turn of the script."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pybase64

from recorder.simulator.audio import synthesize
from recorder.simulator.conversation import Item, Tokens, audio_tokens, text_tokens
from recorder.simulator.ids import Lane
from recorder.simulator.plan import Delta, pieces, spoken_plan, text_plan
from recorder.simulator.script import Pacing, ToolCall, Turn
from recorder.simulator.truth import ResponseTruth, ToolTruth
from recorder.simulator.usage import usage_object

if TYPE_CHECKING:
    from recorder.simulator.connection import Connection

_PITCH_HZ = 150.0


class Response:
    """A response in progress. `stop` asks it to end early; it then closes everything it opened, as the real one."""

    def __init__(
        self,
        connection: Connection,
        turn: Turn,
        *,
        pacing: Pacing,
        lane: Lane,
        truth: ResponseTruth,
        params: dict[str, Any],
    ) -> None:
        self.truth = truth
        self._connection = connection
        self._turn = turn
        self.lane = lane
        self.params = params
        self._pacing = pacing
        self._stopped = asyncio.Event()
        self._origin = 0.0
        self._output: list[dict[str, Any]] = []
        self._produced = Tokens()
        self.prompt = Tokens()
        self.cached = Tokens()

    @property
    def id(self) -> str:
        """Its `resp_…` id."""
        return self.truth.id

    def stop(self, reason: str) -> None:
        """Cancel: `turn_detected` or `client_cancelled`."""
        if not self._stopped.is_set():
            self.truth.status, self.truth.status_reason = "cancelled", reason
            self._stopped.set()

    async def run(self, status: str, cut_at: float, before_done: Callable[[Response], Awaitable[None]] | None) -> None:
        """Play the whole response.

        Args:
            status: the end that was planned for it (`Turn.end`).
            cut_at: the share of each output that comes out, 1 for all.
            before_done: awaited right before `response.done` is sent.
        """
        self._origin = time.monotonic()
        await self._until(self.lane.jittered(self._pacing.queue_ms, self._pacing.jitter))
        self._origin = time.monotonic()
        self.truth.created_ns = time.monotonic_ns()
        await self._send("response.created", response=self._resource("in_progress", None))
        for part in [*([self._message] if self._turn.say is not None else []), *map(self._caller, self._turn.tools)]:
            if not self._stopped.is_set():
                await part(cut_at)
        if not self._stopped.is_set() and status in {"dangling", "close", "disconnect"}:
            if status != "dangling":
                await self._connection.hang_up(self._turn)
            return
        await self._done(status, before_done)

    async def _message(self, cut_at: float) -> None:
        spoken = self.truth.modality == "audio"
        wire = {"type": "message", "status": "in_progress", "role": "assistant", "content": []}
        plan = (spoken_plan if spoken else text_plan)(self._turn, self._pacing, self.lane)
        if not await self._until(plan[0].at_ms):
            return
        item, slot = await self._open(wire)
        key = "transcript" if spoken else "text"
        part = {"type": "audio" if spoken else "text", key: ""}
        at = {"response_id": self.id, "item_id": item.id, "output_index": slot, "content_index": 0}
        await self._send("response.content_part.added", **at, part=dict(part))
        audio = bytearray()
        item.wire["content"] = [{"type": "output_audio" if spoken else "output_text", key: ""}]
        for delta in plan[: max(1, round(len(plan) * cut_at))]:
            if not await self._until(delta.at_ms):
                break
            await self._delta(delta, item, at, audio)
            part[key] += delta.text
            item.said = part[key]
            self.truth.transcript += delta.text
            if item.truncated_ms is None:
                item.wire["content"][0][key] = part[key]
        self._connection.conversation.keep_audio(item, bytes(audio))
        if spoken:
            await self._send("response.output_audio.done", **at)
            await self._send("response.output_audio_transcript.done", **at, transcript=part[key])
        else:
            await self._send("response.output_text.done", **at, text=part[key])
        await self._send("response.content_part.done", **at, part=dict(part))
        self._produced += Tokens(text_tokens(part[key]), audio_tokens(item.audio_ms, "assistant"))
        await self._close(item, slot, whole=cut_at >= 1)

    async def _delta(self, delta: Delta, item: Item, at: dict[str, Any], audio: bytearray) -> None:
        if not delta.audio_ms:
            self._mark_token()
            await self._send(delta.kind, **at, delta=delta.text, obfuscation=self.lane.padding(delta.text))
            return
        audio_format = self._connection.session.output_format
        piece = audio_format.encode(synthesize(item.audio_ms, delta.audio_ms, audio_format.rate, pitch_hz=_PITCH_HZ))
        audio += piece
        item.audio_ms += delta.audio_ms
        self._mark_token()
        self._mark_audio(delta.audio_ms, item.id)
        await self._send(delta.kind, **at, delta=pybase64.b64encode_as_string(piece))

    def _caller(self, call: ToolCall) -> Any:
        async def part(cut_at: float) -> None:
            await self._call(call, cut_at)

        return part

    async def _call(self, call: ToolCall, cut_at: float) -> None:
        arguments = call.arguments
        text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
        elapsed = (time.monotonic() - self._origin) * 1000 * self._connection.speed
        start = max(self._pacing.first_token_ms, elapsed)
        if not await self._until(start):
            return
        call_id = self.lane.call()
        wire = {
            "type": "function_call",
            "status": "in_progress",
            "name": call.name,
            "call_id": call_id,
            "arguments": "",
        }
        item, slot = await self._open(wire)
        truth = ToolTruth(call_id=call_id, name=call.name, arguments="", response_id=self.id)
        self._connection.truth.tool_calls.append(truth)
        at = {"response_id": self.id, "item_id": item.id, "output_index": slot, "call_id": call_id}
        parts = pieces(text)
        for number, piece in enumerate(parts[: max(1, round(len(parts) * cut_at))]):
            if not await self._until(start + number * self._pacing.token_ms):
                break
            self._mark_token()
            item.wire["arguments"] += piece
            await self._send(
                "response.function_call_arguments.delta", **at, delta=piece, obfuscation=self.lane.padding(piece)
            )
        truth.arguments = item.wire["arguments"]
        await self._send("response.function_call_arguments.done", **at, name=call.name, arguments=truth.arguments)
        self._produced += Tokens(text_tokens(call.name) + text_tokens(truth.arguments))
        await self._close(item, slot, whole=cut_at >= 1)

    async def _open(self, wire: dict[str, Any]) -> tuple[Item, int]:
        item = Item({"id": self.lane.new("item"), **wire})
        self.truth.item_ids.append(item.id)
        slot = len(self._output)
        self._output.append(item.wire)
        shown = dict(item.wire)
        await self._send("response.output_item.added", response_id=self.id, output_index=slot, item=shown)
        if not self.truth.out_of_band:
            previous = self._connection.conversation.last_id
            self._connection.conversation.insert(item, None)
            await self._send("conversation.item.added", previous_item_id=previous, item=shown)
        return item, slot

    async def _close(self, item: Item, slot: int, *, whole: bool) -> None:
        item.wire["status"] = "completed" if whole and not self._stopped.is_set() else "incomplete"
        if not self.truth.out_of_band and self._connection.conversation.find(item.id) is item:
            previous = self._connection.conversation.before(item)
            await self._send("conversation.item.done", previous_item_id=previous, item=item.wire)
        await self._send("response.output_item.done", response_id=self.id, output_index=slot, item=item.wire)

    async def _done(self, status: str, before_done: Callable[[Response], Awaitable[None]] | None) -> None:
        details: dict[str, Any] | None = None
        if self._stopped.is_set():
            details = {"type": "cancelled", "reason": self.truth.status_reason}
        else:
            self.truth.status = status
            if status == "incomplete":
                self.truth.status_reason = self._turn.reason
                details = {"type": "incomplete", "reason": self._turn.reason}
            elif status == "failed":
                error = self._turn.error
                self.truth.status_reason = error.code
                details = {"type": "failed", "error": {key: getattr(error, key) for key in ("type", "code", "message")}}
        usage = self._turn.usage or usage_object(self.prompt, self.cached, self._produced)
        self.truth.usage = usage
        if before_done is not None:
            await before_done(self)
        self.truth.done_ns = time.monotonic_ns()
        await self._send("response.done", response=self._resource(self.truth.status, details, usage))

    def _resource(
        self, status: str, details: dict[str, Any] | None, usage: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        session = self._connection.session
        limit = self.params.get("max_output_tokens", session.max_output_tokens)
        audio = {"output": {"format": {"type": session.output_format.mime}, "voice": session.voice}}
        if session.output_format.rate == 24_000:
            audio["output"]["format"]["rate"] = 24_000
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": details,
            "output": [dict(item) for item in self._output] if status != "in_progress" else [],
            "conversation_id": None if self.truth.out_of_band else self._connection.truth.conversation_id,
            "output_modalities": [self.truth.modality],
            "max_output_tokens": limit,
            "audio": audio,
            "usage": usage,
            "metadata": self.params.get("metadata"),
        }

    def _mark_token(self) -> None:
        if self.truth.first_token_ns is None:
            self.truth.first_token_ns = time.monotonic_ns()

    def _mark_audio(self, audio_ms: float, item_id: str) -> None:
        now = time.monotonic_ns()
        self.truth.first_audio_ns = self.truth.first_audio_ns or now
        self.truth.last_audio_ns = now
        self.truth.audio_ms += audio_ms
        self._connection.truth.audio_out_ms += audio_ms
        self._connection.barge_ins.audio(self.id, item_id, audio_ms)

    async def _until(self, at_ms: float) -> bool:
        """Wait until `at_ms` after the origin, in the script's time; False as soon as the response is stopped.

        Raises:
            ConnectionClosed: nobody is there to go on for.
        """
        deadline = self._origin + at_ms / 1000 / self._connection.speed
        left = deadline - time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), max(0.0, left))
        self._connection.outbox.check_open()
        return not self._stopped.is_set()

    async def _send(self, event_type: str, **fields: Any) -> None:
        await self._connection.send(self.lane, event_type, **fields)
