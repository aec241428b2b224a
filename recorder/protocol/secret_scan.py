"""Where in a message's JSON text secrets may stand: `json_scan.scalars`, but past all that cannot be one.

Whoever speaks to the recorder chooses what it has to search: sixteen megabytes of `[1],` are sixteen million tokens.
Between
the few names that lead to a secret only brackets, commas and quotes count, and they are counted, not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from recorder.protocol.json_scan import TOKEN, Scalar, string_value

PLACES_DEPTH: Final = 8
"""Tools and client secrets stand near the top of a message; a bomb of brackets must not make the search slow."""

TOOL_SECRETS: Final = frozenset({"authorization", "headers", "extra_headers"})

MOST_TOKENS: Final = 250_000
"""Of a message, so many tokens are looked at one by one; what follows them is as good as a secret."""

_NAMES: Final = rb"client_secret|ice_servers|credential|tools|server_url|authorization|(?:extra_)?headers"
_MARK: Final = re.compile(rb'"(?:%b)"|"ek|\\' % _NAMES)  # a backslash may write any of them in another way
_CHUNK: Final = 1 << 16
_STRUCTURE: Final = b'{}[],:"'
_REST: Final = bytes(set(range(256)) - set(_STRUCTURE))
_BARE_ENDS: Final = frozenset(_STRUCTURE + b" \t\n\r\f\v")
_OBJECT, _OBJECT_END, _ARRAY, _ARRAY_END, _COMMA, _COLON, _QUOTE = _STRUCTURE


def candidates(text: bytes) -> Iterator[Scalar]:
    """Every scalar that may be a secret, in order; of a path's indexes only that they are some: 0.

    After `MOST_TOKENS` the rest of the text is one, at the path of a client secret.
    """
    path: list[str | int] = []
    key_next = False
    at = 0
    for _ in range(MOST_TOKENS):
        if not _leads_to_secrets(path):
            mark = _MARK.search(text, at)
            if mark is None:
                return
            start = _token_start(text, at, mark.start())
            key_next = _pass_over(text, at, start, path, key_next=key_next)
            at = start
        token = TOKEN.search(text, at)
        if token is None:
            return
        at = token.end()
        if token[0] in _STRUCTURES:
            key_next = _count(token[0], path, key_next=key_next)
        elif key_next and text[token.start()] == _QUOTE:
            path[-1] = string_value(token[0])
        else:
            yield Scalar(path, token.start(), at)
    yield Scalar(["client_secret"], at, len(text))


_STRUCTURES: Final = frozenset(bytes([byte]) for byte in _STRUCTURE[:-1])


def _leads_to_secrets(path: list[str | int]) -> bool:
    near = path[:PLACES_DEPTH]
    if "client_secret" in near or "ice_servers" in near or path[-1:] == ["server_url"]:
        return True
    return "tools" in near and not TOOL_SECRETS.isdisjoint(near)


def _token_start(text: bytes, at: int, mark: int) -> int:
    """Where the token begins that a mark lies in; `at` is between two tokens, and no backslash is in between."""
    if text.count(b'"', at, mark) % 2:
        return text.rfind(b'"', at, mark)
    while mark > at and text[mark - 1] not in _BARE_ENDS:
        mark -= 1
    return mark


def _pass_over(text: bytes, at: int, end: int, path: list[str | int], *, key_next: bool) -> bool:
    """Bring `path` from one place between two tokens to another. Returns whether a string there would be a key."""
    while at < end:
        to = min(at + _CHUNK, end)
        if text.count(b'"', at, to) % 2:  # inside of a string
            to = text.index(b'"', to) + 1
        strings_as_quotes = b'"'.join(text[at:to].split(b'"')[::2])
        key_next = _count(strings_as_quotes.translate(None, _REST), path, key_next=key_next)
        at = to
    return key_next


def _count(structure: bytes, path: list[str | int], *, key_next: bool) -> bool:
    for byte in structure:
        if byte == _COMMA:
            key_next = bool(path) and path[-1].__class__ is str
        elif byte == _QUOTE:
            if key_next:
                path[-1] = ""
        elif byte == _COLON:
            key_next = False
        elif byte == _OBJECT:
            path.append("")
            key_next = True
        elif byte == _ARRAY:
            path.append(0)
            key_next = False
        else:
            if path:
                path.pop()
            key_next = False
    return key_next
