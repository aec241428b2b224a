"""Reading what came off the wire without ever raising.

A payload may be anything: no JSON, JSON that is no object, a number where a list should be. These readers give the
value where it has the expected kind, and "nothing" where it has not, so that the folds need no guards of their own.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from recorder.protocol.fields import read_object

MOST_INDEX: Final = 1000
"""Content indexes from here on are no indexes: parts are made up to them."""

Object = dict[str, Any]
"""A JSON object as decoded."""


def read(payload: str | None) -> Object:
    """A message's text as an object; empty where it is none."""
    if not payload:
        return {}
    try:
        value = msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        value = _harmless(read_object(payload.encode("utf-8", "replace")))
    return value if isinstance(value, dict) else {}


def text(source: Object, key: str) -> str | None:
    """The string under `key`."""
    value = source.get(key)
    return value if isinstance(value, str) else None


def identifier(source: Object, key: str) -> str | None:
    """The id under `key`: a string, or a number as text; None where it is empty."""
    value = source.get(key)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(source, key) or None


def number(source: Object, key: str) -> float | None:
    """The finite number under `key`."""
    value = source.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def index(source: Object, key: str) -> int:
    """The small whole number under `key`, else 0 (indexes are left out by some servers)."""
    value = source.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_INDEX else 0


def child(source: Object, key: str) -> Object:
    """The object under `key`, else an empty one."""
    value = source.get(key)
    return value if isinstance(value, dict) else {}


def children(source: Object, key: str) -> list[Object]:
    """The objects in the list under `key`."""
    value = source.get(key)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _harmless(value: Any) -> Any:
    """NaN and lone surrogates, which real servers have sent, fit into no JSON and no file."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_harmless(entry) for entry in value]
    if isinstance(value, dict):
        return {_harmless(key): _harmless(entry) for key, entry in value.items()}
    return value
