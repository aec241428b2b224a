"""`recorder prune`: what is older than its time goes."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import typer

from recorder.cli import output
from recorder.cli.options import DEFAULT_DATA, UNITS, DataOption, JsonOption
from recorder.cli.progress import progress
from recorder.errors import UsageError

EXAMPLES = (
    ("recorder prune --older-than 30d --audio-older-than 7d --dry-run", "what would go"),
    ("recorder prune --older-than 30d --audio-older-than 7d", "do it; once a day by a timer, say"),
)


def prune(
    *,
    data: DataOption = DEFAULT_DATA,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            envvar="RECORDER_PRUNE_OLDER_THAN",
            metavar="AGE",
            help="Remove sessions that opened so long ago: `30d`, `12w`, `48h`.",
            show_default=False,
        ),
    ] = None,
    audio_older_than: Annotated[
        str | None,
        typer.Option(
            "--audio-older-than",
            envvar="RECORDER_PRUNE_AUDIO_OLDER_THAN",
            metavar="AGE",
            help="Of sessions that opened so long ago, remove the audio.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", envvar="RECORDER_PRUNE_DRY_RUN", help="Only say what would be done.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove sessions, or only their audio, when they are older than they may be.

    A session is as old as its opening; one that was imported without times, as its import. Sessions that still run
    stay. docs/retention.md says what is guaranteed.
    """
    from recorder.pipeline.prune import prune as prune_store

    ages = [age(text) if text else None for text in (older_than, audio_older_than)]
    with progress("pruning") as advance:
        report = prune_store(data, advance, older_than=ages[0], audio_older_than=ages[1], dry_run=dry_run)
    if as_json:
        output.print_object(report)
        return
    would = "would lose" if dry_run else "lost"
    output.note(
        f"{len(report.sessions):,} sessions {'would be removed' if dry_run else 'removed'} "
        f"({report.events:,} events), {len(report.audio_sessions):,} {would} their audio"
    )
    if report.bytes is not None:
        output.note(f"{report.bytes:,} bytes freed")


def age(text: str) -> timedelta:
    """The span of time that `30d`, `12w`, `48h`, `90m` or `10s` names.

    Raises:
        UsageError: it names none.
    """
    span = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if span is None:
        raise UsageError(f"{text!r} is no age", hint="Give a number and a unit: 30d, 12w, 48h.")
    return timedelta(**{UNITS[span[2]]: int(span[1])})
