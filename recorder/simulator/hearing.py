"""The listening side: appended audio, voice detection, commits, transcription, and the idle timeout."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from recorder.simulator.conversation import Item
from recorder.simulator.inbox import Committed, InputAudioBuffer
from recorder.simulator.plan import pieces
from recorder.simulator.refusal import EventRefusedError
from recorder.simulator.truth import SpeechTruth, Trigger
from recorder.simulator.usage import transcription_usage
from recorder.simulator.vad import SpeechStarted, SpeechStopped, VadSettings, VoiceDetector

if TYPE_CHECKING:
    from recorder.simulator.connection import Connection

_SHORTEST_COMMIT_MS = 100


class Hearing:
    """What one connection's server hears, and what it makes of it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.buffer = InputAudioBuffer()
        self._detector = VoiceDetector(VadSettings())
        self._speech: SpeechTruth | None = None
        self._idle_from_ms: float | None = None
        self._count = 0

    async def append(self, data: bytes) -> None:
        """Take in appended audio; with voice detection on, act on what it shows."""
        session = self._connection.session
        samples = self.buffer.append(data, session.input_format)
        if session.vad is None:
            self._detector.skip_to(self.buffer.total_ms)
            return
        self._detector.settings = session.vad
        for event in self._detector.feed(samples, session.input_format.rate):
            if isinstance(event, SpeechStarted):
                await self._speech_started(event)
            else:
                await self._speech_stopped(event, session.vad)
        await self._check_idle(session.vad)

    async def commit(self) -> None:
        """Commit the whole buffer on the client's wish; starts no response.

        Raises:
            EventRefusedError: the buffer is (nearly) empty.
        """
        length = self.buffer.length_ms
        if length < _SHORTEST_COMMIT_MS:
            message = (
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
                f"but buffer only has {length:.2f}ms of audio."
            )
            raise EventRefusedError("input_audio_buffer_commit_empty", message)
        item_id = self._speech.item_id if self._speech else self._connection.lane.new("item")
        self._forget_voice()
        await self._committed(item_id, self.buffer.take())

    async def clear(self) -> None:
        """Throw the buffer away."""
        self.buffer.clear()
        self._forget_voice()
        await self._connection.send(self._connection.lane, "input_audio_buffer.cleared")

    def answered(self) -> None:
        """A response is done: the idle timeout counts from where its audio will have been played."""
        self._idle_from_ms = self.buffer.total_ms + self._connection.barge_ins.left_ms()

    async def _speech_started(self, event: SpeechStarted) -> None:
        connection = self._connection
        interrupts = connection.session.vad is not None and connection.session.vad.interrupt_response
        item_id = connection.lane.new("item")
        self._idle_from_ms = None
        self._speech = SpeechTruth(
            item_id=item_id, voice_start_ms=event.voice_start_ms, audio_start_ms=event.audio_start_ms
        )
        connection.truth.speech.append(self._speech)
        connection.barge_ins.cut("server_vad", stops_playback=interrupts)
        if interrupts:
            connection.responding.interrupt()
        await connection.send(
            connection.lane,
            "input_audio_buffer.speech_started",
            audio_start_ms=event.audio_start_ms,
            item_id=item_id,
        )

    async def _speech_stopped(self, event: SpeechStopped, vad: VadSettings) -> None:
        speech, self._speech = self._speech, None
        assert speech is not None
        speech.voice_end_ms, speech.audio_end_ms = event.voice_end_ms, event.audio_end_ms
        connection = self._connection
        stopped_ns = time.monotonic_ns()
        await connection.send(
            connection.lane,
            "input_audio_buffer.speech_stopped",
            audio_end_ms=event.audio_end_ms,
            item_id=speech.item_id,
        )
        await self._committed(speech.item_id, self.buffer.take(speech.audio_start_ms, event.audio_end_ms))
        if vad.create_response:
            await self._respond("vad", stopped_ns)

    async def _check_idle(self, vad: VadSettings) -> None:
        start = self._idle_from_ms
        if vad.idle_timeout_ms is None or start is None or self._connection.responding.active is not None:
            return
        if self.buffer.total_ms < start + vad.idle_timeout_ms:
            return
        self._idle_from_ms = None
        connection, item_id = self._connection, self._connection.lane.new("item")
        end = self.buffer.total_ms
        triggered_ns = time.monotonic_ns()
        await connection.send(
            connection.lane,
            "input_audio_buffer.timeout_triggered",
            audio_start_ms=round(start),
            audio_end_ms=round(end),
            item_id=item_id,
        )
        await self._committed(item_id, self.buffer.take(start, end), silent=True)
        await self._respond("idle_timeout", triggered_ns)

    async def _respond(self, trigger: Trigger, trigger_ns: int) -> None:
        try:
            self._connection.responding.start(trigger, trigger_ns=trigger_ns)
        except EventRefusedError as problem:
            await self._connection.outbox.error(self._connection.lane, problem, None)

    async def _committed(self, item_id: str, committed: Committed, *, silent: bool = False) -> None:
        """Turn committed audio into the user's item, and have it transcribed."""
        connection = self._connection
        previous = connection.conversation.last_id
        wire = {
            "id": item_id,
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        item = Item(wire, audio_ms=committed.audio_ms)
        connection.conversation.insert(item, None)
        connection.conversation.keep_audio(item, committed.audio)
        await connection.send(
            connection.lane, "input_audio_buffer.committed", previous_item_id=previous, item_id=item_id
        )
        for name in ("conversation.item.added", "conversation.item.done"):
            await connection.send(connection.lane, name, previous_item_id=previous, item=wire)
        if connection.session.transcription and not silent:
            connection.spawn(self._transcribe(item, str(connection.session.transcription.get("model"))))

    async def _transcribe(self, item: Item, model: str) -> None:
        self._count += 1
        connection = self._connection
        lane = connection.ids.lane(f"transcription {self._count}")
        turn, pacing = connection.director.heard(), connection.script.pacing
        name = "conversation.item.input_audio_transcription"
        at: dict[str, Any] = {"item_id": item.id, "content_index": 0}
        await connection.pause(lane.jittered(pacing.transcription_ms, pacing.jitter))
        if turn.transcription == "failed":
            error = {
                "type": "transcription_error",
                "code": "audio_unintelligible",
                "message": "The audio could not be transcribed.",
                "param": None,
            }
            await connection.send(lane, f"{name}.failed", **at, error=error)
            return
        text = turn.user or ""
        for piece in pieces(text):
            await connection.send(lane, f"{name}.delta", **at, delta=piece, obfuscation=lane.padding(piece))
            await connection.pause(pacing.token_ms)
        item.wire["content"][0]["transcript"] = text
        usage = transcription_usage(model, item.audio_ms, text)
        await connection.send(lane, f"{name}.completed", **at, transcript=text, usage=usage)
        connection.truth.transcription_usages.append(usage)

    def _forget_voice(self) -> None:
        self._detector.reset()
        self._speech = None
