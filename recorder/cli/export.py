"""`recorder export`: a session as a file that loses nothing."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recorder.cli import output
from recorder.cli.options import DEFAULT_DATA, DataOption, SessionArgument, open_catalog
from recorder.errors import UsageError

EXAMPLES = (
    ("recorder export last > session.jsonl", "the newest session"),
    ("recorder export 0197f1 -o session.jsonl", "to a file that appears whole or not at all"),
    ("recorder export last | jq -r 'select(.type == \"error\").message'", "what a server complained about"),
)


class Format(StrEnum):
    """What to write."""

    JSONL = "jsonl"


def export(
    session: SessionArgument,
    *,
    data: DataOption = DEFAULT_DATA,
    format_: Annotated[
        Format, typer.Option("--format", envvar="RECORDER_EXPORT_FORMAT", help="What to write.")
    ] = Format.JSONL,
    to: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            envvar="RECORDER_EXPORT_OUTPUT",
            metavar="FILE",
            help="Where to write; stdout if absent.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a session as a file: every message as it was on the wire, audio included.

    `recorder import` makes the identical session of it in another store. Secrets that were removed when it was
    recorded are not in it; what was said is.
    """
    from recorder.formats import jsonl
    from recorder.store.layout import write_file

    del format_  # there is one
    with open_catalog(data) as catalog:
        events = catalog.recorded_events(catalog.resolve(session))
    if to is None:
        jsonl.export(events, sys.stdout.buffer)
        return
    try:
        write_file(to, lambda file: jsonl.export(events, file))
    except OSError as error:
        raise UsageError(f"cannot write {os.fspath(to)}: {error.strerror or error}") from error
    output.note(f"{len(events):,} events written to {to}")
