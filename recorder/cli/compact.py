"""`recorder compact`: many small files become few large ones."""

from __future__ import annotations

from typing import Annotated

import typer

from recorder.cli import output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption
from recorder.cli.progress import progress

EXAMPLES = (
    ("recorder compact --dry-run", "what there is to do"),
    ("recorder compact", "do it; calls, sealing and queries go on"),
    ("recorder compact --date 2026-01-31 --grace 0", "one day; replaced files go at once"),
)


def compact(
    *,
    data: DataOption = DEFAULT_DATA,
    date: Annotated[
        list[str] | None,
        typer.Option(
            "--date",
            envvar="RECORDER_COMPACT_DATE",
            metavar="YYYY-MM-DD",
            help="Only this day; may be repeated.",
            show_default=False,
        ),
    ] = None,
    target_mb: Annotated[
        int,
        typer.Option("--target-mb", envvar="RECORDER_COMPACT_TARGET_MB", min=1, help="How large files get, in MiB."),
    ] = 256,
    grace: Annotated[
        float,
        typer.Option(
            "--grace",
            envvar="RECORDER_COMPACT_GRACE",
            min=0,
            metavar="SECONDS",
            help="How long replaced files stay for those who are reading them.",
        ),
    ] = 60.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", envvar="RECORDER_COMPACT_DRY_RUN", help="Only say what would be done.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Merge small files of a store into large ones, so that queries over many sessions are fast.

    Recording, sealing and queries go on meanwhile. Files that are replaced stay for a minute, and go with the next
    compaction. Killed at any point, nothing is lost and nothing is there twice.
    """
    from recorder.pipeline.compact import compact as compact_store

    with progress("compacting") as advance:
        report = compact_store(
            data, advance, dates=date, target_bytes=target_mb << 20, grace_seconds=grace, dry_run=dry_run
        )
    if as_json:
        output.print_object(report)
        return
    if report.days:
        output.print_table(
            ("DATE", "SESSIONS", "FILES BEFORE", "FILES AFTER", "MIB WRITTEN ANEW"),
            [
                (
                    day.date,
                    output.number(day.sessions),
                    output.number(day.files_before),
                    output.number(day.files_after),
                    output.number(day.bytes_rewritten / (1 << 20), 1),
                )
                for day in report.days
            ],
            right=frozenset({1, 2, 3, 4}),
        )
    else:
        output.note("nothing to compact")
    if report.removed_files:
        output.note(f"{report.removed_files:,} replaced files removed, {report.removed_bytes:,} bytes")
    if report.unnamed:
        kept = f"{len(report.unnamed):,} data files are kept that no manifest names"
        output.note(f"{kept}: `recorder repair` names again what is nowhere else")
    if report.days and not dry_run and grace:
        output.note(f"what was replaced goes with the next compaction, after {grace:g} s")
