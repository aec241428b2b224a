"""`recorder repair`: mend what can be mended."""

from __future__ import annotations

import typer

from recorder.cli import output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption
from recorder.errors import StoreError

EXAMPLES = (("recorder repair", "after `recorder verify` found something"),)


def repair(*, data: DataOption = DEFAULT_DATA, as_json: JsonOption = False) -> None:
    """Mend a store: damaged manifests and derived rows are made anew; sessions that cannot be read whole are set aside.

    Set aside means moved to DATA/quarantine; nothing that was recorded is deleted. A store in which nothing is wrong
    stays as it is. The exit code is 5 when sessions had to be set aside, or something is still wrong.
    """
    from recorder.pipeline.problems import HARMLESS
    from recorder.pipeline.repair import repair as repair_store

    report = repair_store(data)
    wrong = [problem for problem in report.left if problem.kind not in HARMLESS]
    if as_json:
        output.print_object(report)
    else:
        for words, names in (
            ("files put right from a sound copy", report.restored),
            ("damaged manifests set aside", report.manifests),
            ("sessions that have a manifest again", report.recovered),
            ("sessions whose derived rows were made anew", report.rebuilt),
            ("sessions set aside in DATA/quarantine", report.set_aside),
            ("files removed that nobody read", report.removed),
        ):
            if names:
                output.note(f"{len(names):,} {words}")
        for session_id in report.set_aside:
            output.print_line(session_id)
        for problem in wrong:
            output.note(f"{problem.file}: {problem.problem}")
        done = (report.restored, report.manifests, report.recovered, report.rebuilt, report.set_aside, report.removed)
        if not any(done) and not wrong:
            output.note("nothing to mend")
    if wrong or report.set_aside:
        raise typer.Exit(StoreError.exit_code)
