"""A session's events as lines of a timeline, runs of streaming events folded into one line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from recorder.projection import payload as json
from recorder.projection.summary import SNIPPET, milliseconds, quote, summarize
from recorder.protocol.envelope import Direction, RecordedEvent
from recorder.protocol.event_types import canonical, is_drift

STREAMING: Final = frozenset({"input_audio_buffer.append", "session.input_audio_buffer.append", "ping", "pong"})
"""Types that come in floods, besides all deltas and the WebSocket's own pings and pongs."""


class Line(msgspec.Struct):
    """One line: an event, or a run of alike events.

    Attributes:
        position: of the (first) event.
        last_position: of the last event; events of other kinds may lie between.
        count: how many events the line stands for.
        direction: who sent them.
        type: the wire's name; None for a message without one.
        at_ns: monotonic time of the first event; None where unknown.
        audio_ms: audio they carry together; None without.
        text: what their deltas say together, for a run; "" else.
        summary: a few words. Holds recorded text as it is.
        unknown: the type is not in the vocabulary: drift.
    """

    position: int
    last_position: int
    count: int
    direction: Direction
    type: str | None
    at_ns: int | None
    audio_ms: float | None
    text: str
    summary: str
    unknown: bool = False


def is_streaming(event: RecordedEvent) -> bool:
    """Whether an event is one of many that only together mean something."""
    if event.type is None:
        return False
    name = canonical(event.type)
    return name in STREAMING or name.endswith(".delta") or name in ("websocket.ping", "websocket.pong")


def timeline(events: Iterable[RecordedEvent], *, collapse: bool = True) -> Iterator[Line]:
    """Lines for events, in order of their first positions.

    Streams run side by side (a caller's audio, the answer's audio, its transcript), so a run is not broken by other
    streams, only by an event that stands for itself.

    Args:
        events: of one session, in order.
        collapse: whether to fold runs.
    """
    runs: dict[tuple[str, str | None, str | None], Line] = {}
    for event in events:
        if not collapse or not is_streaming(event):
            yield from _finished(runs)
            runs.clear()
            yield _line(event)
            continue
        key = (event.direction, event.type, event.item_id or event.response_id)
        if key in runs:
            _extend(runs[key], event)
        else:
            runs[key] = _line(event)
    yield from _finished(runs)


def _line(event: RecordedEvent) -> Line:
    return Line(
        position=event.position,
        last_position=event.position,
        count=1,
        direction=event.direction,
        type=event.type,
        at_ns=event.monotonic_ns,
        audio_ms=event.audio_ms,
        text=_delta(event),
        summary=summarize(event),
        unknown=is_drift(event.type, event.direction, event.opcode),
    )


def _extend(line: Line, event: RecordedEvent) -> None:
    line.last_position = event.position
    line.count += 1
    if event.audio_ms is not None:
        line.audio_ms = (line.audio_ms or 0.0) + event.audio_ms
    if len(line.text) <= 2 * SNIPPET:
        line.text += _delta(event)


def _finished(runs: dict[tuple[str, str | None, str | None], Line]) -> Iterator[Line]:
    for line in runs.values():
        if line.count > 1:
            line.summary = milliseconds(line.audio_ms) or quote(line.text)
        yield line


def _delta(event: RecordedEvent) -> str:
    name = event.type or ""
    if event.audio_ms is not None or not name.endswith(".delta") or name.endswith("audio.delta"):
        return ""
    return json.text(json.read(event.payload), "delta") or ""
