"""A connection to a route's upstream: TCP, an HTTP proxy in between where there is one, TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final

from recorder.proxy.http import ENCODING, RefusedError, read_response
from recorder.proxy.routes import Route
from recorder.proxy.sockets import connect, send_all, start_tls, words_for
from recorder.proxy.upstream import HttpProxy, Upstream

_MAX_HEAD_BYTES: Final = 65_536


async def dial(route: Route) -> socket.socket:
    """A connected, non-blocking socket on which the upstream waits for a request.

    Raises:
        RefusedError: 502 or 504, with what went wrong.
    """
    target = route.upstream
    through = f" through the proxy {route.proxy}" if route.proxy else ""
    try:
        async with asyncio.timeout(route.connect_timeout_seconds):
            if route.proxy is None:
                sock = await connect(target.host, target.port)
            else:
                sock = await _tunnel(route.proxy, target)
            if route.tls is not None:
                sock = await start_tls(sock, route.tls, server_hostname=target.host)
            return sock
    except TimeoutError:
        raise RefusedError(504, "upstream_timeout", f"no connection to {target.authority}{through} in time") from None
    except ssl.SSLError as error:
        raise RefusedError(
            502, "upstream_tls_failed", f"TLS with {target.authority} failed: {error.reason or error}"
        ) from None
    except OSError as error:
        raise RefusedError(
            502, "upstream_unreachable", f"no connection to {target.authority}{through}: {words_for(error)}"
        ) from None


async def _tunnel(proxy: HttpProxy, target: Upstream) -> socket.socket:
    """A connection that the proxy has opened (RFC 9110 section 9.3.6), for plain and TLS upstreams alike."""
    sock = await connect(proxy.host, proxy.port)
    try:
        lines = [f"CONNECT {target.endpoint} HTTP/1.1", f"Host: {target.endpoint}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        await send_all(sock, ("\r\n".join(lines) + "\r\n\r\n").encode(ENCODING))
        answer = await read_response(sock, _MAX_HEAD_BYTES, who=f"the proxy {proxy}")
    except BaseException:
        sock.close()
        raise
    if not 200 <= answer.status < 300 or answer.rest:
        sock.close()
        problem = f"the proxy {proxy} answered {answer.status} for {target.authority}"
        raise RefusedError(502, "upstream_unreachable", problem)
    return sock
