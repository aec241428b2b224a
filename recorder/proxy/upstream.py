"""Addresses on the far side: the upstream's, and an HTTP proxy's on the way to it."""

from __future__ import annotations

import base64
import ipaddress
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec

from recorder.errors import UsageError

_PORTS: Final = {"ws": 80, "http": 80, "wss": 443, "https": 443}
_PROXY_FORM: Final = "http://[user:password@]host[:port]"


class Upstream(msgspec.Struct, frozen=True):
    """Where connections go: `scheme://host:port/prefix`.

    Attributes:
        tls: whether to speak TLS.
        host: a name or address.
        port: TCP port.
        prefix: path put before the client's path; "" for none.
    """

    tls: bool
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str, *, where: str = "--upstream") -> Upstream:
        """From ws://, wss://, http:// or https://.

        Args:
            url: what was given.
            where: what to call it in an error.

        Raises:
            UsageError: it is anything else.
        """
        hint = "Give it as wss://host[:port][/prefix]."
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{where} {url!r}: {error}", hint=hint) from None
        if parts.username is not None:
            raise UsageError(f"{where}: no user or password may stand in the URL", hint=hint)
        if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment or not url.isprintable():
            raise UsageError(f"{where} {url!r} is no WebSocket URL", hint=hint)
        return cls(
            tls=parts.scheme in {"wss", "https"},
            host=parts.hostname,
            port=port or _PORTS[parts.scheme],
            prefix=parts.path.rstrip("/"),
        )

    @property
    def authority(self) -> str:
        """What stands in the Host header."""
        return _bracketed(self.host) if self.port == (443 if self.tls else 80) else self.endpoint

    @property
    def endpoint(self) -> str:
        """Host and port, the port always."""
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def url(self) -> str:
        """The upstream as a WebSocket URL."""
        return f"{'wss' if self.tls else 'ws'}://{self.authority}{self.prefix}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")


class HttpProxy(msgspec.Struct, frozen=True):
    """A proxy that is asked to CONNECT.

    Attributes:
        host: a name or address.
        port: TCP port.
        authorization: the value of Proxy-Authorization, or None. Never shown.
    """

    host: str
    port: int
    authorization: str | None = None

    @classmethod
    def parse(cls, url: str, *, where: str) -> HttpProxy:
        """From http://host:port, with or without user and password (percent-encoded).

        Args:
            url: what was given.
            where: what to call it in an error, which does not repeat the URL: it may hold a password.

        Raises:
            UsageError: it is anything else.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError:
            raise UsageError(f"{where} is no URL", hint=f"Give it as {_PROXY_FORM}.") from None
        if parts.scheme != "http" or not parts.hostname or parts.path not in {"", "/"} or parts.query:
            raise UsageError(f"{where} is not an HTTP proxy's URL", hint=f"Give it as {_PROXY_FORM}.")
        return cls(host=parts.hostname, port=port or 80, authorization=_basic(parts))

    def __repr__(self) -> str:
        return f"HttpProxy({self})"

    def __str__(self) -> str:
        return f"http://{_bracketed(self.host)}:{self.port}"


def _basic(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    user_and_password = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(user_and_password.encode()).decode("ascii")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def proxy_from_environment(upstream: Upstream) -> HttpProxy | None:
    """The proxy that the environment names for an upstream.

    `HTTPS_PROXY` for wss://, `HTTP_PROXY` for ws://, `ALL_PROXY` where that is not set; lower case wins. Not for hosts
    in `NO_PROXY` (names, their subdomains, `host:port`, or `*` for all), and never for this machine's own addresses.

    Raises:
        UsageError: the variable does not hold an HTTP proxy's URL.
    """
    proxies = getproxies()
    if upstream.is_loopback or proxy_bypass(f"{upstream.host}:{upstream.port}"):
        return None
    for name in ("https" if upstream.tls else "http", "all"):
        if url := proxies.get(name):
            return HttpProxy.parse(url, where=f"{name.upper()}_PROXY in the environment")
    return None
