"""The Parquet schemas of the store's data sets, format version 2.

A segment holds whole sessions. `events` holds every event but the audio appends, which have `appends` of their
own (87 % of all rows; without them the rest is scanned twice as fast), and `parts` the binary values that were cut
out of the messages. SQL sees `events` and `appends` as one view, `events`.
"""

from __future__ import annotations

from collections.abc import Iterable
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
        pa.field("bytes", pa.binary(), nullable=False),
    ]
)

_values = attrgetter(*("recorded_at_ns" if name == "recorded_at" else name for name in EVENTS.names))


def events_table(events: Iterable[RecordedEvent]) -> pa.Table:
    """Rows of the `events` schema, in the order given."""
    rows = list(events)
    if not rows:
        return EVENTS.empty_table()
    columns = zip(*map(_values, rows), strict=True)
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, EVENTS, strict=True)]
    return pa.Table.from_arrays(arrays, schema=EVENTS)


def parts_table(events: Iterable[RecordedEvent]) -> pa.Table:
    """Rows of the `parts` schema for every part of `events`, in order."""
    rows = [(event.session_id, event.position, part) for event in events for part in event.parts]
    arrays = [
        pa.array([row[0] for row in rows], type=pa.string()),
        pa.array([row[1] for row in rows], type=pa.int64()),
        pa.array([row[2].part_no for row in rows], type=pa.int32()),
        pa.array([row[2].json_offset for row in rows], type=pa.int64()),
        pa.array([row[2].kind for row in rows], type=pa.string()),
        pa.array([row[2].encoding for row in rows], type=pa.string()),
        pa.array([row[2].data for row in rows], type=pa.binary()),
    ]
    return pa.Table.from_arrays(arrays, schema=PARTS)
