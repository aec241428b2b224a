"""WebSocket streams of every kind: through the proxy they are what they are without it, and the tap reads along.

One side sends a stream of the table; the other is an endpoint, the sans-I/O protocol of `websockets`, which answers
as endpoints do: pongs, closes, and refusals of what breaks the rules.
"""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.protocol import OPEN, Protocol
from websockets.protocol import Side as Role

from recorder.protocol.envelope import RecordKind
from recorder.protocol.frames import FrameDecoder, Message
from tests.proxy.conftest import ACCEPT, PATIENCE, UPGRADE, RunningWorker, read_head, read_to_end, take
from tests.proxy.protocol_cases import BINARY, CONT, MIB, TEXT, Case, all_cases

CASES: Final = all_cases()
KINDS: Final = {"client": RecordKind.CLIENT_BYTES, "server": RecordKind.SERVER_BYTES}


class Heard(NamedTuple):
    """What came of a stream: at the endpoint, and back at its sender."""

    received: bytes
    frames: list[Frame]
    messages: list[tuple[int, bytes]]
    failure: int | None
    answer: bytes
    end: str


class Endpoint:
    """The receiver of a case's stream."""

    def __init__(self, case: Case) -> None:
        self.protocol = Protocol(Role.SERVER if case.sender == "client" else Role.CLIENT, state=OPEN, max_size=None)
        if agreed := case.deflate:
            here, there = ("server", "client") if case.sender == "client" else ("client", "server")
            self.protocol.extensions = [
                PerMessageDeflate(
                    remote_no_context_takeover=agreed.forgets(there),  # type: ignore[arg-type]
                    local_no_context_takeover=agreed.forgets(here),  # type: ignore[arg-type]
                    remote_max_window_bits=agreed.bits(there),  # type: ignore[arg-type]
                    local_max_window_bits=agreed.bits(here),  # type: ignore[arg-type]
                )
            ]
        self.received = bytearray()
        self.frames: list[Frame] = []
        self.messages: list[tuple[int, bytes]] = []
        self.failure: int | None = None
        self._parts: list[bytes] = []
        self._opcode = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, b"" for the end; gives what to answer."""
        self.received += data
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        for event in self.protocol.events_received():
            assert isinstance(event, Frame)
            if self.failure is None:
                self._take(event)
        if self.protocol.parser_exc is not None and self.failure is None:
            self.failure = self.protocol.close_sent.code if self.protocol.close_sent else 1006
        return self.protocol.data_to_send()

    def _take(self, frame: Frame) -> None:
        self.frames.append(frame)
        if frame.opcode not in {CONT, TEXT, BINARY}:
            self.messages.append((int(frame.opcode), bytes(frame.data)))
            return
        self._opcode = frame.opcode or self._opcode
        self._parts.append(bytes(frame.data))
        if frame.fin:
            data = b"".join(self._parts)
            self._parts.clear()
            self._finish(data)

    def _finish(self, data: bytes) -> None:
        if self._opcode == TEXT:
            try:
                data.decode()
            except UnicodeDecodeError:
                self.failure = 1007
                self.protocol.fail(1007, "no text")
                return
        self.messages.append((self._opcode, data))

    def serve(self, sock: socket.socket) -> None:
        """Until the other side's end."""
        with sock:
            while True:
                data = sock.recv(MIB)
                for answer in self.feed(data):
                    if answer:
                        sock.sendall(answer)
                    else:
                        sock.shutdown(socket.SHUT_WR)
                if not data:
                    return


def say(sock: socket.socket, wire: bytes) -> tuple[bytes, str]:
    """Send a stream and its end; gives what is answered, and how that ends."""
    answer = b""
    with sock, ThreadPoolExecutor(1) as threads:
        answered = threads.submit(read_to_end, sock)
        try:
            sock.sendall(wire)
            sock.shutdown(socket.SHUT_WR)
            answer = answered.result()
        except ConnectionError as error:
            return answer, type(error).__name__
    return answer, "FIN"


def hold(case: Case, client: socket.socket, server: socket.socket) -> Heard:
    """Let a case's sender speak to an endpoint."""
    sender, receiver = (client, server) if case.sender == "client" else (server, client)
    endpoint = Endpoint(case)
    listening = threading.Thread(target=endpoint.serve, args=(receiver,))
    listening.start()
    answer, end = say(sender, case.wire)
    listening.join(PATIENCE)
    return Heard(bytes(endpoint.received), endpoint.frames, endpoint.messages, endpoint.failure, answer, end)


class Routes:
    """A listening server, reachable directly and through a worker."""

    def __init__(self, make: Callable[[str], RunningWorker]) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(PATIENCE)
        self.address = self._server.getsockname()
        self.proxy = make(f"ws://127.0.0.1:{self.address[1]}")
        self._sessions = 0

    def open(self, case: Case, *, proxied: bool) -> tuple[socket.socket, socket.socket]:
        """A client's and a server's socket, after the handshake."""
        client = self.proxy.connect() if proxied else socket.create_connection(self.address, PATIENCE)
        header = case.deflate and f"Sec-WebSocket-Extensions: {case.deflate.header}\r\n\r\n".encode()
        client.sendall(UPGRADE)
        server, _ = self._server.accept()
        server.settimeout(PATIENCE)
        read_head(server)
        server.sendall(ACCEPT.removesuffix(b"\r\n") + header if header else ACCEPT)
        read_head(client)
        return client, server

    def tapped(self, case: Case) -> bytes:
        """What the tap has of the last session."""
        self._sessions += 1
        found = bytearray()
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for record in take(self.proxy.reader):
                assert record.session_no == self._sessions
                if record.kind == KINDS[case.sender]:
                    found += record.data
                if record.kind == RecordKind.CLOSED:
                    return bytes(found)
            time.sleep(0.001)  # another thread writes them
        raise AssertionError("no end of the session on record")

    def close(self) -> None:
        self._server.close()
        self.proxy.stop()
        self.proxy.reader.close(remove=True)


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routes]:
    path = tmp_path_factory.mktemp("protocol")
    routes = Routes(lambda url: RunningWorker(url, path, ring_bytes=64 * MIB))
    yield routes
    routes.close()


@pytest.fixture(autouse=True)
def masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint's masks are the same each time, so that its answers can be compared."""
    monkeypatch.setattr("websockets.frames.secrets.token_bytes", lambda count: b"mask"[:count])


each_case = pytest.mark.parametrize("case", CASES, ids=[f"{case.sender} - {case.name}" for case in CASES])


def test_there_are_enough_of_them() -> None:
    names = [(case.sender, case.name) for case in CASES]
    assert len(names) == len(set(names)) >= 300


@each_case
def test_the_proxy_changes_nothing(routes: Routes, case: Case) -> None:
    direct = hold(case, *routes.open(case, proxied=False))
    proxied = hold(case, *routes.open(case, proxied=True))
    assert direct.failure == case.fails, "the case is what it says it is"
    assert proxied == direct
    assert proxied.received == case.wire
    assert routes.tapped(case) == case.wire


def read_along(case: Case, chunks: list[bytes]) -> list[Message]:
    decoder = FrameDecoder(case.sender, case.deflate and case.deflate.header)
    messages = [message for chunk in chunks for message in decoder.feed(chunk)]
    return messages + decoder.eof()


def understood(case: Case) -> list[tuple[int, bytes]]:
    """The messages that an endpoint gets before it fails the connection, if it does."""
    endpoint = Endpoint(case)
    endpoint.feed(case.wire)
    if endpoint.failure is None:
        endpoint.feed(b"")
    return endpoint.messages


@each_case
def test_the_tap_understands_what_an_endpoint_does_and_keeps_the_rest(case: Case) -> None:
    messages = read_along(case, [case.wire])
    expected = understood(case)
    good = [(message.opcode, message.data) for message in messages if message.problem is None]
    assert good[: len(expected)] == expected
    assert sum(message.wire_bytes for message in messages) == len(case.wire), "no byte is left out"
    problems = [message.problem for message in messages if message.problem is not None]
    if case.fails is None:
        assert (good, problems) == (expected, [])
    elif not case.lenient:
        assert problems


@each_case
def test_the_tap_reads_the_same_in_any_chunks(case: Case) -> None:
    whole = read_along(case, [case.wire])
    choose = random.Random(case.name)
    size = max(1, len(case.wire) // 500)
    chunks = [case.wire[at : at + size] for at in range(0, len(case.wire), size)]
    sizes = [choose.randint(1, 2 + len(case.wire) // 3) for _ in range(10)]
    rest, odd = case.wire, []
    for length in sizes:
        odd.append(rest[:length])
        rest = rest[length:]
    for cut in (chunks, [*odd, rest]):
        again = read_along(case, cut)
        assert [message for message in again if message.problem is None] == [
            message for message in whole if message.problem is None
        ]
        assert kept(again) == kept(whole)


def kept(messages: list[Message]) -> tuple[set[str], int]:
    """What may be cut differently: of bytes that are no frames, each chunk is a message of its own."""
    problems = {message.problem for message in messages if message.problem is not None}
    return problems, sum(message.wire_bytes for message in messages)
