"""What a response will say, as deltas with their times."""

from __future__ import annotations

import re
from dataclasses import dataclass

from recorder.simulator.ids import Lane
from recorder.simulator.script import Pacing, Turn

_CHARACTERS_A_SECOND = 15
_SHORTEST_MS = 400
_TEXT_LEAD = 0.6
"""Transcripts run ahead of the audio: the last word is out when this share of the audio is."""


@dataclass(frozen=True)
class Delta:
    """A planned delta: when (ms after `response.created`), its event type, and its text or its audio's length."""

    at_ms: float
    kind: str
    text: str = ""
    audio_ms: float = 0.0


def pieces(text: str) -> list[str]:
    """Cut a text into what a model would stream: words with the space before them, and punctuation."""
    return re.findall(r"\s*\w+|\s*[^\w\s]|\s+$", text)


def audio_ms(turn: Turn) -> float:
    """How long a turn's speech is: as the script says, else by its text at 15 characters a second."""
    if turn.audio_seconds is not None:
        return turn.audio_seconds * 1000
    return max(_SHORTEST_MS, len(turn.say or "") * 1000 / _CHARACTERS_A_SECOND)


def spoken_plan(turn: Turn, pacing: Pacing, lane: Lane) -> list[Delta]:
    """Transcript and audio deltas of a spoken turn in the order of their times."""
    total = audio_ms(turn)
    first = lane.jittered(pacing.first_token_ms, pacing.jitter)
    first_audio = max(first, lane.jittered(pacing.first_audio_ms, pacing.jitter))
    words = pieces(turn.say or "")
    spread = (first_audio - first + total / pacing.pace * _TEXT_LEAD) / max(1, len(words))
    plan = [
        Delta(first + number * spread, "response.output_audio_transcript.delta", word)
        for number, word in enumerate(words)
    ]
    sent = 0.0
    while sent < total:
        length = min(pacing.delta_ms, total - sent)
        plan.append(Delta(first_audio + sent / pacing.pace, "response.output_audio.delta", audio_ms=length))
        sent += length
    return sorted(plan, key=lambda delta: delta.at_ms)


def text_plan(turn: Turn, pacing: Pacing, lane: Lane) -> list[Delta]:
    """Text deltas of a written turn."""
    first = lane.jittered(pacing.first_token_ms, pacing.jitter)
    return [
        Delta(first + number * pacing.token_ms, "response.output_text.delta", piece)
        for number, piece in enumerate(pieces(turn.say or "") or [""])
    ]
