"""A microphone: appends 20 ms of audio at a time, in real time, voice or silence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pybase64
from websockets.exceptions import ConnectionClosed

from recorder.simulator.audio import AudioFormat, synthesize

if TYPE_CHECKING:
    from recorder.simulator.client import ClientLog

CHUNK_MS = 20
_PITCH_HZ = 210.0


class Microphone:
    """Streams while it is on: silence, and the voices that `speak` puts into it.

    Args:
        send: sends a client event.
        log: where voices and audio are noted.
        audio_format: what the session expects.
        speed: how much faster than real time.
    """

    def __init__(
        self,
        send: Callable[[dict[str, Any]], Awaitable[None]],
        log: ClientLog,
        audio_format: AudioFormat,
        speed: float,
    ) -> None:
        self._send = send
        self._log = log
        self._format = audio_format
        self._speed = speed
        self._voice = (0.0, 0.0)
        self._target_ms = 0.0
        self._reached = asyncio.Event()
        self._stream: asyncio.Task[None] | None = None

    @property
    def is_on(self) -> bool:
        """Whether it streams."""
        return self._stream is not None

    async def on(self) -> None:
        """Start to stream."""
        if self._stream is None:
            self._stream = asyncio.create_task(self._run())

    async def off(self) -> None:
        """Stop to stream, between two appends."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream

    async def speak(self, length_ms: float) -> None:
        """Speak for `length_ms`; a microphone that was off is on just for that time."""
        start = self._log.audio_sent_ms
        self._voice = (start, start + length_ms)
        self._log.voices.append(self._voice)
        push_to_talk = not self.is_on
        await self.on()
        await self.stream(length_ms)
        if push_to_talk:
            await self.off()

    async def stream(self, length_ms: float) -> None:
        """Wait until `length_ms` more of audio was sent, or the connection is gone."""
        self._target_ms = self._log.audio_sent_ms + length_ms
        self._reached.clear()
        await self._reached.wait()

    async def _run(self) -> None:
        started, sent = time.monotonic(), 0
        me = asyncio.current_task()
        try:
            while self._stream is me:
                await self._append()
                sent += 1
                due = started + sent * CHUNK_MS / 1000 / self._speed
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        except ConnectionClosed:
            pass  # the reader sees it too
        finally:
            self._stream = None
            self._reached.set()

    async def _append(self) -> None:
        position = self._log.audio_sent_ms
        start, end = self._voice
        samples = np.zeros(self._format.rate * CHUNK_MS // 1000, dtype=np.int16)
        if start <= position < end:
            voice = synthesize(position, min(CHUNK_MS, end - position), self._format.rate, pitch_hz=_PITCH_HZ)
            samples[: len(voice)] = voice
        self._log.audio_sent_ms += CHUNK_MS
        audio = pybase64.b64encode_as_string(self._format.encode(samples))
        await self._send({"type": "input_audio_buffer.append", "audio": audio})
        if self._log.audio_sent_ms >= self._target_ms:
            self._reached.set()
