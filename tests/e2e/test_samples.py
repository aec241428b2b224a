"""The frozen samples: whatever changes, they import, show the numbers they were made with, and come out unchanged."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from recorder.cli.main import app
from recorder.pipeline.catalog import Catalog
from recorder.projection.conversation import project

SAMPLES = Path(__file__).parents[2] / "sample_logs"
FILES = sorted(SAMPLES.rglob("*.jsonl"))
KEYS = {
    "turns": "turn_no",
    "responses": "response_no",
    "interruptions": "interruption_no",
    "tool_calls": "tool_call_no",
    "speech": "speech_no",
}


def recorder(*arguments: str) -> Any:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("samples") / "data"
    results = json.loads(recorder("import", str(SAMPLES), "--data", str(data), "--json").stdout)
    assert [result["status"] for result in results] == ["imported"] * len(FILES)
    return data


@pytest.fixture(scope="module")
def catalog(store: Path) -> Iterator[Catalog]:
    with Catalog(store) as opened:
        yield opened


@pytest.fixture(params=FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def file(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture
def expected(file: Path) -> dict[str, Any]:
    """Read with the file: one that has none is an error."""
    text = (file.parent / "expected" / f"{file.stem}.yaml").read_text("utf-8")
    return dict(yaml.safe_load(text))


@pytest.fixture
def session_id(file: Path) -> str:
    with file.open("rb") as lines:
        return str(json.loads(next(lines))["session_id"])


def close_to(value: Any) -> Any:
    """Durations are differences of nanoseconds, computed as floats."""
    return pytest.approx(value, abs=1e-9) if isinstance(value, float) else value


def check(row: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        assert row[name] == close_to(value), name


def test_there_are_samples_small_enough_to_read() -> None:
    names = {file.stem for file in FILES if file.parent.name == "v1"}
    assert names >= {"text_turn", "voice_turn", "barge_in", "tool_call", "unknown_events", "beta_names"}
    assert all(file.stat().st_size < 150_000 for file in FILES)


def test_a_second_import_adds_nothing(store: Path) -> None:
    before = sorted(path for path in store.rglob("*") if path.is_file())
    results = json.loads(recorder("import", str(SAMPLES), "--data", str(store), "--json").stdout)
    assert [result["status"] for result in results] == ["present"] * len(FILES)
    assert sorted(path for path in store.rglob("*") if path.is_file()) == before


def test_an_export_is_the_file_again(file: Path, session_id: str, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    recorder("export", session_id, "--format", "jsonl", "--data", str(store), "-o", str(out))
    assert out.read_bytes() == file.read_bytes()


def test_the_session_is_as_expected(session_id: str, expected: dict[str, Any], catalog: Catalog) -> None:
    row = catalog.query("SELECT * FROM sessions WHERE session_id = ?", [session_id]).to_dicts()[0]
    check(row, expected["session"])


@pytest.mark.parametrize("table", KEYS)
def test_its_rows_are_as_expected(table: str, session_id: str, expected: dict[str, Any], catalog: Catalog) -> None:
    rows = catalog.query(
        f"SELECT * FROM {table} WHERE session_id = ? ORDER BY {KEYS[table]}",  # names are ours
        [session_id],
    ).to_dicts()
    assert len(rows) == len(expected[table])
    for row, wanted in zip(rows, expected[table], strict=True):
        check(row, wanted)


@pytest.mark.parametrize("direction", ["client", "server"])
def test_its_events_are_counted_by_type(
    direction: str, session_id: str, expected: dict[str, Any], catalog: Catalog
) -> None:
    events = catalog.events(session_id).to_dicts()
    found = Counter(event["type"] for event in events if event["direction"] == direction and event["opcode"] in {1, 2})
    assert found == expected["events"][direction]
    assert [event["position"] for event in events] == list(range(len(events)))


def test_its_conversation_is_what_was_said(session_id: str, expected: dict[str, Any], catalog: Catalog) -> None:
    state = project(catalog.recorded_events(session_id))
    said = [(item.role, item.id, item.text) for item in state.items if item.type == "message"]
    assert said == [(turn["speaker"], turn["item_id"], turn["text"]) for turn in expected["turns"]]
    heard = {item.id: (item.heard_ms, item.truncated) for item in state.items}
    for cut in expected["interruptions"]:
        assert heard[cut["item_id"]] == (cut["heard_ms"], True)
