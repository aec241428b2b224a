"""Single moments on a timeline: events, errors, interruptions, stalls, and turns that the server dropped.

Each carries the position of its event, to be found by a click, and what there is to say of it as a text for hovering.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import plotly.graph_objects as go
import polars as pl

from dashboards import words
from dashboards.figures.base import plain
from dashboards.figures.rows import Axis, Row, TimelineRows
from dashboards.format import count, milliseconds, usd

EVENT_LANES: Final = (("client", "client-event"), ("server", "server-event"), ("recorder", "bad"))


class _Mark(NamedTuple):
    """One moment. `text` must be plain."""

    x: float | None
    position: int | None
    text: str


class _Kind(NamedTuple):
    """How moments of one kind are drawn: where, and as what."""

    name: str
    lane: str
    shift: float
    symbol: str
    size: int
    colour: str


_ERROR: Final = _Kind(words.MARK_ERROR, "server", 0.08, "diamond", 11, "bad")
_INTERRUPTION: Final = _Kind(words.MARK_INTERRUPTION, "assistant", 0.42, "triangle-down", 12, "interruption")
_STALL: Final = _Kind(words.MARK_STALL, "assistant", -0.26, "hourglass", 11, "warning")
_DROPPED: Final = _Kind(words.MARK_DROPPED, "responses", 0.36, "x", 9, "bad")
_CACHE_LOST: Final = _Kind(words.MARK_CACHE_LOST, "responses", 0.36, "square-open", 14, "warning-text")


def draw(
    figure: go.Figure, rows: TimelineRows, axis: Axis, heights: Mapping[str, int], colours: Mapping[str, str]
) -> None:
    """Put a session's marks onto its figure.

    Args:
        figure: changed in place.
        rows: the session.
        axis: where a row is.
        heights: y of each lane that is shown.
        colours: by name, as in the theme.
    """
    for lane, colour in EVENT_LANES:
        if lane in heights:
            _draw_events(figure, rows.marks.filter(pl.col("direction") == lane), axis, heights[lane], colours[colour])
    for kind, moments in (
        (_CACHE_LOST, _cache_lost(rows, axis)),
        (_DROPPED, _dropped(rows, axis)),
        (_STALL, _stalls(rows, axis)),
        (_ERROR, _errors(rows, axis)),
        (_INTERRUPTION, _interruptions(rows, axis)),
    ):
        _draw_kind(figure, kind, [mark for mark in moments if mark.x is not None], heights, colours)
    _draw_cuts(figure, _interruptions(rows, axis), colours["interruption"])


def _errors(rows: TimelineRows, axis: Axis) -> list[_Mark]:
    texts = {row["position"]: plain(_error_text(row)) for row in rows.errors}
    drawn = rows.marks.filter(pl.col("type") == "error").rows(named=True)
    return [
        _Mark(axis.at(row, "monotonic_ns", "position"), row["position"], texts.get(row["position"], ""))
        for row in drawn
    ]


def _error_text(row: Row) -> str:
    return ": ".join(filter(None, (row["code"] or row["type"], row["message"])))


def _interruptions(rows: TimelineRows, axis: Axis) -> list[_Mark]:
    return [
        _Mark(axis.at(row, "at_ns", "position"), row["position"], plain(f"{row['source'] or ''} {_unheard(row)}"))
        for row in rows.interruptions
    ]


def _unheard(row: Row) -> str:
    unheard, wasted = row["unheard_ms"], row["wasted_cost_usd"]
    if unheard is None:
        return ""
    return f"{unheard / 1e3:.2f} s {words.NOT_HEARD}" + (f" ({usd(wasted)})" if wasted else "")


def _stalls(rows: TimelineRows, axis: Axis) -> list[_Mark]:
    return [
        _Mark(
            axis.at(row, "first_audio_at_ns", "first_audio_position"),
            row["first_audio_position"],
            words.STALLED.format(n=row["stall_count"], length=milliseconds(row["stall_ms"])),
        )
        for row in rows.responses
        if row["stall_count"]
    ]


def _dropped(rows: TimelineRows, axis: Axis) -> list[_Mark]:
    return [
        _Mark(axis.at(row, "at_ns", "position"), row["position"], words.DROPPED.format(n=count(row["dropped_tokens"])))
        for row in rows.contexts
        if row["context_truncated"]
    ]


def _cache_lost(rows: TimelineRows, axis: Axis) -> list[_Mark]:
    return [
        _Mark(
            axis.at(row, "at_ns", "position"),
            row["position"],
            f"{words.CACHE_LOST_CAUSES.get(row['cache_bust_cause'], '')}: "
            f"{count(row['previous_cached_tokens'])} → {count(row['cached_tokens'])}",
        )
        for row in rows.contexts
        if row["cache_bust"]
    ]


def _draw_events(figure: go.Figure, marks: pl.DataFrame, axis: Axis, height: int, colour: str) -> None:
    rows = [row for row in marks.iter_rows(named=True) if row["type"] != "error"]
    if not rows:
        return
    figure.add_scatter(
        x=[axis.at(row, "monotonic_ns", "position") for row in rows],
        y=[height + 0.08] * len(rows),
        customdata=[(row["position"], plain(row["type"] or "?")) for row in rows],
        mode="markers",
        name=words.MARK_EVENT,
        showlegend=False,
        marker={"symbol": "line-ns", "size": 16, "line": {"width": 2, "color": colour}, "color": colour},
        hovertemplate="%{customdata[1]} · %{customdata[0]}<extra></extra>",
    )


def _draw_kind(
    figure: go.Figure,
    kind: _Kind,
    moments: Sequence[_Mark],
    heights: Mapping[str, int],
    colours: Mapping[str, str],
) -> None:
    if not moments:
        return
    figure.add_scatter(
        x=[mark.x for mark in moments],
        y=[heights[kind.lane] + kind.shift] * len(moments),
        customdata=[(mark.position, mark.text) for mark in moments],
        mode="markers",
        name=kind.name,
        marker={"symbol": kind.symbol, "size": kind.size, "color": colours[kind.colour]},
        hovertemplate=f"{kind.name} · %{{customdata[0]}}<br>%{{customdata[1]}}<extra></extra>",
    )


def _draw_cuts(figure: go.Figure, moments: Sequence[_Mark], colour: str) -> None:
    line = {"color": colour, "width": 1, "dash": "dot"}
    figure.update_layout(
        shapes=[
            {"type": "line", "x0": mark.x, "x1": mark.x, "y0": 0, "y1": 1, "yref": "paper", "line": line}
            for mark in moments
            if mark.x is not None
        ]
    )
