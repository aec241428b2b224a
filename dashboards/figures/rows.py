"""What a session's timeline is drawn from, and along which axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TimelineRows:
    """What a timeline is drawn from: a session's rows of the models, and its events.

    Attributes:
        timed: whether the session has times.
        speech: rows of `speech`; likewise `turns`, `responses`, `tool_calls`, `interruptions`, `errors`.
        contexts: as `queries.contexts` gives them.
        marks: as `queries.timeline_marks` gives them.
        runs: as `queries.timeline_runs` gives them.
    """

    timed: bool
    speech: list[dict[str, Any]]
    turns: list[dict[str, Any]]
    responses: list[dict[str, Any]]
    tool_calls: list[dict[str, Any]]
    interruptions: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    contexts: list[dict[str, Any]]
    marks: pl.DataFrame
    runs: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Axis:
    """Which of a row's two addresses, time or position, is x."""

    timed: bool

    def at(self, row: Row, time: str, position: str) -> float | None:
        """A row's place, in seconds or as a position: by its column `time`, or `position`. None where it has none."""
        value = row.get(time) if self.timed else row.get(position)
        return None if value is None else float(value) / 1e9 if self.timed else float(value)

    def length(self, marks: pl.DataFrame) -> float:
        """How far the axis reaches, by the session's own events."""
        last = {name: marks[name].max() for name in ("monotonic_ns", "position")}
        return self.at(last, "monotonic_ns", "position") or 0.0
