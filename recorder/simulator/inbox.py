"""The input audio buffer: what was appended and not committed yet, on the session's audio axis."""

from __future__ import annotations

from dataclasses import dataclass

from recorder.simulator.audio import AudioFormat, Samples

_KEPT_MS = 60_000


@dataclass(frozen=True)
class Committed:
    """Audio that became a user's item: its length, and its newest minute in wire format."""

    audio_ms: float
    audio: bytes


class InputAudioBuffer:
    """Appended audio. The millisecond axis runs from the session's start on through commits and clears."""

    def __init__(self) -> None:
        self.total_ms = 0.0
        self._start_ms = 0.0
        self._audio = bytearray()
        self._format = AudioFormat.PCM16

    @property
    def length_ms(self) -> float:
        """Audio in the buffer."""
        return self.total_ms - self._start_ms

    def append(self, data: bytes, audio_format: AudioFormat) -> Samples:
        """Take in wire bytes; return their samples."""
        if audio_format is not self._format:
            self._format = audio_format
            self._audio.clear()
        self._audio += data
        self.total_ms += len(data) / audio_format.bytes_per_ms
        excess = len(self._audio) - _KEPT_MS * audio_format.bytes_per_ms
        if excess > 0:
            del self._audio[:excess]
        return audio_format.decode(data)

    def take(self, start_ms: float | None = None, end_ms: float | None = None) -> Committed:
        """Commit the part from `start_ms` to `end_ms` of the axis (default: all); what came before is gone too."""
        start = self._start_ms if start_ms is None else start_ms
        end = self.total_ms if end_ms is None else min(end_ms, self.total_ms)
        audio = bytes(self._audio[self._index(start) : self._index(end)])
        del self._audio[: self._index(end)]
        self._start_ms = end
        return Committed(max(0.0, end - start), audio)

    def clear(self) -> None:
        """Throw everything away."""
        self._start_ms = self.total_ms
        self._audio.clear()

    def _index(self, position_ms: float) -> int:
        width = 2 if self._format is AudioFormat.PCM16 else 1
        behind = round((self.total_ms - position_ms) * self._format.bytes_per_ms)
        index = max(0, len(self._audio) - behind)
        return index - index % width
