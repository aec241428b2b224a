"""`recorder import`: recordings that others made, and our own exports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from recorder.cli import output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption
from recorder.cli.progress import progress
from recorder.errors import ImportFormatError

if TYPE_CHECKING:
    from recorder.pipeline.imports import ImportResult

EXAMPLES = (
    ("recorder import sample_logs", "every recording in a directory, and in those below it"),
    ("recorder import session.jsonl --data ./archive", "one file, into another store"),
    ("recorder import calls.zip network.har", "a colleague's bundle, and what a browser saved of its network panel"),
)

HEADINGS = ("FILE", "SESSION", "RESULT")
STYLES = {"imported": "green", "present": "dim", "failed": "red"}
WORDS = {"imported": "imported", "present": "already there"}


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES|DIRS",
            help="Files, or directories to search for *.jsonl, *.ndjson, *.har, *.flow and *.flows.",
            show_default=False,
        ),
    ],
    *,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Import recordings: JSON Lines, what `recorder export` and `bundle` wrote, HTTP archives, mitmproxy's flow files.

    A file is stored whole or not at all; one that is wrong does not stop the others, and makes the exit code 4.
    Importing a file again adds nothing.
    """
    from recorder.pipeline.imports import find_files, import_files
    from recorder.pipeline.upload import level, upload

    level(data)
    with progress("importing") as advance:
        results = import_files(data, find_files(files), advance)
    with progress("uploading") as advance:
        upload(data, advance)
    if as_json:
        output.print_json(results)
    else:
        output.print_table(HEADINGS, [(result.file, result.session_id or "–", _words(result)) for result in results])
    failed = [result for result in results if result.status == "failed"]
    if failed and not as_json:
        count = len(results)
        output.note(f"{len(failed)} of {count:,} files could not be imported; see docs/formats.md for what can")
    if failed:
        raise typer.Exit(ImportFormatError.exit_code)


def _words(result: ImportResult) -> Text:
    if result.status in WORDS:
        return Text(WORDS[result.status], STYLES[result.status])
    where = "" if result.line is None else f"line {result.line:,}: "
    return Text(output.printable(where + (result.error or "")), STYLES[result.status])
