"""A session as swim lanes: who spoke when, what was heard, what was in flight, and every event.

The x axis is seconds since the session opened, or positions where a recording has no times. Everything drawn carries
the position of its event as `customdata[0]`, so that a click leads to the event itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import plotly.graph_objects as go

from dashboards import words
from dashboards.figures import marks
from dashboards.figures.base import plain, styled
from dashboards.figures.rows import Axis, Row, TimelineRows
from dashboards.theme import SCHEMES, Scheme

LANES: Final = ("user", "assistant", "responses", "tools", "server", "client", "recorder")
LANE_HEIGHT: Final = 46
OFF_AXIS: Final = 96
SHORTEST: Final = 400
"""Bars are drawn no shorter than this part of the session, so that each can be seen and pointed at."""


@dataclass(slots=True)
class _Spans:
    """Bars of one kind: one trace."""

    name: str
    colour: str
    lane: str
    shift: float = 0.0
    height: float = 0.5
    hatched: bool = False
    legend: bool = False
    starts: list[float] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    data: list[tuple[int | None, str]] = field(default_factory=list)

    def add(self, start: float | None, end: float | None, position: int | None, text: str = "") -> None:
        """A bar from `start` to `end`; nothing where either is unknown. `text` must be plain."""
        if start is None or end is None:
            return
        self.starts.append(start)
        self.lengths.append(max(end - start, 0.0))
        self.data.append((position, text))


def timeline(rows: TimelineRows, scheme: Scheme) -> go.Figure:
    """The swim-lane figure of one session."""
    colours = SCHEMES[scheme]
    axis = Axis(timed=rows.timed)
    lanes = [lane for lane in LANES if lane != "recorder" or "recorder.gap" in rows.marks["type"].to_list()]
    heights = {lane: len(lanes) - 1 - number for number, lane in enumerate(lanes)}
    figure = go.Figure()
    kinds = (_speech, _audio, _responses, _tools, _streams)
    shortest = axis.length(rows.marks) / SHORTEST
    for spans in (spans for kind in kinds for spans in kind(rows, axis)):
        _draw(figure, spans, heights, colours, shortest)
    marks.draw(figure, rows, axis, heights, colours)
    return _framed(figure, _axis_title(rows, axis), axis, heights, scheme)


def _speech(rows: TimelineRows, axis: Axis) -> tuple[_Spans, _Spans]:
    spoken = _Spans(words.SPAN_SPEECH, "user", "user", legend=True)
    typed = _Spans(words.SPAN_TYPED, "user", "user", height=0.22)
    said = {row["item_id"]: plain(row["text"] or "") for row in rows.turns if row["speaker"] == "user"}
    for row in rows.speech:
        start = axis.at(row, "started_at_ns", "start_position")
        end = axis.at(row, "stopped_at_ns", "stop_position")
        spoken.add(start, start if end is None else end, row["start_position"], said.pop(row["item_id"], ""))
    for row in rows.turns:
        if row["speaker"] == "user" and row["item_id"] in said:
            start = axis.at(row, "started_at_ns", "position")
            end = axis.at(row, "ended_at_ns", "last_position")
            kind = spoken if row["modality"] == "audio" else typed
            kind.add(start, start if end is None else end, row["position"], said[row["item_id"]])
    return spoken, typed


def _audio(rows: TimelineRows, axis: Axis) -> tuple[_Spans, ...]:
    heard = _Spans(words.SPAN_HEARD, "assistant", "assistant", shift=0.1, height=0.42, legend=True)
    unheard = _Spans(words.SPAN_UNHEARD, "assistant-soft", "assistant", 0.1, 0.24, hatched=True, legend=True)
    generated = _Spans(words.SPAN_GENERATED, "assistant-soft", "assistant", shift=0.1, height=0.42, legend=True)
    received = _Spans(words.SPAN_RECEIVED, "assistant", "assistant", shift=-0.26, height=0.1)
    written = _Spans(words.SPAN_RESPONSE, "assistant", "assistant", shift=0.1, height=0.22)
    for row in (row for row in rows.turns if row["speaker"] == "assistant"):
        text = plain(row["text"] or "")
        start = axis.at(row, "started_at_ns", "position")
        if not row["audio_ms"]:
            written.add(start, axis.at(row, "ended_at_ns", "last_position"), row["position"], text)
            continue
        split, end = _playback(row, axis, start)
        if row["heard_ms"] is None:
            generated.add(start, end, row["position"], text)
            continue
        heard.add(start, split, row["position"], text)
        if split is not None and end is not None and end > split:
            unheard.add(split, end, row["position"], text)
    for row in rows.responses:
        if row["audio_ms"] and axis.timed:
            first, last = (axis.at(row, name, "") for name in ("first_audio_at_ns", "last_audio_at_ns"))
            received.add(first, last, row["created_position"])
    return heard, unheard, generated, received, written


def _playback(row: Row, axis: Axis, start: float | None) -> tuple[float | None, float | None]:
    """Where hearing ends and where the generated audio would have: in time as long as it plays, else pro rata."""
    heard_ms = row["audio_ms"] if row["heard_ms"] is None else row["heard_ms"]
    if start is None:
        return None, None
    if axis.timed:
        return start + heard_ms / 1e3, start + row["audio_ms"] / 1e3
    end = float(row["last_position"]) if row["last_position"] is not None else start
    return start + (end - start) * heard_ms / row["audio_ms"], end


def _responses(rows: TimelineRows, axis: Axis) -> tuple[_Spans, ...]:
    queued = _Spans(words.SPAN_QUEUED, "response-soft", "responses", height=0.16)
    done = _Spans(words.SPAN_RESPONSE, "response", "responses", height=0.42)
    cut = _Spans(words.SPAN_CUT, "interruption", "responses", height=0.42)
    for row in rows.responses:
        created = axis.at(row, "created_at_ns", "created_position")
        end = axis.at(row, "done_at_ns", "done_position")
        status = plain(" ".join(filter(None, (row["status"], row["status_reason"]))))
        text = f"#{row['response_no']} {status}"
        queued.add(axis.at(row, "trigger_at_ns", "trigger_position"), created, row["trigger_position"], text)
        kind = cut if row["status"] in {"cancelled", "failed", "incomplete"} else done
        kind.add(created, created if end is None else end, row["created_position"], text)
    return queued, done, cut


def _tools(rows: TimelineRows, axis: Axis) -> tuple[_Spans, ...]:
    arguments = _Spans(words.SPAN_ARGUMENTS, "tool", "tools", height=0.16)
    running = _Spans(words.SPAN_EXECUTION, "tool", "tools", height=0.42, legend=True)
    for row in rows.tool_calls:
        name = plain(row["name"] or "")
        started = axis.at(row, "started_at_ns", "position")
        complete = axis.at(row, "arguments_done_at_ns", "position")
        arguments.add(started, complete, row["position"], name)
        begin = started if complete is None else complete
        answered = axis.at(row, "output_at_ns", "output_position")
        running.add(begin, begin if answered is None else answered, row["position"], name)
    return arguments, running


def _streams(rows: TimelineRows, axis: Axis) -> list[_Spans]:
    lanes = {
        "client": _Spans(words.SPAN_STREAM, "client-event", "client", shift=-0.24, height=0.12),
        "server": _Spans(words.SPAN_STREAM, "server-event", "server", shift=-0.24, height=0.12),
    }
    for row in rows.runs.iter_rows(named=True):
        if row["direction"] in lanes:
            start, end = axis.at(row, "start_ns", "first_position"), axis.at(row, "end_ns", "last_position")
            lanes[row["direction"]].add(start, end, row["first_position"], f"{plain(row['type'])} × {row['n']}")
    return list(lanes.values())


def _draw(
    figure: go.Figure, spans: _Spans, heights: Mapping[str, int], colours: Mapping[str, str], shortest: float
) -> None:
    if not spans.starts:
        return
    colour = colours[spans.colour]
    figure.add_bar(
        orientation="h",
        y=[heights[spans.lane] + spans.shift] * len(spans.starts),
        base=spans.starts,
        x=[max(length, shortest) for length in spans.lengths],
        width=spans.height,
        customdata=spans.data,
        name=spans.name,
        showlegend=spans.legend,
        marker={
            "color": colour,
            "line": {"color": colours["assistant"] if spans.hatched else colour, "width": 1},
            "pattern": {"shape": "/" if spans.hatched else "", "fgcolor": colours["assistant"], "size": 6},
        },
        hovertemplate=f"{spans.name} · %{{customdata[0]}}<br>%{{customdata[1]}}<extra></extra>",
    )


def _axis_title(rows: TimelineRows, axis: Axis) -> str:
    title = words.AXIS_TIME if axis.timed else words.AXIS_POSITION
    total = rows.marks["total"][0] if rows.marks.height else 0
    thinned = words.TIMELINE_THINNED.format(drawn=rows.marks.height, total=total)
    return f"{title} · {thinned}" if rows.marks.height < total else title


def _framed(figure: go.Figure, title: str, axis: Axis, heights: Mapping[str, int], scheme: Scheme) -> go.Figure:
    count = len(heights)
    figure.update_layout(barmode="overlay", hovermode="closest", dragmode="zoom", clickmode="event")
    figure.update_xaxes(
        title={"text": title, "font": {"size": 12}},
        ticksuffix=" s" if axis.timed else "",
        rangemode="tozero",
        zeroline=False,
    )
    figure.update_yaxes(
        tickvals=list(heights.values()),
        ticktext=[words.LANES[lane] for lane in heights],
        range=[-0.5, count - 0.3],
        fixedrange=True,
        zeroline=False,
        ticklabelstandoff=6,
    )
    return styled(figure, scheme, height=LANE_HEIGHT * count + OFF_AXIS, revision="timeline")
