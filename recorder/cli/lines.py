"""A session's timeline and transcript as styled text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from recorder.cli.output import printable
from recorder.projection.state import Item, split_heard
from recorder.projection.timeline import Line

ARROWS: Final = {"client": "↑", "server": "↓", "recorder": "·"}
STYLES: Final = {"client": "cyan", "server": "green", "recorder": "dim"}
SPEAKERS: Final = {"user": "bold cyan", "assistant": "bold green", "system": "bold yellow"}
TYPE_WIDTH: Final = 44
"""Columns that types are padded to at most; longer ones push their summary to the right."""


def type_width(lines: Sequence[Line]) -> int:
    """How wide the column of types is, so that most summaries of a listing start below each other."""
    return min(TYPE_WIDTH, max((len(_name(line)) for line in lines), default=0))


def render_line(line: Line, *, timed: bool, width: int) -> Text:
    """One line of the timeline.

    Args:
        line: what to show.
        timed: whether the session carries times; without them positions stand alone.
        width: of the column of types.
    """
    text = Text()
    if timed:
        text.append(f"{offset(line.at_ns):>10} ", "dim")
    text.append(f"{line.position:>5} ", "dim")
    style = "red" if _is_trouble(line) else STYLES[line.direction]
    text.append(f"{ARROWS[line.direction]} ", style)
    name = _name(line)
    text.append(printable(line.type or "–"), style)
    text.append(name[len(printable(line.type or "–")) :], "dim")
    text.append(" " * (width - len(name) + 2) if len(name) <= width else "  ")
    if line.unknown:
        text.append("unknown  " if line.summary else "unknown", "yellow")
    text.append(printable(line.summary), "red" if _is_trouble(line) else "")
    return text


def offset(at_ns: int | None) -> str:
    """Seconds since the session opened: `+12.345`; blank where unknown."""
    return "" if at_ns is None else f"+{at_ns / 1e9:.3f}"


def transcript_table(items: Iterable[Item], *, timed: bool) -> Table:
    """A conversation as a table without lines: when, who, what."""
    table = Table.grid(padding=(0, 2))
    if timed:
        table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for item in items:
        cells = [speaker(item), content(item)]
        table.add_row(*([Text(offset(item.at_ns)), *cells] if timed else cells))
    return table


def speaker(item: Item) -> Text:
    """Who an item is from."""
    if item.type == "message":
        role = item.role or "?"
        return Text(printable(role), SPEAKERS.get(role, "bold"))
    return Text(
        {"function_call": "tool call", "function_call_output": "tool output"}.get(item.type) or printable(item.type),
        "magenta",
    )


def content(item: Item) -> Text:
    """What an item says, with what was not heard set apart, and what befell it."""
    text = Text()
    if item.type == "function_call_output":
        text.append(printable(_fold(item.output or "")))
    elif item.type != "message":
        text.append(printable(_fold(f"{item.name or ''}({item.arguments})" if item.name else item.arguments)))
    else:
        heard, unheard = split_heard(item)
        text.append(printable(_fold(heard)) or _silent(item, unheard))
        if unheard.strip():
            text.append(f" [not heard: {printable(_fold(unheard))}]", "dim strike" if heard else "dim")
    for remark in remarks(item):
        text.append(f"  ({remark})", "yellow" if remark.startswith("interrupted") else "dim")
    return text


def remarks(item: Item) -> list[str]:
    """What else there is to say of an item."""
    found = []
    if item.interrupted and item.audio_ms is not None and item.heard_ms is not None:
        about = "about " if item.heard_estimated else ""
        found.append(f"interrupted: {about}{item.heard_ms:,.0f} of {item.audio_ms:,.0f} ms heard")
    elif item.interrupted:
        found.append("interrupted")
    if item.status not in (None, "completed") and not item.interrupted:
        found.append(printable(item.status or ""))
    if item.deleted:
        found.append("deleted")
    if not item.confirmed:
        found.append("not confirmed by the server")
    if item.out_of_band:
        found.append("out of band")
    return found


def _silent(item: Item, unheard: str) -> str:
    if unheard:
        return ""
    kinds = ", ".join(part.type for part in item.content if part.type)
    length = "" if not item.audio_ms else f", {item.audio_ms:,.0f} ms"
    return f"<{printable(kinds) or 'nothing'}{length}>"


def _fold(text: str) -> str:
    return " ".join(text.split())


def _name(line: Line) -> str:
    count = f" ×{line.count:,}" if line.count > 1 else ""
    return printable(line.type or "–") + count


def _is_trouble(line: Line) -> bool:
    name = line.type or ""
    ours = name == "recorder.gap" and line.direction == "recorder"  # a peer may send that name, too
    return ours or name == "error" or name.endswith(".failed")
