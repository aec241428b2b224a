import json
from pathlib import Path

import pytest

from dashboards.queries import picture
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.imports import import_files


def test_thinning_keeps_errors_and_drops_gaps_that_a_peer_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ["session.created", "error", "recorder.gap", *["response.created"] * 20]
    file = tmp_path / "call.jsonl"
    file.write_text("".join(json.dumps({"dir": "server", "event": {"type": kind}}) + "\n" for kind in kinds))
    (result,) = import_files(tmp_path / "data", [file])
    assert result.session_id is not None
    monkeypatch.setattr(picture, "MOST_MARKS", 1)
    with Catalog(tmp_path / "data") as catalog:
        marks = picture.timeline_marks(catalog, result.session_id).to_dicts()
    assert "error" in [mark["type"] for mark in marks]
    assert "recorder.gap" not in [mark["type"] for mark in marks]
