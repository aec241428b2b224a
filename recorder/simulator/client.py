"""The matching client: plays the client side of a script against any `ws://` URL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import pybase64
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from recorder.simulator.audio import AudioFormat
from recorder.simulator.microphone import Microphone
from recorder.simulator.playback import Playback
from recorder.simulator.script import ClientPart, Close, Script, Step, load_script

_AUDIO_DELTAS = {"response.output_audio.delta", "response.audio.delta"}


class Message(Struct):
    """One message: who sent it, as it was, and when (`time.monotonic_ns()`)."""

    direction: Literal["client", "server"]
    data: str | bytes
    at_ns: int

    @property
    def event(self) -> dict[str, Any]:
        """Its JSON object; {} where it is none."""
        try:
            event = msgspec.json.decode(self.data)
        except msgspec.DecodeError:
            return {}
        return event if isinstance(event, dict) else {}


class ClientLog(Struct):
    """What a client sent and received, in its order.

    Attributes:
        messages: all messages.
        voices: start and end of each voice that was spoken, in ms of the audio that was sent.
        audio_sent_ms: all audio that was sent.
        close_code, close_reason: how the connection ended, as this client saw it.
    """

    messages: list[Message] = msgspec.field(default_factory=list)
    voices: list[tuple[float, float]] = msgspec.field(default_factory=list)
    audio_sent_ms: float = 0.0
    close_code: int | None = None
    close_reason: str | None = None

    def events(self, direction: Literal["client", "server"]) -> list[dict[str, Any]]:
        """The JSON events of one direction."""
        return [message.event for message in self.messages if message.direction == direction]

    def types(self, direction: Literal["client", "server"]) -> list[str]:
        """The event types of one direction."""
        return [str(event.get("type")) for event in self.events(direction)]


async def play(
    script: Script | str,
    url: str,
    *,
    speed: float = 1.0,
    headers: Mapping[str, str] | None = None,
    compression: bool = False,
) -> ClientLog:
    """Play the client side of a script; return when its steps are done and the connection is closed.

    Args:
        script: the script, or a packaged script's name.
        url: where to connect to; the server plays what the URL names there.
        speed: how much faster than real time the client lives; give the server the same.
        headers: extra request headers.
        compression: whether to offer permessage-deflate.

    Raises:
        TimeoutError: the server did not do what a step waits for.
        ScriptError: no such script.
        OSError, websockets.exceptions.WebSocketException: the connection could not be opened.
    """
    script = script if isinstance(script, Script) else load_script(script)
    async with connect(
        url,
        additional_headers=dict(headers or {}),
        subprotocols=[Subprotocol("realtime")],
        compression="deflate" if compression else None,
        max_size=None,
        proxy=None,
    ) as socket:
        player = Player(socket, script.client, speed)
        await player.run()
    player.log.close_code, player.log.close_reason = socket.close_code, socket.close_reason
    return player.log


class Player:
    """One client at work: its steps, and beside them what it does by itself on server events."""

    def __init__(self, socket: ClientConnection, part: ClientPart, speed: float) -> None:
        self.log = ClientLog()
        self._socket = socket
        self._part = part
        self._speed = speed
        self._events: list[dict[str, Any]] = []
        self._seen = 0
        self._news = asyncio.Condition()
        self._closed = False
        self._playback = Playback(speed)
        self._answer: dict[str, Any] = {}
        self._answer_ms = 0.0
        self._listened_to: str | None = None
        self._ear_format = AudioFormat(part.audio_format)
        self._microphone = Microphone(self._send, self.log, AudioFormat(part.audio_format), speed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Do all steps, then close unless a step did."""
        reader = asyncio.create_task(self._read())
        try:
            for step in self._part.steps:
                if not self._closed:
                    await self._do(step)
        except ConnectionClosed:
            pass  # the server ended the session; the log says how
        finally:
            await self._microphone.off()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._socket.close()
            await reader

    async def _do(self, step: Step) -> None:
        value = getattr(step, step.action)
        match step.action:
            case "send":
                await self._send(value)
            case "raw":
                await self._send_message(value)
            case "binary":
                await self._send_message(bytes.fromhex(value))
            case "text":
                content = [{"type": "input_text", "text": value}]
                item = {"type": "message", "role": "user", "content": content}
                await self._send({"type": "conversation.item.create", "item": item})
                await self._send({"type": "response.create"})
            case "respond":
                await self._send({"type": "response.create", **({"response": value} if value else {})})
            case "microphone":
                await (self._microphone.on() if value else self._microphone.off())
            case "speak":
                await self._microphone.speak(value * 1000)
            case "commit":
                await self._send({"type": "input_audio_buffer.commit"})
            case "cancel":
                await self._send({"type": "response.cancel"})
            case "truncate":
                await self._truncate(self._played_ms() if value == "played" else value)
            case _:
                await self._bide(step.action, value)

    async def _bide(self, action: str, value: Any) -> None:
        """The steps that wait or end."""
        match action:
            case "wait":
                await self._wait_for(lambda: self._found(value), f"a {value} event")
            case "hear":
                await self._wait_for(lambda: self._answer.get("item_id") != self._listened_to, "audio of a new answer")
                self._listened_to = self._answer.get("item_id")
                await self._sleep(max(0.0, value - self._played_ms()))
            case "pause":
                # With the microphone on, time is what it sends: so voices stand at the same place in every run.
                await (self._microphone.stream(value) if self._microphone.is_on else self._sleep(value))
            case "close":
                close: Close = value
                await self._socket.close(close.code, close.reason)
            case "abort":
                self._socket.transport.abort()

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                self.log.messages.append(Message("server", message, time.monotonic_ns()))
                event = self.log.messages[-1].event
                await self._react(event)
                async with self._news:
                    self._events.append(event)
                    self._news.notify_all()
        except ConnectionClosed:
            pass  # the log says how
        finally:
            self._closed = True
            async with self._news:
                self._news.notify_all()

    async def _react(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind in _AUDIO_DELTAS:
            if event.get("item_id") != self._answer.get("item_id"):
                self._answer, self._answer_ms, self._playback = event, 0.0, Playback(self._speed)
            length = len(pybase64.b64decode(event["delta"])) / self._ear_format.bytes_per_ms
            self._answer_ms += length
            self._playback.add(length, time.monotonic())
        elif kind == "input_audio_buffer.speech_started" and self._part.on_speech_started == "truncate":
            if self._playback.left_ms(time.monotonic()) > 0:
                await self._truncate(self._played_ms())
        elif kind == "response.done" and self._part.tools:
            calls = [item for item in event["response"].get("output", []) if item["type"] == "function_call"]
            if any(call["name"] in self._part.tools for call in calls):
                task = asyncio.create_task(self._run_tools(calls))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _run_tools(self, calls: list[dict[str, Any]]) -> None:
        """Answer the calls this client has functions for, then ask for the next response."""
        for call in calls:
            answer = self._part.tools.get(call["name"])
            if answer is None:
                continue
            await self._sleep(answer.delay_ms)
            output = answer.output if isinstance(answer.output, str) else msgspec.json.encode(answer.output).decode()
            item = {"type": "function_call_output", "call_id": call["call_id"], "output": output}
            await self._send({"type": "conversation.item.create", "item": item})
        await self._send({"type": "response.create"})

    async def _truncate(self, audio_end_ms: int) -> None:
        self._answer_ms -= self._playback.left_ms(time.monotonic())
        self._playback.flush(time.monotonic())
        event = {"type": "conversation.item.truncate", "item_id": self._answer.get("item_id"), "content_index": 0}
        await self._send({**event, "audio_end_ms": audio_end_ms})

    def _played_ms(self) -> int:
        """How much of the current answer was heard."""
        return int(max(0.0, self._answer_ms - self._playback.left_ms(time.monotonic())))

    def _found(self, kind: str) -> bool:
        """Whether an event of that type has come since the last one that was waited for."""
        for index in range(self._seen, len(self._events)):
            if self._events[index].get("type") == kind:
                self._seen = index + 1
                return True
        return False

    async def _wait_for(self, met: Any, what: str) -> None:
        try:
            async with asyncio.timeout(self._part.wait_seconds), self._news:
                await self._news.wait_for(lambda: met() or self._closed)
        except TimeoutError:
            raise TimeoutError(f"no {what} within {self._part.wait_seconds} s") from None

    async def _sleep(self, delay_ms: float) -> None:
        await asyncio.sleep(delay_ms / 1000 / self._speed)

    async def _send(self, event: dict[str, Any]) -> None:
        await self._send_message(msgspec.json.encode(event).decode())

    async def _send_message(self, data: str | bytes) -> None:
        message = Message("client", data, time.monotonic_ns())
        self.log.messages.append(message)
        try:
            await self._socket.send(data)
        except ConnectionClosed:
            self.log.messages.remove(message)
            raise
