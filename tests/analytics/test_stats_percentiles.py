"""From how many values on a percentile is given, worked by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest

from recorder.analytics.engine import Engine
from recorder.analytics.stats import measure

SESSION = {"session_id": "a", "model": "m", "status": "closed", "labels": "{}", "source": "proxy"}
RESPONSE = {"session_id": "a", "status": "completed", "out_of_band": False, "model": "m", "trigger": "vad"}


@pytest.mark.parametrize(
    ("n", "p50", "p95", "p99"),
    [
        (1, 1.0, None, None),
        (19, 10.0, None, None),
        (20, 10.5, 19.05, None),  # 1 + 19 × 0.95
        (99, 50.0, 94.1, None),  # 1 + 98 × 0.95
        (100, 50.5, 95.05, 99.01),  # 1 + 99 × 0.99
    ],
)
def test_where_percentiles_begin(n: int, p50: float, p95: float | None, p99: float | None) -> None:
    """The median of 1, …, n from one value on, the 95th from 20, the 99th from 100."""
    waits = [RESPONSE | {"response_no": no, "time_to_first_audio_seconds": float(no)} for no in range(1, n + 1)]
    with Engine() as own:
        own.update(live={"sessions": pa.Table.from_pylist([SESSION]), "responses": pa.Table.from_pylist(waits)})
        (row,) = measure(own, "latency", by=["session"]).to_dicts()
    assert row["n"] == n
    assert (row["p50_seconds"], row["p95_seconds"], row["p99_seconds"]) == (
        pytest.approx(p50),
        None if p95 is None else pytest.approx(p95),
        None if p99 is None else pytest.approx(p99),
    )
