"""Saying no: an upstream's refusal passed on, and an answer that arrives although the client is still sending."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

import h11

from recorder.proxy.http import Response
from recorder.proxy.sockets import CHUNK, receive, send_all

_PATIENCE_SECONDS: Final = 1.0


async def pass_refusal_on(response: Response, upstream: socket.socket, client: socket.socket) -> None:
    """Give the client the upstream's refusal, byte for byte, to its end. Raises OSError."""
    body = _Body(response)
    data = response.head + response.rest
    while data:
        await send_all(client, data)
        data = b"" if body.is_over else await receive(upstream)
        body.take(data)


class _Body:
    """Follows an answer to its end: many an upstream would keep the connection for another.

    Attributes:
        is_over: whether the end was there. Of what cannot be understood it is the connection's.
    """

    def __init__(self, response: Response) -> None:
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(response.head) + CHUNK)
        self._parser.send(h11.Request(method="GET", target="/", headers=[("Host", "-")]))
        self.is_over = False
        self.take(response.head + response.rest)

    def take(self, data: bytes) -> None:
        """The next bytes; b"" for the end."""
        if self.is_over:
            return
        with contextlib.suppress(h11.RemoteProtocolError):
            self._parser.receive_data(data)
            while not self.is_over and (event := self._parser.next_event()) is not h11.NEED_DATA:
                self.is_over = isinstance(event, h11.EndOfMessage)


async def close_politely(client: socket.socket) -> None:
    """FIN, then read what the client still sends: closing on unread bytes would be a reset, and eat our answer."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            client.shutdown(socket.SHUT_WR)
            while await receive(client):
                pass
