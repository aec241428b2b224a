from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from recorder.cli.main import app


def line(position: int, event: dict[str, Any], direction: str = "server") -> dict[str, Any]:
    return {"ts": f"2026-01-31T12:00:0{position}Z", "direction": direction, "event": event}


LINES = [
    line(0, {"type": "session.created", "event_id": "e1", "session": {"id": "sess_1", "model": "m", "mood": "bright"}}),
    line(1, {"type": "session.future", "event_id": "e2"}),
    line(2, {"type": "session.future", "event_id": "e3"}),
    line(3, {"type": "input_audio_buffer.append", "audio": "", "lane": 2}, "client"),
    line(4, {"type": "recorder.gap", "bytes": 1}),  # a peer that speaks in the recorder's name
    line(5, {"type": "response.done", "response": {"id": "r1"}, "usage": {}}),
    line(6, {"type": "conversation.item.added", "item": {"id": "i", "colour": 1, "content": None}, "item_id": "i"}),
    line(7, {"type": "error", "error": "no object"}),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drift")
    file = folder / "log.jsonl"
    file.write_text("\n".join(map(json.dumps, LINES)))
    assert CliRunner().invoke(app, ["import", str(file), "--data", str(folder / "data")]).exit_code == 0
    return folder / "data"


@pytest.fixture
def run(data: Path) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(app, ["drift", "--data", str(data), *arguments])


def test_unknown_events_and_fields_are_counted_with_their_places(run: Callable[..., Result]) -> None:
    result = run("--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    found = [(row["kind"], row["direction"], row["type"], row["field"], row["event_count"]) for row in rows]
    assert found == [
        ("event", "server", "session.future", None, 2),
        ("event", "server", "recorder.gap", None, 1),
        ("field", "server", "conversation.item.added", "item.colour", 1),
        ("field", "server", "conversation.item.added", "item_id", 1),
        ("field", "client", "input_audio_buffer.append", "lane", 1),
        ("field", "server", "session.created", "session.mood", 1),
    ]
    first, last = rows[0]["first_seen"], rows[0]["last_seen"]
    assert (first["position"] + 1, first["session_id"]) == (last["position"], last["session_id"])
    assert rows[0]["session_count"] == 1


def test_the_table_names_places_that_show_takes(run: Callable[..., Result], data: Path) -> None:
    lines = [row.split() for row in run().stdout.splitlines()]
    future = next(row for row in lines if "session.future" in row)
    shown = CliRunner().invoke(app, ["show", future[-4], "--at", future[-3], "--data", str(data)])
    assert shown.exit_code == 0, shown.output


def test_since_leaves_out_what_opened_before(run: Callable[..., Result]) -> None:
    assert json.loads(run("--since", "2026-01-31T11:00", "--json").stdout) != []
    assert json.loads(run("--since", "2026-02-01", "--json").stdout) == []
    nothing = run("--since", "2026-02-01")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "nothing unknown" in nothing.output
