"""What relations there are beside the models': their columns' types, and the rows of those that never change."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, reduce

import pyarrow as pa
import pyarrow.compute as pc

from recorder.analytics.prices import Price, PriceRange, price_ranges
from recorder.analytics.registry import stored_models
from recorder.protocol.append_runs import APPEND_TYPES
from recorder.protocol.event_types import VOCABULARY
from recorder.store import schema

EVENT_SETS = ("events", "appends")
"""The data sets that the view `events` joins."""

_OF_APPENDS = ["session_id", "position", "monotonic_ns", "type", "event_id", "audio_ms"]

_OF_DELTAS = [
    *("session_id", "position", "monotonic_ns", "recorded_at", "type", "response_id", "item_id"),
    *("output_index", "content_index", "payload", "audio_ms"),
]

_DELTA_TYPES = sorted(
    row.name
    for row in VOCABULARY
    if row.canonical
    in ("response.output_audio.delta", "response.output_audio_transcript.delta", "response.output_text.delta")
)

_FIRST_CONTROL_OPCODE = 8

_ARROW_TYPES = {
    "string": "VARCHAR",
    "binary": "BLOB",
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "timestamp[ns, tz=UTC]": "TIMESTAMPTZ_NS",
}


@cache
def event_types() -> pa.Table:
    """One row per event name; a name that both sides use stands once."""
    rows = {row.name: row for row in VOCABULARY}.values()
    columns = {name: [getattr(row, name) for row in rows] for name in ("name", "canonical", "direction", "family")}
    return pa.table({**columns, "fields": [list(row.paths()) for row in rows]})


def price_rows(prices: Sequence[Price]) -> pa.Table:
    """The relation `prices`: amounts as exact decimals."""
    kinds = {"model": pa.string(), "rank": pa.int64(), "valid_from": pa.date32()}
    kinds |= {name: pa.string() for name in ("provider", "source", "currency")}
    return pa.table(
        {
            name: pa.array([getattr(price, name) for price in prices], kinds.get(name, pa.decimal128(18, 6)))
            for name in Price.__struct_fields__
        }
    )


def price_ranges_table(prices: Sequence[Price]) -> pa.Table:
    """The relation `stored.price_ranges`: amounts as whole numbers."""
    kinds = dict.fromkeys(("first_name", "end_name", "billed_by", "price_model", "price_source"), pa.string())
    kinds |= dict.fromkeys(("first_day", "end_day", "price_valid_from"), pa.date32())
    ranges = list(price_ranges(prices))
    return pa.table(
        {
            name: pa.array([getattr(one, name) for one in ranges], kinds.get(name, pa.int64()))
            for name in PriceRange.__struct_fields__
        }
    )


def view_columns() -> dict[str, dict[str, str]]:
    """Data set → column → DuckDB type."""
    events = {field.name: _ARROW_TYPES[str(field.type)] for field in schema.EVENTS}
    parts = {field.name: _ARROW_TYPES[str(field.type)] for field in schema.PARTS}
    audio = {field.name: _ARROW_TYPES[str(field.type)] for field in schema.AUDIO}
    tables = {name: {column.name: column.type for column in model.columns} for name, model in stored_models().items()}
    return {"events": events, "appends": events, "parts": parts, "audio": audio, **tables}


def apart(events: pa.Table) -> dict[str, pa.Table]:
    """The relations that divide `events`: audio appends, deltas of what is said, and all other events.

    Nearly all events are of the first two kinds, and a query that looks for others reads every column of them all.
    """
    is_append = pc.and_(
        pc.equal(events["direction"], "client"), pc.is_in(events["type"], value_set=pa.array(sorted(APPEND_TYPES)))
    )
    others = events.filter(pc.invert(is_append)).combine_chunks()  # many sessions have many chunks, of few rows now
    conditions = (
        pc.equal(others["direction"], "server"),
        pc.is_in(others["type"], value_set=pa.array(_DELTA_TYPES)),
        pc.fill_null(pc.less(others["opcode"], _FIRST_CONTROL_OPCODE), True),
        pc.fill_null(pc.not_equal(others["response_id"], ""), False),
        pc.fill_null(pc.not_equal(others["item_id"], ""), False),
    )
    is_delta = reduce(pc.and_, conditions)
    return {
        "appends": events.select(_OF_APPENDS).filter(is_append),
        "deltas": others.select(_OF_DELTAS).filter(is_delta),
        "other_events": others.filter(pc.invert(is_delta)),
    }
