"""What a listener has heard, by a model of the client's player.

The wire shows when audio arrived, not when it was played. The model: audio plays from its arrival or from the end of
what is queued before it, in real time, until a barge-in clears the queue.
"""

from __future__ import annotations


class Playback:
    """A queue of audio that plays in real time. Time is an argument."""

    def __init__(self) -> None:
        self._spans: dict[str, list[list[int]]] = {}
        self._cut: set[str] = set()
        self._free_at_ns = 0

    def add(self, item_id: str, at_ns: int, audio_ms: float) -> None:
        """Queue audio of an item that arrived at `at_ns`; audio of an item that was cut off is thrown away."""
        if item_id in self._cut:
            return
        start = max(at_ns, self._free_at_ns)
        end = start + round(audio_ms * 1e6)
        self._free_at_ns = end
        spans = self._spans.setdefault(item_id, [])
        if spans and spans[-1][1] == start:
            spans[-1][1] = end
        else:
            spans.append([start, end])

    def cut(self, at_ns: int) -> None:
        """Stop at `at_ns`: nothing that is still queued will be heard, nor what arrives for these items later."""
        if at_ns >= self._free_at_ns:
            return
        for item_id, spans in self._spans.items():
            if spans[-1][1] > at_ns:
                self._cut.add(item_id)
                spans[:] = [[start, min(end, at_ns)] for start, end in spans if start < at_ns] or [[at_ns, at_ns]]
        self._free_at_ns = at_ns

    def was_cut(self, item_id: str) -> bool:
        """Whether an item was stopped before its end."""
        return item_id in self._cut

    def heard_ms(self, item_id: str, at_ns: int) -> float:
        """How much of an item had been played at `at_ns`."""
        played = sum(max(0, min(end, at_ns) - start) for start, end in self._spans.get(item_id, ()))
        return played / 1e6
