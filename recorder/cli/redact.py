"""`recorder redact`: words and sounds that must go, out of sessions that stay."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from recorder.cli import completing, output
from recorder.cli.erase import ReasonOption
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption
from recorder.errors import UsageError

if TYPE_CHECKING:
    from recorder.pipeline.redact_store import Mute

EXAMPLES = (
    (r"recorder redact last --text '\d{4} \d{4} \d{4} \d{4}'", "card numbers, wherever they stand"),
    ("recorder redact 0197f1 --mute +12.5..+14 --speaker caller", "a second and a half of the caller's voice"),
    ("recorder redact 0197f1 --mute 120..180", "the audio of these positions"),
)


def redact(
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
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            envvar="RECORDER_REDACT_TEXT",
            metavar="PATTERN",
            help="A regular expression: what it finds is replaced. May be repeated.",
            show_default=False,
        ),
    ] = None,
    mute: Annotated[
        list[str] | None,
        typer.Option(
            "--mute",
            envvar="RECORDER_REDACT_MUTE",
            metavar="FROM..TO",
            help="Audio to silence: `+12.5..+14` in seconds, or `120..180` by positions. May be repeated.",
            show_default=False,
        ),
    ] = None,
    speaker: Annotated[
        Literal["caller", "assistant", "both"],
        typer.Option("--speaker", envvar="RECORDER_REDACT_SPEAKER", help="Whose audio to silence."),
    ] = "both",
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Replace texts and silence audio in sealed sessions, for good, and derive all their rows anew.

    Texts are searched as they were said, also where they came in fragments. What was said can be both in the audio and
    in transcripts: say both --text and --mute then. Changed events are flagged `redacted`; docs/retention.md has more.
    """
    from recorder.pipeline.erase import find
    from recorder.pipeline.redact_store import redact as redact_sessions
    from recorder.store import layout

    layout.require(data)
    if not text and not mute:
        raise UsageError("redact what?", hint="Give --text PATTERN, --mute FROM..TO, or both.")
    patterns = [_pattern(each) for each in text or ()]
    mutes = [parse_mute(each, speaker) for each in mute or ()]
    reports = redact_sessions(data, find(data, sessions), patterns=patterns, mutes=mutes, reason=reason)
    if as_json:
        output.print_json(reports)
        return
    output.print_table(
        ("SESSION", "TEXTS", "EVENTS", "SILENCED"),
        [
            (
                each.session_id,
                output.number(each.matches),
                output.number(each.events),
                output.seconds(each.muted_ms / 1000),
            )
            for each in reports
        ],
        right=frozenset({1, 2, 3}),
    )
    for path in dict.fromkeys(path for each in reports for path in each.unquarantined):
        output.note(f"removed: {output.printable(path)}")


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise UsageError(f"--text {text!r} is no regular expression: {error}") from error


def parse_mute(text: str, speaker: Literal["caller", "assistant", "both"]) -> Mute:
    """The span that `FROM..TO` names: seconds where both begin with a plus sign, else positions.

    Raises:
        UsageError: it names none.
    """
    from recorder.pipeline.redact_store import Mute

    found = re.fullmatch(r"(\+?)(\d{1,9}(?:\.\d+)?)s?\.\.(\+?)(\d{1,9}(?:\.\d+)?)s?", text.strip())
    start, end = (float(found[2]), float(found[4])) if found else (1.0, 0.0)
    by_position = found is not None and not found[1]
    whole = start.is_integer() and end.is_integer()
    if found is None or found[1] != found[3] or start > end or (by_position and not whole):
        raise UsageError(
            f"--mute {text!r} is no span", hint="Give seconds (+12.5..+14) or positions (120..180), the earlier first."
        )
    return Mute(start, end, by_position, speaker)
