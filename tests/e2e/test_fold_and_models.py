"""The fold of the projection and the SQL models tell one story: of every recording at hand, and of drawn sessions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from recorder.analytics.engine import run_models
from recorder.cli.main import app
from recorder.pipeline.catalog import Catalog
from recorder.protocol.builder import EventBuilder
from recorder.protocol.envelope import RecordedEvent
from recorder.store.schema import events_table
from tests.drawing import examples
from tests.e2e.agreement import Rows, compare, fold
from tests.e2e.drawn_sessions import Line, replayed, sessions

ROOT: Final = Path(__file__).parents[2]
REAL: Final = ROOT.parent / "shared" / "real" / "openai_ga"
# A truncate, unanswered, after all audio of a response that never ends.
UNENDED: Final = replayed(
    *(3, 3, 1, 6, 7, 6, 2, 13, 4, 16, 24, 4, 2, 14, 276, 24, 22, 110, 1, 3, 9, 457),
    *(6, 0, 180, 25, 0, 1, 1, 7, 28, 16, 5, 0, 20, 5, 0, 23, 9, 1059, 625, 19),
)
FILES: Final = sorted([*(ROOT / "sample_logs").rglob("v*/*.jsonl"), *REAL.glob("*.jsonl")])


def tables_of(events: list[RecordedEvent]) -> dict[str, Rows]:
    return {name: table.to_pylist() for name, table in run_models(events_table(events)).items()}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[RecordedEvent]]]:
    data = tmp_path_factory.mktemp("agreement") / "data"
    result = CliRunner().invoke(app, ["import", *map(str, FILES), "--data", str(data), "--json"])
    assert result.exit_code == 0, result.output
    with Catalog(data) as catalog:
        yield {one["file"]: catalog.recorded_events(one["session_id"]) for one in json.loads(result.stdout)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_they_agree_on_recordings(recordings: dict[str, list[RecordedEvent]], file: Path) -> None:
    events = recordings[str(file)]
    state = fold(events)
    assert state.items
    compare(state, tables_of(events))


@settings(max_examples=examples(10))
@example(drawn=[UNENDED])
@given(drawn=st.lists(sessions(), min_size=1, max_size=12))
def test_they_agree_on_drawn_sessions(drawn: list[list[Line]]) -> None:
    """Several at once: the models take them for the price of one."""
    recorded = [_recorded(f"drawn-{number:02}", lines) for number, lines in enumerate(drawn)]
    rows = tables_of([event for events in recorded for event in events])
    for events in recorded:
        session_id = events[0].session_id
        mine = {name: [row for row in table if row["session_id"] == session_id] for name, table in rows.items()}
        compare(fold(events), mine)


def _recorded(session_id: str, lines: list[Line]) -> list[RecordedEvent]:
    builder = EventBuilder(session_id, 1_700_000_000_000_000_000, 0)
    events = [builder.own("recorder.session_opened", "{}", 0)]
    for direction, message, milliseconds in lines:
        events.append(builder.message(direction, json.dumps(message).encode(), at_ns=milliseconds * 1_000_000))
    return events
