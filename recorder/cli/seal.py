"""`recorder seal`: bring finished sessions into the store by hand."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import typer

from recorder.cli import output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption
from recorder.cli.progress import progress
from recorder.errors import NewerFormatError, StoreError

if TYPE_CHECKING:
    from recorder.pipeline.seal import SealReport

EXAMPLES = (("recorder seal", "after the recorder was killed, say: whatever is left over becomes sessions"),)


def seal(*, data: DataOption = DEFAULT_DATA, as_json: JsonOption = False) -> None:
    """Seal what is finished: journals become Parquet files, those of running sessions in parts.

    A running `recorder proxy` does this by itself. By hand it is for what a killed one left behind, which is brought
    in from memory, spools and journals first. A journal that cannot be sealed is set aside in DATA/quarantine, never
    deleted; the exit code is then 5.
    """
    from recorder.pipeline.recover import recover, sort_spools
    from recorder.pipeline.seal import seal_all
    from recorder.pipeline.upload import upload
    from recorder.store import layout

    layout.require(data)
    layout.create(data)
    recorder_runs = False
    try:
        recover(data)
    except NewerFormatError:
        raise
    except StoreError:
        recorder_runs = True
        with contextlib.suppress(StoreError):  # its own sorter is at it, unless it runs with --no-seal
            sort_spools(data)
    with progress("sealing") as advance:
        report = seal_all(data, advance)
    with progress("uploading") as advance:
        upload(data, advance)
    if as_json:
        output.print_object(report)
    else:
        for session_id in report.sealed:
            output.print_line(session_id)
        for session_id, problem in (report.quarantined | report.postponed).items():
            output.note(f"{session_id}: {problem}")
        output.note(_summary(report))
        if recorder_runs:
            output.note("a recorder is at work on this store: sessions that still run are left to it")
    if report.quarantined or report.postponed:
        raise typer.Exit(StoreError.exit_code)


def _summary(report: SealReport) -> str:
    words = [f"{len(report.sealed):,} sealed"] if report.sealed else []
    if report.parts:
        words.append(f"{report.parts:,} parts of running sessions sealed")
    if report.quarantined:
        words.append(f"{len(report.quarantined):,} set aside in quarantine")
    if report.postponed:
        words.append(f"{len(report.postponed):,} left for the next time")
    return ", ".join(words) or "nothing to seal"
