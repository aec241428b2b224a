"""WebSocket messages in any fragments and any chunks, both ways at once, plain and with TLS on both sides.

Each side gets the bytes that the other sent, the tap has the same bytes, and the decoder finds the messages in the
tap's own chunks.
"""

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle, pairwise
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.protocol.envelope import RecordKind
from recorder.protocol.frames import FrameDecoder
from recorder.proxy.sockets import end_sending
from recorder.store.ring_reader import RingRecord
from tests.proxy.conftest import ACCEPT, PATIENCE, UPGRADE, RunningWorker, read_head, take
from tests.proxy.fault_stage import eventually
from tests.proxy.protocol_cases import BINARY, PING, TEXT, Deflate, Side, Squeezer, fragments, frame

EXTENSIONS: Final = Deflate().header
KINDS: Final[dict[Side, RecordKind]] = {"client": RecordKind.CLIENT_BYTES, "server": RecordKind.SERVER_BYTES}


class Said(NamedTuple):
    """A message, and how it is sent."""

    opcode: int
    size: int
    cuts: tuple[float, ...]
    compressed: bool
    pinged: bool

    @property
    def payload(self) -> bytes:
        return (b'{"type":"input_audio_buffer.append","audio":"' * (self.size // 40 + 1))[: self.size]

    def wire(self, squeezer: Squeezer) -> bytes:
        """Its frames; a ping stands between any two of them."""
        data = squeezer.squeeze(self.payload) if self.compressed else self.payload
        places = [0, *sorted(int(cut * len(data)) for cut in self.cuts), len(data)]
        pieces = [data[start:end] for start, end in pairwise(places)]
        between = frame(squeezer.side, PING, b"still there?") if self.pinged else b""
        return fragments(squeezer.side, self.opcode, pieces, rsv=4 * self.compressed, between=between)


class Stream(NamedTuple):
    """What one side says, and in which portions."""

    messages: list[Said]
    portions: list[int]

    def wire(self, side: Side) -> bytes:
        squeezer = Squeezer(side, Deflate())
        return b"".join(message.wire(squeezer) for message in self.messages)

    def chunks(self, wire: bytes) -> Iterator[bytes]:
        at = 0
        for portion in cycle(self.portions):
            if at >= len(wire):
                return
            size = max(portion, len(wire) // 300)
            yield wire[at : at + size]
            at += size


sizes = st.one_of(st.integers(0, 300), st.sampled_from([125, 126, 65_535, 65_536, 70_000, 300_000]))
messages = st.builds(
    Said,
    opcode=st.sampled_from([TEXT, BINARY]),
    size=sizes,
    cuts=st.lists(st.floats(0, 1), max_size=4).map(tuple),
    compressed=st.booleans(),
    pinged=st.booleans(),
)
streams = st.builds(
    Stream,
    messages=st.lists(messages, max_size=6),
    portions=st.lists(st.one_of(st.integers(1, 20), st.integers(1, 100_000)), min_size=1, max_size=8),
)


class Passage:
    """A client and a server of one worker, again and again."""

    def __init__(self, path: Path, certificate: Path | None) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(PATIENCE)
        self._there = self._here = None
        port = self._server.getsockname()[1]
        tls: dict[str, str] = {}
        if certificate is not None:
            self._there = ssl.create_default_context(cafile=str(certificate))
            self._here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._here.load_cert_chain(certificate)
            tls = {"tls_cert": str(certificate), "upstream_ca": str(certificate)}
        url = f"wss://localhost:{port}" if certificate else f"ws://127.0.0.1:{port}"
        self._proxy = RunningWorker(url, path, ring_bytes=32 << 20, **tls)

    def open(self) -> tuple[socket.socket, socket.socket]:
        client = self._proxy.connect()
        if self._there is not None:
            client = self._there.wrap_socket(client, server_hostname="localhost")
        client.sendall(UPGRADE)
        server, _ = self._server.accept()
        if self._here is not None:
            server = self._here.wrap_socket(server, server_side=True)
        server.settimeout(PATIENCE)
        read_head(server)
        server.sendall(ACCEPT.removesuffix(b"\r\n") + f"Sec-WebSocket-Extensions: {EXTENSIONS}\r\n\r\n".encode())
        read_head(client)
        return client, server

    def session(self) -> list[RingRecord]:
        """What the tap wrote of the session that has just ended."""
        records: list[RingRecord] = []

        def ended() -> bool:
            records.extend(take(self._proxy.reader))
            return bool(records) and records[-1].kind == RecordKind.CLOSED

        eventually(ended, "the session's end is on record")
        return records

    def close(self) -> None:
        self._server.close()
        self._proxy.stop()
        self._proxy.reader.close(remove=True)


@pytest.fixture(scope="module", params=["plain", "TLS"])
def passage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Path
) -> Iterator[Passage]:
    passage = Passage(tmp_path_factory.mktemp("frames"), certificate if request.param == "TLS" else None)
    yield passage
    passage.close()


def talk(sock: socket.socket, chunks: Iterator[bytes], got: list[bytes]) -> None:
    """Send all chunks and the end, while receiving to the end. In one thread, as a TLS object wants it."""
    heard = bytearray()
    rest = next(chunks, b"")
    speaking = listening = True
    sock.setblocking(False)
    while speaking or listening:
        if speaking and not rest:
            end_sending(sock)  # `unwrap` would throw away what is on its way here
            speaking = False
        with suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if speaking:
                rest = rest[sock.send(rest) :] or next(chunks, b"")
        try:
            data = sock.recv(1 << 16)
        except (BlockingIOError, ssl.SSLWantReadError):
            if listening:
                select.select([sock], [sock] if speaking else [], [], PATIENCE)
            continue
        except ssl.SSLZeroReturnError:
            data = b""
        heard += data
        listening = listening and bool(data)
    got.append(bytes(heard))
    sock.close()


@settings(deadline=None, max_examples=40)
@given(up=streams, down=streams)
def test_messages_pass_and_are_understood(passage: Passage, up: Stream, down: Stream) -> None:
    client, server = passage.open()
    wires: dict[Side, bytes] = {"client": up.wire("client"), "server": down.wire("server")}
    at_client: list[bytes] = []
    at_server: list[bytes] = []
    other = threading.Thread(target=talk, args=(server, down.chunks(wires["server"]), at_server))
    other.start()
    talk(client, up.chunks(wires["client"]), at_client)
    other.join(PATIENCE)
    arrived = (at_server, at_client) == ([wires["client"]], [wires["server"]])
    assert arrived
    records = passage.session()
    said: dict[Side, Stream] = {"client": up, "server": down}
    for side, stream in said.items():
        chunks = [bytes(record.data) for record in records if record.kind == KINDS[side]]
        kept = b"".join(chunks) == wires[side]
        assert kept
        assert understood(side, chunks) == [(message.opcode, message.payload) for message in stream.messages]


def understood(side: Side, chunks: list[bytes]) -> list[tuple[int, bytes]]:
    decoder = FrameDecoder(side, EXTENSIONS)
    messages = [message for chunk in chunks for message in decoder.feed(chunk)]
    assert decoder.eof() == []
    assert [message.problem for message in messages if message.problem is not None] == []
    return [(message.opcode, message.data) for message in messages if message.opcode != PING]
