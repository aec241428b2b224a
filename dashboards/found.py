"""What rules find, arranged for reading: kept for a while, and grouped by rule.

Looking takes a fifth of a second, too long for a page that asks again and again; so pages load what was found apart,
and share what one of them asked for.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from recorder.analytics.rules import SEVERITIES, Rule
from recorder.pipeline.catalog import Catalog

KEPT_SECONDS: Final = 60.0
"""What was found may quote what was said, so it is not kept longer than this after an erasure."""
MOST_KEPT: Final = 200

Row = dict[str, Any]
_Key = tuple[tuple[str, int, str], ...]


@dataclass(slots=True)
class Group:
    """All that one rule found, the first first."""

    rule: str
    severity: str
    title: str
    advice: str
    rows: list[Row] = field(default_factory=list)

    @property
    def sessions(self) -> dict[str, Row]:
        """The first finding of each session."""
        return {row["session_id"]: row for row in reversed(self.rows)}


def grouped(rows: Iterable[Row]) -> list[Group]:
    """Findings by rule, in the order in which the rules first come: the worst first, as the catalog gives them."""
    groups: dict[str, Group] = {}
    for row in rows:
        group = groups.setdefault(row["rule"], Group(row["rule"], row["severity"], row["title"], row["advice"]))
        group.rows.append(row)
    return list(groups.values())


def counted(rows: Iterable[Row]) -> dict[str, int]:
    """How many findings there are of each severity that there is, the worst first."""
    counts = Counter(row["severity"] for row in rows)
    return {severity: counts[severity] for severity in SEVERITIES if counts[severity]}


class Finder:
    """Looks for findings, and keeps what it found while the sessions stay as they are. Safe for several threads.

    Args:
        rules: what to look for.
        clock: seconds that never go back.
    """

    def __init__(self, rules: Sequence[Rule], clock: Callable[[], float] = time.monotonic) -> None:
        self._rules = rules
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[_Key, tuple[float, list[Row]]] = {}

    def find(self, catalog: Catalog, sessions: Sequence[Mapping[str, Any]]) -> list[Row]:
        """What the rules find in these sessions, the worst first.

        Args:
            catalog: the store.
            sessions: rows of `sessions`.
        """
        if not self._rules:  # all of them turned off
            return []
        key = tuple((row["session_id"], row["event_count"], row["status"]) for row in sessions)
        now = self._clock()
        with self._lock:
            at, rows = self._kept.get(key, (-KEPT_SECONDS, []))
        if now - at < KEPT_SECONDS:
            return rows
        rows = catalog.findings([row["session_id"] for row in sessions], self._rules).to_dicts()
        with self._lock:
            fresh = [(known, kept) for known, kept in self._kept.items() if now - kept[0] < KEPT_SECONDS]
            self._kept = dict(fresh[-MOST_KEPT:]) | {key: (now, rows)}
        return rows
