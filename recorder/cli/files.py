"""`recorder files`: which data files count, for DuckDB, polars, Spark and others."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from recorder.cli import output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption

EXAMPLES = (
    ("recorder files --data-set responses", "paths, one a line"),
    ("recorder files --data-set events --data-set appends --closed", "all events of sessions that have ended"),
    ("recorder files --json | jq 'map(.bytes) | add'", "how much counts, in bytes"),
)


def files(
    *,
    data: DataOption = DEFAULT_DATA,
    data_set: Annotated[
        list[str] | None,
        typer.Option(
            "--data-set",
            envvar="RECORDER_FILES_DATA_SET",
            metavar="NAME",
            help="Only of this data set; may be repeated.",
            show_default=False,
        ),
    ] = None,
    closed: Annotated[
        bool,
        typer.Option(
            "--closed", envvar="RECORDER_FILES_CLOSED", help="Without the sealed parts of sessions that still run."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the data files that count, for programs that read them without the recorder.

    Only manifests say which files do: others lie beside them that were replaced, or that a crash left. The list holds
    for now; files that are replaced later stay for a minute more, but for what was erased.
    """
    from recorder.pipeline.file_list import counting_files

    found = counting_files(data, data_set or None, closed=closed)
    if as_json:
        output.print_json(found)
        return
    for file in found:
        sys.stdout.write(output.printable(file.place) + "\n")
    if not found:
        output.note("no file counts")
    encrypted = sum(bool(file.key_id) for file in found)
    if encrypted:
        output.note(f"{encrypted:,} of {len(found):,} are encrypted")
