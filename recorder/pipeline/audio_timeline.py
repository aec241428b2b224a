"""A session as one hears it: whose audio sounds when.

**The caller.** A piece of audio that was received at some moment had been spoken by then. So each is laid as late as
it can be, such that it and all that followed was spoken, in real time, before it was received: a steady stream sounds
when it came, and what a slow network brought late and in a burst sounds when it was spoken.

**The assistant.** By the playback model: a response sounds from its first audio on, in real time. What was heard ends
where a barge-in, a truncation or the session's end cut it; as it was sent, nothing is cut, and what follows waits.

**Without times**, all of it stands in the order in which it was sent, one speaker after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from recorder.projection.conversation import Conversation
from recorder.projection.playback import Playback
from recorder.protocol.envelope import RecordedEvent

_NS_PER_MS: Final = 1_000_000
_JITTER_NS: Final = 60 * _NS_PER_MS  # gaps below are the network's, and would be heard as clicks
_SEAM_NS: Final = 20_000  # half a sample of 24 kHz: what rounding leaves between two pieces
_APPEND: Final = "append"


class Sound(NamedTuple):
    """An event with audio.

    Attributes:
        position: the event's.
        item_id: what the assistant says; None of the caller's.
        response_id: what it belongs to.
        at_ns: when it was read; None where unknown.
        audio_ms: how long it is.
    """

    position: int
    item_id: str | None
    response_id: str | None
    at_ns: int | None
    audio_ms: float


class Piece(NamedTuple):
    """Audio of one event, placed.

    Attributes:
        position: the event's.
        is_caller: who speaks.
        start_ns: when it begins, from the opening on.
        play_ms: how much of it sounds, from its beginning.
        follows: whether it goes on where the same speaker's piece before ended.
    """

    position: int
    is_caller: bool
    start_ns: int
    play_ms: float
    follows: bool = False

    @property
    def end_ns(self) -> int:
        """When it ends."""
        return self.start_ns + round(self.play_ms * _NS_PER_MS)


def sound_of(event: RecordedEvent) -> Sound | None:
    """The event as a sound, if it is one of a live call: an append of the caller's, or a delta of the assistant's."""
    if not event.audio_ms or event.type is None:
        return None
    if event.direction == "client" and event.type.endswith(_APPEND):
        return Sound(event.position, None, None, event.monotonic_ns, event.audio_ms)
    if event.direction == "server" and event.type.endswith(".delta"):
        item_id = event.item_id or event.response_id or ""
        return Sound(event.position, item_id, event.response_id, event.monotonic_ns, event.audio_ms)
    return None


def place(events: Iterable[RecordedEvent], *, as_sent: bool = False) -> list[Piece]:
    """Place all audio of a session.

    Args:
        events: in order of position; their parts are not needed.
        as_sent: nothing is cut.

    Returns:
        What sounds, in order of position.
    """
    conversation, sounds = Conversation(), []
    for event in events:
        sound = sound_of(event)
        if sound is not None:
            sounds.append(sound)
        if sound is None or sound.item_id is not None:  # the caller's appends change nothing that is asked here
            conversation.apply(event)
    if any(sound.at_ns is None for sound in sounds):
        return _in_order(sounds, {} if as_sent else _truncated(conversation))
    caller = _caller([sound for sound in sounds if sound.item_id is None])
    assistant = _assistant([sound for sound in sounds if sound.item_id is not None], None if as_sent else conversation)
    return sorted([*_joined(caller), *_joined(assistant)])


def _caller(sounds: Sequence[Sound]) -> list[Piece]:
    if not sounds:
        return []
    lengths = np.array([sound.audio_ms for sound in sounds]) * _NS_PER_MS
    spoken = np.cumsum(lengths)
    slack = np.array([sound.at_ns for sound in sounds]) - spoken  # when the line began, at the latest, by each piece
    starts = spoken + np.minimum.accumulate(slack[::-1])[::-1] - lengths
    pieces, free = [], 0
    for sound, wanted in zip(sounds, starts.round().astype(np.int64).tolist(), strict=True):
        start = wanted if wanted - free > _JITTER_NS else free
        pieces.append(Piece(sound.position, is_caller=True, start_ns=start, play_ms=sound.audio_ms))
        free = pieces[-1].end_ns
    return pieces


def _assistant(sounds: Sequence[Sound], heard: Conversation | None) -> list[Piece]:
    limits = _heard(heard)
    unbroken: dict[str | None, Playback] = {}
    for sound in sounds:
        unbroken.setdefault(sound.response_id, Playback()).add(sound.item_id or "", sound.at_ns or 0, sound.audio_ms)
    begun: dict[str, float] = {}
    pieces = []
    for sound in sounds:
        item_id = sound.item_id or ""
        spans = (heard.spans(item_id) if heard else []) or unbroken[sound.response_id].spans(item_id)
        offset = begun.get(item_id, 0.0)
        begun[item_id] = offset + sound.audio_ms
        play_ms = min(sound.audio_ms, limits.get(item_id, float("inf")) - offset)
        if play_ms > 0:
            pieces.append(Piece(sound.position, is_caller=False, start_ns=_moment(spans, offset), play_ms=play_ms))
    return pieces


def _moment(spans: Sequence[tuple[int, int]], offset_ms: float) -> int:
    """When the listener hears that millisecond of an item. Beyond what was played, as if it had played on."""
    rest = round(offset_ms * _NS_PER_MS)
    for start, end in spans[:-1]:
        if rest < end - start - _SEAM_NS:
            return start + rest
        rest = max(0, rest - (end - start))
    return spans[-1][0] + rest


def _heard(conversation: Conversation | None) -> dict[str, float]:
    """By item, how many milliseconds were heard."""
    state = conversation.state() if conversation else None
    items = [*state.items, *state.out_of_band] if state else []
    return {item.id: item.heard_ms for item in items if item.id and item.heard_ms is not None}


def _truncated(conversation: Conversation) -> dict[str, float]:
    state = conversation.state()
    return {item.id: item.audio_end_ms for item in state.items if item.id and item.audio_end_ms is not None}


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The same, each piece that begins where the one before ends said to follow it."""
    joined: list[Piece] = []
    for piece in pieces:
        follows = bool(joined) and piece.start_ns - joined[-1].end_ns <= _SEAM_NS
        joined.append(piece._replace(follows=follows))
    return joined


def _in_order(sounds: Sequence[Sound], limits: dict[str, float]) -> list[Piece]:
    pieces: list[Piece] = []
    begun: dict[str, float] = {}
    for sound in sounds:
        item_id = sound.item_id
        play_ms = sound.audio_ms
        if item_id is not None:
            offset = begun.get(item_id, 0.0)
            begun[item_id] = offset + play_ms
            play_ms = min(play_ms, limits.get(item_id, float("inf")) - offset)
        if play_ms > 0:
            start = pieces[-1].end_ns if pieces else 0
            follows = bool(pieces) and pieces[-1].is_caller == (item_id is None)
            pieces.append(Piece(sound.position, item_id is None, start, play_ms, follows))
    return pieces
