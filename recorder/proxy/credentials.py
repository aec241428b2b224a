"""Credentials in a request: found in all the places where clients put them, taken out, and put in.

Clients of the Realtime API authenticate by `Authorization: Bearer`, by `api-key` and its like, by a subprotocol
`openai-insecure-api-key.KEY` (browsers can set nothing else) or in the query.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_plus

import msgspec

from recorder.proxy.http import Headers

SUBPROTOCOLS: Final = "sec-websocket-protocol"

HEADERS: Final = frozenset(
    {"authorization", "api-key", "x-api-key", "ocp-apim-subscription-key", "proxy-authorization", "cookie"}
)
"""Headers, in lower case, that hold nothing but a client's credentials."""

QUERY_KEYS: Final = frozenset(
    {
        "api-key",
        "api_key",
        "apikey",
        "key",
        "token",
        "access_token",
        "access-token",
        "authorization",
        "subscription-key",
    }
)
"""Names of query parameters, in lower case, likewise."""

_KEY_SUBPROTOCOL: Final = re.compile(
    r"(?:[\w-]*[-_])?(?:api-?key|token|secret|bearer|auth|authorization)\.(.+)", re.IGNORECASE
)


class Credential(msgspec.Struct, frozen=True):
    """What the upstream gets to see in place of the client's own credentials.

    Attributes:
        replaces: False passes the client's own through; True takes them out.
        header: the header put in instead, or None for none.
        value: its value. Never shown.
        source: where the value comes from, in words, to be shown instead.
    """

    replaces: bool = False
    header: str | None = None
    value: str = ""
    source: str = "the client's"

    def __repr__(self) -> str:
        return f"Credential({self.header}: {self.source})"


PASS_THROUGH: Final = Credential()
NONE: Final = Credential(replaces=True, source="none")


def presented(target: str, headers: Headers) -> Iterator[str]:
    """Everything in a request that a client could mean as its credential, without scheme or prefix."""
    for name, value in headers:
        if name.lower() == SUBPROTOCOLS:
            for entry in _entries(value):
                if found := _KEY_SUBPROTOCOL.fullmatch(entry):
                    yield found[1]
        elif name.lower() in HEADERS:
            yield _without_scheme(value)
    for pair in target.partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        if _is_secret_name(name):
            yield _without_scheme(unquote_plus(value))


def without_credentials(target: str, headers: Headers) -> tuple[str, Headers]:
    """A request's target and headers without any client's credentials; all else as it was written."""
    path, mark, query = target.partition("?")
    pairs = query.split("&")
    kept = [pair for pair in pairs if not _is_secret_name(pair.partition("=")[0])]
    if len(kept) != len(pairs):
        target = path + (mark + "&".join(kept) if kept else "")
    return target, [
        (name, left) for name, value in headers if (left := _without_secret(name.lower(), value)) is not None
    ]


def offered_subprotocols(headers: Headers) -> list[str]:
    """All that a request offers, in order."""
    return [entry for name, value in headers if name.lower() == SUBPROTOCOLS for entry in _entries(value)]


def _without_secret(name: str, value: str) -> str | None:
    """What is left of a header; None for nothing."""
    if name in HEADERS:
        return None
    if name != SUBPROTOCOLS:
        return value
    entries = _entries(value)
    kept = [entry for entry in entries if not _KEY_SUBPROTOCOL.fullmatch(entry)]
    if len(kept) == len(entries):
        return value
    return ", ".join(kept) or None


def _entries(value: str) -> list[str]:
    return [entry for part in value.split(",") if (entry := part.strip())]


def _is_secret_name(name: str) -> bool:
    return unquote_plus(name).lower() in QUERY_KEYS


def _without_scheme(value: str) -> str:
    """`Bearer KEY` and `KEY` alike."""
    return value.rsplit(maxsplit=1)[-1] if value.strip() else ""
