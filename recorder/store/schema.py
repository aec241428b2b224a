"""The Parquet schemas of the store's data sets, format version 2.

`events` holds every event but the audio appends, which have `appends` of their own (87 % of all rows; without them the
rest is scanned twice as fast); SQL sees both as one view, `events`. `parts` says what was cut out of which message and
where it goes back in. The value itself is there too, unless it is audio: that lies in `audio`, in blocks (see
`audio_blocks`), so that it can be kept for a shorter time than the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa

from recorder.protocol.append_runs import AppendRun
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

_values = attrgetter(*("recorded_at_ns" if name == "recorded_at" else name for name in EVENTS.names))


class Places(Protocol):
    """Finds room in blocks for audio."""

    def place(self, event: RecordedEvent) -> tuple[int, int]:
        """Where an event's audio goes: the position of the block, and where in the block it begins."""

    def place_run(self, run: AppendRun) -> tuple[list[int], list[int]]:
        """The same for each event of a run."""


def events_table(events: Iterable[RecordedEvent | AppendRun]) -> pa.Table:
    """Rows of the `events` schema, in the order given."""
    return _table(EVENTS, _pieces(events, _events_columns, _run_columns))


def parts_table(events: Iterable[RecordedEvent | AppendRun], places: Places) -> pa.Table:
    """Rows of the `parts` schema for every part of `events`, in order.

    Args:
        events: by position.
        places: asked once for each event that has audio.
    """
    of_events, of_run = partial(_parts_columns, places=places), partial(_run_parts_columns, places=places)
    return _table(PARTS, _pieces(events, of_events, of_run))


def _table(schema: pa.Schema, pieces: Iterable[Iterable[Any]]) -> pa.Table:
    """Pieces of columns, one below the other."""
    batches = []
    for columns in pieces:
        arrays = [_array(values, field.type) for values, field in zip(columns, schema, strict=True)]
        batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return pa.Table.from_batches(batches, schema)


def _pieces(
    events: Iterable[RecordedEvent | AppendRun],
    of_events: Callable[[list[RecordedEvent]], Iterable[Any]],
    of_run: Callable[[AppendRun], Iterable[Any]],
) -> Iterator[Iterable[Any]]:
    """The columns of each run, and of the events between two runs."""
    for in_run, group in groupby(events, lambda item: isinstance(item, AppendRun)):
        if in_run:
            yield from map(of_run, cast("Iterator[AppendRun]", group))
        else:
            yield of_events(cast("list[RecordedEvent]", list(group)))


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, type=kind)


def _events_columns(events: list[RecordedEvent]) -> Iterable[Any]:
    return zip(*map(_values, events), strict=True)


def _run_columns(run: AppendRun) -> Iterable[Any]:
    count = len(run)
    own = {
        "position": run.positions,
        "recorded_at": run.recorded_at_ns,
        "monotonic_ns": run.monotonic_ns,
        "event_id": _strings(run.event_ids, count) if run.event_ids else None,
        "payload": _strings(run.payloads().tobytes(), count),
        "audio_ms": run.audio_ms,
    }
    for name, kind in zip(EVENTS.names, EVENTS.types, strict=True):
        value = own[name] if name in own else getattr(run.pattern, name)
        yield value if isinstance(value, list | pa.Array) else pa.repeat(pa.scalar(value, kind), count)


def _strings(texts: bytes, count: int) -> pa.Array:
    """An array of texts of one length, of their bytes."""
    offsets = np.arange(count + 1, dtype=np.int32) * (len(texts) // count)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(texts))


def _parts_columns(events: list[RecordedEvent], places: Places) -> Iterable[Any]:
    rows = [row for event in events if event.parts for row in _part_rows(event, places)]
    return zip(*rows, strict=True) if rows else [()] * len(PARTS)


def _part_rows(event: RecordedEvent, places: Places) -> Iterator[tuple[object, ...]]:
    block: int | None = None
    offset = 0
    for part in event.parts:
        size = len(part.data)
        head = event.session_id, event.position, part.part_no, part.json_offset, part.kind, part.encoding, size
        if part.kind != "audio":
            yield *head, None, None, part.data
            continue
        if block is None:
            block, offset = places.place(event)
        yield *head, block, offset, None
        offset += size


def _run_parts_columns(run: AppendRun, places: Places) -> Iterable[Any]:
    count, part = len(run), run.pattern.parts[0]
    blocks, offsets = places.place_run(run)
    head = run.pattern.session_id, run.positions, part.part_no, part.json_offset, part.kind
    values = *head, part.encoding, len(part.data), blocks, offsets, None
    for value, kind in zip(values, PARTS.types, strict=True):
        yield value if isinstance(value, list) else pa.repeat(pa.scalar(value, kind), count)
