import http.client
import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recorder.errors import ListenError, UsageError
from recorder.protocol.envelope import RecordKind
from recorder.proxy import adminserver
from recorder.proxy.admin import Admin
from recorder.proxy.control import list_sessions, short_path
from recorder.proxy.metrics import Metrics
from recorder.store.counters import LEFT_OUT_BYTES, REFUSED, SESSIONS_OPEN, SESSIONS_UNRECORDED
from recorder.store.ring import CONTROL_SUFFIX, RingWriter
from recorder.store.ring_reader import RingReader
from tests.proxy.conftest import ACCEPT, UPGRADE, RunningWorker, Scripted, read_exactly, read_head, read_to_end

TOKEN = "a-long-random-text"
MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]


class Asked:
    """An admin server and a caller of it."""

    def __init__(self, ring_dir: Path, **settings: Any) -> None:
        self.draining = threading.Event()
        self.reloads: list[bool] = []
        metrics = Metrics([], ring_dir, disk_floor_bytes=0, draining=self.draining)
        self.admin = Admin(
            settings.pop("address", "127.0.0.1:0"),
            metrics=metrics,
            ring_dir=ring_dir,
            reload=lambda: self.reloads.append(True),
            **settings,
        )
        self.admin.start()
        self.port = int(self.admin.url.rpartition(":")[2])

    def ask(self, method: str, path: str, **headers: str) -> SimpleNamespace:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, path, headers={"Host": "127.0.0.1", **headers})
            response = connection.getresponse()
            body = response.read()
            is_json = response.headers["Content-Type"] == "application/json"
            return SimpleNamespace(
                status=response.status, headers=response.headers, body=json.loads(body) if is_json and body else body
            )


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Callable[..., Asked]]:
    made: list[Asked] = []

    def make(ring_dir: Path = tmp_path, **settings: Any) -> Asked:
        made.append(Asked(ring_dir, **settings))
        return made[-1]

    yield make
    for asked in made:
        asked.admin.close()


def test_health_and_readiness(admin: Callable[..., Asked]) -> None:
    asked = admin()
    assert (asked.ask("GET", "/healthz").status, asked.ask("GET", "/healthz").body) == (200, {"status": "ok"})
    assert asked.ask("GET", "/readyz").body == {"ready": True, "reasons": []}
    asked.draining.set()
    answer = asked.ask("GET", "/readyz")
    assert (answer.status, answer.body) == (503, {"ready": False, "reasons": ["draining"]})
    assert asked.ask("GET", "/healthz").status == 200


def test_metrics_and_what_is_not_there(admin: Callable[..., Asked]) -> None:
    asked = admin()
    answer = asked.ask("GET", "/metrics?x=1")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\nrecorder_ready 1\n" in answer.body
    assert asked.ask("HEAD", "/metrics").body == b""
    for method, path in (
        ("GET", "/"),
        ("POST", "/metrics"),
        ("GET", "/reload"),
        ("POST", "/sessions/x/stop-recording"),
    ):
        assert asked.ask(method, path).status == 404
    assert asked.ask("DELETE", "/sessions").status == 501


def test_reload(admin: Callable[..., Asked]) -> None:
    asked = admin()
    assert asked.ask("POST", "/reload").status == 202
    assert asked.reloads == [True]


def test_web_pages_and_borrowed_names_get_nothing(admin: Callable[..., Asked]) -> None:
    asked = admin()
    assert asked.ask("POST", "/reload", Origin="http://evil.test").status == 403
    assert asked.ask("GET", "/sessions", Host="evil.test").status == 421
    for name in ("localhost:1", "[::1]:8766", "127.0.0.1:5"):
        assert asked.ask("GET", "/sessions", Host=name).status == 200
    assert asked.reloads == []


def test_a_token_is_asked_for_everything_but_health(admin: Callable[..., Asked]) -> None:
    asked = admin(token=TOKEN)
    for wrong in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Basic {TOKEN}"}):
        answer = asked.ask("POST", "/reload", Host="recorder.internal", **wrong)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert asked.ask("GET", "/metrics", **wrong).status == 401
    assert asked.reloads == []
    assert asked.ask("GET", "/metrics", Host="recorder.internal", Authorization=f"Bearer {TOKEN}").status == 200
    assert asked.ask("GET", "/readyz", Host="10.0.0.7").status == 200


@pytest.mark.parametrize("address", ["8766", ":8766", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"])
def test_addresses_that_make_no_sense(tmp_path: Path, address: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        Asked(tmp_path, address=address)


@pytest.mark.parametrize("token", [None, ""])
def test_beyond_this_machine_a_token_is_needed(tmp_path: Path, token: str | None) -> None:
    with pytest.raises(UsageError, match="asks for no token"):
        Asked(tmp_path, address="0.0.0.0:0", token=token)


def test_an_address_that_cannot_be_had_is_told_in_the_systems_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError) as failure:
            Asked(tmp_path, address=address)
    assert failure.value.message == f"cannot listen on {address}: Address already in use"


def test_an_address_that_is_taken_is_only_shared_with_a_predecessor(
    admin: Callable[..., Asked], tmp_path: Path
) -> None:
    first = admin()
    address = f"127.0.0.1:{first.port}"
    with pytest.raises(ListenError, match="cannot listen on") as failure:
        Asked(tmp_path, address=address)
    assert failure.value.hint == "Choose another address with --admin."
    second = admin(address=address, shared=True)
    first.admin.close()
    second.draining.set()
    assert second.ask("GET", "/readyz").body["reasons"] == ["draining"]


def test_whoever_has_been_silent_for_longest_gives_way_to_the_next(admin: Callable[..., Asked]) -> None:
    asked = admin()
    with ExitStack() as open_ones:
        silent = [open_ones.enter_context(caller(asked)) for _ in range(adminserver.AT_ONCE)]
        assert asked.ask("GET", "/healthz").status == 200
        assert silent[0].recv(1) == b""
        silent[1].sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert read_to_end(silent[1]).startswith(b"HTTP/1.0 200")


def test_a_caller_that_drips_has_so_long_for_its_head_and_no_longer(
    admin: Callable[..., Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adminserver, "_PATIENCE_SECONDS", 0.3)
    asked = admin()
    with caller(asked) as dripping:
        dripping.sendall(b"GET /healthz HTTP/1.0\r\nX: ")
        ended = select.poll()
        ended.register(dripping, select.POLLIN)
        with suppress(ConnectionError):
            while not ended.poll(50):
                dripping.sendall(b"y")
        with suppress(ConnectionError):
            assert dripping.recv(1) == b""


def test_nobody_whose_answer_is_being_made_gives_way(
    admin: Callable[..., Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = admin()
    being_made, go_on = threading.Semaphore(0), threading.Event()

    def slowly() -> tuple[int, Any]:
        being_made.release()
        assert go_on.wait(20)
        return 200, {}

    monkeypatch.setattr(asked.admin, "_health", slowly)
    with ExitStack() as open_ones:
        asking = [open_ones.enter_context(caller(asked)) for _ in range(adminserver.AT_ONCE)]
        for sock in asking:
            sock.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            assert being_made.acquire(timeout=20)
        with caller(asked) as one_more:
            assert one_more.recv(1) == b""
        go_on.set()
        for sock in asking:
            assert read_to_end(sock).startswith(b"HTTP/1.0 200")
    assert asked.ask("GET", "/readyz").status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"POST /reload HTTP/1.0\r\nHost: localhost\r\n" + (b"X-More: " + b"y" * 1000 + b"\r\n") * 70,
        b"POST /reload?" + b"x" * 65_470 + b" HTTP/1.0\r\nHost: localhost\r\nOrigin: http://evil.test\r\n\r\n",
        b"POST /reload HTTP/1.0\r\nHost: localhost\r\n",
    ],
)
def test_half_a_head_is_not_answered_to(admin: Callable[..., Asked], head: bytes) -> None:
    asked = admin()
    with caller(asked) as sock, suppress(OSError):  # it may be reset at any moment
        sock.sendall(head)
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock) == b""
    assert asked.ask("GET", "/healthz").status == 200
    assert asked.reloads == []


@pytest.mark.parametrize(("path", "host"), [("/healthz", "["), ("http://[", "localhost"), ("/healthz", "[::1")])
def test_what_is_no_path_or_host_is_refused(admin: Callable[..., Asked], path: str, host: str) -> None:
    answer = admin().ask("GET", path, Host=host)
    assert (answer.status, answer.body["error"]["code"]) == (400, "bad_request")


def caller(asked: Asked) -> socket.socket:
    return socket.create_connection(("127.0.0.1", asked.port), 20)


def conversation(connection: socket.socket) -> None:
    """An upstream that answers each byte with three, and ends when the client does."""
    read_head(connection)
    connection.sendall(ACCEPT)
    while data := connection.recv(1000):
        connection.sendall(data * 3)


def test_running_sessions(upstream: MakeUpstream, worker: MakeWorker, admin: Callable[..., Asked]) -> None:
    running = worker(upstream(conversation).url)
    asked = admin(running.ring_dir)
    assert asked.ask("GET", "/sessions").body == {"sessions": []}
    with running.connect() as first, running.connect() as second:
        for client in (first, second):
            client.sendall(UPGRADE)
            assert read_head(client) == ACCEPT
        first.sendall(b"ab")
        assert read_exactly(first, 6) == b"ababab"
        sessions = asked.ask("GET", "/sessions").body["sessions"]
    opened = [facts["session_id"] for facts in running.facts(RecordKind.OPENED)]
    assert [session.pop("session_id") for session in sessions] == sorted(opened)
    assert all(session.pop("since").endswith("+00:00") for session in sessions)
    same = {"route": "default", "labels": {}, "state": "running", "recorded": True}
    assert sorted(sessions, key=lambda session: -session["client_bytes"]) == [
        {**same, "client_bytes": 2, "server_bytes": 6},
        {**same, "client_bytes": 0, "server_bytes": 0},
    ]


def test_recording_stops_in_mid_call_and_the_call_goes_on(
    upstream: MakeUpstream, worker: MakeWorker, admin: Callable[..., Asked]
) -> None:
    running = worker(upstream(conversation).url)
    asked = admin(running.ring_dir)
    with running.connect() as client:
        client.sendall(UPGRADE)
        assert read_head(client) == ACCEPT
        client.sendall(b"kept")
        assert read_exactly(client, 12) == b"kept" * 3
        (session,) = asked.ask("GET", "/sessions").body["sessions"]
        path = f"/sessions/{session['session_id']}/stop-recording"
        answer = asked.ask("POST", path)
        assert (answer.status, answer.body["was_recorded"], answer.body["recorded"]) == (200, True, False)
        again = asked.ask("POST", path)
        assert (again.status, again.body["was_recorded"]) == (200, False)
        client.sendall(b"private")
        assert read_exactly(client, 21) == b"private" * 3
        (session,) = asked.ask("GET", "/sessions").body["sessions"]
        assert (session["recorded"], session["client_bytes"], session["server_bytes"]) == (False, 11, 33)
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b""
    counters = running.call(lambda one: one._counters)
    assert running.tapped(RecordKind.CLIENT_BYTES) == b"kept"
    assert running.tapped(RecordKind.SERVER_BYTES) == b"kept" * 3
    reason = "stopped by request"
    assert running.facts(RecordKind.GAP) == [
        {"direction": "recorder", "bytes": 0, "reason": reason},
        {"direction": "client", "bytes": 7, "reason": reason},
        {"direction": "server", "bytes": 21, "reason": reason},
    ]
    (closed,) = running.facts(RecordKind.CLOSED)
    assert (closed["missed_bytes"], closed["recording_stopped"]) == (28, reason)
    assert (closed["closed_by"], closed["first_end"]) == (None, "client")
    assert (closed["client_bytes"], closed["server_bytes"]) == (11, 33)
    assert (counters[LEFT_OUT_BYTES, "client"], counters[LEFT_OUT_BYTES, "server"]) == (7, 21)
    assert (counters[SESSIONS_OPEN], counters[SESSIONS_UNRECORDED]) == (0, 0)


def test_a_session_that_is_stopped_in_its_handshake(
    upstream: MakeUpstream, worker: MakeWorker, admin: Callable[..., Asked]
) -> None:
    asked_upstream, go_on = threading.Event(), threading.Event()

    def slow(connection: socket.socket) -> None:
        asked_upstream.set()
        assert go_on.wait(20)
        conversation(connection)

    running = worker(upstream(slow).url)
    asked = admin(running.ring_dir)
    with running.connect() as client:
        client.sendall(UPGRADE)
        assert asked_upstream.wait(20)
        (session,) = asked.ask("GET", "/sessions").body["sessions"]
        assert session["state"] == "handshake"
        assert asked.ask("POST", f"/sessions/{session['session_id']}/stop-recording").body["was_recorded"]
        go_on.set()
        assert read_head(client) == ACCEPT
        client.sendall(b"private")
        assert read_exactly(client, 21) == b"private" * 3
    assert len(running.facts(RecordKind.ACCEPTED)) == 1
    assert running.tapped(RecordKind.CLIENT_BYTES) == b""
    assert [(gap["direction"], gap["bytes"]) for gap in running.facts(RecordKind.GAP)] == [
        ("recorder", 0),
        ("client", 7),
        ("server", 21),
    ]


def test_while_the_recorder_holds_back_sessions_pass_or_are_refused(upstream: MakeUpstream, worker: MakeWorker) -> None:
    there = upstream(conversation)
    for policy in ("pass", "refuse"):
        running = worker(there.url, on_recording_failure=policy)
        running.reader.hold_back(True)
        with running.connect() as client:
            client.sendall(UPGRADE)
            head = read_head(client)
            refused = policy == "refuse"
            assert head.startswith(b"HTTP/1.1 503" if refused else b"HTTP/1.1 101")
        counters = running.call(lambda one: one._counters)
        assert counters[REFUSED, "cannot_record"] == refused
        running.stop()


def control_socket(running: RunningWorker) -> Path:
    """Where it is, once the worker serves."""
    with running.connect() as client:
        client.sendall(b"nonsense\r\n\r\n")
        assert read_head(client).startswith(b"HTTP/1.1 400")
    (path,) = running.ring_dir.glob(f"*{CONTROL_SUFFIX}")
    return path


def test_control_sockets_are_their_owners_and_leave_with_their_worker(
    upstream: MakeUpstream, worker: MakeWorker
) -> None:
    running = worker(upstream(conversation).url)
    path = control_socket(running)
    assert path.stat().st_mode & 0o777 == 0o600
    assert running.ring_dir.stat().st_mode & 0o777 == 0o700
    running.stop()
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as dead, short_path(path) as short:  # a killed worker's: it is passed over
        dead.bind(short)
        assert list_sessions(running.ring_dir) == []
    running.reader.close(remove=True)  # as the recorder process does with a dead worker's ring
    assert list(running.ring_dir.iterdir()) == []
    running.reader = RingReader(RingWriter(running.ring_dir, 4096).path)


@pytest.mark.parametrize("request_line", [b"nonsense\n", b"[1]\n", b'{"do":"dance"}\n', b"x" * 10_000, b""])
def test_a_control_socket_survives_what_it_does_not_understand(
    upstream: MakeUpstream, worker: MakeWorker, request_line: bytes
) -> None:
    running = worker(upstream(conversation).url)
    with socket.socket(socket.AF_UNIX) as sock, short_path(control_socket(running)) as short:
        sock.settimeout(20)
        sock.connect(short)
        sock.sendall(request_line)
        sock.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            assert sock.recv(100) == b""
    assert list_sessions(running.ring_dir) == []


def test_directories_may_lie_deeper_than_a_socket_address_is_long(upstream: MakeUpstream, tmp_path: Path) -> None:
    running = RunningWorker(upstream(conversation).url, tmp_path / ("deep" * 40))
    try:
        assert len(str(control_socket(running))) > 160
        assert list_sessions(running.ring_dir) == []
    finally:
        running.stop()
        running.reader.close()
