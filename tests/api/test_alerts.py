"""Webhooks of objectives, against a real HTTP server."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.alerts import Alerts
from api.app import create_app
from api.store import Store
from recorder.analytics.slo import Burn, Slo
from recorder.errors import UsageError
from recorder.pipeline.imports import import_files

NOW = datetime(2026, 2, 1, tzinfo=UTC)
BURN = (Burn("2h", "1h", 5.0),)


class Hook(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.bodies: list[dict[str, Any]] = []
        self.arrived = threading.Semaphore(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.status == 200:
            self.server.bodies.append(body)
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()
        self.server.arrived.release()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def record(store: Path, name: str, at: datetime, event: str) -> None:
    """A session of one event, at that moment."""
    path = store.parent / f"{name}.jsonl"
    path.write_text(json.dumps({"dir": "server", "event": {"type": event, "id": name}, "ts": at.timestamp()}) + "\n")
    import_files(store, [path])


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    record(tmp_path / "data", "first", NOW - timedelta(minutes=30), "error")
    return tmp_path / "data"


def slo() -> Slo:
    return Slo(name="errors", indicator="errors", at_most=0, objective=0.9, alerts=BURN)


def test_an_alert_is_told_once_when_it_begins_and_once_when_it_ends(data_dir: Path, hook: Hook) -> None:
    store = Store(data_dir)
    alerts = Alerts(store, [slo()], hook.url)

    alerts.check(NOW)
    alerts.check(NOW)
    assert [(body["status"], body["slo"]) for body in hook.bodies] == [("firing", "errors")]
    assert hook.bodies[0]["report"]["spans"][1] == {"window": "2h", "n": 1, "bad": 1, "burn_rate": pytest.approx(10)}

    alerts.check(NOW + timedelta(hours=2))
    assert [body["status"] for body in hook.bodies] == ["firing", "resolved"]
    store.close()


def test_what_the_webhook_did_not_take_is_told_again(data_dir: Path, hook: Hook) -> None:
    store = Store(data_dir)
    alerts = Alerts(store, [slo()], hook.url)

    hook.status = 503
    alerts.check(NOW)
    hook.status = 200
    alerts.check(NOW)

    assert [body["status"] for body in hook.bodies] == ["firing"]
    store.close()


def test_the_service_looks_by_itself(tmp_path: Path, hook: Hook) -> None:
    record(tmp_path / "data", "now", datetime.now(UTC) - timedelta(minutes=1), "error")
    file = tmp_path / "slo.toml"
    file.write_text('[[slo]]\nname = "errors"\nindicator = "errors"\nat_most = 0\nobjective = 0.99\n')

    with TestClient(create_app(tmp_path / "data", slo=file, alert_webhook=hook.url)):
        assert hook.arrived.acquire(timeout=30)

    assert [body["status"] for body in hook.bodies] == ["firing"]


def test_addresses_and_files_that_make_no_sense(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs --slo"):
        create_app(data_dir, alert_webhook="http://127.0.0.1/")
    store = Store(data_dir)
    with pytest.raises(UsageError, match="begins with http"):
        Alerts(store, [slo()], "file:///etc/passwd")
    store.close()
