"""Events as they lie in files: without what other columns tell.

A session's wall clock and its monotonic clock run side by side, so `recorded_at` and `monotonic_ns` differ by the same
number in every row of a recording. Files hold that number, `clock_ns`, in the place of `recorded_at`, which would be a
quarter of all bytes that are not audio. In rows without a monotonic time it is the wall time itself; without a wall
time it is NULL.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from recorder.store.schema import EVENTS

RECORDED_AT: Final = "recorded_at"
MONOTONIC: Final = "monotonic_ns"
CLOCK: Final = "clock_ns"

SQL: Final = f"CAST(make_timestamp_ns({CLOCK} + coalesce({MONOTONIC}, 0)) AS TIMESTAMPTZ_NS)"
"""`recorded_at`, for those who read the files."""

STORED_EVENTS: Final = EVENTS.set(EVENTS.get_field_index(RECORDED_AT), pa.field(CLOCK, pa.int64()))


def shrink(rows: pa.Table) -> pa.Table:
    """Rows of `EVENTS` as they are stored; rows of other data sets as they are, those with times of their own too."""
    place = rows.schema.get_field_index(RECORDED_AT)
    if place < 0 or MONOTONIC not in rows.column_names:
        return rows
    wall = rows[RECORDED_AT].cast(pa.int64())
    return rows.set_column(place, CLOCK, pc.subtract(wall, pc.fill_null(rows[MONOTONIC], 0)))


def expand(rows: pa.Table) -> pa.Table:
    """The inverse of `shrink`. Files of format version 1 have `recorded_at` itself: it stays."""
    place = rows.schema.get_field_index(CLOCK)
    if place < 0:
        return rows
    wall = pc.add(rows[CLOCK], pc.fill_null(rows[MONOTONIC], 0))
    return rows.set_column(place, EVENTS.field(RECORDED_AT), wall.cast(EVENTS.field(RECORDED_AT).type))
