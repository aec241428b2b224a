"""What a line of a foreign recording says about time.

A value is one of
- ISO 8601 text; without a zone it is UTC;
- a number (or a number as text) since 1970: the unit is told by its size;
- a smaller number: time since the session began. Its unit is told by the key (`offset_ms`), else by the file: if any
  such number in it has a fraction they are seconds, if all are whole they are milliseconds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

from recorder.formats.lines import Fields, Line

_NAMES: Final = ("recorded_at", "timestamp", "time", "ts", "at", "created_at", "t", "offset", "elapsed")
_UNITS: Final = {
    "": None, "_s": 10**9, "_sec": 10**9, "_seconds": 10**9, "_ms": 10**6, "_us": 10**3, "_ns": 1,
}  # fmt: skip
KEYS: Final[dict[str, int | None]] = {
    **{name + suffix: unit for name in _NAMES for suffix, unit in _UNITS.items()},
    "ms": 10**6,
}
"""Keys that hold a time, in the order in which they are believed, with their unit in nanoseconds where they tell it."""

_RANK: Final = {key: rank for rank, key in enumerate(KEYS)}
_EPOCH_UNITS: Final = ((10**17, 1), (10**14, 10**3), (10**11, 10**6), (10**8, 10**9))
"""From this number on, a count since 1970 is in this many nanoseconds; each is a date in 1973."""

_LAST_NS: Final = 2**63 - 1
_ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?)(?:[.,](\d+))?\s*(Z|[+-]\d\d:?\d\d)?", re.IGNORECASE
)


class Time(NamedTuple):
    """When a message was recorded.

    Attributes:
        absolute_ns: Unix nanoseconds; None for a time since the session began.
        since_start: that time, in `unit` nanoseconds; None for an absolute one.
        unit: None where only the file as a whole tells.
    """

    absolute_ns: int | None
    since_start: Decimal | None = None
    unit: int | None = None

    @property
    def is_fraction(self) -> bool:
        """Whether this shows that the file counts in seconds."""
        return self.since_start is not None and self.unit is None and self.since_start.as_tuple().exponent != 0

    def since_start_ns(self, file_unit: int) -> int:
        """Nanoseconds since the session began; only for times that are not absolute."""
        return int((self.since_start or Decimal(0)) * (self.unit or file_unit))


def parse_iso_ns(text: str) -> int | None:
    """ISO 8601 text as Unix nanoseconds, to the last digit; None if it is none."""
    match = _ISO.fullmatch(text.strip())
    if match is None:
        return None
    moment, fraction, zone = match.groups()
    clock = "" if len(moment) > len("2026-01-31") else "T00:00"
    try:
        parsed = datetime.fromisoformat(moment + clock + (zone or "Z").upper())
    except ValueError:
        return None
    seconds = int((parsed - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    return seconds * 10**9 + int((fraction or "0").ljust(9, "0")[:9])


def format_iso_ns(unix_ns: int) -> str:
    """Unix nanoseconds as ISO 8601 text in UTC with nine decimals."""
    moment = datetime.fromtimestamp(unix_ns // 10**9, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{unix_ns % 10**9:09d}Z"


def find_time(line: Line, fields: Fields) -> Time | None:
    """The time that a line gives, or None.

    Raises:
        ImportFormatError: what stands there is no time.
    """
    for key in sorted(KEYS.keys() & fields.keys(), key=_RANK.__getitem__):
        unit = KEYS[key]
        if (value := line.value(fields[key])) is not None:
            text = bytes(fields[key]).decode() if isinstance(value, int | float) else value
            if isinstance(value, bool) or not isinstance(text, str) or (time := parse_time(text, unit)) is None:
                raise line.error(f"{key!r} is no time: {str(value)[:60]!r}")
            return time
    return None


def parse_time(text: str, unit: int | None = None) -> Time | None:
    """A time as text: ISO 8601, or a number, in `unit` nanoseconds where the place tells; None if it is none."""
    if (unix_ns := parse_iso_ns(text)) is not None:
        return Time(unix_ns) if 0 <= unix_ns <= _LAST_NS else None
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    if not number.is_finite() or number < 0:
        return None
    if number > _LAST_NS:  # of no unit; and what is far above can not even be multiplied
        return None
    for least, epoch_unit in _EPOCH_UNITS if unit is None else ((10**17 // unit, unit),):
        if number >= least:
            return Time(int(number * epoch_unit)) if number * epoch_unit <= _LAST_NS else None
    return Time(None, number, unit)
