"""The one catalog that a running service reads through, kept fresh without being asked too often."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from recorder.analytics.rules import load_rules
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.timetravel import TimeTravel

REFRESH_SECONDS = 0.5
"""A poll of a page asks several questions; they share one look at the data directory."""


class Store:
    """A `Catalog` that looks for new sessions and events at most every `REFRESH_SECONDS`.

    Safe for use from several threads.

    Args:
        data_dir: the data directory.
        prices: the user's own prices.
        rules: a folder with the user's own rules.

    Attributes:
        rules: what `findings` are looked for with.
        past: conversations at any position.

    Raises:
        StoreError: `data_dir` cannot be read.
        RuleError: a rule's file is not what it should be.
    """

    def __init__(self, data_dir: Path, *, prices: Path | None = None, rules: Path | None = None) -> None:
        self.data_dir = data_dir
        self.rules = load_rules(rules)
        self._catalog = Catalog(data_dir, prices=prices, keep=True)
        self.past = TimeTravel(self._catalog)
        self._refreshing = threading.Lock()
        self._fresh_until = 0.0

    def catalog(self) -> Catalog:
        """The catalog, refreshed if its last refresh is old. A refresh under way elsewhere is not waited for."""
        if time.monotonic() >= self._fresh_until and self._refreshing.acquire(blocking=False):
            try:
                self._catalog.refresh()
                self.past.forget()
                self._fresh_until = time.monotonic() + REFRESH_SECONDS
            finally:
                self._refreshing.release()
        return self._catalog

    def close(self) -> None:
        """Let go of the catalog's files."""
        self._catalog.close()
