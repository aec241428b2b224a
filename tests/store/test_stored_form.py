from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from recorder.store.schema import EVENTS
from recorder.store.stored_form import STORED_EVENTS, expand, shrink

NS = 1_769_860_800_123_456_789
int64 = st.integers(-(2**63), 2**63 - 1)


def rows(*times: tuple[int | None, int | None]) -> pa.Table:
    made = [
        {"session_id": "s", "position": n, "direction": "client", "recorded_at": wall, "monotonic_ns": monotonic}
        | {"wire_bytes": 0, "redacted": False}
        for n, (wall, monotonic) in enumerate(times)
    ]
    return pa.Table.from_pylist(made, schema=EVENTS)


def test_the_clock_of_a_recording_is_one_number() -> None:
    stored = shrink(rows((NS, 0), (NS + 20, 20), (NS + 45, 45)))

    assert stored.schema.equals(STORED_EVENTS)
    assert stored["clock_ns"].to_pylist() == [NS] * 3


def test_rows_without_a_time_keep_what_they_have() -> None:
    assert shrink(rows((None, None), (NS, None), (None, 7)))["clock_ns"].to_pylist() == [None, NS, None]


@given(st.lists(st.tuples(st.none() | int64, st.none() | int64), max_size=8))
def test_every_time_comes_back(times: list[tuple[int | None, int | None]]) -> None:
    table = rows(*times)

    assert expand(shrink(table)).equals(table)


def test_what_has_no_such_column_stays() -> None:
    other = pa.table({"position": [1]})

    assert shrink(other) is other
    assert expand(other) is other


def test_a_time_beside_no_monotonic_clock_stays() -> None:
    usage = pa.table({"session_id": ["s"], "recorded_at": pa.array([NS], pa.timestamp("ns", "UTC"))})

    assert shrink(usage) is usage
    assert expand(usage) is usage
