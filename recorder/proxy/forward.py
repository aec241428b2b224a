"""The heads that are sent on: as they came, but for what the route says."""

from __future__ import annotations

import re
from typing import Final

from recorder.proxy.credentials import offered_subprotocols, without_credentials
from recorder.proxy.http import ENCODING, Headers, Request
from recorder.proxy.routes import Route

_SUBPROTOCOL_LINE: Final = re.compile(rb"(?im)^sec-websocket-protocol:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")
_OF_THE_CONNECTION: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "upgrade", "http2-settings"}  # RFC 9110 section 7.6.1
)


def request_head(request: Request, route: Route) -> bytes:
    """The head to send to the upstream.

    Of the client's own version of HTTP, so that the answer is in a form that it understands: 1.0 knows no chunks.
    Without rules in the route it is the client's own with the upstream's Host and, if no upgrade, `Connection: close`
    in place of what a client asks of its own connection: one request is forwarded a connection (see `exchange`).
    """
    target, headers = request.target, request.headers
    if route.credential.replaces:
        target, headers = without_credentials(target, headers)
    if route.strip_prefix:
        target = target[len(route.path_prefix) :]
        target = target if target.startswith("/") else f"/{target}"
    lines = [f"{request.method} {route.upstream.prefix}{target} HTTP/{request.version}"]
    lines += [f"{name}: {value}" for name, value in _edited(request, route, headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode(ENCODING)


def _edited(request: Request, route: Route, headers: Headers) -> Headers:
    put_in = [*route.set_headers]
    if route.credential.header is not None:
        put_in.append((route.credential.header, route.credential.value))
    dropped = route.remove_headers | route.own_headers | {name.lower() for name, _ in put_in if name.lower() != "host"}
    if not request.is_upgrade:
        dropped |= _OF_THE_CONNECTION
        put_in.append(("Connection", "close"))
    host = next((value for name, value in put_in if name.lower() == "host"), route.upstream.authority)
    kept = [(name, host if name.lower() == "host" else value) for name, value in headers if name.lower() not in dropped]
    if not any(name.lower() == "host" for name, _ in kept):  # HTTP/1.0 can do without, what is sent on can not
        kept.insert(0, ("Host", host))
    return kept + [(name, value) for name, value in put_in if name.lower() != "host"]


def response_head(head: bytes, request: Request, route: Route) -> bytes:
    """The head of a 101 to send to the client: the upstream's own, unless that would break the client.

    A client that offered nothing but its key as a subprotocol has had its whole offer taken out. The upstream then
    chose none, or one of its own; but a browser closes a connection that does not choose one of those that it offered
    (RFC 6455 section 4.1). So it is told that its first was chosen.
    """
    offered = offered_subprotocols(request.headers)
    if not offered or not route.credential.replaces:
        return head
    if offered_subprotocols(without_credentials("", request.headers)[1]):
        return head
    chosen = f"Sec-WebSocket-Protocol: {offered[0]}\r\n\r\n".encode(ENCODING)
    return _SUBPROTOCOL_LINE.sub(b"", head)[:-2] + chosen
