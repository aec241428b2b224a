"""A real S3 server on free ports of this machine, and an HTTP proxy before it that does what networks do."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

KEY: Final = "test-key"
SECRET: Final = "test-secret"
_ROLES: Final = ("master", "volume", "filer", "s3")


def binary() -> str | None:
    """The server's program, where it is installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def s3_server(room: Path) -> Iterator[str]:
    """Run a server in a directory; its endpoint."""
    program = binary()
    assert program is not None
    (room / "data").mkdir()
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    anyone = {"name": "anonymous", "actions": identity["actions"]}
    (room / "s3.json").write_text(json.dumps({"identities": [identity, anyone]}))
    ports = _free_ports(2 * len(_ROLES) + 1)
    places = []
    for number, role in enumerate(_ROLES):
        places += [f"-{role}.port={ports[2 * number]}", f"-{role}.port.grpc={ports[2 * number + 1]}"]
    options = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-metricsPort={ports[-1]}", "-metricsIp=127.0.0.1"]
    options += ["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=20", "-s3"]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={room / 's3.json'}", f"-dir={room / 'data'}"]
    with (room / "log").open("wb") as log:
        server = subprocess.Popen([program, "server", *options, *places], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{ports[6]}"
    finally:
        server.kill()  # it would take its time, and leaves nothing but files
        server.wait()


Fault = Callable[[str, str], str | None]
"""Method and path of a request → "500", "503"; "cut": no answer; "half" of one; "lost": it is carried out, and no
answer; "slow": no answer in time; or None."""


class FaultyProxy:
    """Passes requests on to a server, but for those that a fault is chosen for.

    Attributes:
        url: its endpoint.
        target: the server's host and port.
        fault: chooses.
        seen: method and path of every request.
    """

    def __init__(self, endpoint: str) -> None:
        self.fault: Fault = lambda _method, _path: None
        self.seen: list[tuple[str, str]] = []
        self.target = urlsplit(endpoint).netloc
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._ended = threading.Event()
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def hang(self, seconds: float) -> None:
        self._ended.wait(seconds)

    def headers(self, headers: dict[str, str]) -> dict[str, str]:
        """A request's headers as the server is to have them."""
        return headers

    def refuses(self, method: str, path: str) -> bool:
        """Whether a request is answered with 404 in the place of the server."""
        return False


def once(*faults: str, method: str, containing: str = "") -> Fault:
    """The first requests of a kind meet these faults, the others none."""
    left = list(faults)
    lock = threading.Lock()

    def choose(seen_method: str, path: str) -> str | None:
        with lock:
            return left.pop(0) if left and seen_method == method and containing in path else None

    return choose


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            proxy.seen.append((self.command, self.path))
            fault = proxy.fault(self.command, self.path)
            self.close_connection = True
            if fault in {"500", "503"} or proxy.refuses(self.command, self.path):
                self.send_response(int(fault) if fault else 404)
                self.send_header("Content-Length", "0")
                self.send_header("Connection", "close")
                self.end_headers()
                return
            if fault == "slow":
                proxy.hang(20)
            if fault in {"cut", "slow"}:
                return
            connection = http.client.HTTPConnection(proxy.target, timeout=20)
            connection.request(self.command, self.path, body, proxy.headers(dict(self.headers.items())))
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if fault == "lost":
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"connection", "transfer-encoding", "date", "server"}:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if fault == "half" else content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815 - the base class's names

    return Handler


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
