from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from benchmarks import storage


def test_storage_is_measured_column_by_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _program: None)  # with voices that are the same everywhere
    said = io.StringIO()

    storage.run(Console(file=said, width=120), minutes=0.5)

    shown = said.getvalue()
    assert {"monotonic_ns", "payload", "event_id", "block_offset", "(footer)"} <= set(shown.split())
    share = re.search(r"audio: (0\.\d+) of its PCM", shown)
    assert share is not None
    assert 0.3 < float(share[1]) < 0.6
