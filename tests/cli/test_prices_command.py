from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

Run = Callable[..., Result]


def test_voice_models_with_their_prices(run: Run) -> None:
    result = run("prices")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split()[:2] == ["MODEL", "SINCE"]
    line = next(line for line in result.stdout.splitlines() if line.startswith("gpt-realtime "))
    assert line.split()[1:10] == ["4.00", "0.40", "32.00", "0.40", "5.00", "0.50", "16.00", "64.00", "–"]
    whisper = next(line for line in result.stdout.splitlines() if line.startswith("whisper-1 "))
    assert whisper.split()[9] == "0.006"
    assert "gpt-4o-mini-2024" not in result.stdout
    assert "gpt-4.1" in run("prices", "--all").stdout


def test_one_model_with_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[[price]]\nmodel = "gpt-real*"\nvalid_from = 2026-02-03\nper_minute = 0.5\n')
    rows = json.loads(run("prices", "gpt-realtime", "--prices", str(tmp_path / "own.toml"), "--json").stdout)
    assert (rows[0]["model"], rows[0]["valid_from"], rows[0]["hour_usd"]) == ("gpt-real*", "2026-02-03", 30)
    assert rows[0]["source"] == str(tmp_path / "own.toml")
    assert {"gpt-realtime", "gpt-realtime-mini"} <= {row["model"] for row in rows[1:]}
    result = run("prices", "nothing-like-it")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no price for nothing-like-it\n")


def test_models_in_use(run: Run, tmp_path: Path) -> None:
    """The store has one response with usage, of gpt-realtime."""
    rows = json.loads(run("prices", "--in-use", "--json").stdout)
    assert [(row["model"], row["price_model"]) for row in rows] == [("gpt-realtime", "gpt-realtime")]
    (tmp_path / "own.toml").write_text('[[price]]\nmodel = "gpt-realtime"\nvalid_from = 2999-01-01\nper_hour = 1\n')
    assert "gpt-realtime " in run("prices", "--in-use", "--prices", str(tmp_path / "own.toml")).stdout


def test_a_broken_file_fails_every_command_that_reckons(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[[price]]\n")
    for command in (["prices"], ["sessions"], ["query", "SELECT 1"]):
        result = run(*command, "--prices", str(tmp_path / "own.toml"))
        assert type(result.exception).__name__ == "UsageError"
        assert "missing required field `model`" in str(result.exception)
