"""The obvious recorder: a relay written with the `websockets` library that appends each message to a JSONL file.

    python relay.py PORT UPSTREAM_URL DIRECTORY [CA_FILE]

What peers of this kind cost; it keeps up with far fewer sessions than a splice, and re-frames every message.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from pathlib import Path
from typing import TextIO

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


async def _pass_on(
    name: str, source: ServerConnection | ClientConnection, sink: ServerConnection | ClientConnection, log: TextIO
) -> None:
    try:
        async for message in source:
            log.write(f'{{"dir":"{name}","at":{time.time()},"event":{message!s}}}\n')
            await sink.send(message)
    except ConnectionClosed:
        pass
    await sink.close()


async def main(port: int, upstream: str, directory: Path, ca: str | None) -> None:
    context = ssl.create_default_context(cafile=ca) if ca else None
    sessions = 0

    async def session(client: ServerConnection) -> None:
        nonlocal sessions
        sessions += 1
        assert client.request is not None
        with (directory / f"{sessions}.jsonl").open("w", encoding="utf-8") as log:
            async with connect(
                upstream + client.request.path, ssl=context, compression=None, ping_interval=None, max_size=None
            ) as server:
                await asyncio.gather(_pass_on("client", client, server, log), _pass_on("server", server, client, log))

    async with serve(session, "127.0.0.1", port, compression=None, ping_interval=None, max_size=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None))
