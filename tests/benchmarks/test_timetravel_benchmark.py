import io

import pytest
from rich.console import Console

from benchmarks import timetravel


def test_any_position_of_both_sessions_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timetravel, "GOAL_MS", float("inf"))
    said = io.StringIO()
    assert timetravel.run(Console(file=said, width=120), positions=5, share=0.02)
    assert "at 5 positions" in said.getvalue()
    assert "written answers" in said.getvalue()
