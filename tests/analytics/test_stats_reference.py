"""What docs/stats.md says of the statistics, and what each of them owes its reader."""

from __future__ import annotations

import re
from pathlib import Path

from recorder.analytics.stats import COMMON, aggregates
from recorder.analytics.stats_reference import ORDER, stats_reference


def test_the_page_is_what_the_aggregates_say() -> None:
    how = "write it anew: docs/stats.md is recorder.analytics.stats_reference.stats_reference()"
    page = Path(__file__).parents[2] / "docs" / "stats.md"
    assert page.read_text(encoding="utf-8") == stats_reference(), how
    assert set(ORDER) == set(aggregates())
    for one in aggregates().values():
        assert all(len(column.description) > 4 for column in one.columns)
        assert set(COMMON) <= set(one.dimensions)
        assert one.caveats, one.name


def test_every_percentile_has_its_n() -> None:
    by_all = {("latency", ""): "n", ("limits", "ratio"): "n", ("proxy", ""): "measured", ("proxy", "worst"): "measured"}
    for one in aggregates().values():
        names = {column.name for column in one.columns}
        for column in names:
            if found := re.match(r"(.*?)_?p(?:50|95|99)(?:_seconds)?$", column):
                assert by_all.get((one.name, found[1]), f"{found[1]}_n") in names, (one.name, column)
