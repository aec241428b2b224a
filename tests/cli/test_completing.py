"""Tab completion as a shell asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

VOICE = "0199c2f1-0000-7000-8000-000000000001"


def offered(line: str, store: Path) -> list[str]:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_RECORDER_COMPLETE": "complete_bash"}
    code = "from recorder.cli.main import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env=os.environ | words | {"RECORDER_DATA": str(store)},
    )  # fmt: skip
    assert result.stderr == ""
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("recorder show 0199c2", [VOICE]),
        ("recorder bundle last 0199c2", [VOICE]),
        ("recorder replay l", ["last"]),
        ("recorder stats la", ["latency"]),
        ("recorder simulate --script bar", ["barge_in"]),
        ("recorder sessions --sort first", ["first_audio"]),
        ("recorder proxy --log-format j", ["json"]),
    ],
)
def test_values_are_offered(store: Path, line: str, values: list[str]) -> None:
    assert offered(line, store) == values


def test_without_a_store_nothing_is_offered_and_nothing_said(tmp_path: Path) -> None:
    assert offered("recorder show 01", tmp_path / "nowhere") == []
