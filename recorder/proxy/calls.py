"""Calls that go past this proxy, and how to listen in: WebRTC and SIP take media and events to the upstream itself.

Only the HTTP request that begins such a call comes by. Its answer names the call, and with that name and the same
credentials the upstream lets others join by WebSocket, in what it calls a sideband connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_plus

from recorder.proxy.http import Request, Response
from recorder.proxy.routes import Route

_BEGINNING: Final = re.compile(r"(?P<base>/(?:.*/)?realtime)/calls(?:/(?P<call_id>[^/]+)/accept)?/?")
_LOCATION: Final = re.compile(r"(?:.*/)?calls/(?P<call_id>[^/?#]+)/?(?:[?#].*)?")
_CALL_ID: Final = re.compile(r"[A-Za-z0-9_.~-]{1,256}")  # what needs no escaping in a query
_NOT_OF_A_CALL: Final = frozenset({"model", "deployment", "call_id"})  # the upstream takes a model or a call
_OF_THE_EXCHANGE: Final = re.compile(
    r"accept(?:-.*)?|content-.*|if-.*|sec-.*|access-control-.*|origin|referer|range|expect|te|trailer|"
    r"transfer-encoding|connection|keep-alive|proxy-connection|upgrade|http2-settings|priority|cache-control|pragma"
)
"""Headers that are about that request and its body, or about what kind of page sent it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that has begun.

    Attributes:
        call_id: as the upstream calls it.
        request: that joins it, but for the WebSocket handshake's own headers.
        route: the one it takes, that of the request which began the call.
        client_name: the name of that request's token, if it needed one.
        address: where that request came from.
    """

    call_id: str
    request: Request
    route: Route
    client_name: str | None
    address: str


def may_begin_a_call(request: Request) -> bool:
    """Whether this is `POST …/realtime/calls` (WebRTC) or `POST …/realtime/calls/CALL/accept` (SIP)."""
    return request.method == "POST" and _BEGINNING.fullmatch(request.path) is not None


def call_begun(
    request: Request, response: Response, route: Route, client_name: str | None, *, address: str
) -> Call | None:
    """The call that a request has begun; None where the upstream refused it, or gave it no name."""
    found = _BEGINNING.fullmatch(request.path)
    if found is None or not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    call_id = found["call_id"] or _located(response)
    if call_id is None or not _CALL_ID.fullmatch(call_id):
        return None
    joining = Request("GET", _target(request, found["base"], call_id), _headers(request), b"")
    return Call(call_id=call_id, request=joining, route=route, client_name=client_name, address=address)


def _located(response: Response) -> str | None:
    said = next((value.strip() for name, value in response.headers if name.lower() == "location"), "")
    found = _LOCATION.fullmatch(said)
    return found["call_id"] if found else None


def _target(request: Request, base: str, call_id: str) -> str:
    """`…/realtime?call_id=…` and what else was in the query: an API's version, a key."""
    pairs = [pair for pair in request.target.partition("?")[2].split("&") if pair]
    kept = [pair for pair in pairs if unquote_plus(pair.partition("=")[0]).lower() not in _NOT_OF_A_CALL]
    return f"{base}?{'&'.join([f'call_id={call_id}', *kept])}"


def _headers(request: Request) -> list[tuple[str, str]]:
    """Credentials, organization, labels, consent: all but what belongs to the exchange itself."""
    return [(name, value) for name, value in request.headers if not _OF_THE_EXCHANGE.fullmatch(name.lower())]
