"""Routes: which upstream a request goes to, and what is done on the way."""

from __future__ import annotations

import random
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from recorder.protocol.redact import redact_headers
from recorder.proxy.credentials import PASS_THROUGH, Credential
from recorder.proxy.http import RefusedError, Request
from recorder.proxy.upstream import HttpProxy, Upstream

LABEL_PREFIX: Final = "x-recorder-label-"
CLIENT_LABEL: Final = "client"
_MAX_LABEL: Final = 256
_CONSENT: Final = {"yes": "on", "true": "on", "1": "on", "no": "off", "false": "off", "0": "off"}


class Mode(Enum):
    """What is kept of a session."""

    ON = "on"
    OFF = "off"
    NO_AUDIO = "no-audio"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingPolicy:
    """How a route decides what is kept of a session.

    Attributes:
        mode: for sessions that say nothing themselves.
        sample: the share of those that is kept at all, 0 to 1.
        consent_header: a request header, in lower case, by which a client decides; or None.
    """

    mode: Mode = Mode.ON
    sample: float = 1.0
    consent_header: str | None = None

    def decide(self, request: Request, chance: float | None = None) -> Recording:
        """What is kept of the session that `request` opens.

        Args:
            request: the client's.
            chance: a number in [0, 1) in place of a random one.
        """
        consent = request.header(self.consent_header) if self.consent_header else None
        if consent is not None:
            return Recording(_consented(consent), "consent_header", self)
        if (random.random() if chance is None else chance) >= self.sample:  # noqa: S311 - no secret
            return Recording(Mode.OFF, "sample", self)
        return Recording(self.mode, "route", self)


@dataclass(frozen=True, slots=True)
class Recording:
    """What is kept of a session, and who said so.

    Attributes:
        mode: as decided.
        decided_by: "route", "sample" or "consent_header".
        policy: the route's.
    """

    mode: Mode
    decided_by: str
    policy: RecordingPolicy

    def facts(self) -> dict[str, Any]:
        """The object `recording` of the session's first record."""
        return {"mode": self.mode.value, "decided_by": self.decided_by, "sample": self.policy.sample}


def _consented(value: str) -> Mode:
    """Only what is understood counts as a yes."""
    word = value.lower()
    try:
        return Mode(_CONSENT.get(word, word))
    except ValueError:
        return Mode.OFF


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
        return labels | dict(self.labels) | ({CLIENT_LABEL: client} if client is not None else {})


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
            RefusedError: 404, there is none; 400, its path has `.` or `..` in it, which the upstream might resolve
                to another path than the one that was matched here.
        """
        host, path = request.host, request.path
        segments = path.lower().replace("%2e", ".").split("/")
        if "." in segments or ".." in segments:
            raise RefusedError(400, "bad_request", "the path has dot segments in it", by="client")
        for route in self._routes:
            if route.takes(host, path):
                return route
        raise RefusedError(404, "no_route", "no route of this proxy leads there", by="client")
