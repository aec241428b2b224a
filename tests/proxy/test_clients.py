"""Clients as they differ: each form of path, authentication and query, compressed or not, through real WebSockets."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request
from websockets.typing import Subprotocol

from recorder.protocol.envelope import RecordKind
from tests.proxy.conftest import RunningWorker

MakeWorker = Callable[..., RunningWorker]

KEY = "sk-proj-0123456789abcdefghij"
EPHEMERAL = "ek_0123456789abcdefghij"
AZURE = "0123456789abcdef0123456789abcdef"
SIZES = (0, 1, 125, 126, 65_535, 65_536, (1 << 20) - 1, (1 << 20) + 1, 10_000_000)


@dataclass(frozen=True)
class Client:
    """How one kind of client connects."""

    target: str
    headers: dict[str, str] = field(default_factory=dict)
    subprotocols: tuple[str, ...] = ()
    secret: str = KEY


BEARER = {"Authorization": f"Bearer {KEY}"}
CLIENTS = {
    "OpenAI SDK": Client("/v1/realtime?model=gpt-realtime", BEARER),
    "OpenAI SDK, beta": Client("/v1/realtime?model=gpt-realtime", {**BEARER, "OpenAI-Beta": "realtime=v1"}),
    "OpenAI SDK, organization": Client(
        "/v1/realtime?model=m", {**BEARER, "OpenAI-Organization": "org-1", "OpenAI-Project": "proj_1"}
    ),
    "browser": Client(
        "/v1/realtime?model=gpt-realtime",
        subprotocols=("realtime", f"openai-insecure-api-key.{EPHEMERAL}"),
        secret=EPHEMERAL,
    ),
    "browser, organization": Client(
        "/v1/realtime?model=gpt-realtime",
        subprotocols=(
            "realtime",
            f"openai-insecure-api-key.{EPHEMERAL}",
            "openai-organization.org-1",
            "openai-project.proj_1",
            "openai-beta.realtime-v1",
        ),
        secret=EPHEMERAL,
    ),
    "transcription": Client("/v1/realtime?intent=transcription", BEARER),
    "sideband": Client("/v1/realtime?call_id=rtc_u0_9c6574da8b8a41a18da9308f4ad974ce", BEARER),
    "Azure": Client(
        "/openai/realtime?api-version=2025-04-01-preview&deployment=my%20voice", {"api-key": AZURE}, secret=AZURE
    ),
    "Azure, v1": Client("/openai/v1/realtime?model=my-voice", {"api-key": AZURE}, secret=AZURE),
    "Azure, Entra": Client("/openai/v1/realtime?model=my-voice", {"Authorization": "Bearer eyJ0eXAi.eyJhdWQi.c2ln"}),
    "Azure, query": Client(f"/openai/realtime?api-version=2&deployment=d&api-key={AZURE}", secret=AZURE),
    "Voice Live": Client("/voice-live/realtime?api-version=2025-10-01&model=gpt-realtime", {"api-key": AZURE}),
    "Voice Live, query": Client(f"/voice-live/realtime?model=m&api-key={AZURE}", secret=AZURE),
    "gateway": Client("/v1/realtime?model=xai/grok-voice", {"X-Api-Key": AZURE}, secret=AZURE),
}


class Server:
    """A Realtime server of a kind: keeps requests, speaks `realtime`, echoes; closes as its first message says."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.url = ""

    async def handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.requests.append(connection.request)
        await connection.send('{"type":"session.created"}')
        async for message in connection:
            if message == "close 4000":
                await connection.send('{"type":"error"}')
                await connection.close(4000, "beta_api_shape_disabled")
            elif message == "close 1005":
                async with connection.send_context():
                    connection.protocol.send_close()  # a frame without a status, which close() does not send
            elif message == "ping":
                await (await connection.ping())
                await connection.send("pong came")
            else:
                await connection.send(message)


@asynccontextmanager
async def realtime_server(compression: str | None) -> AsyncIterator[Server]:
    server = Server()
    listening = serve(
        server.handle,
        "127.0.0.1",
        0,
        subprotocols=[Subprotocol("realtime")],
        select_subprotocol=lambda _, offered: Subprotocol("realtime") if "realtime" in offered else None,
        compression=compression,
        max_size=None,
    )
    async with listening as running:
        server.url = f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}"
        yield server


def names(request: Request) -> list[tuple[str, str]]:
    """Headers but for those that differ from one connection to the next."""
    changing = {"host", "sec-websocket-key"}
    return [(name, value) for name, value in request.headers.raw_items() if name.lower() not in changing]


def subprotocols_of(client: Client) -> list[Subprotocol] | None:
    return [Subprotocol(name) for name in client.subprotocols] or None


@pytest.mark.parametrize("compression", ["deflate", None])
@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
async def test_every_client_is_served_as_by_a_direct_connection(
    worker: MakeWorker, client: Client, compression: str | None
) -> None:
    async with realtime_server("deflate") as server:
        proxy = worker(server.url)
        seen = []
        for base in (server.url, f"ws://127.0.0.1:{proxy.address[1]}"):
            async with connect(
                base + client.target,
                additional_headers=client.headers,
                subprotocols=subprotocols_of(client),
                compression=compression,
            ) as connection:
                assert await connection.recv() == '{"type":"session.created"}'
                await connection.send("é" * 300)
                assert await connection.recv() == "é" * 300
                assert connection.response is not None
                extensions = connection.response.headers.get("Sec-WebSocket-Extensions")
                seen.append((connection.subprotocol, extensions))
        assert seen[0] == seen[1]
        assert (seen[0][1] is not None) == (compression is not None)
        direct, proxied = server.requests
        assert proxied.path == direct.path == client.target
        assert names(proxied) == names(direct)
        await asyncio.to_thread(proxy.stop)
    assert client.secret.encode() not in proxy.reader.path.read_bytes()
    (opened,) = proxy.facts(RecordKind.OPENED)
    assert opened["request"]["target"].partition("?")[0] == client.target.partition("?")[0]


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_messages_of_any_size(worker: MakeWorker, compression: str | None) -> None:
    async with realtime_server(compression) as server:
        proxy = worker(server.url, ring_bytes=64 << 20)
        address = f"ws://127.0.0.1:{proxy.address[1]}/v1/realtime"
        async with connect(address, compression=compression, max_size=None) as connection:
            await connection.recv()
            for size in SIZES:
                text = "x" * size
                await connection.send(text)
                assert await connection.recv() == text
            await connection.send(b"\x00\xff" * 1000)
            assert await connection.recv() == b"\x00\xff" * 1000
        await asyncio.to_thread(proxy.stop)


@pytest.mark.parametrize(("asked", "code"), [("close 4000", 4000), ("close 1005", 1005)])
async def test_what_comes_before_a_close_and_the_close_itself_arrive(worker: MakeWorker, asked: str, code: int) -> None:
    async with realtime_server(None) as server:
        proxy = worker(server.url)
        async with connect(f"ws://127.0.0.1:{proxy.address[1]}/v1/realtime") as connection:
            await connection.recv()
            await connection.send(asked)
            if code == 4000:
                assert await connection.recv() == '{"type":"error"}'
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()
        received = closed.value.rcvd
        assert (received and received.code) == code
        assert (received and received.reason) == ("beta_api_shape_disabled" if code == 4000 else "")


async def test_pings_from_either_side(worker: MakeWorker) -> None:
    async with realtime_server(None) as server:
        proxy = worker(server.url)
        async with connect(f"ws://127.0.0.1:{proxy.address[1]}/v1/realtime") as connection:
            await connection.recv()
            assert await (await connection.ping(b"from the client")) >= 0
            await connection.send("ping")
            assert await connection.recv() == "pong came"


@pytest.mark.parametrize("client", [CLIENTS["OpenAI SDK"], CLIENTS["browser"]], ids=["OpenAI SDK", "browser"])
async def test_clients_that_insist_on_tls(worker: MakeWorker, client: Client, certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with realtime_server("deflate") as server:
        proxy = worker(server.url, tls_cert=str(certificate))
        async with connect(
            f"wss://localhost:{proxy.address[1]}{client.target}",
            additional_headers=client.headers,
            subprotocols=subprotocols_of(client),
            ssl=trusting,
            max_size=None,
        ) as connection:
            await connection.recv()
            await connection.send("x" * 1_000_000)
            assert await connection.recv() == "x" * 1_000_000
