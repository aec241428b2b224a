"""What may stand in a routes' file."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110 section 5.6.2  # noqa: S105 - a pattern

HeaderName = Annotated[str, msgspec.Meta(pattern=f"^{_TOKEN}$")]
Host = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9._-]+|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)$")]
LabelName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class CredentialTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`credential = {…}` as written."""

    header: HeaderName = "Authorization"
    value_from_env: str | None = None
    value_from_file: str | None = None
    prefix: str = ""


class RouteTable(msgspec.Struct, frozen=True, kw_only=True):
    """A `[[route]]` as written. docs/configuration.md says what each key means."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    upstream: str
    host: Host | None = None
    path_prefix: Annotated[str, msgspec.Meta(pattern=r"^/[^?#\s]*$")] = "/"
    strip_prefix: bool = False
    ca: str | None = None
    proxy: str | None = None
    connect_timeout_seconds: Seconds | None = None
    handshake_timeout_seconds: Seconds | None = None
    set_headers: dict[HeaderName, str] = {}
    remove_headers: list[HeaderName] = []
    credential: CredentialTable | Literal["pass", "none"] = "pass"
    recording: Literal["on", "off", "no-audio"] = "on"
    sample: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    consent_header: HeaderName | None = None
    consent_may_loosen: bool = False
    drop_audio: Literal["client", "server", "both"] | None = None
    hash_text: bool = False
    sideband: bool = False
    labels: dict[LabelName, str] = {}
    label_headers: list[HeaderName] = []


ALLOWED: Final = {
    "name": "1 to 64 letters, digits, - and _",
    "upstream": "a URL like wss://host[:port][/prefix]",
    "host": "a host name or address without a port",
    "path_prefix": "a path that begins with /, without query",
    "strip_prefix": "true or false",
    "ca": "the name of a PEM file",
    "proxy": 'a URL like http://[user:password@]host[:port], or "none"',
    "connect_timeout_seconds": "a number above 0, at most 3600",
    "handshake_timeout_seconds": "a number above 0, at most 3600",
    "set_headers": "a table of header names and their values, all strings",
    "remove_headers": "a list of header names",
    "credential": '"pass", "none", or a table of header, prefix and one of value_from_env and value_from_file',
    "recording": '"on", "off" or "no-audio"',
    "sample": "a number from 0 to 1",
    "consent_header": "a header name",
    "consent_may_loosen": "true or false, and true only with a consent_header",
    "drop_audio": '"client", "server" or "both"',
    "hash_text": "true or false",
    "sideband": "true or false",
    "labels": "a table of names (letters, digits, . _ -) and their values, all strings",
    "label_headers": "a list of header names",
}
"""What each key of a route may hold, in words."""
