"""A session's audio as a sound file: caller left, assistant right, placed in time. Memory holds seconds of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

import msgspec
import numpy as np
import pybase64

from recorder.errors import NoAudioError
from recorder.formats.audio_export import LEFT, RIGHT, Codec, SoundFormat, StereoFile
from recorder.pipeline.audio_timeline import Piece, place
from recorder.pipeline.catalog import Catalog
from recorder.protocol.audio import DEFAULT_PCM_RATE, audio_key, session_format
from recorder.protocol.envelope import RecordedEvent
from recorder.protocol.fields import read_object

Progress = Callable[[int, int], None]
"""Called with how many pieces of audio are placed, and of how many."""

_G711_BYTES_PER_MS: Final = 8
_G711_RATE: Final = 8_000
_A_LAW: Final = ("pcma", "alaw")
_STATES_FORMATS: Final = frozenset({"session.created", "session.updated", "response.created"})
_MARGIN_SECONDS: Final = 0.1  # pieces that follow others drift from their own time by samples
_BYTES_PER_MS: Final = """
    SELECT DISTINCT round(size_bytes / audio_ms, 3) AS bytes_per_ms
    FROM (SELECT position, sum(size_bytes) AS size_bytes FROM parts WHERE session_id = ? AND kind = 'audio' GROUP BY 1)
    JOIN (SELECT position, audio_ms FROM events WHERE session_id = ? AND audio_ms > 0) USING (position)
"""


class AudioExport(msgspec.Struct, frozen=True):
    """What was written.

    Attributes:
        seconds: how long the file is.
        sample_rate: of the file.
        missing_seconds: audio that stands as silence, since it was not kept or was removed.
        timed: whether audio stands where it sounded; else the recording has no times, and it stands in order.
    """

    seconds: float
    sample_rate: int
    missing_seconds: float
    timed: bool


def export_audio(
    catalog: Catalog,
    session_id: str,
    file: BinaryIO,
    form: SoundFormat,
    *,
    as_sent: bool = False,
    progress: Progress | None = None,
) -> AudioExport:
    """Write a session's audio.

    Args:
        catalog: the store.
        session_id: the whole id.
        file: where to; it must be able to seek.
        form: WAV or FLAC, 16 bit.
        as_sent: all that the assistant sent, not only what was heard.
        progress: told as it goes.

    Raises:
        SessionNotFoundError: there is no such session.
        NoAudioError: there is nothing to hear.
        UsageError: WAV cannot hold so much.
        StoreError: stored audio is damaged.
    """
    watch = _Watch()
    pieces = place(map(watch.note, catalog.stream(session_id, parts=False)), as_sent=as_sent)
    if not pieces:
        raise NoAudioError(session_id, removed=False)
    seconds = max(watch.last_ns, *(piece.end_ns for piece in pieces)) / 1e9
    with StereoFile(file, form, _sample_rate(catalog, session_id), seconds=seconds) as sound:
        missing = _write(sound, pieces, catalog.stream(session_id), progress or (lambda _done, _of: None))
        sound.finish(seconds)
    if missing == sum(piece.play_ms for piece in pieces):
        raise NoAudioError(session_id, removed=True)
    return AudioExport(seconds, sound.rate, missing / 1000, watch.timed)


class _Watch:
    """Notes when the session's last event was, if any has a time."""

    def __init__(self) -> None:
        self.last_ns = 0
        self.timed = False

    def note(self, event: RecordedEvent) -> RecordedEvent:
        if event.monotonic_ns is not None:
            self.last_ns, self.timed = max(self.last_ns, event.monotonic_ns), True
        return event


def _sample_rate(catalog: Catalog, session_id: str) -> int:
    """The highest that the session's audio has."""
    found = catalog.query(_BYTES_PER_MS, [session_id, session_id])["bytes_per_ms"].to_list()
    return max((_coding(each, is_a_law=False)[1] for each in found), default=DEFAULT_PCM_RATE)


def _coding(bytes_per_ms: float, *, is_a_law: bool) -> tuple[Codec, int]:
    """Codec and rate of audio, from how long it lasts: G.711 has a byte a sample, 8,000 a second."""
    if round(bytes_per_ms) == _G711_BYTES_PER_MS:
        return ("pcma" if is_a_law else "pcmu"), _G711_RATE
    return "pcm16", min(max(round(bytes_per_ms * 500), 1_000), 192_000)


def _write(sound: StereoFile, pieces: Sequence[Piece], events: Iterator[RecordedEvent], progress: Progress) -> float:
    """Place all pieces; returns how many milliseconds of them have no audio in the store."""
    quiet_until = np.minimum.accumulate([piece.start_ns for piece in reversed(pieces)])[::-1] / 1e9 - _MARGIN_SECONDS
    unbroken = {LEFT: False, RIGHT: False}
    missing = 0.0
    for number, (piece, heard) in enumerate(_listen(pieces, events)):
        side = LEFT if piece.is_caller else RIGHT
        if heard.data:
            at = None if piece.follows and unbroken[side] else max(0, piece.start_ns) / 1e9
            sound.put(side, heard.data, heard.codec, heard.rate, at_seconds=at)
        else:
            missing += piece.play_ms
        unbroken[side] = bool(heard.data)
        progress(number + 1, len(pieces))
        if number + 1 < len(pieces):
            sound.flush(quiet_until[number + 1])
    return missing


class _Heard(NamedTuple):
    data: bytes
    codec: Codec
    rate: int


def _listen(pieces: Sequence[Piece], events: Iterable[RecordedEvent]) -> Iterator[tuple[Piece, _Heard]]:
    """The audio of each piece: as much of it as sounds; empty where it was not kept."""
    laws = _Laws()
    rest = iter(pieces)
    piece = next(rest, None)
    for event in events:
        laws.note(event)
        if piece is not None and event.position == piece.position:
            yield piece, _audio(event, piece, is_a_law=laws.is_a_law(event))
            piece = next(rest, None)


def _audio(event: RecordedEvent, piece: Piece, *, is_a_law: bool) -> _Heard:
    data = b"".join(part.data for part in event.parts if part.kind == "audio") or _left_in_place(event)
    bytes_per_ms = len(data) / event.audio_ms if event.audio_ms else 0.0
    codec, rate = _coding(bytes_per_ms, is_a_law=is_a_law)
    if piece.play_ms < (event.audio_ms or 0.0):
        data = data[: round(piece.play_ms * rate / 1000) * (2 if codec == "pcm16" else 1)]
    return _Heard(data, codec, rate)


def _left_in_place(event: RecordedEvent) -> bytes:
    """Audio that could not be cut out of the message without changing it."""
    text = read_object((event.payload or "").encode("utf-8", "replace")).get(audio_key(event.type))
    try:
        return pybase64.b64decode(text + "=" * (-len(text) % 4)) if isinstance(text, str) else b""
    except ValueError:
        return b""


class _Laws:
    """By which law G.711 audio is coded: its bytes do not tell, the session does."""

    def __init__(self) -> None:
        self._is_a_law = {"input": False, "output": False}

    def note(self, event: RecordedEvent) -> None:
        if event.direction == "server" and event.type in _STATES_FORMATS:
            message = read_object((event.payload or "").encode("utf-8", "replace"))
            for side in self._is_a_law:
                stated = session_format(message.get("session") or message.get("response"), side)
                if stated is not None:
                    self._is_a_law[side] = any(name in str(stated).lower() for name in _A_LAW)

    def is_a_law(self, event: RecordedEvent) -> bool:
        return self._is_a_law["input" if event.direction == "client" else "output"]
