"""Both ends of one session, held by one test, with a worker in between: what `fault_matrix` is played on."""

import asyncio
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from recorder.pipeline.drain import Drain
from recorder.pipeline.locks import RecorderLock
from recorder.pipeline.recover import sort_spools
from recorder.protocol.envelope import RecordKind
from recorder.proxy.session import Session
from recorder.proxy.splice import Splice
from recorder.proxy.worker import Worker
from recorder.store.counters import Counters
from recorder.store.journal import read_journal
from recorder.store.journal_files import list_journals
from tests.proxy.conftest import ACCEPT, PATIENCE, UPGRADE, RunningWorker, read_exactly, read_head, take

REFUSAL: Final = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\n"
RESET: Final = struct.pack("ii", 1, 0)


def eventually(check: Callable[[], bool], what: str) -> None:
    """Wait until `check` holds: for what the worker's thread does and nobody announces."""
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.002)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Gate:
    """Holds the worker's next look-up of a name until it is told what comes of it."""

    def __init__(self, proxy: RunningWorker) -> None:
        self.reached = threading.Event()
        self._proxy = proxy
        self._loop: Any = proxy.call(lambda _: cast("Any", asyncio.get_running_loop()))
        self._verdict: asyncio.Future[None] = proxy.call(lambda _: self._loop.create_future())
        self._real = self._loop.getaddrinfo
        self._loop.getaddrinfo = self._look_up

    async def _look_up(self, *arguments: Any, **named: Any) -> Any:
        self._loop.getaddrinfo = self._real
        self.reached.set()
        await self._verdict
        return await self._real(*arguments, **named)

    def open(self, problem: Exception | None = None) -> None:
        """Let it go on, or fail."""

        def decide(_: Worker) -> None:
            if problem is None:
                self._verdict.set_result(None)
            else:
                self._verdict.set_exception(problem)

        self._proxy.call(decide)


class Stage:
    """One session, seen from both sides.

    What is sent and has not been read on the other side yet is kept in `up` and `down`; all that was sent since the
    handshake in `said_up` and `said_down`.
    """

    def __init__(self, proxy: RunningWorker, server: socket.socket, certificate: Path | None) -> None:
        self.proxy = proxy
        self.server = server
        self._certificate = certificate
        self.gate: Gate | None = None
        self.client: socket.socket | None = None
        self.upstream: socket.socket | None = None
        self.up, self.down = bytearray(), bytearray()
        self.said_up, self.said_down = bytearray(), bytearray()
        self.client_ended = self.upstream_ended = False
        self.first_end: str | None = None
        self.recorder: Drain | None = None
        self.disk_is_full = False
        self._lock: RecorderLock | None = None
        self._is_over = False
        self._records: list[tuple[int, bytes]] = []
        self._counters = Counters()
        self._tasks = proxy.call(lambda _: asyncio.all_tasks() - {asyncio.current_task()})
        self._descriptors = open_descriptors()

    # The way to an open session, step by step.

    def connect(self) -> None:
        self.client = self.proxy.connect()

    def secure_client(self) -> None:
        if self.proxy.config.tls_cert:
            context = ssl.create_default_context(cafile=str(self._certificate))
            self.client = context.wrap_socket(self.there, server_hostname="localhost")

    @property
    def there(self) -> socket.socket:
        """The client's socket."""
        assert self.client is not None
        return self.client

    @property
    def here(self) -> socket.socket:
        """The upstream's."""
        assert self.upstream is not None
        return self.upstream

    def ask(self, part: bytes = UPGRADE) -> None:
        self.there.sendall(part)

    def accept(self) -> None:
        self.upstream, _ = self.server.accept()
        self.upstream.settimeout(PATIENCE)
        self.upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def secure_upstream(self) -> None:
        if self.proxy.config.upstream.tls:
            assert self._certificate is not None
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
            self.upstream = context.wrap_socket(self.here, server_side=True)

    def take_request(self) -> None:
        assert read_head(self.here).startswith(b"GET /v1/realtime")

    def answer(self, part: bytes = ACCEPT) -> None:
        self.here.sendall(part)

    def take_answer(self) -> None:
        assert read_head(self.there) == ACCEPT

    def open(self) -> None:
        for step in (self.connect, self.secure_client, self.ask, self.accept, self.secure_upstream):
            step()
        for step in (self.take_request, self.answer, self.take_answer):
            step()

    # What may be done with it.

    def settle(self) -> None:
        """Until the worker has seen what was sent: on loopback it is in its socket by the time `send` returns."""
        for _ in range(3):
            self.proxy.call(lambda _: None)

    def say_up(self, data: bytes) -> None:
        self.there.sendall(data)
        self.up += data
        self.said_up += data

    def say_down(self, data: bytes) -> None:
        self.here.sendall(data)
        self.down += data
        self.said_down += data

    def hear_up(self) -> None:
        heard = read_exactly(self.here, len(self.up)) == self.up  # megabytes, not to be shown
        assert heard
        self.up.clear()

    def hear_down(self) -> None:
        heard = read_exactly(self.there, len(self.down)) == self.down
        assert heard
        self.down.clear()

    def end_client(self) -> None:
        """The client has nothing more to say."""
        half_close(self.there)
        self.client_ended = True
        self.first_end = self.first_end or "client"

    def end_upstream(self) -> None:
        half_close(self.here)
        self.upstream_ended = True
        self.first_end = self.first_end or "upstream"

    def splice(self) -> Splice:
        def find(worker: Worker) -> Splice:
            (session,) = worker._sessions
            assert isinstance(session, Session)
            assert session._splice is not None
            return session._splice

        return self.proxy.call(find)

    def flood(self, *, down: bool) -> None:
        """Send until the worker holds a chunk, and no more can be sent: the other side does not read."""
        sender, pending, said = (self.here, self.down, self.said_down) if down else (self.there, self.up, self.said_up)
        splice = self.splice()
        lane = splice._down if down else splice._up
        block = bytes(range(256)) * 256
        sender.setblocking(False)
        while True:
            try:
                sent = sender.send(block)
            except BlockingIOError:
                carried = lane.carried
                self.settle()
                if lane.held and lane.carried == carried:
                    break
            else:
                pending += block[:sent]
                said += block[:sent]
        sender.settimeout(PATIENCE)

    def talk(self) -> None:
        """Whoever has not ended says something, and each hears all that the other said; ends are heard as ends."""
        if not self.client_ended:
            self.say_up(b"more from the client")
        if not self.upstream_ended:
            self.say_down(b"more from the upstream")
        self.hear_up()
        self.hear_down()

    def finish(self) -> None:
        """End in order; each end is heard on the other side."""
        if not self.client_ended:
            self.end_client()
        assert hear(self.here) == b""
        if not self.upstream_ended:
            self.end_upstream()
        assert hear(self.there) == b""

    def reopen(self, address: tuple[str, int]) -> None:
        """The upstream listens again, where it did."""
        self.server = socket.create_server(address)
        self.server.settimeout(PATIENCE)

    def close(self) -> None:
        for sock in (self.client, self.upstream):
            if sock is not None:
                sock.close()
        self.client = self.upstream = None

    # What is left when it is over.

    def is_quiet(self) -> bool:
        """Whether the worker has let go of everything."""

        def quiet(worker: Worker) -> bool:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            return not worker._sessions and tasks == self._tasks

        return self.proxy.call(quiet) and open_descriptors() <= self._descriptors

    def serves_another(self) -> None:
        """The worker has taken no harm: somebody else can have a conversation."""
        self._is_over = True  # what comes into the ring now is another session's
        another = Stage(self.proxy, self.server, self._certificate)
        another.open()
        another.talk()
        another.finish()
        another.close()
        eventually(another.is_quiet, "the next session is over")

    # The record.

    def start_recorder(self) -> None:
        """A recorder process's work, in this thread: it moves on when `record` is called."""
        data = Path(self.proxy.config.data_dir)
        self._lock = RecorderLock(data, self.proxy.ring_dir)
        self.recorder = Drain(data, self.proxy.ring_dir, self._counters)

    def kill_recorder(self) -> None:
        """It stops where it stands."""
        assert self.recorder is not None
        assert self._lock is not None
        self.recorder.close()
        self._lock.release()

    def drain_ring(self) -> list[tuple[int, bytes]]:
        """Take what the ring holds, as a recorder process does. Gives the session's records so far."""
        for record in take(self.proxy.reader):
            if record.session_no == 1:
                self._records.append((record.kind, bytes(record.data)))
        return self._records

    def recorded(self) -> list[tuple[int, bytes]]:
        """The session's records, in order, after the worker has stopped."""
        if self._lock is not None:
            self._finish_recording()
        else:
            self.proxy.stop()
            if not self._is_over:
                self.drain_ring()
        return self._records

    def _finish_recording(self) -> None:
        self.proxy.stop()
        self.start_recorder()  # the next one
        assert self.recorder is not None
        self.recorder.drain()
        self.recorder.sync()
        self.kill_recorder()
        data = Path(self.proxy.config.data_dir)
        sort_spools(data)
        first = list_journals(data)[0]
        assert first.closed
        self._records = [(record.kind, record.data) for record in read_journal(first.path)]

    def facts(self, kind: RecordKind) -> list[dict[str, Any]]:
        return [msgspec.json.decode(data) for one, data in self._records if one == kind]

    def bytes_of(self, kind: RecordKind) -> bytes:
        return b"".join(data for one, data in self._records if one == kind)


def half_close(sock: socket.socket) -> None:
    """FIN; over TLS its own farewell first."""
    if isinstance(sock, ssl.SSLSocket):
        sock.setblocking(False)
        with suppress(OSError):
            sock.unwrap()
        sock.settimeout(PATIENCE)
    socket.socket.shutdown(sock, socket.SHUT_WR)  # SSLSocket's own would forget that it is one


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def hear(sock: socket.socket) -> bytes:
    """What comes next; b"" for the end."""
    ready = select.poll()
    ready.register(sock, select.POLLIN)
    ((_, events),) = ready.poll(PATIENCE * 1000) or [(0, 0)]
    try:
        data = sock.recv(1 << 20)
    except ssl.SSLZeroReturnError:  # the end, after having sent one
        return b""
    if not data and events & select.POLLERR:  # TLS makes an end of it
        raise ConnectionResetError
    return data


def read_rest(sock: socket.socket, *, until: str | None, ended: bool) -> tuple[bytes, str]:
    """All that still comes, and how it ends. A reset after the end was heard shows as an error of the socket alone."""
    if ended and until == "reset":
        trouble = select.poll()
        trouble.register(sock, 0)
        ((_, events),) = trouble.poll(PATIENCE * 1000) or [(0, 0)]
        return b"", "reset" if events & select.POLLERR else "fin"
    data = bytearray()
    try:
        while more := hear(sock):
            data += more
    except ConnectionResetError:
        return bytes(data), "reset"
    return bytes(data), "fin"


def fill(worker: Worker) -> None:
    """Leave no room in the worker's ring, as if nobody had drained it for long."""
    for size in (1 << 16, 1 << 10, 0):
        while worker._ring.append(RecordKind.GAP, 0, 0, bytes(size)):
            pass
