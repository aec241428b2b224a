"""What `/metrics` says of the calls: figures of the last minutes, reckoned when asked and kept for some seconds."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from api.store import Store
from recorder.analytics.gauges import GAUGES, PREFIX, samples
from recorder.analytics.rules import SEVERITIES
from recorder.pipeline.catalog import Catalog
from recorder.store.counters import Metric
from recorder.store.exposition import Sample, exposition

KEPT_SECONDS: Final = 5.0
LOOKED_AT: Final = 200
"""Recent sessions in which rules look for findings: more would take longer than a scrape may."""

WINDOW: Final = Metric(f"{PREFIX}window_seconds", "Sessions count that were opened since so long.", "gauge")
FINDINGS: Final = Metric(f"{PREFIX}findings", f"Findings in these, or in the last {LOOKED_AT} of them.", "gauge")
METRICS: Final = (
    (WINDOW, ()),
    *((gauge.metric, gauge.labels) for gauge in GAUGES),
    (FINDINGS, ("severity",)),
)
"""Everything that is exposed, with its labels."""


class Gauges:
    """The page of a store. Safe for several threads: who asks while it is being made waits for that.

    Args:
        store: what is asked.
        window: how far it looks back.
    """

    def __init__(self, store: Store, window: timedelta) -> None:
        self._store = store
        self._window = window
        self._making = threading.Lock()
        self._kept_until = 0.0
        self._text = ""

    def text(self) -> str:
        """The page, at most `KEPT_SECONDS` old."""
        with self._making:
            if time.monotonic() >= self._kept_until:
                self._text = exposition(self._collect(datetime.now(UTC) - self._window))
                self._kept_until = time.monotonic() + KEPT_SECONDS
            return self._text

    def _collect(self, since: datetime) -> Iterator[tuple[Metric, list[Sample]]]:
        catalog = self._store.catalog()
        yield WINDOW, [Sample((), self._window.total_seconds())]
        yield from samples(catalog, since)
        yield FINDINGS, list(self._findings(catalog, since))

    def _findings(self, catalog: Catalog, since: datetime) -> Iterator[Sample]:
        recent = catalog.query(
            "SELECT session_id FROM stored.sessions WHERE opened_at >= ? ORDER BY opened_at DESC LIMIT ?",
            [since, LOOKED_AT],
        )
        found: Counter[str] = Counter()
        if recent.height and self._store.rules:
            found.update(catalog.findings(list(recent["session_id"]), self._store.rules)["severity"])
        return (Sample((("severity", severity),), found[severity]) for severity in SEVERITIES)
