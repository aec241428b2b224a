from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import scale_store
from benchmarks.scale_store import Template, data_files, fill
from recorder.pipeline.catalog import Catalog


def test_stores_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_store, "DAYS", 2)
    template = Template()
    for name, compacted in (("large files", True), ("small files", False)):
        data_dir = tmp_path / name
        ids = fill(data_dir, template, 6 * template.events, compacted=compacted)
        assert len(set(ids)) == 6
        with Catalog(data_dir) as catalog:
            assert catalog.query("SELECT session_id FROM sessions ORDER BY 1")["session_id"].to_list() == sorted(ids)
            told = catalog.query(
                "SELECT count(*), count(DISTINCT (session_id, position)), count(event_id), count(DISTINCT event_id),"
                " count(DISTINCT recorded_at::DATE), count(DISTINCT item_id) > 6 FROM events"
            ).row(0)
            assert told[0] == told[1] == 6 * template.events
            assert told[2] == told[3]
            assert told[4:] == (2, True)
            assert catalog.query("SELECT bool_and(cost_usd > 0) FROM sessions").item()
            assert catalog.events(ids[4], limit=200)["position"].to_list() == list(range(200))
        assert {path.name.startswith("compact-") for path in data_files(data_dir)} == {compacted}
