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
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, Final, Literal, TextIO

import msgspec
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

WIDE: Final = 1_000_000
"""Columns of an output that is no terminal: nothing is cut or wrapped for a pipe."""

LEGIBLE: Final = 10
"""Columns of the terminal that a cell keeps at least when a table is narrowed."""

GAP: Final = 2
"""Blanks between the columns of a table."""

JOINERS: Final = frozenset("\u200c\u200d")
"""Format characters that scripts and emoji need, and that move no cursor."""

DANGEROUS_IN_JSON: Final = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Legal in JSON as they are, but read by some terminals as commands."""


FORMULA: Final = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
SIGNED_NUMBER: Final = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?")


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
    return _console(sys.stdout)


@lru_cache(maxsize=1)
def _console(stream: TextIO) -> Console:
    width = None if stream.isatty() else WIDE
    return PipeConsole(file=stream, highlight=False, markup=False, emoji=False, width=width)


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
    headings: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    right: frozenset[int] = frozenset(),
    shrink: frozenset[int] | None = None,
) -> None:
    """Print a table.

    Args:
        headings: one a column.
        rows: cells as they shall appear. Strings are made printable here; a Text is taken as it is.
        right: the columns, by number, that are set flush right.
        shrink: the columns that give way on a narrow terminal; None for all.
    """
    cells = [[Text(printable(cell)) if isinstance(cell, str) else cell for cell in row] for row in rows]
    natural = natural_widths(headings, cells)
    rigid = set() if shrink is None else set(range(len(headings))) - shrink
    least = [width if number in rigid else min(LEGIBLE, width) for number, width in enumerate(natural)]
    room = console().width - GAP * (len(headings) - 1)
    widths = _narrowed(natural, least, room) if sys.stdout.isatty() else natural
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for number, heading in enumerate(headings):
        justify: Literal["left", "right"] = "right" if number in right else "left"
        title = Text(printable(heading))
        table.add_column(title, justify=justify, overflow="ellipsis", no_wrap=True, width=widths[number])
    for row in cells:
        table.add_row(*row)
    print_block(table)


def _narrowed(widths: list[int], least: list[int], room: int) -> list[int]:
    """Take from the widest columns until all fit, or none can give any more. All are of a terminal's size."""
    narrowed = [min(width, room) for width in widths]
    for _ in range(max(0, sum(narrowed) - room)):
        spare = [number for number, width in enumerate(narrowed) if width > least[number]]
        if not spare:
            break
        narrowed[max(spare, key=narrowed.__getitem__)] -= 1
    return narrowed


def natural_widths(headings: Sequence[str], rows: Sequence[Sequence[Text]]) -> list[int]:
    """How wide each column would be if nothing were cut."""
    columns = [[heading, *(row[number] for row in rows)] for number, heading in enumerate(map(Text, headings))]
    return [max(cell.cell_len for cell in column) for column in columns]


def fits(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a table of these leaves each column at least `LEGIBLE` or its own width."""
    widths = natural_widths(headings, [[Text(cell) for cell in row] for row in rows])
    return sum(min(LEGIBLE, width) + GAP for width in widths) - GAP <= console().width


def print_records(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows with one line a column: for tables that are wider than any terminal."""
    width = max(map(len, map(printable, headings)), default=0)
    for number, row in enumerate(rows, start=1):
        print_line(Text(f"── row {number:,} ──", "dim"))
        for heading, cell in zip(headings, row, strict=True):
            print_line(Text.assemble((f"{printable(heading):<{width}}  ", "bold"), printable(cell)))


_JSON: Final = msgspec.json.Encoder(enc_hook=str, decimal_format="number")  # SQL's sums of integers are decimals


def to_json(value: object) -> str:
    """One line of JSON. Times are ISO 8601, bytes base64, what is no number null; safe to show on a terminal."""
    text = _JSON.encode(value).decode()
    return DANGEROUS_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def print_json(rows: Iterable[object]) -> None:
    """Print a JSON list, one object a line, so that a long one can be read as it comes."""
    write = sys.stdout.write
    first = True
    for row in rows:
        write(("[\n" if first else ",\n") + to_json(row))
        first = False
    write("[]\n" if first else "\n]\n")


def csv_text(text: str) -> str:
    """A text for a cell of CSV, with a `'` before it where a spreadsheet would take it for a formula.

    Recorded text is anybody's, and spreadsheets run what begins like this (OWASP, "CSV Injection"). What programs read
    exactly is JSON.
    """
    return f"'{text}" if FORMULA.match(text) and not SIGNED_NUMBER.fullmatch(text) else text


def print_object(value: object) -> None:
    """Print one JSON object, indented."""
    sys.stdout.write(msgspec.json.format(to_json(value), indent=2) + "\n")


# Words for values; "" is never printed for what is unknown: a dash is


def number(value: float | None, digits: int = 0) -> str:
    """`1,234`, or `–`."""
    return "–" if value is None else f"{value:,.{digits}f}"


def usd(value: float | Decimal | None) -> str:
    """An amount to read: `$12.34`, below a dollar four decimals, or `–`."""
    if value is None:
        return "–"
    return f"${value:,.2f}" if value >= 1 else f"${value:.4f}"


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
