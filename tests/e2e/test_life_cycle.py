"""Starting, reloading, upgrading and stopping a proxy that serves calls."""

import os
import shlex
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from recorder.cli.proxy_run import shares
from recorder.pipeline.catalog import Catalog
from recorder.proxy.supervisor import listen
from recorder.store.journal_files import list_journals
from tests.e2e.conftest import COMMAND, PATIENCE, RecorderProcess, eventually, is_gone
from tests.proxy.conftest import ACCEPT, UPGRADE, read_exactly, read_head, read_to_end

Run = Callable[..., RecorderProcess]


class Echo:
    """An upstream that accepts every handshake and says back what it hears."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _serve(connection: socket.socket) -> None:
        with connection, suppress(OSError, AssertionError):
            read_head(connection)
            connection.sendall(ACCEPT)
            while data := connection.recv(65536):
                connection.sendall(data)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    with closing(Echo()) as server:
        yield server


def make_certificate(directory: Path, name: str) -> None:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -addext subjectAltName=DNS:localhost"
    files = ["-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
    subprocess.run([*command.split(), "-subj", f"/CN={name}", *files], check=True, capture_output=True)


def call(address: tuple[str, int], context: ssl.SSLContext | None = None) -> socket.socket:
    client = socket.create_connection(address, PATIENCE)
    try:
        if context is not None:
            client = context.wrap_socket(client, server_hostname="localhost")
        client.sendall(UPGRADE)
        assert read_head(client) == ACCEPT
    except BaseException:
        client.close()
        raise
    return client


def says(client: socket.socket, words: bytes) -> bytes:
    client.sendall(words)
    return read_exactly(client, len(words))


def accepts(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True


def options(echo: Echo, data: Path, *more: str) -> list[str]:
    return ["proxy", "--listen", "127.0.0.1:0", "--upstream", echo.url, "--data", str(data), "--ring-mb", "4", *more]


def failing(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.parametrize(
    ("tls", "before", "after"), [(False, 2, 1), (True, 1, 3)], ids=["fewer workers", "more workers, TLS"]
)
def test_an_upgrade_refuses_no_connection_and_cuts_no_call(
    run: Run, data: Path, echo: Echo, tmp_path: Path, *, tls: bool, before: int, after: int
) -> None:
    make_certificate(tmp_path, "localhost")
    secure = ["--tls-cert", f"{tmp_path}/cert.pem", "--tls-key", f"{tmp_path}/key.pem"] if tls else []
    context = ssl.create_default_context(cafile=f"{tmp_path}/cert.pem") if tls else None
    old = run(*options(echo, data, *secure, "--workers", str(before), "--drain-seconds", "60"))
    running = call(old.address, context)
    assert says(running, b"before") == b"before"
    stop, answered, failures = threading.Event(), [], []

    def keep_calling() -> None:
        while not stop.is_set():
            try:
                with call(old.address, context) as client:
                    answered.append(says(client, b"hello"))
            except (OSError, AssertionError) as failure:
                failures.append(failure)
                return
            stop.wait(0.2)  # each call is a session to seal before the test can end

    callers = [threading.Thread(target=keep_calling) for _ in range(3)]
    for caller in callers:
        caller.start()
    new = run(*options(echo, data, *secure, "--workers", str(after), "--take-over"))
    assert new.address == old.address
    old_workers = old.children()
    eventually(lambda: len(answered) > 10 or bool(failures), "calls are made")
    assert says(running, b"still here") == b"still here"
    running.close()
    assert old_workers
    assert old.process.wait(PATIENCE) == 0  # it ends with its last call: short ones that it took meanwhile end at once
    count = len(answered)
    eventually(lambda: len(answered) > count + 10 or bool(failures), "calls go on after the old one has gone")
    stop.set()
    for caller in callers:
        caller.join(PATIENCE)
    assert failures == []
    assert set(answered) == {b"hello"}
    assert new.stop() == 0
    with Catalog(data) as catalog:
        statuses = catalog.query("SELECT status, count(*) FROM sessions GROUP BY 1").rows()
    assert statuses == [("lost", len(answered) + 1)]  # raw sockets: no Close frame was ever sent
    assert list_journals(data) == []


def test_every_socket_is_served_and_no_worker_goes_without() -> None:
    few, many = listen("127.0.0.1:0", 2), listen("127.0.0.1:0", 5)
    assert shares(few, 5) == [[few[0]], [few[1]], [few[0]], [few[1]], [few[0]]]
    assert shares(many, 2) == [many[0::2], many[1::2]]
    for sock in few + many:
        sock.close()


def test_a_successor_that_cannot_start_changes_nothing(run: Run, data: Path, echo: Echo) -> None:
    old = run(*options(echo, data))
    failed = failing(*options(echo, data, "--take-over", "--ring-mb", "9999999"))
    assert failed.returncode == 5
    assert "no room for a ring" in failed.stderr
    assert "--ring-mb" in failed.stderr
    with call(old.address) as client:
        assert says(client, b"fine") == b"fine"


def test_there_must_be_one_to_take_over_from(data: Path, echo: Echo) -> None:
    failed = failing(*options(echo, data, "--take-over"))
    assert failed.returncode == 6
    assert "cannot take over" in failed.stderr


def test_a_second_proxy_on_the_same_port_is_an_error(run: Run, data: Path, echo: Echo, tmp_path: Path) -> None:
    first = run(*options(echo, data))
    address = first.url.partition("://")[2]
    failed = failing(*options(echo, tmp_path / "other"), "--listen", address)
    assert failed.returncode == 6
    assert f"cannot listen on {address}: Address already in use" in failed.stderr


def test_a_second_proxy_on_the_same_store_is_an_error_that_names_the_first(run: Run, data: Path, echo: Echo) -> None:
    first = run(*options(echo, data))
    for more in ([], ["--no-recording"], ["--listen", first.url.partition("://")[2]]):
        failed = failing(*options(echo, data, *more))
        assert failed.returncode == 5
        words = " ".join(failed.stderr.split())
        assert f"process {first.process.pid} on {os.uname().nodename}" in words
        assert str(data) in words
        assert "--take-over" in words
        assert "another --data" in words
    with call(first.address) as client:
        assert says(client, b"fine") == b"fine"
    new = run(*options(echo, data, "--take-over"))  # who was refused has not taken the first one's place for this
    assert new.address == first.address
    assert first.process.wait(PATIENCE) == 0
    failed = failing(*options(echo, data))
    assert f"process {new.process.pid}" in failed.stderr
    new.kill("all")
    third = run(*options(echo, data))  # a kill leaves nothing in the way
    with call(third.address) as client:
        assert says(client, b"fine") == b"fine"


def test_one_that_drains_refuses_connections_and_another_can_be_started_beside_it(
    run: Run, data: Path, echo: Echo, tmp_path: Path
) -> None:
    old = run(*options(echo, data, "--drain-seconds", "60"))
    with call(old.address) as running:
        old.process.terminate()
        eventually(lambda: not accepts(old.address), "connections are refused")
        (tmp_path / "rings").mkdir()
        failed = failing(*options(echo, data, "--ring-dir", str(tmp_path / "rings")))
        assert failed.returncode == 5
        words = " ".join(failed.stderr.split())
        assert "is still recorded into by a proxy that is ending" in words
        new = run(*options(echo, data), "--listen", f"127.0.0.1:{old.address[1]}")
        with call(new.address) as client:
            assert says(client, b"new") == b"new"
        assert says(running, b"old") == b"old"
    assert old.process.wait(PATIENCE) == 0
    assert new.stop() == 0
    with Catalog(data) as catalog:
        assert catalog.query("SELECT count(*) FROM sessions").item() == 2


def test_too_few_file_descriptors_are_said(data: Path, echo: Echo) -> None:
    command = f"ulimit -n 20; exec {shlex.join([*COMMAND, *options(echo, data, '--workers', '30')])}"
    failed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert failed.returncode == 1
    assert "error: out of file descriptors: Too many open files" in failed.stderr
    assert "a process may have 20 files open here: fewer than 10 sessions in a worker, not 10000" in failed.stderr
    assert "ulimit -n" in failed.stderr


def test_sighup_reloads_the_certificate_and_running_calls_go_on(
    run: Run, data: Path, echo: Echo, tmp_path: Path
) -> None:
    def presented() -> bytes | None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(socket.create_connection(proxy.address, PATIENCE)) as client:
            return client.getpeercert(binary_form=True)

    make_certificate(tmp_path, "one")
    proxy = run(*options(echo, data, "--tls-cert", f"{tmp_path}/cert.pem", "--tls-key", f"{tmp_path}/key.pem"))
    first = presented()
    make_certificate(tmp_path, "two")
    assert presented() == first
    proxy.process.send_signal(signal.SIGHUP)
    eventually(lambda: presented() != first, "the new certificate is presented")
    (tmp_path / "cert.pem").write_text("nonsense")
    second = presented()
    proxy.process.send_signal(signal.SIGHUP)
    assert presented() == second


def test_the_service_manager_is_told(
    run: Run, data: Path, echo: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        proxy = run(*options(echo, data))
        assert manager.recv(100) == b"READY=1"
        proxy.process.send_signal(signal.SIGHUP)
        assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(100) == b"READY=1"
        assert proxy.stop() == 0
        assert manager.recv(100) == b"STOPPING=1"


def test_calls_outlive_a_kill_of_the_supervisor(run: Run, data: Path, echo: Echo) -> None:
    proxy = run(*options(echo, data, "--drain-seconds", "60"))
    eventually(lambda: set(proxy.children()) == {"worker", "record", "sorter", "sealer"}, "all run")
    children = proxy.children()
    with call(proxy.address) as client:
        os.kill(proxy.process.pid, signal.SIGKILL)
        proxy.process.wait(PATIENCE)
        assert says(client, b"nobody noticed") == b"nobody noticed"
    eventually(lambda: all(map(is_gone, children.values())), "its children end by themselves")
    with Catalog(data) as catalog:
        assert catalog.query("SELECT count(*) FROM sessions").item() == 1
    assert list_journals(data) == []


def test_stopping_seals_what_was_recorded(run: Run, data: Path, echo: Echo) -> None:
    proxy = run(*options(echo, data, "--drain-seconds", "0"))
    client = call(proxy.address)
    assert says(client, b"x") == b"x"
    assert proxy.stop() == 0
    assert b"the proxy is shutting down" in read_to_end(client)
    client.close()
    with Catalog(data) as catalog:
        (session,) = catalog.query("SELECT status, closed_by, close_code FROM sessions").rows()
    assert session == ("closed", "proxy", 1001)
    assert list_journals(data) == []
