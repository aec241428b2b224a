"""`recorder bundle`: chosen sessions as one file to send to a colleague."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from recorder.cli import completing, output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption, open_catalog
from recorder.cli.progress import progress
from recorder.errors import UsageError

EXAMPLES = (
    ("recorder bundle last", "the newest session, as recordings.zip"),
    ("recorder bundle 0197f1 0197f2 -o slow-calls.zip", "two of them"),
)


def bundle(
    sessions: Annotated[
        list[str],
        typer.Argument(
            metavar="SESSIONS",
            autocompletion=completing.sessions,
            help="Prefixes of sessions' ids, the server's sess_… ids, or `last`.",
            show_default=False,
        ),
    ],
    *,
    data: DataOption = DEFAULT_DATA,
    to: Annotated[
        Path,
        typer.Option("-o", "--output", envvar="RECORDER_BUNDLE_OUTPUT", metavar="FILE", help="The file to write."),
    ] = Path("recordings.zip"),
    as_json: JsonOption = False,
) -> None:
    """Write whole sessions, audio included, as one file that `recorder import` reads and checks.

    It is a zip archive; unpacked, it is a data directory. Secrets that were removed when the sessions were recorded are
    not in it; what was said is.
    """
    from recorder.pipeline.bundle import write_bundle
    from recorder.store.layout import write_file

    with open_catalog(data) as catalog:
        ids = list(dict.fromkeys(catalog.resolve(session) for session in sessions))
        counts: list[int] = []
        try:
            with progress("bundling") as advance:
                write_file(to, lambda file: counts.append(write_bundle(catalog, ids, file, advance)))
        except OSError as error:
            raise UsageError(f"cannot write {os.fspath(to)}: {error.strerror or error}") from error
    if as_json:
        output.print_object({"file": str(to), "sessions": ids, "events": counts[0], "bytes": to.stat().st_size})
    else:
        output.note(f"{len(ids):,} sessions, {counts[0]:,} events, {to.stat().st_size:,} bytes written to {to}")
