import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recorder.cli import serve
from recorder.errors import ListenError, UsageError

PATIENCE = 30


@contextmanager
def served(data_dir: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server on a free port, and the URL that it printed."""
    code = "import typer; from recorder.cli.serve import serve; typer.run(serve)"
    command = [sys.executable, "-c", code, "--data", str(data_dir), "--listen", "127.0.0.1:0", *options]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RECORDER_")}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment | {"PYTHONUNBUFFERED": "1"}
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:8080", ("127.0.0.1", 8080)), ("[::1]:0", ("::1", 0)), ("localhost:65535", ("localhost", 65535))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert serve.parse_address(text) == address


@pytest.mark.parametrize("text", ["8080", ":8080", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:65536", "[]:1", "a:²"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        serve.parse_address(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("LocalHost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("localhost.example", False)],
)  # fmt: skip
def test_what_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert serve.is_loopback(host) is loopback


def test_a_port_in_use_is_said_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use$"):
            serve.bind("127.0.0.1", port)


def test_an_address_of_another_machine_is_said_plainly() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign requested address$"):
        serve.bind("192.0.2.1", 0)


def test_no_part_of_an_answer_waits_for_the_one_before_to_be_acknowledged() -> None:
    with serve.bind("127.0.0.1", 0) as sock, socket.create_connection(sock.getsockname()):
        connection, _ = sock.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_it_is_stopped_and_says_nothing_more(tmp_path: Path, how: signal.Signals) -> None:
    with served(tmp_path) as (process, url):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        with urllib.request.urlopen(f"{url}/healthz", timeout=PATIENCE) as answer:
            assert b'"ok"' in answer.read()
        process.send_signal(how)
        output, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, output, errors) == (0, "", "")


def test_a_token_is_asked_for_and_never_logged(tmp_path: Path) -> None:
    with served(tmp_path, "--token", "a-token-of-ours") as (process, url):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/?token=wrong-secret", timeout=PATIENCE)
        with urllib.request.urlopen(f"{url}/api/v1/sessions?token=a-token-of-ours", timeout=PATIENCE) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE)
        assert "token" not in url + output + errors
        assert "wrong-secret" not in output + errors


def test_other_addresses_get_a_token_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "is_loopback", lambda _host: False)
    printed: list[str] = []
    monkeypatch.setattr("typer.echo", printed.append)
    monkeypatch.setattr("uvicorn.Server.run", lambda _server, **_options: None)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        serve.serve(listen="127.0.0.1:0", data=tmp_path, token=None)
        serve.serve(listen="127.0.0.1:0", data=tmp_path, token="of our own")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", printed[0])
    assert "token" not in printed[1]
