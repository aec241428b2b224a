"""`recorder drift`: what was recorded that the vocabulary does not know."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from recorder.cli import output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption, open_catalog, since
from recorder.cli.sessions import unique_prefixes

EXAMPLES = (
    ("recorder drift", "unknown events and fields in everything recorded"),
    ("recorder drift --since 7d --json", "of the last week, for a program"),
)

HEADINGS = ("UNKNOWN", "SENT BY", "TYPE", "FIELD", "EVENTS", "SESSIONS", "FIRST SEEN", "LAST SEEN")
NUMBERS = frozenset({4, 5})
NAMES = frozenset({2, 3})


def drift(
    *,
    data: DataOption = DEFAULT_DATA,
    since_: Annotated[
        str | None,
        typer.Option(
            "--since",
            envvar="RECORDER_DRIFT_SINCE",
            metavar="WHEN",
            help="Only sessions opened since: `30m`, `2h`, `7d`, or a date or time.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List event types and fields that the vocabulary does not know.

    They are recorded and shown all the same; here is where the protocol has moved on, or a server has a dialect of its
    own. First and last seen are a session and a position in it, for `recorder show SESSION --at POSITION`.
    """
    from recorder.analytics.drift import SUMMARY

    opened = None if since_ is None else since(since_, datetime.now(UTC))
    with open_catalog(data) as catalog:
        rows = catalog.query(SUMMARY, [opened]).to_dicts()
        ids = catalog.query("SELECT session_id FROM sessions ORDER BY session_id")["session_id"].to_list()
    if as_json:
        output.print_json({"kind": _kind(row), **row} for row in rows)
        return
    if not rows:
        output.note("nothing unknown")
        return
    prefixes = unique_prefixes(ids)
    output.print_table(HEADINGS, [_cells(row, prefixes) for row in rows], right=NUMBERS, shrink=NAMES)


def _kind(row: dict[str, Any]) -> str:
    return "event" if row["field"] is None else "field"


def _cells(row: dict[str, Any], prefixes: dict[str, str]) -> list[str]:
    return [
        _kind(row),
        row["direction"],
        row["type"],
        row["field"] or "",
        output.number(row["event_count"]),
        output.number(row["session_count"]),
        _place(row["first_seen"], prefixes),
        _place(row["last_seen"], prefixes),
    ]


def _place(seen: dict[str, Any], prefixes: dict[str, str]) -> str:
    session_id = seen["session_id"]
    return f"{prefixes.get(session_id, session_id)} {seen['position']}"
