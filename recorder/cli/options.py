"""Options and values that several commands share."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from recorder.cli import completing
from recorder.errors import UsageError
from recorder.store import keys

if TYPE_CHECKING:
    from recorder.pipeline.catalog import Catalog

DEFAULT_DATA: Final = Path("data")


def parse_data(value: str | Path) -> Path:
    """The value of `--data`: a directory, or the workspace of the object store that a URL names."""
    from recorder.store.workspace import resolve

    return resolve(str(value))


DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="RECORDER_DATA",
        metavar="DIR",
        parser=parse_data,
        help="Directory that holds the recordings, or an object store: s3://bucket/prefix.",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", envvar="RECORDER_JSON", help="Print JSON, for programs."),
]
PricesOption = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        envvar="RECORDER_PRICES",
        metavar="FILE",
        help="Prices of your own, before the built-in ones (TOML; see docs/cost.md).",
        show_default=False,
    ),
]
RulesOption = Annotated[
    Path | None,
    typer.Option(
        "--rules", envvar="RECORDER_RULES", metavar="DIR", help="A folder with rules of your own.", show_default=False
    ),
]
KeyFileOption = Annotated[
    str | None,
    typer.Option(
        "--key-file",
        envvar=keys.KEY_FILE,
        metavar="FILE",
        help="Key that the store is encrypted with, then earlier ones: 32 bytes each, in hex or base64, one a line.",
        show_default=False,
        rich_help_panel="Encryption",
    ),
]
KeyCommandOption = Annotated[
    str | None,
    typer.Option(
        "--key-command",
        envvar=keys.KEY_COMMAND,
        metavar="COMMAND",
        help="A command that prints what a key file holds; run without a shell.",
        show_default=False,
        rich_help_panel="Encryption",
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        envvar="RECORDER_SINCE",
        metavar="WHEN",
        help="Only sessions opened since: `30m`, `2h`, `7d`, or a date or time.",
        show_default=False,
    ),
]
SessionArgument = Annotated[
    str,
    typer.Argument(
        metavar="SESSION",
        autocompletion=completing.sessions,
        help="A prefix of the session's id, the server's sess_… id, or `last`.",
        show_default=False,
    ),
]

UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST: Final = timedelta(days=3652)


def with_keys(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options that say what its store is encrypted with; one without a store as it is."""
    signature = inspect.signature(command, eval_str=True)
    if "data" not in signature.parameters:
        return command

    @functools.wraps(command)
    def run(*arguments: object, key_file: str | None, key_command: str | None, **options: object) -> None:
        keys.use(key_file, key_command)
        command(*arguments, **options)

    own = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in (("key_file", KeyFileOption), ("key_command", KeyCommandOption))
    ]
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *own])  # type: ignore[attr-defined]
    return run


def open_catalog(data: Path, prices: Path | None = None) -> Catalog:
    """The store in `data`, for reading.

    Args:
        data: the store.
        prices: the value of `--prices`. Commands without the option take what `RECORDER_PRICES` says.

    Raises:
        StoreError: there is none.
        UsageError: the prices cannot be used.
    """
    from recorder.pipeline.catalog import Catalog

    named = os.environ.get("RECORDER_PRICES")
    return Catalog(data, prices=prices or (Path(named) if named else None))


def since(text: str, now: datetime, option: str = "--since") -> datetime:
    """The moment that an option names: `90m`, `2h`, `7d`, or a date or time (UTC where it says no zone).

    Raises:
        UsageError: it is neither.
    """
    try:
        if (ago := _span(text)) is not None:
            return now - ago
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{option} {text!r} is no time",
            hint="Say how long ago (30m, 2h, 7d) or when (2026-01-31, 2026-01-31T18:00).",
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def duration(option: str, text: str) -> timedelta:
    """A time span like `90m`, `2h`, `7d`: more than nothing, and at most ten years.

    Raises:
        UsageError: it is none.
    """
    span = _span(text)
    if not span or span > LONGEST:
        raise UsageError(f"{option} {text!r} is no time span", hint="Say how long: 30m, 2h, 7d.")
    return span


def _span(text: str) -> timedelta | None:
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    return None if found is None else timedelta(**{UNITS[found[2]]: int(found[1])})
