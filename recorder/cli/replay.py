"""`recorder replay`: a session again, in the terminal, at its own pace."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from recorder.cli import output
from recorder.cli.events import Moment, event_object, is_timed, load_events, parse_moment, position_at
from recorder.cli.lines import render_line, type_width
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption, SessionArgument, open_catalog
from recorder.projection.timeline import Line, timeline
from recorder.protocol.envelope import RecordedEvent
from recorder.replay.player import play
from recorder.replay.schedule import Entry, T, at_speed, entries, limit_idle, seek

EXAMPLES = (
    ("recorder replay last", "as it happened"),
    ("recorder replay last --speed 4 --max-idle 1", "four times as fast, no pause over a second"),
    ("recorder replay last --from +30", "from half a minute on"),
    ("recorder replay last --json | ./my-tool", "events as JSON lines, paced"),
)


def replay(
    session: SessionArgument,
    *,
    data: DataOption = DEFAULT_DATA,
    speed: Annotated[float, typer.Option(min=0.01, max=1000, help="How many times as fast.")] = 1.0,
    max_idle: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Shorten pauses to this, before --speed.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            envvar="RECORDER_REPLAY_FROM",
            metavar="MOMENT",
            help="Start there: a position (`42`), or seconds (`+12.5`).",
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", envvar="RECORDER_REPLAY_ALL", help="Give each audio append and delta a line of its own."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Play a session back in the terminal, in its own time.

    Prints the lines of `recorder show` when they are due. With `--json`, every event is a JSON line. Ctrl-C ends it
    with exit code 130, since the session was not played to its end. A session without times is printed at once.
    """
    moment = None if start is None else parse_moment(start)
    with open_catalog(data) as catalog:
        events = load_events(catalog, catalog.resolve(session))
    if not is_timed(events):
        output.note("this session carries no times: played without pauses")
    offset = 0.0
    if moment is not None:
        events, offset = _from(moment, events)
    if as_json:
        play(_paced(entries(events, _event_ns), offset, speed, max_idle), _print_event)
    else:
        _play_lines(events, offset, speed, max_idle, collapse=not every)


def _from(moment: Moment, events: list[RecordedEvent]) -> tuple[list[RecordedEvent], float]:
    """What is left to play from a moment on, and the second at which playing starts."""
    position = position_at(moment, events)
    times = [event.monotonic_ns for event in events if event.position <= position and event.monotonic_ns is not None]
    reached = max(times, default=0) / 1e9
    if moment.position is not None:
        return [event for event in events if event.position >= position], reached
    return [event for event in events if event.position > position], reached if moment.at_ns else moment.seconds


def _paced(schedule: Iterable[Entry[T]], start: float, speed: float, max_idle: float | None) -> Iterable[Entry[T]]:
    schedule = seek(schedule, start)
    if max_idle is not None:
        schedule = limit_idle(schedule, max_idle)
    return at_speed(schedule, speed)


def _play_lines(
    events: list[RecordedEvent], start: float, speed: float, max_idle: float | None, *, collapse: bool
) -> None:
    lines = list(timeline(events, collapse=collapse))
    timed, width = is_timed(events), type_width(lines)

    def emit(line: Line) -> None:
        output.print_line(render_line(line, timed=timed, width=width))

    play(_paced(entries(lines, _line_ns), start, speed, max_idle), emit)


def _print_event(event: RecordedEvent) -> None:
    sys.stdout.write(output.to_json(event_object(event)) + "\n")
    sys.stdout.flush()


def _event_ns(event: RecordedEvent) -> int | None:
    return event.monotonic_ns


def _line_ns(line: Line) -> int | None:
    return line.at_ns
