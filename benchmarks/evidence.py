"""What a store holds of what was sent: every message by its number, in both directions, exactly once."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from benchmarks.candidates import RECORDER
from benchmarks.processes import BenchmarkError
from recorder.pipeline.catalog import Catalog

_SEAL_SECONDS: Final = 900

_STORED: Final = """
SELECT direction, split_part(event_id, '_', 2) AS mark, count(*) AS stored,
       count(DISTINCT split_part(event_id, '_', 3)) AS different, max(split_part(event_id, '_', 3)) AS last
FROM events WHERE event_id LIKE 'bench\\_%' ESCAPE '\\' GROUP BY 1, 2
"""
_BYTES: Final = """
WITH ends AS (
  SELECT session_id,
         CAST(payload ->> 'client_bytes' AS BIGINT) + CAST(payload ->> 'server_bytes' AS BIGINT) AS forwarded
  FROM events WHERE type = 'recorder.session_closed'
), held AS (
  SELECT session_id,
         sum(CASE WHEN type = 'recorder.gap' THEN CAST(payload ->> 'bytes' AS BIGINT) ELSE wire_bytes END) AS held
  FROM events GROUP BY 1
)
SELECT CAST(coalesce(sum(abs(forwarded - held)), 0) AS BIGINT) FROM ends JOIN held USING (session_id)
WHERE forwarded IS NOT NULL
"""
_GAPS: Final = """
SELECT count(*) AS gaps, CAST(coalesce(sum(CAST(payload ->> 'bytes' AS BIGINT)), 0) AS BIGINT) AS gap_bytes
FROM events WHERE type = 'recorder.gap'
"""


class Evidence(msgspec.Struct):
    """The comparison's result, in messages of both directions.

    Attributes:
        sent: by either end.
        received: by the other.
        stored: found in the sealed store.
        missing: received, and not in the store: what recording lost.
        doubled: in the store more than once.
        beyond: in the store, and not received: recorded before it was forwarded, then cut off by a kill.
        gaps: recorder.gap events.
        gap_bytes: the bytes that they own up to.
        unaccounted_bytes: forwarded in sessions that ended in order, and neither on record nor in a gap.
    """

    sent: int
    received: int
    stored: int
    missing: int
    doubled: int
    beyond: int
    gaps: int
    gap_bytes: int
    unaccounted_bytes: int


def seal(data: Path) -> None:
    """`recorder seal`.

    Raises:
        BenchmarkError: it fails.
    """
    done = subprocess.run(
        [*RECORDER, "seal", "--data", str(data)], capture_output=True, text=True, check=False, timeout=_SEAL_SECONDS
    )
    if done.returncode:
        raise BenchmarkError(f"recorder seal ended with code {done.returncode}: {done.stderr.strip()[-300:]}")


def check(data: Path, record: Path) -> Evidence:
    """Seal a store, and compare it with what the load side noted.

    Args:
        data: the store; its recorder has ended.
        record: the load side's file, one line a session.
    """
    seal(data)
    with Catalog(data) as catalog:
        stored = catalog.query(_STORED)
        gaps = catalog.query(_GAPS).row(0, named=True)
        unaccounted = catalog.query(_BYTES).item()
    noted = pl.read_csv(record)
    sides = [
        noted.select(
            pl.col("session"),
            pl.lit(direction).alias("direction"),
            pl.col(f"sent_{way}").alias("sent"),
            pl.col(f"received_{way}").alias("received"),
        )
        for direction, way in (("client", "up"), ("server", "down"))
    ]
    stored = stored.select(
        "direction",
        "stored",
        "different",
        pl.col("mark").str.to_integer(base=16, dtype=pl.Int64).alias("session"),
        (pl.col("last").str.to_integer(base=16, dtype=pl.Int64) + 1).alias("until"),
    )
    both = pl.concat(sides).join(stored, on=["session", "direction"], how="left").fill_null(0)
    beyond = (pl.col("until") - pl.col("received")).clip(lower_bound=0)
    missing = pl.col("received") + beyond - pl.col("different")
    counted = both.select(
        pl.col("sent").sum(),
        pl.col("received").sum(),
        pl.col("stored").sum(),
        missing.sum().alias("missing"),
        (pl.col("stored") - pl.col("different")).sum().alias("doubled"),
        beyond.sum().alias("beyond"),
    )
    return msgspec.convert({**counted.row(0, named=True), **gaps, "unaccounted_bytes": unaccounted}, Evidence)
