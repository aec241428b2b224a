"""Routes: which upstream a request goes to, and what is done on the way."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from recorder.protocol.redact import redact_headers
from recorder.proxy.consent import RecordingPolicy
from recorder.proxy.credentials import PASS_THROUGH, Credential
from recorder.proxy.http import ENCODING, RefusedError, Request
from recorder.proxy.upstream import HttpProxy, Upstream

LABEL_PREFIX: Final = "x-recorder-label-"
CLIENT_LABEL: Final = "client"
_MAX_LABEL: Final = 256
_SEPARATORS: Final = re.compile(r"/|\\|%2f|%5c")  # what one server or another takes for a slash
_PARAMETERS: Final = re.compile(r";[^/]*")
_EMPTY_SEGMENTS: Final = re.compile(r"//+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One upstream, and what is done on the way to it.

    Attributes:
        name: unique; for people and metrics.
        upstream: where it leads.
        tls: for upstreams with TLS.
        host: takes requests for this host only, in lower case; None for any.
        path_prefix: takes requests at and below this path only; "" for any.
        strip_prefix: whether `path_prefix` is taken off the path that is forwarded.
        proxy: an HTTP proxy in between.
        connect_timeout_seconds: for TCP and TLS to the upstream.
        handshake_timeout_seconds: from accepting a connection to its upgrade.
        set_headers: put into the forwarded request, in place of the client's of that name.
        remove_headers: taken out of it, in lower case.
        credential: what becomes of the client's credentials.
        recording: what is kept.
        sideband: whether calls that are begun here and go past the proxy (WebRTC, SIP) are joined, to be recorded.
        labels: given to every session.
        label_headers: request headers, in lower case, that become labels and are not forwarded.
    """

    name: str
    upstream: Upstream
    tls: ssl.SSLContext | None = None
    host: str | None = None
    path_prefix: str = ""
    strip_prefix: bool = False
    proxy: HttpProxy | None = None
    connect_timeout_seconds: float = 10.0
    handshake_timeout_seconds: float = 30.0
    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: frozenset[str] = frozenset()
    credential: Credential = PASS_THROUGH
    recording: RecordingPolicy = field(default_factory=RecordingPolicy)
    sideband: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    label_headers: tuple[str, ...] = ()

    def takes(self, host: str, path: str) -> bool:
        """Whether a request for this host (as `Request.host`) and path matches."""
        if self.host is not None and self.host != host:
            return False
        return path.startswith(self.path_prefix) and path[len(self.path_prefix) :][:1] in {"", "/"}

    @property
    def own_headers(self) -> frozenset[str]:
        """Request headers, in lower case, that are meant for this proxy and not forwarded."""
        consent = self.recording.consent_header
        return frozenset(self.label_headers) | (frozenset({consent}) if consent else frozenset())

    def labels_for(self, request: Request, client: str | None) -> dict[str, str]:
        """A session's labels. The route's own win over the client's headers, a token's name over both."""
        said = [(name, value) for name in self.label_headers if (value := request.header(name))]
        labels = {label_of(name): value[:_MAX_LABEL] for name, value in redact_headers(said)}
        return labels | self.own_labels(client)

    def own_labels(self, client: str | None) -> dict[str, str]:
        """The labels that hold nothing the client sent."""
        return dict(self.labels) | ({CLIENT_LABEL: client} if client is not None else {})


def label_of(header: str) -> str:
    """The label that a request header becomes: `X-Recorder-Label-Tenant` is `tenant`, any other its own name."""
    return header.lower().removeprefix(LABEL_PREFIX)


class Routes:
    """All routes, the most special first: those for a host before those for any, then the longest prefix."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = sorted(routes, key=lambda route: (route.host is None, -len(route.path_prefix)))

    def __iter__(self) -> Any:
        return iter(self._routes)

    def match(self, request: Request) -> Route:
        """The route that a request takes.

        Raises:
            RefusedError: 404, there is none; 400, its path has `.` or `..` in it, or escapes, empty segments or
                parameters without which another route would take it: the upstream might resolve it to another path
                than the one that was matched here.
        """
        host, path = request.host, request.path
        segments = _SEPARATORS.split(path.lower().replace("%2e", "."))
        if "." in segments or ".." in segments:
            raise RefusedError(400, "bad_request", "the path has dot segments in it", by="client")
        route = self._first(host, path)
        if route is not self._first(host, _as_others_may_read(path)):
            raise RefusedError(400, "bad_request", "the path can be read as that of another route", by="client")
        if route is None:
            raise RefusedError(404, "no_route", "no route of this proxy leads there", by="client")
        return route

    def _first(self, host: str, path: str) -> Route | None:
        return next((route for route in self._routes if route.takes(host, path)), None)


def _as_others_may_read(path: str) -> str:
    """A path without escapes, empty segments, and parameters of segments (RFC 3986 section 3.3)."""
    plain = unquote(path, ENCODING)
    if plain == path and ";" not in path and "//" not in path:
        return path
    return _EMPTY_SEGMENTS.sub("/", _PARAMETERS.sub("", plain.replace("\\", "/")))
