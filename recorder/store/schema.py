"""The Parquet schemas of the store's data sets, format version 2.

`events` holds every event but the audio appends, which have `appends` of their own (87 % of all rows; without them the
rest is scanned twice as fast); SQL sees both as one view, `events`. `parts` says what was cut out of which message and
where it goes back in. The value itself is there too, unless it is audio: that lies in `audio`, in blocks (see
`audio_blocks`), so that it can be kept for a shorter time than the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter

import pyarrow as pa

from recorder.protocol.envelope import RecordedEvent

FORMAT_VERSION = 2

APPEND_TYPES = frozenset({"input_audio_buffer.append"})
"""Types whose rows go to the data set `appends`."""

EVENTS = pa.schema(
    [
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),
        pa.field("recorded_at", pa.timestamp("ns", tz="UTC")),
        pa.field("monotonic_ns", pa.int64()),
        pa.field("type", pa.string()),
        pa.field("event_id", pa.string()),
        pa.field("response_id", pa.string()),
        pa.field("item_id", pa.string()),
        pa.field("call_id", pa.string()),
        pa.field("previous_item_id", pa.string()),
        pa.field("output_index", pa.int32()),
        pa.field("content_index", pa.int32()),
        pa.field("payload", pa.string()),
        pa.field("audio_ms", pa.float64()),
        pa.field("opcode", pa.int8()),
        pa.field("wire_bytes", pa.int64(), nullable=False),
        pa.field("redacted", pa.bool_(), nullable=False),
        pa.field("problem", pa.string()),
    ]
)

PARTS = pa.schema(
    [
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("part_no", pa.int32(), nullable=False),
        pa.field("json_offset", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("encoding", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("block_position", pa.int64()),
        pa.field("block_offset", pa.int64()),
        pa.field("bytes", pa.binary()),
    ]
)
"""A part has either `bytes`, or the place of its `size_bytes` bytes in the block of that session and position."""

AUDIO = pa.schema(
    [
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("last_position", pa.int64(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),
        pa.field("codec", pa.string(), nullable=False),
        pa.field("sample_rate", pa.int32()),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("bytes", pa.binary(), nullable=False),
    ]
)
"""A block: `size_bytes` bytes of audio of the messages from `position` to `last_position`, coded as `codec` says."""

Place = Callable[[RecordedEvent], tuple[int, int]]
"""Finds room in a block for an event's audio: the block's position, and where in the block the audio begins."""

_values = attrgetter(*("recorded_at_ns" if name == "recorded_at" else name for name in EVENTS.names))


def events_table(events: Iterable[RecordedEvent]) -> pa.Table:
    """Rows of the `events` schema, in the order given."""
    rows = list(events)
    if not rows:
        return EVENTS.empty_table()
    columns = zip(*map(_values, rows), strict=True)
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, EVENTS, strict=True)]
    return pa.Table.from_arrays(arrays, schema=EVENTS)


def parts_table(events: Iterable[RecordedEvent], place: Place) -> pa.Table:
    """Rows of the `parts` schema for every part of `events`, in order.

    Args:
        events: by position.
        place: asked once for each event that has audio.
    """
    rows = [row for event in events if event.parts for row in _part_rows(event, place)]
    columns = zip(*rows, strict=True) if rows else [()] * len(PARTS)
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, PARTS, strict=True)]
    return pa.Table.from_arrays(arrays, schema=PARTS)


def _part_rows(event: RecordedEvent, place: Place) -> Iterator[tuple[object, ...]]:
    block: int | None = None
    offset = 0
    for part in event.parts:
        size = len(part.data)
        head = event.session_id, event.position, part.part_no, part.json_offset, part.kind, part.encoding, size
        if part.kind != "audio":
            yield *head, None, None, part.data
            continue
        if block is None:
            block, offset = place(event)
        yield *head, block, offset, None
        offset += size
