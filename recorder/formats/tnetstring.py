"""Typed netstrings as mitmproxy writes them: `LENGTH:DATA` and a letter for the type.

They have one type more than the specification (`;`, text), which the libraries on PyPI do not read.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import BinaryIO, Final

Value = None | bool | int | Decimal | str | bytes | list["Value"] | dict["Value", "Value"]

_MAX_DIGITS: Final = 12
_MAX_DEPTH: Final = 64
_PIECE_BYTES: Final = 1 << 24
_BOOLEANS: Final = {b"true": True, b"false": False}
_SCALARS: Final[dict[int, Callable[[bytes], Value]]] = {
    ord(","): lambda data: data,
    ord(";"): lambda data: data.decode(),
    ord("#"): int,
    ord("^"): lambda data: Decimal(data.decode()),
    ord("!"): lambda data: _BOOLEANS[data],
    ord("~"): lambda data: None if not data else _BOOLEANS[data],
}


class TnetstringError(ValueError):
    """The bytes are no typed netstring."""


def read(file: BinaryIO) -> Value:
    """The next value of a file.

    Returns:
        Lists and dictionaries as such, floats as Decimal, to the digit; the file's end as EOFError.

    Raises:
        EOFError: the file ends here.
        TnetstringError: what stands here is none, or is cut off.
    """
    digits = file.read(1)
    if not digits:
        raise EOFError
    while not digits.endswith(b":"):
        if not digits.isdigit() or len(digits) > _MAX_DIGITS:
            raise TnetstringError("no length where one is due")
        digits += file.read(1) or b" "
    if digits == b":":
        raise TnetstringError("no length where one is due")
    length = int(digits[:-1])
    data = bytearray()
    while missing := length + 1 - len(data):
        piece = file.read(min(missing, _PIECE_BYTES))  # to read all at once would reserve memory for all that is said
        if not piece:
            raise TnetstringError("the file ends in the middle of a value")
        data += piece
    return _parse(data[-1], memoryview(data)[:-1], 0)


def _parse(kind: int, data: memoryview, depth: int) -> Value:
    scalar = _SCALARS.get(kind)
    if scalar is not None:
        try:
            return scalar(bytes(data))
        except (ValueError, KeyError, InvalidOperation) as error:
            raise TnetstringError(f"not of its type {chr(kind)!r}: {bytes(data[:40])!r}") from error
    if kind not in b"]}" or depth > _MAX_DEPTH:
        raise TnetstringError(f"unknown type {chr(kind)!r}, or nested too deeply")
    values = []
    while data:
        value, data = _pop(data, depth + 1)
        values.append(value)
    if kind == ord("]"):
        return values
    if len(values) % 2 or any(isinstance(key, list | dict) for key in values[::2]):
        raise TnetstringError("a dictionary whose keys and values do not match")
    return dict(zip(values[::2], values[1::2], strict=True))


def _pop(data: memoryview, depth: int) -> tuple[Value, memoryview]:
    digits = bytes(data[: _MAX_DIGITS + 1]).partition(b":")[0]
    if not digits.isdigit():
        raise TnetstringError("no length where one is due")
    start = len(digits) + 1
    end = start + int(digits)
    if end >= len(data):
        raise TnetstringError("a value that is longer than what holds it")
    return _parse(data[end], data[start:end], depth), data[end + 1 :]
