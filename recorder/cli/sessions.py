"""`recorder sessions`: what has been recorded, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from recorder.cli import output
from recorder.cli.options import (
    DEFAULT_DATA,
    DataOption,
    JsonOption,
    PricesOption,
    open_catalog,
    since,
)
from recorder.pipeline.labels import label_condition

EXAMPLES = (
    ("recorder sessions", "the twenty that were opened last"),
    ("recorder sessions --status running", "calls that go on right now"),
    ("recorder sessions --since 24h --sort first_audio --limit 5", "the calls of a day that were slowest to answer"),
    ("recorder sessions --since 2h --model gpt-realtime-mini", "of one model, in the last two hours"),
    ("recorder sessions --label tenant=acme --status lost", "a tenant's that broke off"),
    ("recorder sessions --limit 0 --json | jq '.[].duration_seconds'", "all, for a program"),
)

HEADINGS = ("SESSION", "OPENED", "MODEL", "STATUS", "LENGTH", "TURNS", "RESP", "INTR", "TOKENS", "COST", "AUDIO P50")
NUMBERS = frozenset(range(4, 11))
MODEL = 2
LESS = (6, 7, 8, 5, 9, MODEL)
"""Columns that a narrow terminal goes without, the first ones first."""
SHORTEST = 8
"""Characters of an id that are shown at least."""


class Status(StrEnum):
    """How a session stands."""

    RUNNING = "running"
    CLOSED = "closed"
    REFUSED = "refused"
    LOST = "lost"


class Sort(StrEnum):
    """By what to put the largest first."""

    FIRST_AUDIO = "first_audio"
    VOICE_TO_VOICE = "voice_to_voice"
    DURATION = "duration"
    TURNS = "turns"
    RESPONSES = "responses"
    INTERRUPTIONS = "interruptions"
    TOKENS = "tokens"
    COST = "cost"
    ERRORS = "errors"
    EVENTS = "events"


ORDERS: Final = {
    Sort.FIRST_AUDIO: "time_to_first_audio_p50_seconds",
    Sort.VOICE_TO_VOICE: "voice_to_voice_p50_seconds",
    Sort.DURATION: "duration_seconds",
    Sort.TURNS: "turn_count",
    Sort.RESPONSES: "response_count",
    Sort.INTERRUPTIONS: "interruption_count",
    Sort.TOKENS: "total_tokens",
    Sort.COST: "cost_usd",
    Sort.ERRORS: "error_count",
    Sort.EVENTS: "event_count",
}


def sessions(
    *,
    data: DataOption = DEFAULT_DATA,
    prices: PricesOption = None,
    limit: Annotated[int, typer.Option(min=0, help="How many to list; 0 lists all.")] = 20,
    since_: Annotated[
        str | None,
        typer.Option(
            "--since",
            envvar="RECORDER_SESSIONS_SINCE",
            metavar="WHEN",
            help="Opened since: `30m`, `2h`, `7d`, or a date or time.",
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Opened before: likewise.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this model, or models whose names start so.")
    ] = None,
    status: Annotated[Status | None, typer.Option(help="Only sessions that stand so.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Only with this label; of several, those that have all."),
    ] = None,
    sort: Annotated[Sort | None, typer.Option(help="The largest first, not the newest.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """List sessions, newest first.

    Sessions that are still running are marked with a dot. The id is cut to what tells it from all others. A narrow
    terminal gets fewer columns; --json has all.
    """
    chosen, values = _chosen(since_, until, model, status, label)
    order = f"{ORDERS[sort]} DESC NULLS LAST, " if sort else ""
    query = f"SELECT * {chosen} ORDER BY {order}opened_at DESC NULLS LAST, session_id DESC" + (
        f" LIMIT {limit}" if limit else ""
    )
    with open_catalog(data, prices) as catalog:
        rows = catalog.query(query, values).to_dicts()
        if as_json:
            output.print_json(rows)
            return
        matching = catalog.query(f"SELECT count(*) AS n {chosen}", values)["n"][0] if len(rows) == limit else len(rows)
        ids = catalog.query("SELECT session_id FROM sessions ORDER BY session_id")["session_id"].to_list()
    if not rows:
        output.note("no sessions" + (" match" if values else " recorded yet"))
        return
    prefixes = unique_prefixes(ids)
    _print([_cells(row, prefixes[row["session_id"]]) for row in rows])
    if len(rows) < matching:
        output.note(f"{limit} of {matching:,} sessions; --limit 0 lists all")


def _chosen(
    after: str | None, before: str | None, model: str | None, status: Status | None, labels: list[str] | None
) -> tuple[str, list[object]]:
    """`FROM sessions WHERE …` by the options, and its parameters."""
    now = datetime.now(UTC)
    conditions: list[tuple[str, tuple[object, ...]]] = [label_condition(label) for label in labels or ()]
    if after is not None:
        conditions.append(("opened_at >= ?", (since(after, now),)))
    if before is not None:
        conditions.append(("opened_at < ?", (since(before, now, "--until"),)))
    if model is not None:
        conditions.append(("starts_with(model, ?)", (model,)))
    if status is not None:
        conditions.append(("status = ?", (status.value,)))
    where = f" WHERE {' AND '.join(sql for sql, _ in conditions)}" if conditions else ""
    return f"FROM sessions{where}", [value for _, several in conditions for value in several]


def unique_prefixes(ids: list[str]) -> dict[str, str]:
    """The shortest prefix of each id that fits no other.

    Args:
        ids: sorted.
    """
    shared = [0, *(_common(before, after) for before, after in pairwise(ids)), 0]
    return {name: name[: max(SHORTEST, 1 + shared[n], 1 + shared[n + 1])] for n, name in enumerate(ids)}


def _common(one: str, other: str) -> int:
    length = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        length += 1
    return length


def fitting(rows: Sequence[Sequence[str | Text]], width: int) -> list[int]:
    """The columns, by number, that a terminal has room for; none of them is cut but the model's name."""
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    widths = output.natural_widths(HEADINGS, cells)
    widths[MODEL] = min(widths[MODEL], output.LEGIBLE)
    shown = list(range(len(HEADINGS)))
    for number in LESS:
        if sum(widths[n] + output.GAP for n in shown) - output.GAP <= width:
            break
        shown.remove(number)
    return shown


def _print(rows: Sequence[Sequence[str | Text]]) -> None:
    shown = fitting(rows, output.console().width)
    output.print_table(
        [HEADINGS[n] for n in shown],
        [[row[n] for n in shown] for row in rows],
        right=frozenset(place for place, n in enumerate(shown) if n in NUMBERS),
        shrink=frozenset(place for place, n in enumerate(shown) if n == MODEL),
    )


def _cells(row: dict[str, Any], prefix: str) -> list[str | Text]:
    return [
        prefix,
        _opened(row["opened_at"]),
        row["model"] or "–",
        _status(row["status"]),
        output.seconds(row["duration_seconds"]),
        output.number(row["turn_count"]),
        output.number(row["response_count"]),
        output.number(row["interruption_count"]),
        output.number(row["total_tokens"]),
        output.usd(row["cost_usd"]),
        output.seconds(row["time_to_first_audio_p50_seconds"]),
    ]


def _opened(moment: datetime | None) -> str:
    """In the reader's time zone; the year only where it is another."""
    if moment is None:
        return "–"
    local, now = moment.astimezone(), datetime.now().astimezone()
    return local.strftime("%m-%d %H:%M" if local.year == now.year else "%Y-%m-%d")


def _status(status: str) -> Text:
    styles = {"running": "bold green", "refused": "red", "lost": "yellow"}
    return Text(f"● {status}" if status == "running" else output.printable(status), styles.get(status, ""))
