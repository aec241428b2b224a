from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dashboards.found import KEPT_SECONDS, Finder, counted, grouped
from recorder.analytics.rules import built_in_rules
from recorder.pipeline.catalog import Catalog


def found(rule: str, severity: str, session_id: str, position: int) -> dict[str, Any]:
    said = {"title": rule.title(), "advice": "Look.", "message": f"at {position}"}
    return {"rule": rule, "severity": severity, "session_id": session_id, "positions": [position], **said}


ROWS = [
    found("a", "error", "s", 1),
    found("b", "info", "s", 2),
    found("a", "error", "t", 3),
    found("a", "error", "s", 9),
]


def test_findings_of_a_rule_stand_together_the_worst_rule_first() -> None:
    first, second = grouped(ROWS)
    assert (first.rule, first.title, [row["positions"] for row in first.rows]) == ("a", "A", [[1], [3], [9]])
    assert (second.rule, second.severity) == ("b", "info")
    assert {name: row["positions"] for name, row in first.sessions.items()} == {"s": [1], "t": [3]}
    assert grouped([]) == []


def test_severities_that_nothing_has_are_not_counted() -> None:
    assert counted(ROWS) == {"error": 3, "info": 1}
    assert counted([]) == {}


class Asked:
    """A catalog that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def findings(self, session_ids: list[str], rules: object) -> pl.DataFrame:
        del rules
        self.asked.append(session_ids)
        return pl.DataFrame(ROWS)


def test_what_was_found_is_kept_while_the_session_stays_as_it_is_but_not_for_long() -> None:
    catalog: Any = Asked()
    seconds = [0.0]
    finder = Finder(built_in_rules(), clock=lambda: seconds[0])
    session = {"session_id": "s", "event_count": 3, "status": "running"}

    def asked(row: dict[str, Any]) -> int:
        assert finder.find(catalog, [row]) == ROWS
        return len(catalog.asked)

    assert asked(session) == asked(session) == 1
    assert asked(session | {"event_count": 4}) == 2
    assert asked(session | {"event_count": 4, "status": "closed"}) == 3
    assert asked(session) == 3
    seconds[0] = KEPT_SECONDS
    assert asked(session) == 4


@pytest.mark.parametrize("rules", [(), built_in_rules()])
def test_a_store_is_looked_at_with_the_rules_that_were_given(troubled_store: Path, rules: Any) -> None:
    with Catalog(troubled_store) as catalog:
        sessions = catalog.query("SELECT * FROM sessions").to_dicts()
        assert bool(Finder(rules).find(catalog, sessions)) == bool(rules)
