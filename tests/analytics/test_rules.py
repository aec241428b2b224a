"""Each rule on rows made for it; and rules of users."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from recorder.analytics.engine import Engine
from recorder.analytics.registry import shown_models
from recorder.analytics.rules import Rule, RuleError, built_in_rules, load_rules, reference
from recorder.store.schema import EVENTS

CASES = Path(__file__).parent / "rule_cases"
RULES = {rule.name: rule for rule in built_in_rules()}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as opened:
        yield opened


def fill(engine: Engine, given: dict[str, list[dict[str, Any]]]) -> None:
    """Make these the rows of the running sessions; what a row leaves out is NULL, and its session `s`."""
    names = {
        name: [column.name for column in model.columns] for name, model in shown_models().items() if not model.view
    }
    names["events"] = EVENTS.names
    live = {}
    for name, columns in names.items():
        rows = [{"session_id": "s", "wire_bytes": 0, "redacted": False} | row for row in given.get(name, [])]
        assert {key for row in given.get(name, []) for key in row} <= set(columns), name
        filled = [{key: row.get(key) for key in columns} for row in rows]
        known = {key for row in filled for key, value in row.items() if value is not None}
        kept = [{key: row[key] for key in columns if key in known} for row in filled]
        live[name] = pa.Table.from_pylist(kept) if kept else pa.table({"session_id": pa.array([], pa.string())})
    engine.update(live=live)


def found(engine: Engine, rule: Rule) -> list[dict[str, Any]]:
    rows = engine.run_rules([rule]).to_dicts()
    assert {(row["rule"], row["severity"], row["advice"]) for row in rows} <= {(rule.name, rule.severity, rule.advice)}
    return [{"positions": row["positions"], "message": row["message"]} for row in rows]


def test_every_rule_has_a_case() -> None:
    assert sorted(path.stem for path in CASES.iterdir()) == sorted(RULES)


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule(engine: Engine, name: str) -> None:
    case = yaml.safe_load((CASES / f"{name}.yaml").read_text(encoding="utf-8"))
    fill(engine, case["given"])

    rows = found(engine, RULES[name])

    by_message = [sorted(each, key=lambda row: row["message"]) for each in (rows, case["found"])]
    assert by_message[0] == by_message[1]


def test_no_rule_finds_anything_in_nothing(engine: Engine) -> None:
    fill(engine, {})

    assert engine.run_rules(list(RULES.values())).is_empty()
    assert engine.run_rules([]).columns == engine.run_rules(list(RULES.values())).columns


def test_findings_come_the_worst_first_and_only_of_the_sessions_asked_for(engine: Engine) -> None:
    fill(
        engine,
        {
            "responses": [
                {"session_id": "s", "created_position": 4, "status": "incomplete"},
                {"session_id": "s", "created_position": 6, "status": "failed"},
                {"session_id": "t", "created_position": 5, "status": "failed"},
            ]
        },
    )
    rules = [RULES["response_incomplete"], RULES["response_failed"]]

    everything = engine.run_rules(rules)
    assert everything.select("session_id", "severity").rows() == [("s", "error"), ("t", "error"), ("s", "warning")]
    assert engine.run_rules(rules, ["t"])["session_id"].to_list() == ["t"]
    assert engine.run_rules(rules, []).is_empty()
    assert engine.run_rules(rules, ["'; DROP TABLE x"]).is_empty()


def test_the_page_lists_them_as_they_are() -> None:
    page = Path(__file__).parents[2] / "docs" / "findings.md"
    made = f"<!-- rules:begin -->\n{reference()}<!-- rules:end -->"
    assert made in page.read_text(encoding="utf-8"), f"put this into docs/findings.md:\n{made}"


GREETING = """
severity: warning
title: It's short
advice: Say more.
thresholds: {least: 3}
query: SELECT session_id, [0] AS positions, 'only ' || event_count AS message FROM sessions WHERE event_count < $least;
"""


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_a_rule_of_ones_own(engine: Engine, tmp_path: Path) -> None:
    fill(engine, {"sessions": [{"session_id": "s", "event_count": 2}, {"session_id": "t", "event_count": 5}]})
    folder = write(tmp_path / "rules", "short.yaml", GREETING)

    (own,) = [rule for rule in load_rules(folder) if rule.name == "short"]
    (other,) = [rule for rule in load_rules(folder, {"short.least": 9}) if rule.name == "short"]

    assert engine.run_rules([own]).select("session_id", "title", "message").rows() == [("s", "It's short", "only 2")]
    assert engine.run_rules([other])["message"].to_list() == ["only 2", "only 5"]


def test_what_a_rule_cannot_say_is_left_out(engine: Engine, tmp_path: Path) -> None:
    fill(engine, {"sessions": [{"session_id": "s"}, {"session_id": "t", "event_count": 2}]})
    head = GREETING.split("query:", maxsplit=1)[0]
    query = "SELECT session_id, [event_count, 7] AS positions, 'only ' || event_count AS message FROM sessions"
    folder = write(tmp_path / "rules", "some.yaml", f"{head}query: {query}\n")
    write(folder, "none.yaml", f"{head}query: SELECT session_id, NULL AS positions, NULL AS message FROM sessions\n")

    rules = {rule.name: rule for rule in load_rules(folder)}

    found = engine.run_rules([rules["some"]]).select("session_id", "positions", "message").rows()
    assert sorted(found) == [("s", [7], "It's short"), ("t", [2, 7], "only 2")]
    assert engine.run_rules([rules["none"]]).select("positions", "message").rows() == [([], "It's short")] * 2


def test_it_takes_the_place_of_a_built_in_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "rules", "unknown_event.yaml", GREETING)
    write(folder, "beta_names.yml", "enabled: false\n")

    rules = {rule.name: rule for rule in load_rules(folder)}

    assert rules["unknown_event"].title == "It's short"
    assert "beta_names" not in rules
    assert len(rules) == len(RULES) - 1


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("Bad Name.yaml", GREETING, "a rule's name is made of small letters"),
        ("a.yaml", "severity: fatal", "Invalid enum value 'fatal'"),
        ("a.yaml", "{", "while parsing a flow node"),
        ("a.yaml", "severity: info", "severity, title, advice and query are needed"),
        ("a.yaml", GREETING + "quary: x", "Object contains unknown field `quary`"),
        ("a.yaml", GREETING.replace("$least", "$most"), "the query names $most"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, name: str, text: str, problem: str) -> None:
    folder = write(tmp_path / "rules", name, text)

    with pytest.raises(RuleError) as caught:
        load_rules(folder)

    assert caught.value.path == str(folder / name)
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("SELECT 1", "session_id"),
        ("SELECT session_id FROM nowhere", "nowhere does not exist"),
        ("DROP TABLE events", "not allowed here: queries only read"),
        ("SELECT NULL AS session_id, [1] AS positions, 'a' AS message", "a finding names no session"),
        ("SELECT * FROM read_csv('/etc/passwd')", "the table function read_csv is not allowed here"),
    ],
)
def test_a_wrong_query_is_named_and_does_nothing(engine: Engine, tmp_path: Path, query: str, problem: str) -> None:
    text = GREETING.split("query:", maxsplit=1)[0] + f"query: {query}\n"
    folder = write(tmp_path / "rules", "a.yaml", text)

    with pytest.raises(RuleError) as caught:
        engine.run_rules([rule for rule in load_rules(folder) if rule.name == "a"])

    assert caught.value.path == str(folder / "a.yaml")
    assert problem in caught.value.problem


def test_a_threshold_that_no_rule_has() -> None:
    with pytest.raises(RuleError, match="there is no such rule with such a threshold"):
        load_rules(thresholds={"pacing_off.speed": 1})


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="no such folder"):
        load_rules(tmp_path / "rules")
