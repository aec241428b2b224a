"""Saying no: an upstream's refusal passed on, and an answer that arrives although the client is still sending."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

from recorder.proxy.http import Response
from recorder.proxy.sockets import receive, send_all

_PATIENCE_SECONDS: Final = 1.0


async def pass_refusal_on(response: Response, upstream: socket.socket, client: socket.socket) -> None:
    """Give the client the upstream's refusal, byte for byte, to its end. Raises OSError."""
    await send_all(client, response.head + response.rest)
    length = next((value for name, value in response.headers if name.lower() == "content-length"), None)
    missing = int(length) - len(response.rest) if length and length.isdigit() else None
    while missing is None or missing > 0:
        data = await receive(upstream)
        if not data:
            break
        await send_all(client, data)
        missing = missing if missing is None else missing - len(data)


async def close_politely(client: socket.socket) -> None:
    """FIN, then read what the client still sends: closing on unread bytes would be a reset, and eat our answer."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            client.shutdown(socket.SHUT_WR)
            while await receive(client):
                pass
