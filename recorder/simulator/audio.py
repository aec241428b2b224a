"""Audio of the simulator: the three wire formats, and synthesized voices.

Samples are int16 numpy arrays, mono. PCM runs at 24 kHz, G.711 (ITU-T) at 8 kHz.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.int16]

PEAK = 0.45
"""Loudest synthesized sample, as a share of full scale."""


class AudioFormat(Enum):
    """A wire format; the value is its beta name."""

    PCM16 = "pcm16"
    ULAW = "g711_ulaw"
    ALAW = "g711_alaw"

    @property
    def mime(self) -> str:
        """Its GA name."""
        return {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}[self.value]

    @property
    def rate(self) -> int:
        """Samples a second."""
        return 24_000 if self is AudioFormat.PCM16 else 8_000

    @property
    def bytes_per_ms(self) -> int:
        """Encoded bytes of one millisecond."""
        return self.rate // 1000 * (2 if self is AudioFormat.PCM16 else 1)

    def decode(self, data: bytes) -> Samples:
        """Wire bytes → samples; an odd last byte of PCM is dropped."""
        if self is AudioFormat.PCM16:
            return np.frombuffer(data, dtype="<i2", count=len(data) // 2)
        table = _ulaw_table() if self is AudioFormat.ULAW else _alaw_table()
        return table[np.frombuffer(data, dtype=np.uint8)]

    def encode(self, samples: Samples) -> bytes:
        """Samples → wire bytes."""
        if self is AudioFormat.PCM16:
            return samples.astype("<i2").tobytes()
        index = samples.astype(np.int32) + 32768
        return _encode_table(self)[index].tobytes()


def synthesize(start_ms: float, length_ms: float, rate: int, *, pitch_hz: float) -> Samples:
    """A piece of an endless speech-like voice: harmonics of a gliding pitch under a syllable rhythm.

    A pure function of time, so that chunks join without a seam. It never falls under -25 dBFS in any 20 ms, so
    that a voice is one span to the voice detector.

    Args:
        start_ms: position of the piece within the voice.
        length_ms: its length.
        rate: samples a second.
        pitch_hz: the voice's middle pitch.

    Returns:
        `round(length_ms × rate ÷ 1000)` samples.
    """
    first = round(start_ms * rate / 1000)
    time = (first + np.arange(round(length_ms * rate / 1000))) / rate
    phase = 2 * np.pi * pitch_hz * time + 2.0 * np.sin(2 * np.pi * 0.7 * time)
    voice = np.sin(phase) + 0.5 * np.sin(2 * phase) + 0.3 * np.sin(3 * phase) + 0.15 * np.sin(4 * phase)
    syllables = 0.4 + 0.6 * np.sin(np.pi * 4.1 * time + 0.8) ** 2
    return (voice * syllables * (PEAK * 32767 / 1.6)).astype(np.int16)


@lru_cache(maxsize=1)
def _ulaw_table() -> Samples:
    code = ~np.arange(256) & 0xFF
    exponent, mantissa = (code >> 4) & 7, code & 0x0F
    magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


@lru_cache(maxsize=1)
def _alaw_table() -> Samples:
    code = np.arange(256) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, code & 0x0F
    magnitude = np.where(exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


@lru_cache(maxsize=2)
def _encode_table(audio_format: AudioFormat) -> NDArray[np.uint8]:
    """For every int16 value, the code whose decoded value is nearest: G.711's quantizer, by its decision levels."""
    decoded = (_ulaw_table() if audio_format is AudioFormat.ULAW else _alaw_table()).astype(np.int32)
    order = np.argsort(decoded, kind="stable")
    levels = decoded[order]
    borders = (levels[:-1] + levels[1:]) // 2
    return order[np.searchsorted(borders, np.arange(-32768, 32768))].astype(np.uint8)
