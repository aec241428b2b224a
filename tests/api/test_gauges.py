"""`/metrics` says what the statistics say."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.gauges import METRICS, Gauges
from api.store import Store
from recorder.analytics import gauges
from recorder.analytics.gauges import GAUGES, MOST_MODELS, samples
from recorder.analytics.stats import aggregates, measure

DOCS = Path(__file__).parents[2] / "docs" / "gauges.md"
LOCAL = "http://127.0.0.1"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(text: str) -> Samples:
    """Samples by name and labels; each must stand once, below what its metric is."""
    found: Samples = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r'(\w+)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)', line)
        assert match, line
        labels = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or "")
        key = (match[1], frozenset((name, value.replace('\\"', '"')) for name, value in labels))
        assert key not in found
        assert f"# TYPE {match[1]} gauge" in text
        found[key] = float(match[3])
    return found


@pytest.fixture(scope="module")
def client(troubled_store: Path) -> Iterator[TestClient]:
    with TestClient(create_app(troubled_store), base_url=LOCAL) as client:
        yield client


def test_every_gauge_is_the_statistics_figure(client: TestClient, troubled_store: Path) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = scraped(answer.text)
    store = Store(troubled_store)
    expected: Samples = {}
    for gauge in GAUGES:
        for row in measure(store.catalog(), gauge.aggregate, by=gauge.by).to_dicts():
            labels = {name: row[name] or "" for name in gauge.labels if name != "quantile"}
            for quantile, column in gauge.columns.items():
                of = labels | ({"quantile": quantile} if quantile else {})
                if row[column] is not None:
                    expected[gauge.metric.name, frozenset(of.items())] = float(row[column])
    severities = store.catalog().findings()["severity"].to_list()
    for severity in ("error", "warning", "info"):
        expected["recorder_recent_findings", frozenset({("severity", severity)})] = severities.count(severity)
    expected["recorder_recent_window_seconds", frozenset()] = 3600
    assert found == pytest.approx(expected)
    model = ("model", "gpt-realtime")
    first_audio = frozenset({model, ("metric", "first_audio"), ("quantile", "0.5")})
    assert found["recorder_recent_latency_seconds", first_audio] == pytest.approx(0.221)
    assert found["recorder_recent_tool_calls_unanswered", frozenset({model})] == 2
    store.close()


def test_only_the_window_counts(troubled_store: Path) -> None:
    with TestClient(create_app(troubled_store, metrics_window=timedelta(seconds=1)), base_url=LOCAL) as client:
        found = scraped(client.get("/metrics").text)
    assert {name for name, _ in found} == {"recorder_recent_window_seconds", "recorder_recent_findings"}
    assert sum(found.values()) == 1.0


def test_the_page_needs_the_token(troubled_store: Path) -> None:
    with TestClient(create_app(troubled_store, token="secret"), base_url=LOCAL) as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_scrapes_in_close_succession_share_one_reckoning(troubled_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("api.gauges.time.monotonic", lambda: now[0])
    store = Store(troubled_store)
    page = Gauges(store, timedelta(hours=1))
    asked: list[datetime] = []

    def reckon(_store: object, since: datetime) -> list[Any]:
        asked.append(since)
        return []

    monkeypatch.setattr("api.gauges.samples", reckon)
    texts = [page.text(), page.text()]
    now[0] += 5.0
    assert [*texts, page.text()] == [texts[0]] * 3
    assert len(asked) == 2
    store.close()


def test_names_that_clients_make_up_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 60 models the 20 with most are shown; long names are cut, and what is the same then stands once."""
    rows: list[dict[str, Any]] = [
        {"model": f"{'x' * 120}{n}", "status": "closed", "n": n, "minutes": None} for n in range(60)
    ]
    rows += [{"model": None, "status": "closed", "n": 99, "minutes": 1.0}]
    rows += [{"model": "", "status": "closed", "n": 98, "minutes": 2.0}]
    rows += [{"model": f"m{n}", "status": "closed", "n": 100 + n, "minutes": 3.0} for n in range(5)]

    def measured(_store: object, name: str, **_: Any) -> pl.DataFrame:
        return pl.DataFrame(rows if name == "sessions" else [])

    monkeypatch.setattr(gauges, "measure", measured)
    found = {metric.name: values for metric, values in samples(None, datetime.now(UTC))}  # type: ignore[arg-type]
    sessions = found["recorder_recent_sessions"]
    assert len(sessions) == 5 + 1 + 1
    assert sum(row["n"] > 46 for row in rows) == MOST_MODELS
    assert dict(sessions[0].labels)["model"] == "x" * 100
    assert [(sample.labels, sample.value) for sample in found["recorder_recent_session_minutes"]][:1] == [
        ((("model", ""),), 1.0)
    ]


def test_gauges_name_figures_that_there_are() -> None:
    for gauge in GAUGES:
        one = aggregates()[gauge.aggregate]
        assert set(gauge.columns.values()) <= {column.name for column in one.columns}
        assert set(gauge.labels) - {"quantile"} == {*gauge.by, *([one.always] if one.always else [])}
        assert "n" in {column.name for column in one.columns}


def test_docs_have_every_gauge_and_no_others() -> None:
    text = DOCS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(recorder_recent_[a-z_]+)` \| (.*?) \| (.+) \|$", text, re.MULTILINE)
    shown = [
        (metric.name, ", ".join(f"`{label}`" for label in labels) or "–", metric.help) for metric, labels in METRICS
    ]
    assert rows == shown
