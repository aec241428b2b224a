"""`recorder export`: a session as a file: all of it as JSON Lines, its messages as HAR, its sound as WAV or FLAC."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from recorder.cli import output
from recorder.cli.options import DEFAULT_DATA, DataOption, SessionArgument, open_catalog
from recorder.cli.progress import progress
from recorder.errors import UsageError

if TYPE_CHECKING:
    from recorder.formats.audio_export import SoundFormat
    from recorder.pipeline.catalog import Catalog

EXAMPLES = (
    ("recorder export last > session.jsonl", "the newest session"),
    ("recorder export 0197f1 -o session.jsonl", "to a file that appears whole or not at all"),
    ("recorder export last -o call.wav", "listen to it: caller left, assistant right"),
    ("recorder export last --as-sent -o call.flac", "with what the caller cut off"),
    ("recorder export last | jq -r 'select(.type == \"error\").message'", "what a server complained about"),
)

Write = Callable[[BinaryIO], str]
"""Writes into an open file, and says what it wrote."""


class Format(StrEnum):
    """What to write."""

    JSONL = "jsonl"
    HAR = "har"
    WAV = "wav"
    FLAC = "flac"


def export(
    session: SessionArgument,
    *,
    data: DataOption = DEFAULT_DATA,
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format",
            envvar="RECORDER_EXPORT_FORMAT",
            help="JSON Lines (all of it), an HTTP archive (its messages), or a stereo sound file; by default what the "
            "name of the output ends with, else JSON Lines.",
            show_default=False,
        ),
    ] = None,
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
    as_sent: Annotated[
        bool,
        typer.Option(
            "--as-sent",
            envvar="RECORDER_EXPORT_AS_SENT",
            help="Sound files: all that the assistant sent, not only what was heard.",
        ),
    ] = False,
) -> None:
    """Write a session as a file: every message as it was on the wire, audio included, or what one would have heard.

    `recorder import` makes the identical session of JSON Lines in another store. Secrets that were removed when it was
    recorded are not in it; what was said is. A sound file has the caller left and the assistant right, placed in time,
    and ends an answer where the caller cut it off.
    """
    chosen = format_ or _named(to)
    sounds = chosen in {Format.WAV, Format.FLAC}
    if as_sent and not sounds:
        raise UsageError("--as-sent is for sound files", hint="Add --format wav or --format flac.")
    if sounds and to is None and sys.stdout.isatty():
        raise UsageError("a sound file is nothing for a terminal", hint="Name a file with --output.")
    with open_catalog(data) as catalog:
        session_id = catalog.resolve(session)
        write = _sound(catalog, session_id, chosen, as_sent=as_sent) if sounds else _text(catalog, session_id, chosen)
        if to is None:
            _to_stdout(write, spooled=sounds)
        else:
            output.note(f"{_to_file(write, to)} written to {to}")


def _named(to: Path | None) -> Format:
    """The format that a file's name asks for."""
    ending = to.suffix.lower().removeprefix(".") if to is not None else ""
    return Format(ending) if ending in set(Format) else Format.JSONL


def _text(catalog: Catalog, session_id: str, format_: Format) -> Write:
    from recorder.formats import har, jsonl

    events = catalog.recorded_events(session_id)
    write = har.export_har if format_ is Format.HAR else jsonl.export
    what = "messages" if format_ is Format.HAR else "events"
    return lambda file: f"{write(events, file):,} {what}"


def _sound(catalog: Catalog, session_id: str, format_: Format, *, as_sent: bool) -> Write:
    from recorder.pipeline.audio_export import export_audio

    form: SoundFormat = "wav" if format_ is Format.WAV else "flac"

    def write(file: BinaryIO) -> str:
        with progress("placing audio") as advance:
            done = export_audio(catalog, session_id, file, form, as_sent=as_sent, progress=advance)
        if done.missing_seconds:
            output.note(f"{done.missing_seconds:,.1f} s of audio are not in the store: silence stands there")
        if not done.timed:
            output.note("the recording has no times: one speaker stands after the other")
        return f"{done.seconds:,.1f} s of sound, {done.sample_rate:,} samples a second,"

    return write


def _to_file(write: Write, to: Path) -> str:
    from recorder.store.layout import write_file

    said: list[str] = []
    try:
        write_file(to, lambda file: said.append(write(file)))
    except OSError as error:
        raise UsageError(f"cannot write {os.fspath(to)}: {error.strerror or error}") from error
    return said[0]


def _to_stdout(write: Write, *, spooled: bool) -> None:
    if not spooled:
        write(sys.stdout.buffer)
        return
    with tempfile.TemporaryFile() as file:  # the head of a sound file is written last
        write(file)
        file.seek(0)
        shutil.copyfileobj(file, sys.stdout.buffer)
