"""Who may read: the token, the Host check, and the headers that keep recorded content from acting in a browser.

One ASGI middleware around everything, so that no route, error or static file can be forgotten.

Without a token the service is meant for this machine only. A web page elsewhere could still reach it by pointing
a name of its own at 127.0.0.1 (DNS rebinding); the Host check refuses every name that is not this machine's.
"""

from __future__ import annotations

import hashlib
import hmac
import html
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors

COOKIE: Final = "recorder_access"
OPEN_PATHS: Final = frozenset({"/healthz"})
"""Reached without a token: load balancers have none, and nothing recorded is told."""

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
        "media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class AccessControl:
    """ASGI middleware: Host check, token, security headers, and the answer to unforeseen failures.

    Args:
        app: what is protected.
        token: what callers must show, as `Authorization: Bearer`, as `?token=` once, or as the cookie that this
            sets. None: no token, and only loopback names are answered.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app = app
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        guarded = _Guarded(send)
        request = Request(scope, receive)
        try:
            answer = self._refusal(request) or self._greeting(request)
            await (answer or self.app)(scope, receive, guarded)
        except Exception as error:  # noqa: BLE001 - the last line: whatever it is, the caller gets the error body
            if not guarded.started:
                await errors.internal(request, error)(scope, receive, guarded)

    def _refusal(self, request: Request) -> Response | None:
        if self.token is None:
            if is_loopback_name(request.headers.get("host", "")):
                return None
            return errors.respond(
                request,
                421,
                "unknown_host",
                "this service answers only to this machine's own name",
                "Open it as http://127.0.0.1 or http://localhost, or start it with --token.",
            )
        if request.url.path in OPEN_PATHS or self._admitted(request, self.token):
            return None
        answer = errors.respond(
            request,
            401,
            "unauthorized",
            "a token is needed",
            "Open the URL with ?token=… that `recorder serve` printed, or send `Authorization: Bearer TOKEN`.",
        )
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def _admitted(self, request: Request, token: str) -> bool:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        return (
            (scheme.lower() == "bearer" and _same(bearer.strip(), token))
            or _same(request.query_params.get("token", ""), token)
            or any(_same(value, cookie_value(token)) for value in _cookies(request))
        )

    def _greeting(self, request: Request) -> Response | None:
        """Turn `?token=` into a cookie, and lead a browser to the same page without it.

        By a page of our own, not a redirect: a Strict cookie is withheld from a redirect that began on another site.
        """
        if self.token is None or "token" not in request.query_params or not errors.wants_html(request):
            return None
        rest = [(key, value) for key, value in parse_qsl(request.url.query, keep_blank_values=True) if key != "token"]
        # One leading slash: "//host/" would lead to another site.
        target = "/" + request.url.path.lstrip("/") + ("?" + urlencode(rest) if rest else "")
        page = f'<!doctype html><title>…</title><meta http-equiv="refresh" content="0; url={html.escape(target)}">'
        answer = Response(page, media_type="text/html", headers={"Cache-Control": "no-store"})
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, cookie_value(self.token), httponly=True, samesite="strict", secure=secure)
        return answer


class _Guarded:
    """A `send` that adds the security headers and remembers whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            if "cache-control" not in headers:
                headers["Cache-Control"] = "no-store"
        await self._send(message)


def is_loopback_name(host: str) -> bool:
    """Whether a Host header (or an address to listen on, without its port) names this machine."""
    name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
    return name.lower() in {"127.0.0.1", "localhost", "[::1]"}


def cookie_value(token: str) -> str:
    """What the cookie holds: proof of the token, not the token."""
    return hmac.new(token.encode(), b"recorder access cookie", hashlib.sha256).hexdigest()


def _cookies(request: Request) -> list[str]:
    try:
        jar = SimpleCookie(request.headers.get("cookie", ""))
    except CookieError:
        return []
    return [jar[COOKIE].value] if COOKIE in jar else []


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())
