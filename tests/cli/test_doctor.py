from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from recorder.analytics.rules import RuleError
from recorder.cli.main import app
from recorder.errors import UsageError
from recorder.pipeline.imports import import_files

LINES = [
    {"dir": "server", "event": {"type": "session.created", "session": {"id": "sess_1"}}, "ts": 1769860800.0},
    {"dir": "client", "event": {"type": "response.create"}, "ts": 1769860801.0},
    {"dir": "server", "event": {"type": "response.created", "response": {"id": "resp_1"}}, "ts": 1769860801.5},
    {"dir": "server", "event": {"type": "something\x1b[31m.new"}, "ts": 1769860802.0},
]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "call.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    import_files(tmp_path / "data", [tmp_path / "call.jsonl"])
    monkeypatch.setenv("RECORDER_DATA", str(tmp_path / "data"))
    return tmp_path


def doctor(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)])


@pytest.mark.usefixtures("store")
def test_what_was_found_where_and_what_to_do() -> None:
    result = doctor("last")

    lines = result.stdout.splitlines()
    assert lines[0] == "error  A response that never ended"
    assert lines[1] == "  no response.done came before the session ended (position 3)"
    assert lines[2].startswith("  → The stream ended before `response.done`")
    assert r"1 of type something\x1b[31m.new (position 4)" in lines[4]
    assert result.stderr == "1 error, 1 info\n"
    assert result.exit_code == 12


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 12), (["--fail-on", "never"], 0), (["--fail-on", "info"], 12), (["--since", "2026-02-01"], 0)],
)
def test_the_exit_code_tells_the_worst(arguments: list[str], code: int) -> None:
    assert doctor(*arguments).exit_code == code


def test_less_than_an_error_fails_only_when_asked(store: Path) -> None:
    (store / "rules").mkdir()
    (store / "rules" / "response_dangling.yaml").write_text("enabled: false")

    assert doctor("--rules", store / "rules").exit_code == 0
    assert doctor("--rules", store / "rules", "--fail-on", "info").exit_code == 10


@pytest.mark.usefixtures("store")
def test_for_programs() -> None:
    rows = json.loads(doctor("--json", "--severity", "error").stdout)

    assert [(row["rule"], row["severity"], row["positions"]) for row in rows] == [("response_dangling", "error", [3])]


@pytest.mark.usefixtures("store")
def test_nothing_found() -> None:
    result = doctor("last", "--severity", "error", "--since", "7d")
    assert isinstance(result.exception, UsageError)
    assert doctor("--since", "2026-02-01").stderr == "nothing found\n"


def test_the_rules_are_listed_with_their_limits() -> None:
    result = doctor("--list", "--threshold", "stall_heard.least_ms=350")

    assert "stall_heard" in result.stdout
    assert "least_ms=350" in result.stdout
    assert any(row["rule"] == "pacing_off" for row in json.loads(doctor("--list", "--json").stdout))


@pytest.mark.parametrize("threshold", ["nonsense", "a.b=c", "no_rule.x=1"])
def test_a_threshold_that_is_none(threshold: str) -> None:
    assert isinstance(doctor("--list", "--threshold", threshold).exception, UsageError | RuleError)
