"""What passes through the proxy is what a direct connection carries, and what is on record is what passed."""

import asyncio
import random
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from recorder.pipeline.catalog import Catalog
from tests.e2e.conftest import RecorderProcess, eventually
from tests.proxy.conftest import ACCEPT, UPGRADE, read_exactly, read_head, read_to_end

Run = Callable[..., RecorderProcess]

ODD: list[Any] = [
    '{"type":"session.update","session":{}}',
    ' {\t"type" :\r\n "input_audio_buffer.clear" , "x":1e400, "x": [ ] } ',
    '{"b":1,"type":"made.up.type","nested":{"type":"not this one"}}',
    '{"type":"response.create","slash":"\\/","uni":"\\u00e9é\\ud83d\\ude00 \\ud800","nul":"\\u0000"}',
    "not json at all",
    "",
    "[1,2,3]",
    '{"type":42}',
    '{"type":"input_audio_buffer.append","audio":"' + "QUJD" * 3000 + '"}',
    '{"type":"input_audio_buffer.append","audio":"QUJD\\/w==","odd":"escaped"}',
    '{"type":"conversation.item.create","item":{"type":"message","content":[{"type":"input_audio","audio":"'
    + "UUJD" * 100
    + '"},{"type":"input_image","image_url":"data:image/png;base64,'
    + "iVBO" * 100
    + '"}]}}',
    bytes(range(256)) * 40,
    b"",
]
LARGE = '{"type":"input_audio_buffer.append","audio":"' + "QUJD" * (10 * 1024 * 1024 // 4) + '"}'


async def converse(url: str, messages: list[Any], *, compression: str | None, fragment: bool) -> list[Any]:
    """Send each message and get it back; then close with a code and reason."""
    got = []
    async with connect(url, compression=compression, max_size=None) as client:
        for message in messages:
            pieces = [message[place : place + 7] for place in range(0, len(message), 7)]
            await client.send(pieces if fragment and 1 < len(pieces) < 100 else message)
            got.append(await client.recv())
        await client.ping()
        await client.close(4001, "done")
    return got


@pytest.mark.parametrize("compression", ["deflate", None])
@pytest.mark.parametrize("fragment", [False, True])
async def test_messages_arrive_and_are_recorded_byte_for_byte(
    run: Run, data: Path, compression: str | None, *, fragment: bool
) -> None:
    closes: list[tuple[int | None, str | None]] = []

    async def echo(connection: ServerConnection) -> None:
        try:
            while True:
                await connection.send(await connection.recv())
        except ConnectionClosed:
            closes.append((connection.close_code, connection.close_reason))

    messages = [*ODD, LARGE] if not fragment else ODD
    async with serve(echo, "127.0.0.1", 0, compression=compression, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        arguments = ("proxy", "--listen", "127.0.0.1:0", "--upstream", f"ws://127.0.0.1:{port}", "--data", str(data))
        proxy = await asyncio.to_thread(run, *arguments)
        url = f"{proxy.url}/v1/realtime?model=echo"
        assert await converse(url, messages, compression=compression, fragment=fragment) == messages
    assert await asyncio.to_thread(proxy.stop) == 0
    assert closes == [(4001, "done")]
    with Catalog(data) as catalog:
        (session,) = catalog.query("SELECT * FROM sessions").to_dicts()
        assert (session["close_code"], session["close_reason"], session["closed_by"]) == (4001, "done", "client")
        events = catalog.recorded_events(session["session_id"])
        assert [event.position for event in events] == list(range(len(events)))
        for direction in ("client", "server"):
            said = [event for event in events if event.direction == direction and event.opcode in {1, 2}]
            assert [event.message() for event in said] == [
                message if isinstance(message, bytes) else message.encode() for message in messages
            ]
            assert [event.opcode == 2 for event in said] == [isinstance(message, bytes) for message in messages]
        assert {event.type for event in events if event.opcode in {8, 9, 10}} == {
            "websocket.ping",
            "websocket.pong",
            "websocket.close",
        }


def frames(party: str) -> bytes:
    """Frames as a library would not make them: all opcodes, fragments with pings between, odd masks, empty ones."""
    chance = random.Random(party)
    out = bytearray()
    for number in range(200):
        size = chance.choice([0, 1, 125, 126, 127, 65535, 65536, chance.randint(0, 3000)])
        opcode = chance.choice([Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.PONG, Opcode.CONT])
        payload = (b'{"type":"x","n":%d}' % number).ljust(size, b" ")[: 125 if opcode in {9, 10} else None]
        frame = Frame(opcode, payload, fin=opcode in {9, 10} or chance.random() < 0.7)
        wire = bytearray(frame.serialize(mask=party == "client"))
        wire[0] |= 0x40 if chance.random() < 0.1 else 0  # a reserved bit
        out += wire
    return bytes(out)


def exchange(address: tuple[str, int], listener: socket.socket) -> tuple[bytes, bytes, bytes]:
    """One conversation in raw frames; (the request, what the server got, what the client got)."""
    seen: dict[str, bytes] = {}

    def server_side() -> None:
        connection, _ = listener.accept()
        with connection:
            seen["request"] = read_head(connection)
            connection.sendall(ACCEPT + from_server[:1000])
            seen["server"] = read_exactly(connection, len(from_client) // 2)
            connection.sendall(from_server[1000:])
            seen["server"] += read_to_end(connection)

    def client_side(client: socket.socket) -> None:
        client.sendall(from_client)
        client.shutdown(socket.SHUT_WR)

    from_client, from_server = frames("client"), frames("server")
    thread = threading.Thread(target=server_side)
    thread.start()
    with socket.create_connection(address, 20) as client:
        client.sendall(UPGRADE)
        assert read_head(client) == ACCEPT
        sender = threading.Thread(target=client_side, args=(client,))
        sender.start()
        seen["client"] = read_to_end(client)
        sender.join()
    thread.join()
    assert seen["server"] == from_client
    return seen["request"], seen["server"], seen["client"]


def test_each_side_sees_what_it_would_see_directly(run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websockets.frames.secrets.token_bytes", lambda count: b"mask"[:count])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        port = listener.getsockname()[1]
        direct = exchange(("127.0.0.1", port), listener)
        upstream = f"ws://127.0.0.1:{port}"
        proxy = run("proxy", "--listen", "127.0.0.1:0", "--upstream", upstream, "--data", str(data))
        proxied = exchange(proxy.address, listener)
    assert proxied[0] == direct[0].replace(b"Host: app.test", f"Host: 127.0.0.1:{port}".encode())
    assert proxied[1:] == direct[1:]


def test_a_running_session_is_seen_before_it_ends(run: Run, data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        proxy = run("proxy", "--listen", "127.0.0.1:0", "--upstream", upstream, "--data", str(data))
        with socket.create_connection(proxy.address, 20) as client:
            client.sendall(UPGRADE)
            connection, _ = listener.accept()
            with connection, Catalog(data) as catalog:
                read_head(connection)
                created = b'{"type":"session.created","session":{"id":"sess_1","model":"gpt-realtime"}}'
                connection.sendall(ACCEPT + Frame(Opcode.TEXT, created).serialize(mask=False))

                def seen() -> bool:
                    catalog.refresh()
                    sessions = catalog.query("SELECT server_session_id, status FROM sessions").rows()
                    return sessions == [("sess_1", "running")]

                eventually(seen, "the running session is listed")
                assert catalog.resolve("sess_1") == catalog.resolve("last")
