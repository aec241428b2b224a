"""What a listener has heard of a response, by a model of the client's player.

The wire shows when audio arrived, not when it was played. The model, which the analytics use as well: a client starts
to play a response at its first audio, and plays in real time; where the audio comes late, it waits; a cut ends it.
"""

from __future__ import annotations


class Playback:
    """The playing of one response. Time is an argument; untimed audio is not played.

    Attributes:
        audible_until_ns: when the last of the audio that has arrived ends; None without any.
    """

    def __init__(self) -> None:
        self.audible_until_ns: int | None = None
        self._spans: list[tuple[str | None, int, int]] = []
        self._queued_ns = 0
        self._offset_ns: int | None = None
        self._cut_ns: int | None = None

    def add(self, item_id: str | None, at_ns: int | None, audio_ms: float) -> None:
        """Queue audio of an item that arrived at `at_ns`."""
        length = round(audio_ms * 1e6)
        if at_ns is not None:
            early = at_ns - self._queued_ns
            self._offset_ns = early if self._offset_ns is None else max(self._offset_ns, early)
        if self._offset_ns is not None:
            start = self._offset_ns + self._queued_ns
            self.audible_until_ns = start + length
            if self._spans and self._spans[-1][0] == item_id and self._spans[-1][2] == start:
                start = self._spans.pop()[1]
            self._spans.append((item_id, start, self.audible_until_ns))
        self._queued_ns += length

    def cut(self, at_ns: int) -> None:
        """Stop at `at_ns`, for good: nothing that is queued or comes later will be heard."""
        if self._cut_ns is None:
            self._cut_ns = at_ns

    def spans(self, item_id: str | None) -> list[tuple[int, int]]:
        """When an item is or was playing: from and to, in nanoseconds, its audio laid end to end over them."""
        limit = self._cut_ns
        spans = [(start, end) for item, start, end in self._spans if item == item_id]
        return spans if limit is None else [(start, min(end, limit)) for start, end in spans if start < limit]

    def playing(self, at_ns: int) -> str | None:
        """The item whose audio was the last to begin by then, had nothing cut it; None before any."""
        begun = [item for item, start, _ in self._spans if start <= at_ns]
        return begun[-1] if begun else None

    def heard_ms(self, item_id: str | None, at_ns: int) -> float | None:
        """How much of an item had been played at `at_ns`; None where nothing tells when its audio came."""
        if all(item != item_id for item, _, _ in self._spans):
            return None
        return sum(max(0, min(end, at_ns) - start) for start, end in self.spans(item_id)) / 1e6
