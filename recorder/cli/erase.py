"""`recorder erase`: sessions that must be forgotten."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from recorder.cli import completing, output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption
from recorder.errors import UsageError

EXAMPLES = (
    ("recorder erase 0197f1 --reason 'request 4711'", "one session, everywhere in the store; asks first"),
    ("recorder erase --label customer=4711 --yes", "all sessions with a label, without asking"),
)

ReasonOption = Annotated[
    str, typer.Option("--reason", envvar="RECORDER_REASON", metavar="TEXT", help="Why, for the audit record.")
]


def erase(
    sessions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SESSIONS",
            autocompletion=completing.sessions,
            help="Prefixes of sessions' ids, the server's sess_… ids, or `last`.",
            show_default=False,
        ),
    ] = None,
    *,
    data: DataOption = DEFAULT_DATA,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            envvar="RECORDER_ERASE_LABEL",
            metavar="KEY=VALUE",
            help="All sessions with this label; of several, those that have all.",
            show_default=False,
        ),
    ] = None,
    reason: ReasonOption = "",
    yes: Annotated[
        bool, typer.Option("--yes", "-y", envvar="RECORDER_ERASE_YES", help="Do it without asking.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase whole sessions: from journals, data files, compacted ones too, derived tables and quarantine.

    Files are rewritten without them, and the old ones removed at once; so are bundles in the data directory. A session
    that still runs is refused.
    Backups and copies elsewhere are not reached: docs/retention.md. DATA/audit.jsonl says that it was done.
    """
    from recorder.pipeline.erase import erase as erase_sessions
    from recorder.pipeline.erase import find
    from recorder.store import layout

    layout.require(data)
    if not sessions and not label:
        raise UsageError("erase what?", hint="Name sessions, or give --label key=value.")
    ids = find(data, sessions or [], label or [])
    if ids and not yes:
        _confirm(ids)
    report = erase_sessions(data, ids, reason=reason) if ids else None
    if as_json:
        output.print_object(report or {"sessions": [], "events": 0})
        return
    for session_id in ids:
        output.print_line(session_id)
    output.note(f"{len(ids):,} sessions erased, {report.events:,} events" if report else "no session has such labels")
    for path in report.bundles if report else ():
        output.note(f"taken out of the bundle {output.printable(path)}")
    for path in report.strangers if report else ():
        output.note(f"{output.printable(path)} names one of them, and stays: it is no file of the recorder's")
    for path in report.unread if report else ():
        output.note(f"{output.printable(path)} stays: it cannot be read, and may hold something of any session")


def _confirm(ids: list[str]) -> None:
    for session_id in ids:
        output.note(f"  {session_id}")
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm this", hint="Give --yes to erase without asking.")
    if not typer.confirm(f"Erase {len(ids):,} sessions for good?", err=True):
        raise typer.Exit(1)
