"""`recorder sessions`: what has been recorded, newest first."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any

import typer
from rich.text import Text

from recorder.cli import output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption, PricesOption, open_catalog, since

EXAMPLES = (
    ("recorder sessions", "the twenty that were opened last"),
    ("recorder sessions --status running", "calls that go on right now"),
    ("recorder sessions --since 2h --model gpt-realtime-mini", "of one model, in the last two hours"),
    ("recorder sessions --limit 0 --json | jq '.[].duration_seconds'", "all, for a program"),
)

HEADINGS = ("SESSION", "OPENED", "MODEL", "STATUS", "LENGTH", "TURNS", "RESP", "INTR", "TOKENS", "COST", "AUDIO P50")
NUMBERS = frozenset(range(4, 11))
MODEL = frozenset({2})
LESS = frozenset({6, 7, 8})
"""Columns that are left out on a terminal narrower than `WIDE`."""
WIDE = 96
SHORTEST = 8
"""Characters of an id that are shown at least."""


class Status(StrEnum):
    """How a session stands."""

    RUNNING = "running"
    CLOSED = "closed"
    REFUSED = "refused"
    LOST = "lost"


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
    model: Annotated[str | None, typer.Option(help="Only this model, or models whose names start so.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only sessions that stand so.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List sessions, newest first.

    Sessions that are still running are marked with a dot. The id is cut to what tells it from all others.
    """
    conditions: list[tuple[str, object]] = []
    if since_ is not None:
        conditions.append(("opened_at >= ?", since(since_, datetime.now(UTC))))
    if model is not None:
        conditions.append(("starts_with(model, ?)", model))
    if status is not None:
        conditions.append(("status = ?", status.value))
    where = f"WHERE {' AND '.join(sql for sql, _ in conditions)}" if conditions else ""
    query = (
        f"SELECT * FROM sessions {where} "  # noqa: S608  the conditions are ours, their values are parameters
        "ORDER BY opened_at DESC NULLS LAST, session_id DESC" + (f" LIMIT {limit}" if limit else "")
    )
    with open_catalog(data, prices) as catalog:
        rows = catalog.query(query, [value for _, value in conditions]).to_dicts()
        if as_json:
            output.print_json(rows)
            return
        ids = catalog.query("SELECT session_id FROM sessions ORDER BY session_id")["session_id"].to_list()
    if not rows:
        output.note("no sessions" + (" match" if conditions else " recorded yet"))
        return
    prefixes = unique_prefixes(ids)
    _print(_cells(row, prefixes[row["session_id"]]) for row in rows)
    if len(rows) == limit < len(ids) and not conditions:
        output.note(f"{limit} of {len(ids):,} sessions; --limit 0 lists all")


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


def _print(rows: Iterable[list[str | Text]]) -> None:
    shown = [n for n in range(len(HEADINGS)) if n not in LESS or output.console().width >= WIDE]
    output.print_table(
        [HEADINGS[n] for n in shown],
        [[row[n] for n in shown] for row in rows],
        right=frozenset(place for place, n in enumerate(shown) if n in NUMBERS),
        shrink=MODEL,
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
