"""`recorder show`: one session's timeline, transcript, or state at a moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from recorder.cli import output
from recorder.cli.events import event_object, is_timed, load_events, parse_moment, position_at
from recorder.cli.lines import offset, render_line, transcript_table, type_width
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption, SessionArgument, open_catalog
from recorder.errors import UsageError
from recorder.projection.conversation import project
from recorder.projection.kept import kept_words
from recorder.projection.state import ConversationState
from recorder.projection.timeline import timeline
from recorder.protocol.envelope import RecordedEvent

EXAMPLES = (
    ("recorder show last", "the timeline of the session opened last"),
    ("recorder show 0199c2f1 --transcript", "who said what, and what was heard of it"),
    ("recorder show last --at +12.5", "the conversation 12.5 seconds into the session"),
    ("recorder show last --at 2026-01-31T12:00:05", "the same at a time on the clock"),
    ("recorder show last --at 42 --json", "the same after event 42, for a program"),
)


def show(
    session: SessionArgument,
    *,
    data: DataOption = DEFAULT_DATA,
    transcript: Annotated[bool, typer.Option("--transcript", help="Show the conversation instead of events.")] = False,
    at: Annotated[
        str | None,
        typer.Option(metavar="MOMENT", help="Show the state there: a position (`42`), seconds (`+12.5`), or a time."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", envvar="RECORDER_SHOW_ALL", help="Give each audio append and delta a line of its own."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a session.

    Each line has the seconds since the session opened, the position, who sent it (↑ client, ↓ server, · recorder),
    the type and a summary. Runs of audio and deltas share a line. Sessions without times show positions only.
    """
    if every and (transcript or at is not None):
        raise UsageError("--all goes with the timeline only", hint="Leave it out, or leave out --transcript and --at.")

    moment = None if at is None else parse_moment(at)
    with open_catalog(data) as catalog:
        session_id = catalog.resolve(session)
        events = load_events(catalog, session_id)
        rows = catalog.query("SELECT * FROM sessions WHERE session_id = ?", [session_id]).to_dicts()
    facts = rows[0] if rows else {}
    position = None if moment is None else position_at(moment, events)
    if not as_json:
        _print_head(session_id, facts)
    if transcript or at is not None:
        _show_conversation(events, position, transcript=transcript, as_json=as_json)
    elif as_json:
        output.print_json(map(event_object, events))
    else:
        _show_timeline(events, collapse=not every)


def _show_timeline(events: list[RecordedEvent], *, collapse: bool) -> None:
    timed = is_timed(events)
    lines = list(timeline(events, collapse=collapse))
    width = type_width(lines)
    for line in lines:
        output.print_line(render_line(line, timed=timed, width=width))


def _show_conversation(events: list[RecordedEvent], position: int | None, *, transcript: bool, as_json: bool) -> None:
    state = project(events, at=position)
    if as_json and transcript:
        output.print_json([*state.items, *state.out_of_band])
    elif as_json:
        output.print_object(state)
    else:
        if not transcript:
            _print_state(state)
        _print_transcript(state, timed=is_timed(events))


def _print_transcript(state: ConversationState, *, timed: bool) -> None:
    items = [*state.items, *state.out_of_band]
    if items:
        output.print_block(transcript_table(items, timed=timed))
    else:
        output.note("no conversation is on record")


def _print_state(state: ConversationState) -> None:
    moment = f"after position {state.position}" + (f", {offset(state.at_ns)} s" if state.at_ns is not None else "")
    facts = [("state", moment + (", session closed" if state.closed else ""))]
    facts += [("session", words) for words in _config_words(state.session)]
    facts += [("input buffer", f"{state.uncommitted_audio_ms:,.0f} ms of audio not committed")]
    facts += [
        ("active response", f"{active.id or '?'} since position {active.position}") for active in state.active_responses
    ]
    facts += [
        ("pending tool", f"{call.name or '?'}({call.arguments}) {call.call_id or ''}")
        for call in state.pending_tool_calls
    ]
    _print_facts(facts)


def _config_words(session: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """A configuration as `path = value`, the unset left out."""
    for key, value in session.items():
        if isinstance(value, dict) and value:
            yield from _config_words(value, f"{prefix}{key}.")
        elif value not in (None, "", [], {}):
            yield f"{prefix}{key} = {value if isinstance(value, str) else output.to_json(value)}"


def _print_head(session_id: str, facts: dict[str, Any]) -> None:
    closed = " ".join(str(facts[key]) for key in ("closed_by", "close_code") if facts.get(key) is not None)
    words = [
        facts.get("model"),
        output.local_time(facts["opened_at"]) if facts.get("opened_at") else "no times",
        (facts.get("status") or "") + (f" by {closed}" if closed else ""),
        output.seconds(facts["duration_seconds"]) if facts.get("duration_seconds") is not None else "",
        facts.get("server_session_id"),
        kept_words(facts),
    ]
    output.print_line(Text(session_id, "bold"))
    output.print_line(Text(output.printable(" · ".join(word for word in words if word)), "dim"))
    output.print_line("")


def _print_facts(facts: list[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True, min_width=max(len(name) for name, _ in facts))
    table.add_column(overflow="ellipsis", no_wrap=True)
    label = ""
    for name, words in facts:
        table.add_row("" if name == label else name, Text(output.printable(words)))
        label = name
    output.print_block(table)
    output.print_line("")
