"""Audio at rest: the audio of many messages in one block, and back out of it, byte for byte.

The audio that one side sent is cut into blocks of some ten seconds. A block of PCM is stored as FLAC, which halves it
and loses nothing; one of G.711, or one that FLAC does not make smaller (noise, a few samples), as it is. All audio of a
message lies in one block, so reading a message decodes one block. A block is known by the position of its first
message.

FLAC holds whole samples. Messages may split a sample between them, so a block ends between two samples where it can;
where its audio ends in half a sample, that byte stands behind the FLAC.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import soundfile as sf

from recorder.errors import StoreError
from recorder.protocol.append_runs import AppendRun
from recorder.protocol.envelope import RecordedEvent
from recorder.store.schema import AUDIO, parts_table

BLOCK_BYTES: Final = 1 << 19
"""Eleven seconds of 24 kHz PCM: three milliseconds to decode."""

LEVEL: Final = 3 / 8
"""Of libsndfile's 0 to 1: the highest that costs little time (`python -m benchmarks storage` compares them)."""

_SAMPLE_BYTES: Final = 2
_G711_BYTES_PER_MS: Final = 8
_NOMINAL_RATE: Final = 24_000  # FLAC wants one; what it says changes no sample
_HIGHEST_RATE: Final = 65_535

Row = Mapping[str, Any]
"""One row of a table, by column."""


def encode(audio: bytes, sample_rate: int | None) -> tuple[str, bytes]:
    """Code a block.

    Args:
        audio: what the messages held.
        sample_rate: samples a second of 16-bit PCM; None for audio of another kind.

    Returns:
        The codec, `flac` or `raw`, and the coded bytes.
    """
    if sample_rate is None:
        return "raw", audio
    samples = np.frombuffer(audio, dtype="<i2", count=len(audio) // _SAMPLE_BYTES)
    file = io.BytesIO()
    sf.write(file, samples, sample_rate, format="FLAC", subtype="PCM_16", compression_level=LEVEL)
    flac = file.getvalue() + audio[samples.nbytes :]
    return ("flac", flac) if len(flac) < len(audio) else ("raw", audio)


def decode(codec: str, data: bytes, size_bytes: int) -> bytes:
    """The audio of a block: the inverse of `encode`.

    Args:
        codec: as `encode` said.
        data: likewise.
        size_bytes: how much audio it is.

    Raises:
        StoreError: it is damaged.
    """
    rest = data[len(data) - size_bytes % _SAMPLE_BYTES :]
    if codec == "raw":
        audio = data
    elif codec == "flac":
        try:
            samples, _ = sf.read(io.BytesIO(data[: len(data) - len(rest)]), dtype="int16")
        except sf.LibsndfileError as error:
            raise StoreError(f"a block of audio is damaged: {error}") from error
        audio = samples.astype("<i2", copy=False).tobytes() + rest
    else:
        raise StoreError(f"audio is stored by an unknown codec, {codec!r}")
    if len(audio) != size_bytes:
        raise StoreError(f"a block of audio is damaged: {len(audio)} bytes where {size_bytes} are due")
    return audio


class _Block:
    """A block that is being filled."""

    def __init__(self, direction: str, position: int, sample_rate: int | None) -> None:
        self.position = self.last_position = position
        self.direction = direction
        self.sample_rate = sample_rate
        self.size_bytes = 0
        self.pieces: list[bytes | memoryview] = []

    def takes(self, sample_rate: int | None) -> bool:
        """Whether further audio goes in here; half a sample at the end is waited for, but not for ever."""
        is_full = self.size_bytes >= BLOCK_BYTES and not (sample_rate and self.size_bytes % _SAMPLE_BYTES)
        return sample_rate == self.sample_rate and not is_full and self.size_bytes < 2 * BLOCK_BYTES


class BlockWriter:
    """Cuts a session's audio into blocks. The same events give the same blocks.

    Args:
        session_id: whose.
        keep: whether the audio is wanted, and not only the places that it gets.
    """

    def __init__(self, session_id: str, *, keep: bool = True) -> None:
        self.session_id = session_id
        self._keep = keep
        self._open: dict[str, _Block] = {}
        self._done: list[tuple[Any, ...]] = []

    def parts(self, events: Iterable[RecordedEvent | AppendRun]) -> pa.Table:
        """Take the audio of further events, in the order of their positions; the rows of `parts` for these events."""
        return parts_table(events, self)

    def blocks(self) -> pa.Table:
        """All blocks, as rows of `audio`; those that are not full are closed."""
        for block in self._open.values():
            self._close(block)
        self._open.clear()
        rows = sorted(self._done)
        *columns, blocks = zip(*rows, strict=True) if rows else [()] * len(AUDIO)
        arrays = [pa.array(values, type=kind) for values, kind in zip(columns, AUDIO.types[:-1], strict=True)]
        return pa.Table.from_arrays([*arrays, _uncopied(blocks)], schema=AUDIO)

    def place(self, event: RecordedEvent) -> tuple[int, int]:
        """Take the audio of one event: the position of its block, and where in the block it begins."""
        pieces = [part.data for part in event.parts if part.kind == "audio"]
        size = sum(map(len, pieces))
        block = self._block(event.direction, event.position, _pcm_rate(size, event.audio_ms))
        offset = block.size_bytes
        self._fill(block, event.position, size, pieces)
        return block.position, offset

    def place_run(self, run: AppendRun) -> tuple[list[int], list[int]]:
        """Take the audio of a run: for each of its events what `place` gives for it."""
        count, size = len(run), len(run.pattern.parts[0].data)
        blocks: list[int] = []
        offsets: list[int] = []
        audio = memoryview(run.audio)
        while len(blocks) < count:
            first = len(blocks)
            block = self._block(run.pattern.direction, run.positions[first], _pcm_rate(size, run.audio_ms))
            offset = block.size_bytes
            # A block ends between two samples: half ones must be looked at one by one.
            whole = not (size % _SAMPLE_BYTES or offset % _SAMPLE_BYTES)
            rows = min(count - first, max(1, -(-(BLOCK_BYTES - offset) // size)) if whole else 1)
            piece = audio[first * size : (first + rows) * size]
            self._fill(block, run.positions[first + rows - 1], rows * size, [piece])
            blocks += [block.position] * rows
            offsets += range(offset, offset + rows * size, size)
        return blocks, offsets

    def _block(self, direction: str, position: int, sample_rate: int | None) -> _Block:
        """The block into which the next audio of a direction goes."""
        block = self._open.get(direction)
        if block is None or not block.takes(sample_rate):
            if block is not None:
                self._close(block)
            block = self._open[direction] = _Block(direction, position, sample_rate)
        return block

    def _fill(self, block: _Block, position: int, size: int, pieces: Sequence[bytes | memoryview]) -> None:
        block.last_position = position
        block.size_bytes += size
        if self._keep:
            block.pieces += pieces

    def _close(self, block: _Block) -> None:
        if not self._keep:
            return
        codec, data = encode(b"".join(block.pieces), block.sample_rate)
        stated = block.sample_rate if codec == "flac" else None
        head = self.session_id, block.position, block.last_position, block.direction
        self._done.append((*head, codec, stated, block.size_bytes, data))


def _uncopied(values: Iterable[bytes]) -> pa.ChunkedArray:
    """An array of large values that holds these very objects."""
    sizes = ((np.array([0, len(value)], np.int32), value) for value in values)
    chunks = [
        pa.BinaryArray.from_buffers(pa.binary(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(value)])
        for offsets, value in sizes
    ]
    return pa.chunked_array(chunks, pa.binary())


def _pcm_rate(size: int, audio_ms: float | None) -> int | None:
    """The samples a second that make audio of this size last so long, were it 16-bit PCM; None for G.711.

    A message says nothing of its format; how long the session's format makes it last, tells. Where that is not known,
    it may be PCM, and FLAC shows whether it is.
    """
    bytes_per_ms = size / audio_ms if audio_ms else 0.0
    if 0 < bytes_per_ms <= _G711_BYTES_PER_MS:
        return None
    rate = round(bytes_per_ms * 1000 / _SAMPLE_BYTES)
    return rate if 0 < rate <= _HIGHEST_RATE else _NOMINAL_RATE


class BlockReader:
    """Gives parts their bytes back, one after the other, holding no more blocks than are being read.

    Args:
        blocks: rows of `audio` of one session, by position; read only as far as they are needed.
    """

    def __init__(self, blocks: Iterable[Row]) -> None:
        self._rest: Iterator[Row] = iter(blocks)
        self._next: Row | None = next(self._rest, None)
        self._held: dict[int, Row] = {}
        self._decoded: dict[int, bytes] = {}

    def read(self, part: Row) -> bytes | None:
        """The bytes of a row of `parts`; rows come by position. None: its block is not there any more.

        Raises:
            StoreError: the block is damaged.
        """
        if part["bytes"] is not None:
            return bytes(part["bytes"])
        position = part["block_position"]
        if position not in self._decoded:
            self._advance(position, part["position"])
            if position not in self._held:
                return None
            block = self._held[position]
            self._decoded[position] = decode(block["codec"], block["bytes"], block["size_bytes"])
        start = part["block_offset"]
        found = self._decoded[position][start : start + part["size_bytes"]]
        if len(found) != part["size_bytes"]:
            raise StoreError(f"a block of audio is damaged: it ends before the audio of position {part['position']}")
        return found

    def _advance(self, block_position: int, part_position: int) -> None:
        while self._next is not None and self._next["position"] <= block_position:
            self._held[self._next["position"]] = self._next
            self._next = next(self._rest, None)
        for done in [key for key, block in self._held.items() if block["last_position"] < part_position]:
            del self._held[done]
            self._decoded.pop(done, None)
