"""Sound files: samples of two speakers, placed in time, as stereo WAV or FLAC. What is written leaves memory.

Rates that differ from the file's are converted by linear interpolation: enough to listen to, since speech has little
where that is inexact. A session whose two sides have one rate is not converted at all.
"""

from __future__ import annotations

from functools import lru_cache
from types import TracebackType
from typing import BinaryIO, Final, Literal, Self, TypeAlias

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from recorder.errors import UsageError

Samples: TypeAlias = NDArray[np.int16]
Codec = Literal["pcm16", "pcmu", "pcma"]
SoundFormat = Literal["wav", "flac"]

LEFT: Final = 0
RIGHT: Final = 1

_LARGEST_WAV: Final = 2**32 - 1024
_FRAME_BYTES: Final = 4


def decode(data: bytes, codec: Codec) -> Samples:
    """Wire bytes → samples; half a sample at the end is dropped.

    Args:
        data: as it was sent.
        codec: 16-bit little-endian PCM, or G.711 (ITU-T) by µ-law or A-law.
    """
    if codec == "pcm16":
        return np.frombuffer(data, dtype="<i2", count=len(data) // 2).astype(np.int16, copy=False)
    return g711_table(codec)[np.frombuffer(data, dtype=np.uint8)]


@lru_cache(maxsize=2)
def g711_table(law: Literal["pcmu", "pcma"]) -> Samples:
    """The sample of each G.711 code, by the segments of the law: 256 values."""
    code = (~np.arange(256) & 0xFF) if law == "pcmu" else np.arange(256) ^ 0x55
    segment, step = (code >> 4) & 7, (code & 0x0F) << 1
    if law == "pcmu":
        size = ((step + 33) << segment) - 33 << 2
        return np.where(code & 0x80, -size, size).astype(np.int16)
    size = np.where(segment == 0, step + 1, step + 33 << np.maximum(segment - 1, 0)) << 3
    return np.where(code & 0x80, size, -size).astype(np.int16)


class _Resampler:
    """Converts a stream from one rate to another, piece by piece, as if it were whole."""

    def __init__(self, source: int, target: int) -> None:
        self.source, self._target = source, target
        self._taken = self._given = 0
        self._last = np.zeros(0, dtype=np.int16)

    def convert(self, samples: Samples) -> Samples:
        if self.source == self._target or not len(samples):
            return samples
        known = np.concatenate([self._last, samples])
        first = self._taken - len(self._last)
        self._taken += len(samples)
        self._last = known[-1:]
        due = (self._taken - 1) * self._target // self.source + 1  # beyond the last sample, the next one is needed
        at = np.arange(self._given, due) * (self.source / self._target) - first
        self._given = due
        converted: Samples = np.interp(at, np.arange(len(known)), known).round().astype(np.int16)
        return converted


class _Lane:
    """One speaker: where the next sample goes, and what is left of the piece before."""

    def __init__(self, rate: int) -> None:
        self.at = 0
        self._rate = rate
        self._resampler = _Resampler(rate, rate)
        self._half = b""

    def take(self, data: bytes, codec: Codec, rate: int, *, at: int | None) -> tuple[int, Samples]:
        """The samples of a piece, and the frame that the first of them belongs to."""
        if at is not None or rate != self._resampler.source:
            self._resampler, self._half = _Resampler(rate, self._rate), b""
        if at is not None:
            self.at = max(at, self.at)
        if codec == "pcm16":
            data = self._half + data
            self._half = data[len(data) & ~1 :]
        samples = self._resampler.convert(decode(data, codec))
        start, self.at = self.at, self.at + len(samples)
        return start, samples


class StereoFile:
    """A sound file in the making: caller left, assistant right.

    Args:
        file: where to; it must be able to seek.
        form: WAV or FLAC, 16 bit.
        rate: samples a second.
        seconds: about how long it will be.

    Raises:
        UsageError: WAV cannot hold so much.
    """

    def __init__(self, file: BinaryIO, form: SoundFormat, rate: int, *, seconds: float = 0.0) -> None:
        if form == "wav" and seconds * rate * _FRAME_BYTES > _LARGEST_WAV:
            raise UsageError(
                f"{seconds / 3600:.0f} hours are more than a WAV file can hold", hint="Write FLAC: --format flac."
            )
        self.rate = rate
        self._lanes = _Lane(rate), _Lane(rate)
        self._frames = np.zeros((rate, 2), dtype=np.int16)
        self._first = 0  # the frame of the file that `_frames` begins with: all before is written
        self._file = sf.SoundFile(file, "w", rate, 2, "PCM_16", format=form.upper())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def put(self, side: int, data: bytes, codec: Codec, rate: int, *, at_seconds: float | None) -> None:
        """Place a piece of a speaker's audio.

        Args:
            side: LEFT or RIGHT.
            data: as it was sent.
            codec: how.
            rate: samples a second.
            at_seconds: where it begins, no earlier than what was flushed; a speaker does not talk over herself, so it
                waits for the end of the piece before. None: right behind that.
        """
        at = None if at_seconds is None else round(at_seconds * self.rate)
        start, samples = self._lanes[side].take(data, codec, rate, at=at)
        begin = start - self._first
        if begin + len(samples) > len(self._frames):
            room = np.zeros((max(begin + len(samples), 2 * len(self._frames)), 2), dtype=np.int16)
            room[: len(self._frames)] = self._frames
            self._frames = room
        self._frames[begin : begin + len(samples), side] = samples

    def flush(self, until_seconds: float) -> None:
        """Write all before a moment: nothing more will be placed there."""
        until = round(until_seconds * self.rate)
        while until - self._first >= self.rate:
            self._write(min(until - self._first, len(self._frames)))

    def finish(self, seconds: float) -> None:
        """Write the rest; silence where the file would be shorter than that."""
        until = max(round(seconds * self.rate), *(lane.at for lane in self._lanes))
        while until > self._first:
            self._write(min(until - self._first, len(self._frames)))

    def _write(self, count: int) -> None:
        self._file.write(self._frames[:count])
        self._first += count
        left = len(self._frames) - count
        self._frames[:left] = self._frames[count:].copy()
        self._frames[left:] = 0
