"""The server's input audio buffer, as far as the wire tells."""

from __future__ import annotations

from collections import deque


class InputBuffer:
    """Milliseconds appended, committed and cleared, on the session's audio axis (which a clear does not reset)."""

    def __init__(self) -> None:
        self._appended_ms = 0.0
        self._start_ms = 0.0
        self._commits: deque[float] = deque()
        self._clears: deque[float] = deque()
        self._spans: dict[str, tuple[float, float | None]] = {}

    @property
    def uncommitted_ms(self) -> float:
        """Audio waiting in the buffer."""
        return max(0.0, self._appended_ms - self._start_ms)

    def append(self, audio_ms: float) -> None:
        """The client sent audio."""
        self._appended_ms += audio_ms

    def appended(self, total_ms: float) -> None:
        """The client has sent so much audio by now."""
        self._appended_ms = total_ms

    def ask_commit(self) -> None:
        """The client asked to commit. What it appends before the server answers belongs to the next turn."""
        self._commits.append(self._appended_ms)

    def commit_refused(self) -> None:
        """The server refused the oldest commit that it had not answered."""
        if self._commits:
            self._commits.popleft()

    def ask_clear(self) -> None:
        """The client asked to clear."""
        self._clears.append(self._appended_ms)

    def speech(self, item_id: str, start_ms: float | None, end_ms: float | None) -> None:
        """The server said where the speech of an item starts or ends."""
        known = self._spans.get(item_id, (0.0, None))
        self._spans[item_id] = (known[0] if start_ms is None else start_ms, known[1] if end_ms is None else end_ms)

    def committed(self, item_id: str | None) -> float:
        """The server made an item of the buffer.

        Returns:
            The item's audio in ms: the server's own span, where it said one, else all up to the client's request.
        """
        start, end = self._spans.get(item_id or "", (0.0, None))
        if end is not None:
            self._start_ms = max(self._start_ms, end)
            return max(0.0, end - start)
        end = self._commits.popleft() if self._commits else self._appended_ms
        audio_ms = max(0.0, end - self._start_ms)
        self._start_ms = max(self._start_ms, end)
        return audio_ms

    def cleared(self) -> None:
        """The server threw the buffer away."""
        end = self._clears.popleft() if self._clears else self._appended_ms
        self._start_ms = max(self._start_ms, end)
