"""The playback model: audio starts to play when it arrives and is consumed in real time."""

from __future__ import annotations


class Playback:
    """A listener's audio buffer, as a pure function of arrivals and time.

    Args:
        speed: how many seconds of audio play in one second of the caller's clock.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._empty_at = 0.0

    def add(self, audio_ms: float, now: float) -> None:
        """`audio_ms` arrived at `now` (seconds); it plays after what is still in the buffer."""
        self._empty_at = max(self._empty_at, now) + audio_ms / 1000 / self._speed

    def left_ms(self, now: float) -> float:
        """Milliseconds that have arrived and not been played at `now`."""
        return max(0.0, self._empty_at - now) * 1000 * self._speed

    def flush(self, now: float) -> None:
        """Throw away what has not been played."""
        self._empty_at = min(self._empty_at, now)
