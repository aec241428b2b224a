"""Audio appends by the hundred: the quick way through frames, JSON and base64 for what nearly all messages are.

Most events of a session are appends that one client wrote with one line of code: they differ in the audio, the mask
and perhaps the event id. Once one such message has been decoded the ordinary way, its *shape* is known, and a batch of
chunks is compared with it, unmasked and decoded as one matrix. What does not fit in every byte goes the ordinary way;
what fits comes out exactly as it would have there (a property test holds the two side by side).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Final, NamedTuple, Self, TypeAlias

import msgspec
import numpy as np
import pybase64
from numpy.typing import NDArray

from recorder.protocol.envelope import Part, Record, RecordedEvent, RecordKind
from recorder.protocol.redact import may_hold_secrets

APPEND_TYPES: Final = frozenset({"input_audio_buffer.append", "session.input_audio_buffer.append"})

MIN_ROWS: Final = 8
"""Fewer chunks of one size are not worth a matrix."""

_MAX_SHAPES: Final = 8
_MASK_BYTES: Final = 4
_TEXT_FRAME: Final = 0x81
_CLIENT_BYTES: Final = int(RecordKind.CLIENT_BYTES)  # comparing with an enum's member takes longer
_MASKED: Final = 0x80
_PLAIN: Final = np.isin(np.arange(256), list(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."))
"""Bytes of an event id that need no thought: no quotes, escapes, or bytes beyond ASCII."""

_EVENT_ID: Final = re.compile(r'"event_id"\s*:\s*"([^"]*)"')

Octets: TypeAlias = NDArray[np.uint8]


class AppendRun(msgspec.Struct, gc=False):
    """Consecutive events of a client that differ in time, event id and audio alone; the server's may lie in between.

    Attributes:
        pattern: an event that has in common with them all but position, times, event id and audio.
        positions: of each, rising.
        recorded_at_ns: of each; None where unknown.
        monotonic_ns: of each.
        event_ids: of all, one after the other, all of one length; empty where they have none.
        id_offset: where in the payload the event id stands.
        audio: of all, one after the other, each as long as the pattern's.
        audio_ms: how long each one's audio lasts; None where unknown.
    """

    pattern: RecordedEvent
    positions: list[int]
    recorded_at_ns: list[int] | None
    monotonic_ns: list[int]
    event_ids: bytes
    id_offset: int
    audio: bytes
    audio_ms: float | None

    def __len__(self) -> int:
        return len(self.monotonic_ns)

    def payloads(self) -> Octets:
        """The payloads as a matrix of bytes: one row each, all of one length."""
        rows = np.tile(np.frombuffer((self.pattern.payload or "").encode(), np.uint8), (len(self), 1))
        if self.event_ids:
            ids = np.frombuffer(self.event_ids, np.uint8).reshape(len(self), -1)
            rows[:, self.id_offset : self.id_offset + ids.shape[1]] = ids
        return rows

    def events(self) -> Iterator[RecordedEvent]:
        """The events, one by one."""
        pattern, part, audio = self.pattern, self.pattern.parts[0], self.audio
        payload, ids = pattern.payload or "", self.event_ids.decode()
        size, width = len(part.data), len(ids) // len(self)
        before, after = payload[: self.id_offset], payload[self.id_offset + width :]
        for row, monotonic_ns in enumerate(self.monotonic_ns):
            event_id = ids[row * width : (row + 1) * width]
            piece = Part(0, part.json_offset, part.kind, part.encoding, audio[row * size : (row + 1) * size])
            yield msgspec.structs.replace(
                pattern,
                position=self.positions[row],
                recorded_at_ns=None if self.recorded_at_ns is None else self.recorded_at_ns[row],
                monotonic_ns=monotonic_ns,
                event_id=event_id or None,
                payload=before + event_id + after,
                audio_ms=self.audio_ms,
                parts=(piece,),
            )

    def goes_on_in(self, other: AppendRun) -> bool:
        """Whether the events of both could be those of one run."""
        return (
            self.pattern is other.pattern
            and self.audio_ms == other.audio_ms
            and (self.recorded_at_ns is None) == (other.recorded_at_ns is None)
        )


def joined(decoded: Iterable[RecordedEvent | AppendRun]) -> list[RecordedEvent | AppendRun]:
    """Events with runs that follow on each other, but for what others than the client say in between, as one."""
    items: list[RecordedEvent | AppendRun] = []
    runs: list[AppendRun] = []
    for item in decoded:
        if runs and not (runs[-1].goes_on_in(item) if isinstance(item, AppendRun) else item.direction != "client"):
            items.append(_one_run(runs))
            runs = []
        if isinstance(item, AppendRun):
            runs.append(item)
        else:
            items.append(item)
    return [*items, _one_run(runs)] if runs else items


def _one_run(runs: Sequence[AppendRun]) -> AppendRun:
    if len(runs) == 1:
        return runs[0]
    first = runs[0]
    return msgspec.structs.replace(
        first,
        positions=[*chain.from_iterable(run.positions for run in runs)],
        recorded_at_ns=first.recorded_at_ns and [*chain.from_iterable(run.recorded_at_ns or () for run in runs)],
        monotonic_ns=[*chain.from_iterable(run.monotonic_ns for run in runs)],
        event_ids=b"".join(run.event_ids for run in runs),
        audio=b"".join(run.audio for run in runs),
    )


class Shape(msgspec.Struct, frozen=True):
    """What the chunks of like appends have in common.

    Attributes:
        event: the append it was learnt from.
        header: the frame's header up to the mask.
        text: that append's whole text.
        event_id: where in the text its id's characters stand; an empty span without one.
        audio: where the base64's characters stand, padding aside.
        padding: how many `=` follow.
    """

    event: RecordedEvent
    header: bytes
    text: bytes
    event_id: slice
    audio: slice
    padding: int

    @classmethod
    def of(cls, chunk: bytes, event: RecordedEvent) -> Self | None:
        """The shape of a chunk that is one frame and was decoded to this one event; None if it is not so plain."""
        if not _is_plain(event):
            return None
        part, text = event.parts[0], event.message()
        header = chunk[: len(chunk) - len(text) - _MASK_BYTES]
        padding, encoded = -len(part.data) % 3, len(text) - len(event.payload or "")
        audio = slice(part.json_offset, part.json_offset + encoded - padding)
        event_id = _id_span(event, encoded)
        if event_id is None or header != _masked_text_header(len(text)):
            return None
        return cls(event, header, text, event_id, audio, padding)

    def match(self, chunks: Sequence[bytes]) -> Matches | None:
        """Those of these chunks that have this shape; None if there are none, or if any has no exact base64."""
        wire = np.frombuffer(b"".join(chunks), np.uint8).reshape(len(chunks), -1)
        texts = _unmask(wire[:, len(self.header) :])
        wanted = np.frombuffer(self.text, np.uint8)
        fits = (wire[:, : len(self.header)] == np.frombuffer(self.header, np.uint8)).all(axis=1)
        for fixed in self._fixed():
            fits &= (texts[:, fixed] == wanted[fixed]).all(axis=1)
        ids = texts[:, self.event_id]
        fits &= _PLAIN[ids].all(axis=1)
        if ids.shape[1] > len(b"ek_"):
            fits &= (ids[:, :3] != np.frombuffer(b"ek_", np.uint8)).any(axis=1)  # ephemeral keys are secrets
        audio = self._audio(texts[:, self.audio] if fits.all() else texts[fits, self.audio])
        return None if audio is None else Matches(self, np.flatnonzero(fits), ids[fits].tobytes(), audio)

    def _fixed(self) -> tuple[slice, slice, slice]:
        first, second = sorted((self.event_id, self.audio), key=lambda span: (span.start, span.stop))
        return slice(0, first.start), slice(first.stop, second.start), slice(second.stop, None)

    def _audio(self, encoded: Octets) -> bytes | None:
        """The decoded audio of all rows, if it gives these very texts when encoded again."""
        if not len(encoded):
            return None
        whole = encoded
        if self.padding:
            whole = np.full((len(encoded), encoded.shape[1] + self.padding), ord("A"), np.uint8)
            whole[:, : encoded.shape[1]] = encoded
        try:
            decoded = pybase64.b64decode(np.ascontiguousarray(whole).ravel().data, validate=True)
        except (binascii.Error, ValueError):
            return None
        if len(decoded) * 4 != whole.size * 3:  # the last one has padding that the shape has not
            return None
        if not self.padding:
            return decoded
        rows = np.frombuffer(decoded, np.uint8).reshape(len(encoded), -1)
        return None if rows[:, -self.padding :].any() else rows[:, : -self.padding].tobytes()


class Matches(msgspec.Struct, frozen=True):
    """The chunks of a batch that have a shape.

    Attributes:
        shape: which.
        chunks: their indexes among those that were given.
        event_ids: theirs, one after the other.
        audio: likewise.
    """

    shape: Shape
    chunks: NDArray[np.intp]
    event_ids: bytes
    audio: bytes

    def stretches(self, indexes: Sequence[int]) -> Iterator[Stretch]:
        """Where its rows stand among records, if `indexes` says where the chunks stand."""
        at = np.asarray(indexes)[self.chunks]
        row = 0
        for end in (*(np.flatnonzero(np.diff(at) != 1) + 1).tolist(), len(at)):
            yield Stretch(int(at[row]), int(at[row]) + end - row, self, row)
            row = end

    def run(
        self, rows: range, positions: list[int], times: tuple[list[int] | None, list[int]], bytes_per_ms: float | None
    ) -> AppendRun:
        """Some consecutive rows as a run of events.

        Args:
            rows: which.
            positions: of each.
            times: of each, as `AppendRun.recorded_at_ns` and `.monotonic_ns`.
            bytes_per_ms: of the audio in force; None where it is not known.
        """
        shape, size = self.shape, len(self.audio) // len(self.chunks)
        width = shape.event_id.stop - shape.event_id.start
        behind = shape.event_id.start >= shape.audio.stop
        cut = shape.audio.stop + shape.padding - shape.audio.start
        return AppendRun(
            shape.event,
            positions,
            *times,
            self.event_ids[rows.start * width : rows.stop * width],
            shape.event_id.start - (cut if behind else 0),
            self.audio[rows.start * size : rows.stop * size],
            size / bytes_per_ms if bytes_per_ms else None,
        )


class Stretch(NamedTuple):
    """Records that follow on each other, from `start` to before `stop`, and are rows of one match, from `row` on."""

    start: int
    stop: int
    matches: Matches
    row: int


class AppendReader:
    """Knows the shapes of one client's appends, and finds them in batches of records."""

    def __init__(self) -> None:
        self._shapes: dict[int, Shape] = {}  # by length of the chunk
        self._learnt: set[int] = set()  # lengths that are not worth another look in this batch

    @property
    def knows_any(self) -> bool:
        """Whether any shape is known."""
        return bool(self._shapes)

    def learn(self, chunk: bytes, event: RecordedEvent) -> None:
        """A chunk of the client was decoded the ordinary way, to this one event."""
        if len(chunk) in self._learnt:
            return
        self._learnt.add(len(chunk))
        shape = Shape.of(chunk, event)
        if shape is not None:
            self._shapes.pop(len(chunk), None)
            while len(self._shapes) >= _MAX_SHAPES:
                del self._shapes[next(iter(self._shapes))]
            self._shapes[len(chunk)] = shape

    def read(self, records: Sequence[Record]) -> list[Stretch]:
        """The stretches of records whose chunks have a known shape, in order."""
        self._learnt.clear()
        sizes: dict[int, list[int]] = {size: [] for size in self._shapes}
        for index, record in enumerate(records):
            if record.kind == _CLIENT_BYTES and (found := sizes.get(len(record.data))) is not None:
                found.append(index)
        stretches: list[Stretch] = []
        for size, indexes in sizes.items():
            if len(indexes) < MIN_ROWS:
                continue
            matches = self._shapes[size].match([records[index].data for index in indexes])
            if matches is not None:
                stretches += matches.stretches(indexes)
        return sorted(stretches, key=attrgetter("start"))


def _is_plain(event: RecordedEvent) -> bool:
    """Whether the places of an append's audio and event id are beyond doubt, and all else of it can be looked up."""
    payload = event.payload or ""
    return (
        event.type in APPEND_TYPES
        and len(event.parts) == 1
        and event.parts[0].encoding == "base64"
        and not event.redacted
        and payload.isascii()
        and "\\" not in payload
        and payload.count('"audio"') == 1
        and '"sample_rate"' not in payload  # it decides how long the audio lasts
        and not may_hold_secrets(payload)
    )


def _id_span(event: RecordedEvent, encoded: int) -> slice | None:
    """Where the characters of the event id stand in a message's text; None where that is not plain to see.

    Args:
        event: the message, decoded.
        encoded: length of its base64.
    """
    payload, event_id = event.payload or "", event.event_id
    if event_id is None:
        return slice(0, 0) if '"event_id"' not in payload else None
    found = _EVENT_ID.search(payload)
    if (
        found is None
        or found[1] != event_id
        or payload.count('"event_id"') != 1
        or not _PLAIN[list(event_id.encode())].all()
    ):
        return None
    moved = encoded if found.start(1) > event.parts[0].json_offset else 0
    return slice(found.start(1) + moved, found.end(1) + moved)


def _masked_text_header(length: int) -> bytes:
    """A client's frame header for one whole text, its mask aside, in the shortest form."""
    if length <= 125:
        return bytes((_TEXT_FRAME, _MASKED | length))
    if length <= 0xFFFF:
        return bytes((_TEXT_FRAME, _MASKED | 126)) + length.to_bytes(2)
    return bytes((_TEXT_FRAME, _MASKED | 127)) + length.to_bytes(8)


def _unmask(frames: Octets) -> Octets:
    """Payloads of frames whose rows start with the mask."""
    count, length = frames.shape[0], frames.shape[1] - _MASK_BYTES
    words = np.empty((count, -(-length // _MASK_BYTES)), np.uint32)  # what is beyond the length is cut off again
    texts = words.view(np.uint8)
    texts[:, :length] = frames[:, _MASK_BYTES:]
    words ^= np.ascontiguousarray(frames[:, :_MASK_BYTES]).view(np.uint32)
    return texts[:, :length]
