"""`recorder rebuild`: derived rows by the models of now."""

from __future__ import annotations

from typing import Annotated

import typer

from recorder.cli import completing, output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption, open_catalog
from recorder.cli.progress import progress

EXAMPLES = (
    ("recorder rebuild", "after an upgrade: all sessions by the new models"),
    ("recorder rebuild last", "one"),
)


def rebuild(
    sessions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SESSIONS",
            autocompletion=completing.sessions,
            help="Prefixes of sessions' ids, the server's sess_… ids, or `last`; all closed ones if absent.",
            show_default=False,
        ),
    ] = None,
    *,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Run the models over stored sessions again: sessions, responses, turns and all other tables are made anew.

    Events and audio stay as they are. Recording and reading go on meanwhile. Sessions that share files with a named
    one are rebuilt with it.
    """
    from recorder.pipeline.rebuild import rebuild as rebuild_store

    ids = None
    if sessions:
        with open_catalog(data) as catalog:
            ids = [catalog.resolve(name) for name in sessions]
    with progress("rebuilding") as advance:
        report = rebuild_store(data, ids, progress=advance)
    if as_json:
        output.print_object(report)
    else:
        output.note(f"{report.sessions:,} sessions rebuilt" if report.sessions else "all rows are those of now")
