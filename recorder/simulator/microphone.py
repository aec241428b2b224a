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
        self._voice_ms = 0.0
        self._voice_begins = False
        self._spoken = asyncio.Event()
        self._stream: asyncio.Task[None] | None = None

    async def on(self) -> None:
        """Start to stream."""
        if self._stream is None:
            self._stream = asyncio.create_task(self._run())

    async def off(self) -> None:
        """Stop to stream, between two appends."""
        stream, self._stream = self._stream, None
        self._spoken.set()
        if stream is not None:
            await stream

    async def speak(self, length_ms: float) -> None:
        """Speak for `length_ms` (whole appends); a microphone that was off is on just for that time."""
        self._voice_ms, self._voice_begins = length_ms, True
        self._spoken.clear()
        push_to_talk = self._stream is None
        await self.on()
        await self._spoken.wait()
        if push_to_talk:
            await self.off()

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
            self._spoken.set()

    async def _append(self) -> None:
        position = self._log.audio_sent_ms
        voiced = min(float(CHUNK_MS), self._voice_ms)
        samples = np.zeros(self._format.rate * CHUNK_MS // 1000, dtype=np.int16)
        if voiced > 0:
            voice = synthesize(position, voiced, self._format.rate, pitch_hz=_PITCH_HZ)
            samples[: len(voice)] = voice
            self._note_voice(position, position + voiced)
        self._log.audio_sent_ms += CHUNK_MS
        audio = pybase64.b64encode_as_string(self._format.encode(samples))
        await self._send({"type": "input_audio_buffer.append", "audio": audio})
        if voiced > 0:
            self._voice_ms -= voiced
            if self._voice_ms <= 0:
                self._spoken.set()

    def _note_voice(self, start: float, end: float) -> None:
        voices = self._log.voices
        if self._voice_begins:
            self._voice_begins = False
            voices.append((start, end))
        voices[-1] = (voices[-1][0], end)
