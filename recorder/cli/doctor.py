"""`recorder doctor`: known mistakes, found in what was recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from recorder.cli import bounds, completing, output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption, RulesOption, SinceOption, open_catalog
from recorder.cli.options import since as parse_since
from recorder.errors import UsageError

if TYPE_CHECKING:
    from recorder.analytics.rules import Rule
    from recorder.pipeline.catalog import Catalog

EXAMPLES = (
    ("recorder doctor last", "the newest session"),
    ("recorder doctor --since 24h --fail-on warning", "a day's, as a gate: the exit code tells"),
    ("recorder doctor --rules ./rules --threshold first_audio_slow.most_seconds=1.2", "rules and limits of your own"),
    ("recorder doctor --list", "what is looked for"),
)


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Gate(StrEnum):
    """From which severity on the exit code says so."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    NEVER = "never"


EXIT_CODES: Final = {Severity.ERROR: 12, Severity.WARNING: 11, Severity.INFO: 10}
STYLES: Final = {"error": "bold red", "warning": "yellow", "info": "cyan"}
MANY: Final = 200


def doctor(
    sessions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SESSIONS",
            autocompletion=completing.sessions,
            help="Prefixes of sessions' ids, the server's sess_… ids, or `last`; all if absent.",
            show_default=False,
        ),
    ] = None,
    *,
    data: DataOption = DEFAULT_DATA,
    since: SinceOption = None,
    severity: Annotated[
        Severity, typer.Option(envvar="RECORDER_SEVERITY", help="Show findings of this severity and worse.")
    ] = Severity.INFO,
    fail_on: Annotated[
        Gate, typer.Option(envvar="RECORDER_FAIL_ON", help="From which severity on the exit code is not 0.")
    ] = Gate.ERROR,
    rules: RulesOption = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            envvar="RECORDER_THRESHOLDS",
            metavar="RULE.NAME=NUMBER",
            help="Another limit for a rule; may be repeated.",
            show_default=False,
        ),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", envvar="RECORDER_LIST", help="List the rules instead, with their limits.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look for known mistakes: what was found, where the evidence is, and what to do about it.

    The exit code is 12 for errors, 11 for warnings, 10 for what is worth knowing, as far as --fail-on asks for it.
    """
    from recorder.analytics.rules import load_rules

    chosen = load_rules(rules, dict(map(_threshold, threshold or ())))
    if list_:
        _list(chosen, as_json=as_json)
        return
    with open_catalog(data) as catalog:
        ids = _sessions(catalog, sessions or (), since)
        with bounds.memory(bounds.DEFAULT_MB) if rules else nullcontext():
            found = catalog.findings(ids, chosen).to_dicts()
    shown = [row for row in found if _rank(row["severity"]) <= _rank(severity)]
    if as_json:
        output.print_json(shown)
    else:
        _print(shown, one=ids is not None and len(ids) == 1)
    worst = min((Severity(row["severity"]) for row in found), key=_rank, default=None)
    if worst is not None and fail_on is not Gate.NEVER and _rank(worst) <= _rank(fail_on):
        raise typer.Exit(EXIT_CODES[worst])


def _rank(severity: str) -> int:
    return list(Severity).index(Severity(severity))


def _threshold(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), int(value) if value.strip().isdigit() else float(value)
    except ValueError:
        raise UsageError(f"--threshold {text!r} is no RULE.NAME=NUMBER") from None


def _sessions(catalog: Catalog, named: Sequence[str], since: str | None) -> list[str] | None:
    if named and since is not None:
        raise UsageError("name sessions, or say --since")
    if named:
        return [catalog.resolve(name) for name in named]
    if since is None:
        return None
    opened = parse_since(since, datetime.now(UTC))
    rows = catalog.query("SELECT session_id FROM sessions WHERE opened_at >= ?", [opened])
    return rows["session_id"].to_list()


def _print(found: Sequence[dict[str, Any]], *, one: bool) -> None:
    if not found:
        output.note("nothing found")
        return
    for row in found[:MANY]:
        head = Text.assemble((row["severity"], STYLES[row["severity"]]), "  ", (row["title"], "bold"))
        output.print_block(head if one else head.append(f"  {row['session_id']}", "dim"))
        places = ", ".join(f"{position:,}" for position in list(dict.fromkeys(row["positions"] or []))[:8])
        output.print_line(f"  {output.printable(row['message'])}" + (f" (position {places})" if places else ""))
        output.print_block(Text(f"  → {row['advice']}", "dim"))
    counts = Counter(row["severity"] for row in found)
    output.note(", ".join(f"{counts[each]:,} {each}" for each in Severity if counts[each]))
    if len(found) > MANY:
        output.note(f"{len(found) - MANY:,} more are not shown; --json gives all")


def _list(rules: Sequence[Rule], *, as_json: bool) -> None:
    if as_json:
        output.print_json(
            {"rule": each.name, "severity": each.severity, "title": each.title, "thresholds": each.thresholds}
            | {"advice": each.advice, "file": each.path}
            for each in rules
        )
        return
    ordered = sorted(rules, key=lambda rule: (_rank(rule.severity), rule.name))
    output.print_table(
        ("RULE", "SEVERITY", "WHAT", "LIMITS"),
        [
            (each.name, Text(each.severity, STYLES[each.severity]), each.title, _limits(each.thresholds))
            for each in ordered
        ],
    )


def _limits(thresholds: dict[str, int | float]) -> str:
    return ", ".join(f"{name}={value}" for name, value in thresholds.items())
