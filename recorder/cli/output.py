"""What commands print: tables and lines for people, JSON for programs.

Recorded text is hostile until proven otherwise: everything that came off the wire passes `printable` on its way to a
terminal. Colours appear on terminals only, and NO_COLOR turns them off.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final, Literal

import msgspec
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

WIDE: Final = 1_000_000
"""Columns of an output that is no terminal: nothing is cut or wrapped for a pipe."""

JOINERS: Final = frozenset("\u200c\u200d")
"""Format characters that scripts and emoji need, and that move no cursor."""

DANGEROUS_IN_JSON: Final = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Legal in JSON as they are, but read by some terminals as commands."""


def printable(text: str) -> str:
    r"""Text that cannot command a terminal: control, bidirectional and other invisible characters are spelled out.

    `ESC` becomes `\x1b`, a line end `\n`, a right-to-left override `\u202e`. Applying it twice changes nothing.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible, text))


@cache
def _visible(character: str) -> str:
    category = unicodedata.category(character)
    hidden = category in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in JOINERS
    return character.encode("unicode_escape").decode("ascii") if hidden else character


class PipeConsole(Console):
    """A console that leaves a closed pipe to `main`."""

    def on_broken_pipe(self) -> None:
        """The reader went away."""
        raise BrokenPipeError


def console() -> Console:
    """The console for stdout as it is now."""
    return PipeConsole(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else WIDE)


def print_block(block: RenderableType) -> None:
    """Print a table or the like; for a pipe without the blanks that fill up its lines."""
    out = console()
    if out.is_terminal:
        out.print(block)
        return
    with out.capture() as captured:
        out.print(block)
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def print_line(line: Text | str) -> None:
    """Print one line, cut at the terminal's edge."""
    out = console()
    text = Text(line) if isinstance(line, str) else line
    text.truncate(out.width, overflow="ellipsis")
    out.print(text, no_wrap=True, crop=False, overflow="ignore")


def note(message: str) -> None:
    """Say something beside the output, on stderr."""
    sys.stderr.write(f"{printable(message)}\n")


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str | Text]], *, right: frozenset[int] = frozenset()
) -> None:
    """Print a table.

    Args:
        headings: one a column.
        rows: cells as they shall appear. Strings are made printable here; a Text is taken as it is.
        right: the columns, by number, that are set flush right.
    """
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for number, heading in enumerate(headings):
        justify: Literal["left", "right"] = "right" if number in right else "left"
        table.add_column(Text(printable(heading)), justify=justify, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    print_block(table)


def to_json(value: object) -> str:
    """One line of JSON. Times are ISO 8601, bytes base64, what is no number null; safe to show on a terminal."""
    text = msgspec.json.encode(value, enc_hook=str).decode()
    return DANGEROUS_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def print_json(rows: Iterable[object]) -> None:
    """Print a JSON list, one object a line, so that a long one can be read as it comes."""
    write = sys.stdout.write
    first = True
    for row in rows:
        write(("[\n" if first else ",\n") + to_json(row))
        first = False
    write("[]\n" if first else "\n]\n")


def print_object(value: object) -> None:
    """Print one JSON object, indented."""
    sys.stdout.write(msgspec.json.format(to_json(value), indent=2) + "\n")


# Words for values; "" is never printed for what is unknown: a dash is


def number(value: float | None, digits: int = 0) -> str:
    """`1,234`, or `–`."""
    return "–" if value is None else f"{value:,.{digits}f}"


def seconds(value: float | None) -> str:
    """A duration to read: `340 ms`, `12.3 s`, `4:05`, `1:02:03`, or `–`."""
    if value is None:
        return "–"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def local_time(value: datetime | None) -> str:
    """A moment in the reader's time zone, or `–`."""
    return "–" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def plain(value: Any) -> str:
    """A value of a query's result as a cell."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.1f}"
    if isinstance(value, bool | int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    return to_json(value).strip('"')
