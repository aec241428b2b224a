"""Secrets out of what is kept: out of messages, handshake headers and request targets.

A fingerprint stands in their place, so that two uses of one key can be told to be the same: the first 32 bits of its
SHA-256, without a salt. That names a random key; it would not hide a guessable password. Messages are changed at the
secret's own bytes alone. Compressed or undecodable bytes cannot be looked into and are kept as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_plus

from recorder.protocol.json_scan import string_value
from recorder.protocol.secret_scan import PLACES_DEPTH, TOOL_SECRETS, candidates

_FINGERPRINT: Final = re.compile(r"redacted:sha256:[0-9a-f]{8}")
_QUOTE: Final = ord('"')

_KEY_LIKE: Final = re.compile(
    r"\b(?:sk|ek|rk|pk|xai)[-_][A-Za-z0-9_-]{12,}"  # API keys and ephemeral keys
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"  # JSON web tokens
)
_EPHEMERAL_KEY: Final = re.compile(r"ek_[A-Za-z0-9_-]{12,}")
_SECRET_NAME: Final = re.compile(r"auth|cookie|token(?!s)|secret|passw|credential|signature|apikey|key$", re.IGNORECASE)
_QUERY_NAMES: Final = frozenset({"sig", "code", "jwt", "pwd", "bearer"})
_SCHEME: Final = re.compile(
    r"(\s*(?:bearer|basic|digest|negotiate|token|apikey|aws4-hmac-sha256)\s+)?(.*)", re.IGNORECASE | re.DOTALL
)
_BEARER: Final = re.compile(r"\b(bearer\s+)([A-Za-z0-9._~+/:=-]{8,})", re.IGNORECASE)
_SAFE_HEADERS: Final = frozenset(
    {"www-authenticate", "proxy-authenticate", "sec-websocket-key", "access-control-allow-credentials"}
)
_SUBPROTOCOL_SAFE: Final = re.compile(
    r"openai-(?:beta|organization|project)\.[\w.-]+|[a-z]+(?:[.-][a-z0-9]{1,12}){0,4}"
)
_SUBPROTOCOL_PREFIX: Final = re.compile(r"(.*?(?:key|token|secret|auth|bearer)[\w-]*\.)(.+)", re.IGNORECASE)
_PAIR: Final = re.compile(r"(?<![\w%.~-])([\w%.~-]+)=([^&;#\s,\"'<>]+)")
"""`name=value` in any header: of a URL's query (`Referer`, `X-Original-URL`), a parameter, a list of pairs."""

_PASSWORD: Final = re.compile(r"(?<=//)([^/@:\s]*):([^/@\s]*)(?=@)")
_TOKEN_FOLLOWS: Final = frozenset({"bearer", "authorization", "access_token", "token", "jwt", "auth"})


def fingerprint(secret: str) -> str:
    """What stands in the place of a secret: `redacted:sha256:` and 8 hex digits. A fingerprint stays as it is."""
    if _FINGERPRINT.fullmatch(secret):
        return secret
    return "redacted:sha256:" + hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def may_hold_secrets(text: str) -> bool:
    r"""Cheap: whether `redact_message` could find anything. Keys written with escapes (`\u0061…`) count as a maybe."""
    return (
        '"ek_' in text
        or '"authorization"' in text
        or 'headers"' in text
        or '"client_secret"' in text
        or '"server_url"' in text
        or '"credential"' in text
        or "\\u00" in text
    )


def redact_message(text: bytes) -> tuple[bytes, bool]:
    """Take the secrets out of a message's JSON text.

    Args:
        text: UTF-8; need not be valid JSON.

    Returns:
        The text with fingerprints in place of the values of `authorization` and headers of tools, of secrets in their
        `server_url`, of what is in `client_secret`, of `credential` in `ice_servers`, and of ephemeral keys anywhere,
        all other bytes as they were; and whether it holds any fingerprint now.
    """
    pieces: list[bytes] = []
    done = 0
    for start, end, instead in _secrets(text):
        pieces += (text[done:start], b'"', instead, b'"')
        done = end
    pieces.append(text[done:])
    return b"".join(pieces), done > 0


def _secrets(text: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Where each secret's token stands, and what is to stand there between quotes."""
    for path, start, end in candidates(text):
        is_string = text[start] == _QUOTE
        if _is_secret_place(path, is_string=is_string):
            if text[start:end] not in {b"null", b'""'}:
                yield start, end, fingerprint(_value(text[start:end])).encode()
        elif is_string and path and path[-1] == "server_url":
            url = string_value(text[start:end])
            kept = redact_target(url)
            if kept != url or _FINGERPRINT.search(url):
                yield start, end, json.dumps(kept, ensure_ascii=False).encode("utf-8", "replace")[1:-1]
        elif text.startswith((b'"ek', b'"\\'), start) and _EPHEMERAL_KEY.fullmatch(key := _value(text[start:end])):
            yield start, end, fingerprint(key).encode()


def _value(token: bytes) -> str:
    return string_value(token) if token.startswith(b'"') else token.decode("utf-8", "replace")


def _is_secret_place(path: list[str | int], *, is_string: bool) -> bool:
    near = path[:PLACES_DEPTH]
    if "client_secret" in near:
        return is_string or path[-1] in {"client_secret", "value"}
    if "ice_servers" in near:
        return path[-1] == "credential"
    return "tools" in near and any(
        key in TOOL_SECRETS and at > 1 and isinstance(path[at - 1], int) and path[at - 2] == "tools"
        for at, key in enumerate(near)
    )


def redact_headers(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Take the secrets out of HTTP headers, request's or response's; names, order and number stay.

    A value is replaced when the header's name speaks of a secret; in all others, what looks like a key is.
    """
    return [(name, _redact_header(name.lower(), value)) for name, value in headers]


def _redact_header(name: str, value: str) -> str:
    if name == "sec-websocket-protocol":
        return _redact_subprotocols(value)
    if name not in _SAFE_HEADERS and _SECRET_NAME.search(name) and value.strip():
        parts = _SCHEME.fullmatch(value)
        scheme, secret = (parts[1] or "", parts[2]) if parts and "cookie" not in name else ("", value)
        return scheme + fingerprint(secret.strip())
    if name in _SAFE_HEADERS:
        return _redact_key_like(value)
    return redact_text(_PAIR.sub(_redact_match, _without_password(value)))


def _redact_subprotocols(value: str) -> str:
    entries = [entry.strip() for entry in value.split(",")]
    follows = [False, *(entry.lower() in _TOKEN_FOLLOWS for entry in entries)]
    return ", ".join(
        _redact_subprotocol(entry, after_name=after) for entry, after in zip(entries, follows, strict=False)
    )


def _redact_subprotocol(entry: str, *, after_name: bool) -> str:
    prefixed = _SUBPROTOCOL_PREFIX.fullmatch(entry)
    if prefixed:
        return prefixed[1] + fingerprint(prefixed[2])
    if entry and (after_name or _KEY_LIKE.search(entry) or not _SUBPROTOCOL_SAFE.fullmatch(entry)):
        return fingerprint(entry)
    return entry


def redact_target(target: str) -> str:
    """Take the secrets out of a request's target or URL; everything else stays as it was written.

    Query values that are named as secrets or look like keys are replaced, and a password before the host.
    """
    base, mark, query = target.partition("?")
    base = _PAIR.sub(_redact_match, _without_password(base))
    pairs = re.split(r"([&;])", query)
    return _redact_key_like(base) + mark + "".join(map(_redact_pair, pairs))


def _redact_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    plain = unquote_plus(name).lower()
    if value and (plain in _QUERY_NAMES or _SECRET_NAME.search(plain)):
        return name + equals + fingerprint(unquote_plus(value))
    return _redact_key_like(pair)


def _redact_match(pair: re.Match[str]) -> str:
    return _redact_pair(pair[0])


def _without_password(text: str) -> str:
    return _PASSWORD.sub(lambda found: f"{found[1]}:{fingerprint(found[2])}", text)


def redact_text(text: str) -> str:
    """Take what looks like a key, or follows the name of an authorization scheme, out of any text."""
    return _redact_key_like(_BEARER.sub(lambda found: found[1] + fingerprint(found[2]), text))


def _redact_key_like(text: str) -> str:
    return _KEY_LIKE.sub(lambda found: fingerprint(found[0]), text)
