"""A worker in a thread, an upstream that does as it is told, and what the tap wrote down."""

import asyncio
import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from recorder.protocol.envelope import RecordKind
from recorder.proxy.config import WorkerConfig
from recorder.proxy.selector import SpliceSelector
from recorder.proxy.supervisor import listen
from recorder.proxy.upstream import Upstream
from recorder.proxy.worker import Worker
from recorder.store.ring_reader import RingReader, RingRecord

UPGRADE = (
    b"GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nHost: app.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
PATIENCE = 20.0

T = TypeVar("T")


def take(reader: RingReader) -> list[RingRecord]:
    """Take records out of a ring, and their data with them."""
    records, position = reader.read(reader.capacity)
    for record in records:
        record.data = bytes(record.data)
    reader.release(position)
    return records


def read_head(sock: socket.socket) -> bytes:
    """Up to the blank line, and not a byte more."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        more = sock.recv(1)
        if not more:
            raise AssertionError(f"closed inside a head: {data!r}")
        data += more
    return data


def read_exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count and (more := sock.recv(min(1 << 20, count - len(data)))):
        data += more
    return bytes(data)


def read_to_end(sock: socket.socket) -> bytes:
    data = bytearray()
    while more := sock.recv(1 << 20):
        data += more
    return bytes(data)


class RunningWorker:
    """A worker on a free port, in a thread of its own."""

    def __init__(self, upstream: str, tmp_path: Path, **settings: Any) -> None:
        self._loop: asyncio.SelectorEventLoop | None = None
        self._worker: Worker | None = None
        self._records: list[RingRecord] = []
        self.ring_dir = tmp_path / "ring"
        self.config = WorkerConfig(
            upstream=Upstream.parse(upstream),
            data_dir=str(tmp_path / "data"),
            ring_dir=str(self.ring_dir),
            **{"drain_seconds": 0.0, "ring_bytes": 8 << 20, **settings},
        )
        (self._listener,) = listen("127.0.0.1:0")
        self._listener.setblocking(False)
        self.address = self._listener.getsockname()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,))
        self._thread.start()
        started.wait(PATIENCE)
        self.reader = RingReader(next(self.ring_dir.glob("*.ring")))

    def _run(self, started: threading.Event) -> None:
        selector = SpliceSelector()

        async def serve() -> None:
            self._worker = Worker(self.config, selector, [self._listener])
            started.set()
            await self._worker.run()

        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            self._loop = runner.get_loop()  # type: ignore[assignment]
            runner.run(serve())

    def call(self, function: Callable[[Worker], T]) -> T:
        """Do something in the worker's own thread, between two of its events."""
        assert self._loop is not None

        async def do() -> T:
            assert self._worker is not None
            return function(self._worker)

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(PATIENCE)

    def connect(self) -> socket.socket:
        sock = socket.create_connection(self.address, PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def accepts(self) -> bool:
        """Whether it still listens."""
        return self._listener.fileno() >= 0

    def stop(self) -> None:
        """Stop and wait; the ring can still be read."""
        if self._thread.is_alive():
            assert self._loop is not None
            assert self._worker is not None
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                self._loop.call_soon_threadsafe(self._worker.stop)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def records(self) -> list[RingRecord]:
        """All that was tapped and not read by the test itself, after the worker has stopped."""
        self.stop()
        while records := take(self.reader):
            self._records += records
        return self._records

    def tapped(self, kind: RecordKind) -> bytes:
        return b"".join(record.data for record in self.records() if record.kind == kind)

    def facts(self, kind: RecordKind) -> list[dict[str, Any]]:
        return [msgspec.json.decode(record.data) for record in self.records() if record.kind == kind]


class Scripted:
    """An upstream: runs `behave(connection)` in a thread for each connection it accepts."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self._behave = behave
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.failures: list[BaseException] = []
        self.url = f"ws://127.0.0.1:{self._socket.getsockname()[1]}"
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE)
            thread = threading.Thread(target=self._serve, args=(connection,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        with closing(connection):
            try:
                self._behave(connection)
            except BaseException as failure:  # noqa: BLE001 - handed to the test
                self.failures.append(failure)

    def stop(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._acceptor.join(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost and 127.0.0.1, key included."""
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    key = path.with_name("key.pem")
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext {names}"
    subprocess.run(
        [*command.split(), "-keyout", str(key), "-out", str(path)],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


@pytest.fixture
def upstream() -> Iterator[Callable[[Callable[[socket.socket], None]], Scripted]]:
    made: list[Scripted] = []

    def make(behave: Callable[[socket.socket], None]) -> Scripted:
        made.append(Scripted(behave))
        return made[-1]

    yield make
    for server in made:
        server.stop()
        assert server.failures == []


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., RunningWorker]]:
    made: list[RunningWorker] = []

    def make(url: str, **settings: Any) -> RunningWorker:
        made.append(RunningWorker(url, tmp_path / str(len(made)), **settings))
        return made[-1]

    yield make
    for running in made:
        running.stop()
        running.reader.close(remove=True)


def accept(connection: socket.socket) -> None:
    assert read_head(connection).startswith(b"GET /v1/realtime")
    connection.sendall(ACCEPT)


def upgrade(worker: RunningWorker) -> socket.socket:
    client = worker.connect()
    client.sendall(UPGRADE)
    assert read_head(client) == ACCEPT
    return client


def exchange(worker: RunningWorker, request: bytes) -> tuple[bytes, bytes]:
    """Send a request, read the whole answer: (status line, body)."""
    with worker.connect() as client:
        client.sendall(request)
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")
        return head.split(b"\r\n")[0], body
