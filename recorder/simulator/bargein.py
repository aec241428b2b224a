"""Who was interrupted, when, and how much of it was heard: the server's own book of barge-ins.

An interruption is a speech start, or else a client's cancel, truncate or clear, while a response's audio is audible by
the playback model or while a response that has begun to speak is still active.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from recorder.simulator.playback import Playback
from recorder.simulator.truth import InterruptionTruth

_LATE_NS = 1_000_000_000


@dataclass
class SpokenItem:
    """An assistant's audio item: how much of it was generated and sent so far."""

    response_id: str
    item_id: str
    audio_ms: float = 0.0
    active: bool = True
    interruption: InterruptionTruth | None = None
    played_ms: float = 0.0


class BargeIns:
    """Follows what the listener hears, in the script's time and on the wall clock.

    Args:
        speed: the script's time runs this much faster than the clock.
        interruptions: where new ones are written down.
    """

    def __init__(self, speed: float, interruptions: list[InterruptionTruth]) -> None:
        self._speed = speed
        self._script = Playback(speed)
        self._wall = Playback()
        self._interruptions = interruptions
        self._spoken: list[SpokenItem] = []

    def audio(self, response_id: str, item_id: str, audio_ms: float) -> None:
        """A piece of audio was sent."""
        last = self.last
        if last is None or last.response_id != response_id:  # each response plays from its first audio on
            self._script, self._wall = Playback(self._speed), Playback()
        if last is None or last.item_id != item_id:
            self._spoken.append(SpokenItem(response_id, item_id))
        self._spoken[-1].audio_ms += audio_ms
        now = time.monotonic()
        self._script.add(audio_ms, now)
        self._wall.add(audio_ms, now)

    def finished(self, response_id: str) -> None:
        """A response ended, however it did."""
        for item in self._spoken:
            if item.response_id == response_id:
                item.active = False

    @property
    def last(self) -> SpokenItem | None:
        """The item that spoke last."""
        return self._spoken[-1] if self._spoken else None

    def left_ms(self) -> float:
        """Audio that was sent and not yet played, in the script's time."""
        return self._script.left_ms(time.monotonic())

    def cut(self, source: Literal["server_vad", "client"], *, stops_playback: bool) -> None:
        """Speech started, or the client cut the answer off: write down whether that was an interruption."""
        item = self.last
        if item is None:
            return
        now = time.monotonic()
        script = item.active or self._script.left_ms(now) > 0
        wall = item.active or self._wall.left_ms(now) > 0
        if (script or wall) and item.interruption is None:
            left_ms = (self._script if script else self._wall).left_ms(now)
            item.played_ms = item.audio_ms - min(item.audio_ms, left_ms)
            item.interruption = InterruptionTruth(
                response_id=item.response_id,
                item_id=item.item_id,
                source=source,
                at_ns=time.monotonic_ns(),
                clock="both" if script and wall else "script" if script else "wall",
                generated_ms=item.audio_ms,
                delivered_ms=item.audio_ms,
            )
            self._interruptions.append(item.interruption)
        if stops_playback:
            self._script.flush(now)
            self._wall.flush(now)

    def truncated(self, item_id: str, audio_end_ms: int, *, accepted: bool) -> None:
        """A client's truncate was accepted or refused."""
        item = next((spoken for spoken in self._spoken if spoken.item_id == item_id), None)
        if item is None or item.interruption is None:
            return
        interruption = item.interruption
        if interruption.heard_ms is not None:  # the first that was accepted says how it went, the last how much is left
            interruption.heard_ms = audio_end_ms if accepted else interruption.heard_ms
            return
        if not accepted:
            interruption.truncate_status = "beyond_audio" if audio_end_ms > item.audio_ms else "rejected"
            return
        interruption.heard_ms = audio_end_ms
        late = time.monotonic_ns() - interruption.at_ns > _LATE_NS
        interruption.truncate_status = "late" if late else "ok"

    def close(self) -> None:
        """Settle what only the end can tell."""
        for item in self._spoken:
            if item.interruption is None:
                continue
            item.interruption.generated_ms = item.audio_ms
            untouched = item.interruption.truncate_status == "missing"
            if untouched and item.played_ms >= item.audio_ms:
                item.interruption.truncate_status = "not_needed"
