"""Figures over many sessions, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api import create_app
from recorder.analytics.stats import aggregates

STATS = "/api/v1/stats"


@pytest.fixture(scope="module")
def client(sample_store: Any) -> Iterator[TestClient]:
    with TestClient(create_app(sample_store.data_dir), base_url="http://127.0.0.1") as opened:
        yield opened


def test_what_there_is(client: TestClient) -> None:
    known = {one["name"]: one for one in client.get(STATS).json()["data"]}
    assert known.keys() == aggregates().keys()
    assert known["latency"]["always"] == "metric"
    assert "label:" not in str(known["cost"]["dimensions"])
    assert {"name": "p50_seconds", "unit": "s", "description": "Median."} in known["latency"]["figures"]


@pytest.mark.parametrize("name", aggregates())
def test_every_aggregate(client: TestClient, name: str) -> None:
    answer = client.get(f"{STATS}/{name}").json()
    one = aggregates()[name]
    assert answer["name"] == name
    assert answer["by"] == [*one.by, *([one.always] if one.always else [])]
    figures = [*answer["by"], *(column.name for column in one.columns)]
    assert all(list(row) == figures for row in answer["data"])


def test_groups_and_periods(client: TestClient) -> None:
    rows: list[dict[str, Any]] = client.get(f"{STATS}/sessions", params={"by": ["day", "label:team"]}).json()["data"]
    assert sum(row["n"] for row in rows) == 3
    assert client.get(f"{STATS}/sessions?by=none").json()["data"][0]["n"] == 3
    now = datetime.now(UTC).isoformat()
    assert client.get(f"{STATS}/sessions", params={"by": "none", "since": now}).json()["data"][0]["n"] == 0
    assert client.get(f"{STATS}/cost", params={"by": "none", "until": now}).json()["by"] == []


def test_what_makes_no_sense(client: TestClient) -> None:
    answer = client.get(f"{STATS}/cost?by=nope")
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "cost cannot be grouped by 'nope'")
    assert client.get(f"{STATS}/nope").status_code == 422
    assert client.get(f"{STATS}/cost?since=then").status_code == 422
