"""`recorder verify`: is the store what it says?"""

from __future__ import annotations

from typing import Annotated, Final

import typer
from rich.text import Text

from recorder.cli import output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption
from recorder.cli.progress import progress
from recorder.errors import StoreError

EXAMPLES = (
    ("recorder verify", "every file, session, message and derived row"),
    ("recorder verify --quick", "only digests and what belongs to whom"),
)
HEADINGS: Final = ("WHAT", "FILE", "SESSIONS", "PROBLEM")


def verify(
    *,
    data: DataOption = DEFAULT_DATA,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", envvar="RECORDER_VERIFY_QUICK", help="Do not read every message, nor run the models again."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a store: digests of all files, positions, messages, and that models still give the stored rows.

    Nothing is changed; recording and reading go on meanwhile. The exit code is 5 when something is wrong. What is
    merely worth knowing (journals that wait to be sealed, leftovers of a crash) does not count.
    """
    from recorder.pipeline.problems import ADVICE, HARMLESS
    from recorder.pipeline.verify import verify as verify_store

    with progress("verifying") as advance:
        found = list(verify_store(data, quick=quick, progress=advance))
    wrong = [problem for problem in found if problem.kind not in HARMLESS]
    if as_json:
        output.print_json(found)
    else:
        if found:
            rows = [
                (
                    Text(problem.kind.replace("_", " "), "dim" if problem.kind in HARMLESS else "red"),
                    output.printable(problem.file),
                    _shown(problem.sessions),
                    output.printable(problem.problem),
                )
                for problem in found
            ]
            output.print_table(HEADINGS, rows)
        for kind in sorted({problem.kind for problem in found}):
            output.note(f"{kind.replace('_', ' ')}: {ADVICE[kind]}")
        output.note(f"{len(wrong):,} problems" if wrong else "nothing is wrong")
    if wrong:
        raise typer.Exit(StoreError.exit_code)


def _shown(session_ids: tuple[str, ...]) -> str:
    return ", ".join(session_ids[:2]) + (f", … ({len(session_ids)})" if len(session_ids) > 2 else "")
