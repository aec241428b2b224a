"""Where each value stands in a JSON text: for surgery on the text itself, which parsing and writing anew would reshape.

One pass over the tokens, no recursion, no copies. It validates nothing: on text that is no JSON it gives what it can
make out, so a secret in a message that was cut off is found all the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[{}\[\],:]|[^\s{}\[\],:"]++', re.DOTALL)
_QUOTE, _COMMA, _COLON = b'",:'
_OBJECT, _ARRAY = b"{["
_CLOSERS = frozenset(b"}]")


_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_BARE: Final = rb'[^\s{}\[\],:"]++'


class Scalar(NamedTuple):
    """A string, number or literal: `text[start:end]`, quotes included.

    Attributes:
        path: keys and indexes that lead to it. One list for the whole scan: copy what is to be kept.
        start: offset of its first byte.
        end: offset after its last byte.
    """

    path: list[str | int]
    start: int
    end: int


def scalars(text: bytes) -> Iterator[Scalar]:
    """Every scalar of a JSON text, in order."""
    path: list[str | int] = []
    key_next = False
    for match in TOKEN.finditer(text):
        start = match.start()
        head = text[start]
        if head == _OBJECT:
            path.append("")
            key_next = True
        elif head == _ARRAY:
            path.append(0)
            key_next = False
        elif head in _CLOSERS:
            if path:
                path.pop()
            key_next = False
        elif head == _COMMA:
            index = path[-1] if path else 0
            if isinstance(index, int):
                if path:
                    path[-1] = index + 1
            else:
                key_next = True
        elif head == _COLON:
            key_next = False
        elif key_next and head == _QUOTE:
            path[-1] = string_value(match[0])
        else:
            yield Scalar(path, start, match.end())


def strings_of(text: bytes, names: frozenset[str]) -> Iterator[Scalar]:
    """Those of `scalars` that are strings and whose own key is one of `names`, without a look at each of the others.

    What cannot hold one is passed over in runs: millions of tiny tokens cost what their bytes do.
    """
    runs = _runs(names)
    path: list[str | int] = []
    key_next = False
    at = 0
    while True:
        match = _TOKEN_RUN.search(text, _pass_over(runs, text, at, path, key_next=key_next))
        if match is None:
            return
        start, at = match.span()
        if text[start] != _QUOTE:
            key_next = _structure(text[start], at - start, path, key_next=key_next)
        elif key_next:
            path[-1] = string_value(match[0])
        elif path and path[-1] in names:
            yield Scalar(path, start, at)


def _pass_over(runs: _Runs, text: bytes, at: int, path: list[str | int], *, key_next: bool) -> int:
    """Where the next token begins that may matter; brings `path` there."""
    if key_next:
        run = runs.members.match(text, at)
        if run is not None:
            path[-1] = run[1].decode("utf-8", "replace")
    elif not path or isinstance(path[-1], int):
        run = runs.elements.match(text, at)
        if run is not None and path:
            path[-1] += runs.skipped.sub(b"", run[0]).count(b",")  # type: ignore[operator]
    else:
        run = None
    return at if run is None else run.end()


def _structure(head: int, count: int, path: list[str | int], *, key_next: bool) -> bool:
    """Take so many brackets of a kind, a comma, a colon or a bare word. Returns whether a string would be a key now."""
    if head == _OBJECT:
        path += [""] * count
        return True
    if head == _ARRAY:
        path += [0] * count
        return False
    if head in _CLOSERS:
        del path[-count:]
        return False
    if head == _COMMA and path:
        index = path[-1]
        if isinstance(index, str):
            return True
        path[-1] = index + 1
    return key_next and head != _COLON


class _Runs(NamedTuple):
    """Patterns of what holds no string of some names."""

    elements: re.Pattern[bytes]
    """Of an array."""
    members: re.Pattern[bytes]
    """Of an object; the group is the last one's key."""
    skipped: re.Pattern[bytes]
    """Of `elements`, those that may hold commas which are not the array's."""


_TOKEN_RUN: Final = re.compile(rb"\{++|\[++|[}\]]++|" + TOKEN.pattern, re.DOTALL)


@cache
def _runs(names: frozenset[str]) -> _Runs:
    named = b"|".join(re.escape(name.encode()) for name in sorted(names))
    other = rb'"(?!(?:%b)")[^"\\]*+"' % named
    leaf = rb'\[(?:%b|[^{}\[\]"])*+\]|\{(?:%b|[^{}\[\]"])*+\}' % (_STRING, other)
    skipped = rb"%b|%b" % (_STRING, leaf)
    member = rb'\s*+(?!"(?:%b)")"([^"\\]*+)"\s*+:\s*+(?:%b|%b|%b)\s*+,' % (named, _STRING, _BARE, leaf)
    patterns = rb'(?:%b|[^{}\[\]"])++' % skipped, rb"(?:%b)++" % member, skipped
    return _Runs(*(re.compile(pattern, re.DOTALL) for pattern in patterns))


def string_value(token: bytes) -> str:
    """The value of a string token, lenient: what cannot be unescaped stays as it is; lone surrogates are replaced."""
    text = token.decode("utf-8", "replace")
    if "\\" in text:
        try:
            value = json.loads(text, strict=False)
        except ValueError:
            value = None
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode()
    return text[1:-1] if len(text) > 1 and text[-1] == '"' else text.removeprefix('"')
