from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from recorder.cli.main import app
from recorder.cli.prune import age
from recorder.cli.redact import parse_mute
from recorder.errors import SessionRunningError, UsageError
from recorder.pipeline.redact_store import Mute

Run = Callable[..., Result]

VOICE = "0199c2f1-0000-7000-8000-000000000001"
UNTIMED = "5f0c2b9e-1111-8000-8000-000000000002"
RUNNING = "0199c9a0-0000-7000-8000-000000000003"


@pytest.fixture
def run(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on a copy of the store."""
    copy = tmp_path / "data"
    shutil.copytree(store, copy)
    monkeypatch.setenv("RECORDER_DATA", str(copy))
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_erasing_asks(run: Run) -> None:
    assert isinstance(run("erase", "sess_voice").exception, UsageError)
    assert len(json.loads(run("sessions", "--json").stdout)) == 3

    result = run("erase", "sess_voice", "--yes", "--reason", "why", "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["sessions"] == [VOICE]
    assert {row["session_id"] for row in json.loads(run("sessions", "--json").stdout)} == {UNTIMED, RUNNING}
    assert isinstance(run("erase", RUNNING, "--yes").exception, SessionRunningError)
    assert isinstance(run("erase", "--yes").exception, UsageError)
    assert run("erase", "--label", "no=body", "--yes").stderr == "no session has such labels\n"
    wrong = run("erase", "--label", "nobody", "--yes").exception
    assert isinstance(wrong, UsageError)
    assert wrong.message == "--label 'nobody' is no label"


def test_compacting(run: Run) -> None:
    assert run("compact", "--dry-run").exit_code == 0
    report = json.loads(run("compact", "--json", "--grace", "0").stdout)
    assert report["days"] == []  # each of them is of another day
    assert run("compact").stderr == "nothing to compact\n"
    assert len(json.loads(run("sessions", "--json").stdout)) == 3


def test_pruning(run: Run) -> None:
    assert isinstance(run("prune").exception, UsageError)
    report = json.loads(run("prune", "--older-than", "0s", "--dry-run", "--json").stdout)
    assert set(report["sessions"]) == {VOICE, UNTIMED}
    result = run("prune", "--audio-older-than", "0s")
    assert result.stderr.startswith("0 sessions removed (0 events), 2 lost their audio\n")


def test_redacting(run: Run) -> None:
    assert isinstance(run("redact", "sess_voice").exception, UsageError)
    assert isinstance(run("redact", "sess_voice", "--text", "(").exception, UsageError)
    result = run("redact", "sess_voice", "--text", "the .screen", "--mute", "+0..+99", "--json")
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)
    assert report["matches"] >= 1
    assert report["muted_ms"] > 1_000
    assert "screen" not in run("show", "sess_voice", "--transcript").stdout
    assert VOICE in run("redact", "sess_voice", "--text", "nothing like it").stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [("+1.5..+3", Mute(1.5, 3.0, False, "caller")), ("12..12", Mute(12.0, 12.0, True, "caller"))],
)
def test_spans(text: str, expected: Mute) -> None:
    assert parse_mute(text, "caller") == expected


@pytest.mark.parametrize("text", ["", "1", "5..4", "+1..2", "1.5..2", "a..b", "-1..2"])
def test_no_spans(text: str) -> None:
    with pytest.raises(UsageError):
        parse_mute(text, "both")


def test_ages() -> None:
    assert age("30d") == timedelta(days=30)
    for text in ("30", "d", "-1d", "1y"):
        with pytest.raises(UsageError):
            age(text)


def test_no_store(run: Run, tmp_path: Path) -> None:
    for command in (
        ["compact"],
        ["prune", "--older-than", "1d"],
        ["erase", "x", "--yes"],
        ["redact", "x", "--text", "y"],
    ):
        assert run(*command, "--data", str(tmp_path / "none")).exit_code != 0
