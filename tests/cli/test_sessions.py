from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from recorder.cli.sessions import HEADINGS, fitting, unique_prefixes
from recorder.errors import StoreError, UsageError

Run = Callable[..., Result]

VOICE = "0199c2f1-0000-7000-8000-000000000001"
UNTIMED = "5f0c2b9e-1111-8000-8000-000000000002"
RUNNING = "0199c9a0-0000-7000-8000-000000000003"


def listed(run: Run, *arguments: str) -> list[str]:
    result = run("sessions", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return [row["session_id"] for row in json.loads(result.stdout)]


def test_newest_first_and_running_ones_marked(run: Run) -> None:
    result = run("sessions")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split()[:4] == ["SESSION", "OPENED", "MODEL", "STATUS"]
    rows = {line.split()[0]: line for line in lines[2:]}
    assert list(rows) == ["0199c9a0", "0199c2f1", "5f0c2b9e"]
    assert "● running" in rows["0199c9a0"]
    assert "closed" in rows["0199c2f1"]
    assert "gpt-realtime-mini" in rows["5f0c2b9e"]


def test_json_has_every_column_and_iso_times(run: Run) -> None:
    rows = {row["session_id"]: row for row in json.loads(run("sessions", "--json").stdout)}
    voice = rows[VOICE]
    assert voice["opened_at"] == "2026-09-21T14:13:20Z"
    assert (voice["server_session_id"], voice["total_tokens"], voice["interruption_count"]) == ("sess_voice", 150, 1)
    assert rows[UNTIMED]["opened_at"] is None


def test_filters(run: Run) -> None:
    assert listed(run, "--status", "running") == [RUNNING]
    assert listed(run, "--model", "gpt-realtime-mini") == [UNTIMED]
    assert set(listed(run, "--model", "gpt-realtime")) == {VOICE, UNTIMED, RUNNING}
    assert listed(run, "--since", "2026-09-21T15:00") == [RUNNING]
    assert listed(run, "--limit", "1") == listed(run)[:1]
    assert len(listed(run, "--limit", "0")) == 3


def test_nothing_found_is_said_beside_the_output(run: Run) -> None:
    result = run("sessions", "--model", "no such model")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no sessions match\n")
    assert run("sessions", "--model", "no such model", "--json").stdout == "[]\n"


def test_a_limit_that_hides_some_is_said(run: Run) -> None:
    assert run("sessions", "--limit", "2").stderr == "2 of 3 sessions; --limit 0 lists all\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(["--since", "yesterday"], UsageError), (["--data", "/nonexistent/store"], StoreError)],
)
def test_failures_are_ours(run: Run, arguments: list[str], error: type[Exception]) -> None:
    assert isinstance(run("sessions", *arguments).exception, error)


def test_prefixes_tell_each_id_from_all_others() -> None:
    ids = sorted(["aaaaaaaaaa1", "aaaaaaaaaa2", "aaaaaaaabbb", "bbbbbbbbbbb", "cc"])
    assert unique_prefixes(ids) == {
        "aaaaaaaaaa1": "aaaaaaaaaa1",
        "aaaaaaaaaa2": "aaaaaaaaaa2",
        "aaaaaaaabbb": "aaaaaaaab",
        "bbbbbbbbbbb": "bbbbbbbb",
        "cc": "cc",
    }


def test_the_worst_first(run: Run) -> None:
    figures = [row["total_tokens"] for row in json.loads(run("sessions", "--json", "--sort", "tokens").stdout)]
    known = [figure for figure in figures if figure is not None]
    assert known == sorted(known, reverse=True)
    assert figures[: len(known)] == known
    assert listed(run, "--sort", "duration", "--limit", "1") == listed(run, "--sort", "duration")[:1]


def test_until_and_labels(run: Run) -> None:
    assert listed(run, "--until", "2026-09-21T15:00") == [VOICE]
    assert listed(run, "--label", "nobody=has it") == []
    assert isinstance(run("sessions", "--label", "no value").exception, UsageError)
    assert str(run("sessions", "--until", "yesterday").exception).startswith("--until 'yesterday' is no time")


def test_a_limit_that_hides_some_that_match_is_said(run: Run) -> None:
    hidden = run("sessions", "--model", "gpt-realtime", "--limit", "2")
    assert hidden.stderr == "2 of 3 sessions; --limit 0 lists all\n"


def test_a_narrow_terminal_gets_fewer_columns_and_whole_words() -> None:
    row = [
        "01a20556-dd4a-76",
        "11-22 22:18",
        "gpt-realtime-mini",
        "closed",
        "586 ms",
        "2",
        "1",
        "0",
        "1,234",
        "$0.0055",
    ]
    shown = [HEADINGS[n] for n in fitting([[*row, "404 ms"]], 80)]
    assert shown == ["SESSION", "OPENED", "MODEL", "STATUS", "LENGTH", "COST", "AUDIO P50"]
    assert fitting([[*row, "404 ms"]], 200) == list(range(len(HEADINGS)))
