"""Reading other people's JSON Lines with care: sizes, byte order marks, line ends, cut-off ends, nesting."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from recorder.errors import ImportFormatError

MAX_LINE_BYTES: Final = 64 << 20
"""Realtime servers refuse messages over some 16 MiB."""

MAX_FILE_BYTES: Final = 4 << 30
"""Importing needs about a file's size in memory."""

Fields = dict[str, msgspec.Raw]


class Line(NamedTuple):
    """One line that is not blank.

    Attributes:
        path: the file.
        number: from 1.
        text: without white space around it.
        complete: whether a line end followed.
    """

    path: Path
    number: int
    text: bytes
    complete: bool

    def error(self, problem: str) -> ImportFormatError:
        """The error that says what is wrong with this line."""
        return ImportFormatError(str(self.path), self.number, problem)

    def fields(self) -> Fields:
        """The line's JSON object: the text of each value, just as it stands in the file.

        Raises:
            ImportFormatError: the line is no JSON object.
        """
        return self._decode(Fields)

    def value(self, raw: msgspec.Raw) -> object:
        """What the text of a value means.

        Raises:
            ImportFormatError: it is no valid JSON.
        """
        try:
            return msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self.error(f"not valid JSON ({error})") from error

    def _decode(self, kind: type[Fields]) -> Fields:
        try:
            self.text.decode()
            return msgspec.json.decode(self.text, type=kind)
        except msgspec.ValidationError:
            raise self.error("not a JSON object") from None
        except msgspec.DecodeError as error:
            if self.complete:
                raise self.error(f"not valid JSON ({error})") from None
            raise self.error("the file ends in the middle of this line: is it complete?") from None
        except UnicodeDecodeError as error:
            raise self.error(f"not UTF-8 (byte {error.start} of the line)") from None
        except RecursionError:
            raise self.error("nested too deeply") from None


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file that are not blank.

    Raises:
        ImportFormatError: the file cannot be read, is too large, or is no UTF-8 text.
    """
    try:
        if not path.is_file():
            raise ImportFormatError(str(path), None, "not a file" if path.exists() else "no such file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ImportFormatError(str(path), None, f"larger than {MAX_FILE_BYTES >> 30} GiB")
        with path.open("rb") as file:
            number = 0
            while text := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                line = Line(path, number, _without_mark(path, text) if number == 1 else text, text.endswith(b"\n"))
                if len(text) > MAX_LINE_BYTES:
                    raise line.error(f"longer than {MAX_LINE_BYTES >> 20} MiB")
                if stripped := line.text.strip():
                    yield line._replace(text=stripped)
    except OSError as error:
        raise ImportFormatError(str(path), None, error.strerror or str(error)) from error


def _without_mark(path: Path, text: bytes) -> bytes:
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ImportFormatError(str(path), 1, "this is UTF-16; JSON Lines are UTF-8")
    return text.removeprefix(codecs.BOM_UTF8)
