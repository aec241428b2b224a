"""Voice activity detection on the energy of real samples, along the audio axis.

Time here is the position in the audio, never the clock: the same samples give the same events at any speed and cut
into any chunks. Sans-I/O: samples in, events out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recorder.simulator.audio import Samples

FRAME_MS = 20
_FRAMES_TO_START = 2  # a single loud frame is a click, not a voice
_LOUD_SAMPLE = 300


@dataclass(frozen=True)
class VadSettings:
    """A session's turn detection.

    Attributes:
        kind: `server_vad` or `semantic_vad`. The latter reports the voice's own borders, without padding.
        threshold: 0–1; 0.5 stands for -35 dBFS, each 0.1 for 5 dB.
        prefix_padding_ms: audio before the voice that goes to the model.
        silence_duration_ms: silence that ends a turn.
        create_response: whether the end of a turn starts a response.
        interrupt_response: whether a voice cancels the response in progress.
        idle_timeout_ms: silence after an answer that makes the model speak up, or None.
    """

    kind: str = "server_vad"
    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 200
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: int | None = None

    @property
    def rms_threshold(self) -> float:
        """The frame energy that counts as voice, as RMS of int16 samples."""
        return float(32768 * 10 ** ((50 * self.threshold - 60) / 20))


@dataclass(frozen=True)
class SpeechStarted:
    """A voice began. `audio_start_ms` as reported; `voice_start_ms` as the samples have it."""

    audio_start_ms: int
    voice_start_ms: float


@dataclass(frozen=True)
class SpeechStopped:
    """A voice ended. `audio_end_ms` as reported; `voice_end_ms` as the samples have it."""

    audio_end_ms: int
    voice_end_ms: float


class VoiceDetector:
    """Finds where voices start and stop in a stream of samples."""

    def __init__(self, settings: VadSettings) -> None:
        self.settings = settings
        self.position_ms = 0.0
        self.speaking = False
        self._rest: Samples = np.empty(0, dtype=np.int16)
        self._rate = 0
        self.reset()

    def reset(self) -> None:
        """Forget a voice in progress (its audio was committed or cleared); the axis runs on."""
        self.speaking = False
        self._voiced_frames = 0
        self._silent_ms = 0
        self._edge_ms: float | None = None
        self._frame_start_ms = self._voice_start_ms = 0.0
        self._frame_end_ms = self._voice_end_ms = 0.0

    def skip_to(self, position_ms: float) -> None:
        """Go on at `position_ms` of the axis: what lay between was not listened to."""
        self.position_ms = position_ms
        self._rest = self._rest[:0]
        self.reset()

    def feed(self, samples: Samples, rate: int) -> list[SpeechStarted | SpeechStopped]:
        """Take in the next samples at `rate` a second; return what they show, in order."""
        if rate != self._rate:
            self.position_ms += len(self._rest) * 1000 / (self._rate or 1)
            self._rest, self._rate = samples[:0], rate
        size = rate * FRAME_MS // 1000
        audio = np.concatenate((self._rest, samples))
        count = len(audio) // size
        self._rest = audio[count * size :]
        frames = audio[: count * size].reshape(count, size)
        voiced = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1)) >= self.settings.rms_threshold
        events = (self._frame(frame, bool(loud)) for frame, loud in zip(frames, voiced, strict=True))
        return [event for event in events if event is not None]

    def _frame(self, frame: Samples, voiced: bool) -> SpeechStarted | SpeechStopped | None:
        start, self.position_ms = self.position_ms, self.position_ms + FRAME_MS
        loud = np.flatnonzero(np.abs(frame.astype(np.int32)) >= _LOUD_SAMPLE) * FRAME_MS / len(frame) + start
        if voiced:
            return self._voiced(start, loud)
        # A voice's edge may lie in a frame that as a whole is not loud: it belongs to the voice all the same.
        if self._voiced_frames and len(loud):
            self._voice_end_ms = float(loud[-1])
        self._edge_ms = float(loud[0]) if len(loud) else None
        self._voiced_frames = 0
        self._silent_ms += FRAME_MS
        if self.speaking and self._silent_ms >= self.settings.silence_duration_ms:
            self.speaking = False
            padding = self.settings.silence_duration_ms if self.settings.kind == "server_vad" else 0
            return SpeechStopped(round(self._frame_end_ms + padding), self._voice_end_ms)
        return None

    def _voiced(self, start: float, loud: NDArray[np.float64]) -> SpeechStarted | None:
        first, last = (float(loud[0]), float(loud[-1])) if len(loud) else (start, start + FRAME_MS)
        self._silent_ms = 0
        self._voiced_frames += 1
        self._frame_end_ms, self._voice_end_ms = start + FRAME_MS, last
        if self._voiced_frames == 1 and not self.speaking:
            self._frame_start_ms = start
            self._voice_start_ms = first if self._edge_ms is None else self._edge_ms
        if self.speaking or self._voiced_frames < _FRAMES_TO_START:
            return None
        self.speaking = True
        padding = self.settings.prefix_padding_ms if self.settings.kind == "server_vad" else 0
        return SpeechStarted(max(0, round(self._frame_start_ms - padding)), self._voice_start_ms)
