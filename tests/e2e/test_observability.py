"""A real proxy with an admin address: what it tells is what was sent."""

import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from recorder.pipeline.catalog import Catalog
from recorder.proxy.admin import TOKEN_VARIABLE
from tests.e2e.conftest import COMMAND, RecorderProcess, eventually, free_port
from tests.proxy.conftest import ACCEPT, UPGRADE, read_exactly, read_head
from tests.proxy.test_metrics import parse

KEY = "sk-abcdefghijklmnop1234"


class Admin:
    """Asks a proxy's admin address."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        return parse(self.ask("GET", "/metrics")[1].decode())

    def reasons(self) -> Any:
        return json.loads(self.ask("GET", "/readyz")[1])["reasons"]

    def sessions(self) -> Any:
        return json.loads(self.ask("GET", "/sessions")[1])["sessions"]


class Call:
    """Two ends of a session through the proxy."""

    def __init__(self, proxy: RecorderProcess, listener: socket.socket) -> None:
        self.client = socket.create_connection(proxy.address, 20)
        self.client.sendall(UPGRADE)
        self.server, _ = listener.accept()
        self.server.settimeout(20)
        read_head(self.server)
        self.server.sendall(ACCEPT)
        assert read_head(self.client) == ACCEPT

    def say(self, text: bytes, opcode: Opcode = Opcode.TEXT) -> tuple[int, int]:
        """One message each way; how many bytes those were."""
        up, down = Frame(opcode, text).serialize(mask=True), Frame(opcode, text * 2).serialize(mask=False)
        self.client.sendall(up)
        assert read_exactly(self.server, len(up)) == up
        self.server.sendall(down)
        assert read_exactly(self.client, len(down)) == down
        return len(up), len(down)

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def admin(data: Path, run: Callable[..., RecorderProcess]) -> Any:
    """Starts a proxy with an admin address: proxy, admin, its upstream's listener."""
    listeners = []

    def start(*options: str) -> tuple[RecorderProcess, Admin, socket.socket]:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        port = free_port()
        upstream = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        proxy = run(
            *("proxy", "--listen", "127.0.0.1:0", "--upstream", upstream, "--data", str(data), "--ring-mb", "8"),
            *("--drain-seconds", "20", "--admin", f"127.0.0.1:{port}", *options),
        )
        return proxy, Admin(port), listener

    yield start
    for listener in listeners:
        listener.close()


def test_what_is_scraped_is_what_was_sent(admin: Any, data: Path) -> None:
    proxy, asked, listener = admin("--workers", "2")
    assert asked.reasons() == []
    calls = [Call(proxy, listener) for _ in range(4)]
    sent = [call.say(b'{"type":"x"}') for call in calls for _ in range(200)]
    up, down = sum(pair[0] for pair in sent), sum(pair[1] for pair in sent)
    assert asked.metrics()["recorder_sessions_open"] == 4
    sessions = asked.sessions()
    assert len(sessions) == 4
    assert (sum(one["client_bytes"] for one in sessions), sum(one["server_bytes"] for one in sessions)) == (up, down)
    for call in calls:
        call.close()
    eventually(lambda: asked.metrics()["recorder_sessions_sealed_total"] == 4, "sealed")
    seen = asked.metrics()
    assert seen["recorder_sessions_opened_total"] == 4
    assert seen["recorder_sessions_open"] == 0
    assert (seen['recorder_bytes_total{direction="client"}'], seen['recorder_bytes_total{direction="server"}']) == (
        up,
        down,
    )
    assert (seen['recorder_events_total{direction="client"}'], seen['recorder_events_total{direction="server"}']) == (
        800,
        800,
    )
    assert seen["recorder_gaps_total"] == seen['recorder_gap_bytes_total{direction="client"}'] == 0
    assert seen["recorder_journal_bytes_total"] > up + down
    assert seen["recorder_upstream_connect_seconds_count"] == 4
    assert seen["recorder_spool_bytes_total"] > up + down
    assert seen["recorder_fsync_seconds_count"] >= 1  # one for all calls of a worker
    eventually(lambda: asked.metrics()["recorder_spool_unsorted_bytes"] == 0, "sorted")
    assert 0 < seen["recorder_added_latency_seconds_count"] <= 1600 / 64 + 8
    assert seen["recorder_ring_high_water_bytes"] > 0
    assert {name: value for name, value in seen.items() if "errors" in name or "refused" in name if value} == {}
    with Catalog(data) as catalog:
        assert catalog.query("SELECT count(*) FROM events WHERE direction <> 'recorder'").item() == 1600


def test_counts_survive_a_killed_worker(admin: Any) -> None:
    proxy, asked, listener = admin("--no-seal")
    first = Call(proxy, listener)
    sent = [first.say(b"one")]
    counted = 'recorder_bytes_total{direction="client"}'
    eventually(lambda: asked.metrics()[counted] == sent[0][0], "counted")
    proxy.kill("worker")
    eventually(lambda: asked.metrics()['recorder_process_restarts_total{process="worker 0"}'] == 1, "replaced")
    eventually(lambda: asked.reasons() == [], "ready again")
    second = Call(proxy, listener)
    sent.append(second.say(b"another"))
    second.close()
    first.close()
    eventually(lambda: asked.metrics()[counted] == sum(pair[0] for pair in sent), "counted on")
    assert asked.metrics()["recorder_sessions_opened_total"] == 2


def test_a_dead_recorder_process_shows_as_lag_and_unready(admin: Any) -> None:
    proxy, asked, listener = admin("--no-seal")
    call = Call(proxy, listener)
    eventually(lambda: asked.metrics()["recorder_ring_used_bytes"] == 0, "drained")
    recorder = proxy.children()["record"]
    os.kill(recorder, signal.SIGSTOP)
    try:
        call.say(b"waits")
        assert asked.metrics()["recorder_ring_used_bytes"] > 0
        eventually(lambda: asked.metrics()["recorder_journal_lag_seconds"] > 0.5, "lag")
    finally:
        os.kill(recorder, signal.SIGCONT)
    eventually(lambda: asked.metrics()["recorder_journal_lag_seconds"] == 0, "caught up")
    call.close()


def test_a_recording_that_was_stopped_says_so(admin: Any, data: Path) -> None:
    proxy, asked, listener = admin()
    call = Call(proxy, listener)
    call.say(b'{"type":"kept"}')
    (session,) = asked.sessions()
    status, _ = asked.ask("POST", f"/sessions/{session['session_id']}/stop-recording")
    assert status == 200
    up, down = call.say(b'{"type":"private"}')
    eventually(lambda: asked.metrics()["recorder_sessions_open_unrecorded"] == 1, "counted")
    call.close()
    eventually(lambda: asked.metrics()["recorder_sessions_sealed_total"] == 1, "sealed")
    seen = asked.metrics()
    assert seen['recorder_left_out_bytes_total{direction="client"}'] == up
    assert seen['recorder_left_out_bytes_total{direction="server"}'] == down
    assert seen["recorder_gaps_total"] == 0
    with Catalog(data) as catalog:
        events = catalog.recorded_events(session["session_id"])
        assert not any("private" in (event.payload or "") for event in events)
        gaps = [json.loads(event.payload or "") for event in events if event.type == "recorder.gap"]
        row = catalog.query("SELECT status, closed_by FROM sessions").row(0)
    assert [(gap["direction"], gap["bytes"], gap["reason"]) for gap in gaps] == [
        ("recorder", 0, "stopped by request"),
        ("client", up, "stopped by request"),
        ("server", down, "stopped by request"),
    ]
    assert row == ("closed", None)


def test_a_successor_has_the_address_and_reaches_its_predecessors_calls(
    admin: Any, run: Callable[..., RecorderProcess], data: Path
) -> None:
    old, asked, listener = admin("--no-seal")
    call = Call(old, listener)
    call.say(b"to the old one")
    upstream = f"ws://127.0.0.1:{listener.getsockname()[1]}"
    new = run(
        *("proxy", "--take-over", "--upstream", upstream, "--data", str(data), "--ring-mb", "8", "--no-seal"),
        *("--admin", f"127.0.0.1:{asked.port}"),
    )
    assert new.address == old.address

    def answers() -> bool:
        with suppress(OSError):  # a caller in the very moment of the change may have to ask again
            return bool(asked.metrics()["recorder_sessions_opened_total"] == 0)
        return False

    eventually(answers, "the successor answers")
    (session,) = asked.sessions()
    status, answer = asked.ask("POST", f"/sessions/{session['session_id']}/stop-recording")
    assert (status, json.loads(answer)["was_recorded"]) == (200, True)
    call.say(b"goes on")
    call.close()
    assert old.process.wait(60) == 0
    assert asked.sessions() == []
    eventually(lambda: asked.reasons() == [], "the successor is ready")


def test_a_floor_above_the_free_space_is_not_ready_and_refuses(admin: Any) -> None:
    floor = str(1 << 30)  # MiB
    proxy, asked, listener = admin("--disk-floor-mb", floor, "--on-recording-failure", "refuse")
    listener.close()  # a session that is let through gets 502
    eventually(lambda: asked.reasons() == ["the disk has less free space than the floor"], "unready")
    assert asked.metrics()['recorder_errors_total{cause="disk_floor"}'] == 1

    def refused() -> bool:
        with socket.create_connection(proxy.address, 20) as client:
            client.sendall(UPGRADE)
            return read_head(client).startswith(b"HTTP/1.1 503")

    eventually(refused, "the worker was told")
    assert asked.metrics()['recorder_sessions_refused_total{cause="cannot_record"}'] == 1


def test_logs_are_json_and_hold_no_key(data: Path) -> None:
    closed = free_port()
    port = free_port()
    process = subprocess.Popen(
        [
            *COMMAND,
            *("proxy", "--listen", "127.0.0.1:0", "--upstream", f"ws://127.0.0.1:{closed}", "--data", str(data)),
            *("--admin", f"127.0.0.1:{port}", "--log-format", "json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, TOKEN_VARIABLE: "open sesame"},
    )
    assert process.stdout is not None
    host, _, number = process.stdout.readline().strip().partition("://")[2].rpartition(":")
    for header in (b"Authorization: Bearer ", b"Authorization : Bearer "):  # the second is malformed
        with socket.create_connection((host, int(number)), 20) as client:
            client.sendall(UPGRADE[:-2] + header + KEY.encode() + b"\r\n\r\n")
            read_head(client)
    assert Admin(port).ask("GET", "/sessions")[0] == 401
    assert Admin(port).ask("GET", "/sessions", {"Authorization": "Bearer open sesame"})[0] == 200
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert KEY not in errors
    assert "sesame" not in errors
    lines = [json.loads(line) for line in errors.splitlines()]
    assert {line["process"] for line in lines} >= {"supervisor", "worker 0", "sealer"}
    refused = [line for line in lines if line["message"].startswith("refused: 502")]
    sealed = [line for line in lines if line["message"] == "sealed"]
    assert [line["session_id"] for line in refused] == [line["session_id"] for line in sealed]
    assert [line["message"] for line in lines if "refused: 400" in line["message"]] == [
        "refused: 400 illegal header line"
    ]


def test_a_scanner_fills_no_log_and_is_counted(data: Path) -> None:
    port = free_port()
    arguments = ["proxy", "--listen", "127.0.0.1:0", "--data", str(data), "--ring-mb", "4", "--log-format", "json"]
    with (data.parent / "log").open("w+b") as log:
        proxy = RecorderProcess(*arguments, "--admin", f"127.0.0.1:{port}", stderr=log)
        for number in range(300):
            with socket.create_connection(proxy.address, 20) as client:
                client.sendall(b"GET /%d HTTP/1.1 nonsense\r\n\r\n" % number)
                assert read_head(client).startswith(b"HTTP/1.1 400 ")
        refused = Admin(port).metrics()['recorder_sessions_refused_total{cause="bad_request"}']
        assert proxy.stop() == 0
        log.seek(0)
        lines = [json.loads(line) for line in log]
    assert refused == 300
    lines = [line for line in lines if line.get("cause") == "bad_request"]
    assert [line["message"] for line in lines[:-1]] == ["refused: 400 illegal request line"] * 10
    assert lines[-1]["message"] == "290 more lines like this within 60 s: refused: 400 illegal request line"
    assert lines[-1]["left_out"] == 290
