"""Changes to stored rows: audio taken out or silenced, payloads replaced. What changed is flagged `redacted`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from recorder.protocol.policy import ContentPolicy, LeftOut
from recorder.store import segments
from recorder.store.audio_blocks import Row, decode, encode
from recorder.store.schema import AUDIO, PARTS
from recorder.store.segments import SegmentFile

_NO_AUDIO: Final = ContentPolicy("both")
_G711_BYTES_PER_MS: Final = 8

Span = tuple[float, float]
"""From and to, in milliseconds of a message's audio."""


def audio_positions(data_dir: Path, files: Iterable[SegmentFile], session_id: str) -> pa.Array:
    """The positions of a session's messages whose audio was cut out of them.

    Raises:
        StoreError: a file is missing or damaged.
    """
    parts = segments.read_parts(data_dir, list(files), session_id=session_id)
    return pc.unique(parts.filter(pc.equal(parts["kind"], "audio"))["position"]).cast(pa.int64())


def events_without_audio(rows: pa.Table, positions: pa.Array) -> pa.Table:
    """Rows of events whose audio is gone from the store; what audio a payload still holds is emptied.

    Args:
        rows: of `events` or `appends`.
        positions: of the session's messages whose audio was cut out.
    """
    cut = pc.is_in(rows["position"], value_set=positions)
    kept = pc.and_(pc.is_valid(rows["audio_ms"]), pc.invert(cut))
    if pc.any(kept).as_py():
        held = rows.filter(kept)["position"].to_pylist()
        rows = with_payloads(rows, without_inline_audio(rows, held))
    return _flagged(rows, cut)


def parts_without_audio(rows: pa.Table) -> pa.Table:
    """Rows of parts whose audio is gone: they say what there was, and point at a block that is not there."""
    is_audio = pc.equal(rows["kind"], "audio")
    nothing = pa.scalar(None, pa.binary())
    here = pc.if_else(is_audio, pc.coalesce(rows["block_position"], rows["position"]), rows["block_position"])
    offset = pc.if_else(is_audio, pc.coalesce(rows["block_offset"], pa.scalar(0, pa.int64())), rows["block_offset"])
    rows = _with(rows, "bytes", pc.if_else(is_audio, nothing, rows["bytes"]))
    return _with(_with(rows, "block_position", here), "block_offset", offset)


def without_inline_audio(rows: pa.Table, positions: Collection[int]) -> dict[int, str]:
    """Payloads without the audio that could not be cut out of them, by position."""
    asked = rows.filter(pc.is_in(rows["position"], value_set=pa.array(list(positions), pa.int64())))
    found = {}
    for row in asked.select(["position", "direction", "payload"]).to_pylist():
        text = (row["payload"] or "").encode()
        kept = _NO_AUDIO.apply(text, row["direction"], LeftOut()) if text else text
        found[row["position"]] = (kept or b"").decode()
    return found


def with_payloads(rows: pa.Table, payloads: Mapping[int, str]) -> pa.Table:
    """Rows of events with other payloads at some positions."""
    column = [
        payloads.get(position, payload)
        for position, payload in zip(rows["position"].to_pylist(), rows["payload"].to_pylist(), strict=True)
    ]
    changed = pc.is_in(rows["position"], value_set=pa.array(list(payloads), pa.int64()))
    return _flagged(_with(rows, "payload", pa.array(column, pa.string())), changed)


def flagged(rows: pa.Table, positions: Collection[int]) -> pa.Table:
    """Rows of events, some of them flagged as redacted."""
    return _flagged(rows, pc.is_in(rows["position"], value_set=pa.array(list(positions), pa.int64())))


def with_offsets(rows: pa.Table, offsets: Mapping[tuple[int, int], int]) -> pa.Table:
    """Rows of parts that go back into their payloads at other places: by position and number of the part."""
    keys = zip(rows["position"].to_pylist(), rows["part_no"].to_pylist(), strict=True)
    column = [offsets.get(key, old) for key, old in zip(keys, rows["json_offset"].to_pylist(), strict=True)]
    return _with(rows, "json_offset", pa.array(column, pa.int64()))


def with_bytes(rows: pa.Table, values: Mapping[tuple[int, int], bytes]) -> pa.Table:
    """Rows of parts with other bytes: by position and number of the part."""
    if not values:
        return rows
    listed = rows.to_pylist()
    for row in listed:
        data = values.get((row["position"], row["part_no"]))
        if data is not None:
            row["bytes"], row["size_bytes"] = data, len(data)
    return pa.Table.from_pylist(listed, schema=PARTS)


class Muting:
    """Silences spans of messages' audio; it lasts as long as before.

    Args:
        parts: of a session.
        spans: by position, what of the message's audio is silenced.
        lengths: by position, how long its audio is, in milliseconds.
        g711_silence: the byte that is silence in G.711 as the session has it.
    """

    def __init__(
        self, parts: pa.Table, spans: Mapping[int, Sequence[Span]], lengths: Mapping[int, float], g711_silence: int
    ) -> None:
        self.positions: set[int] = set()
        """Of the messages whose audio was found."""
        self._g711_silence = g711_silence
        self._lengths = lengths
        self._parts: dict[int, list[Row]] = {}
        for row in parts.filter(pc.equal(parts["kind"], "audio")).to_pylist():
            if row["position"] in spans:
                self._parts.setdefault(row["position"], []).append(row)
        self._spans = spans

    def blocks(self, blocks: Iterable[Row]) -> pa.Table:
        """The session's rows of `audio`, those blocks coded anew of which something is silenced."""
        asked: dict[int, list[int]] = {}
        for position, parts in self._parts.items():
            if parts[0]["block_position"] is not None:
                asked.setdefault(parts[0]["block_position"], []).append(position)
        rows = [self._block(dict(block), asked.get(block["position"], ())) for block in blocks]
        return pa.Table.from_pylist(rows, schema=AUDIO)

    def _block(self, block: dict[str, Any], positions: Sequence[int]) -> dict[str, Any]:
        if positions:
            audio = bytearray(decode(block["codec"], block["bytes"], block["size_bytes"]))
            for position in positions:
                parts = self._parts[position]
                size = sum(part["size_bytes"] for part in parts)
                self._silence(audio, parts[0]["block_offset"], size, position)
            block["codec"], block["bytes"] = encode(bytes(audio), block["sample_rate"])
            block["sample_rate"] = block["sample_rate"] if block["codec"] == "flac" else None
        return block

    def values(self) -> dict[tuple[int, int], bytes]:
        """The new bytes of parts that hold their audio themselves, as format version 1 had it."""
        found = {}
        for position, parts in self._parts.items():
            if parts[0]["bytes"] is not None:
                audio = bytearray(b"".join(part["bytes"] for part in parts))
                self._silence(audio, 0, len(audio), position)
                for part in parts:
                    found[position, part["part_no"]] = bytes(audio[: part["size_bytes"]])
                    del audio[: part["size_bytes"]]
        return found

    def _silence(self, audio: bytearray, offset: int, size: int, position: int) -> None:
        self.positions.add(position)
        length = self._lengths.get(position) or 0.0
        bytes_per_ms = size / length if length else 0.0
        is_g711 = 0 < bytes_per_ms <= _G711_BYTES_PER_MS
        width = 1 if is_g711 else 2
        silence = self._g711_silence if is_g711 else 0
        for start_ms, end_ms in self._spans[position]:
            start = min(int(start_ms * bytes_per_ms) // width * width, size)
            end = size if not length or end_ms >= length else -(-int(end_ms * bytes_per_ms) // width) * width
            end = min(end, size)
            audio[offset + start : offset + end] = bytes([silence]) * max(0, end - start)


def _flagged(rows: pa.Table, which: pa.ChunkedArray) -> pa.Table:
    return _with(rows, "redacted", pc.or_(rows["redacted"], which))


def _with(rows: pa.Table, name: str, column: Any) -> pa.Table:
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, rows.schema.field(place), column)


def audio_table(blocks: Iterable[Row]) -> pa.Table:
    """Blocks as rows of `audio`."""
    return pa.Table.from_pylist([dict(block) for block in blocks], schema=AUDIO)
