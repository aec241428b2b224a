from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from recorder.analytics.rules import RuleError


@pytest.fixture
def client(sample_store: Any, tmp_path: Path) -> Iterator[TestClient]:
    (tmp_path / "any.yaml").write_text(
        "severity: warning\ntitle: There\nadvice: Look.\n"
        "query: SELECT session_id, [0, 2] AS positions, 'it is there' AS message FROM sessions\n"
    )
    with TestClient(create_app(sample_store.data_dir, rules=tmp_path), base_url="http://127.0.0.1") as opened:
        yield opened


def test_findings_of_a_session(client: TestClient, sample_store: Any) -> None:
    answer = client.get(f"/api/v1/sessions/{sample_store.voice}/findings", params={"severity": "warning"}).json()

    own = [row for row in answer["data"] if row["rule"] == "any"]
    assert own == [
        {
            "session_id": sample_store.voice,
            "rule": "any",
            "severity": "warning",
            "title": "There",
            "message": "it is there",
            "positions": [0, 2],
            "advice": "Look.",
        }
    ]
    assert {row["session_id"] for row in answer["data"]} == {sample_store.voice}
    assert answer["total"] == len(answer["data"])


def test_findings_of_all_sessions(client: TestClient, sample_store: Any) -> None:
    def sessions(**parameters: Any) -> list[str]:
        answer = client.get("/api/v1/findings", params=parameters).json()
        return sorted(row["session_id"] for row in answer["data"] if row["rule"] == "any")

    assert sessions() == sorted([sample_store.voice, sample_store.typed, sample_store.untimed])
    assert sessions(since="2100-01-01T00:00:00Z") == []
    assert sessions(severity="error") == []
    assert client.get("/api/v1/findings", params={"limit": 1}).json()["total"] >= 3
    assert client.get("/api/v1/sessions/nobody/findings").status_code == 404


def test_a_wrong_rule_stops_the_service_at_its_start(sample_store: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("severity: awful")

    with pytest.raises(RuleError):
        create_app(sample_store.data_dir, rules=tmp_path)
