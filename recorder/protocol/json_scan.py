"""Where each value stands in a JSON text: for surgery on the text itself, which parsing and writing anew would reshape.

One pass over the tokens, no recursion, no copies. It validates nothing: on text that is no JSON it gives what it can
make out, so a secret in a message that was cut off is found all the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[{}\[\],:]|[^\s{}\[\],:"]++', re.DOTALL)
_QUOTE, _COMMA, _COLON = b'",:'
_OBJECT, _ARRAY = b"{["
_CLOSERS = frozenset(b"}]")


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
