"""Values as people read them. What is unknown is a dash, never a zero."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from dashboards.words import NONE


def seconds(value: float | None) -> str:
    """A duration: `640 ms`, `4.21 s`, `3 min 05 s`, `1 h 02 min`."""
    if value is None:
        return NONE
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 59.995:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def milliseconds(value: float | None) -> str:
    """As `seconds`, from milliseconds."""
    return seconds(None if value is None else value / 1000)


def count(value: float | None) -> str:
    """A whole number with thin spaces: `12 345`."""
    return NONE if value is None else f"{value:,.0f}".replace(",", "\u202f")


def short_count(value: float | None) -> str:
    """A number that fits a tile: `950`, `12.3 k`, `4.1 M`."""
    if value is None:
        return NONE
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / min(size, 1e3 if unit == 'k' else size):.1f}\u202f{unit}"
    return count(value)


def clock(ns: int | None) -> str:
    """A place in a session: `0:04.21`, `1:02:03.40`."""
    if ns is None:
        return ""
    minutes, rest = divmod(max(ns, 0) / 1e9, 60)
    hours, minutes = divmod(int(minutes), 60)
    rest = min(rest, 59.994)
    return f"{hours}:{minutes:02d}:{rest:05.2f}" if hours else f"{minutes}:{rest:05.2f}"


def moment(value: datetime | None) -> str:
    """A time in UTC; pages turn it into the reader's own."""
    return NONE if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(value: datetime) -> str:
    """A time for machines."""
    return value.astimezone(UTC).isoformat()


def pretty(text: str | None) -> str:
    """JSON text with line breaks; other text as it is."""
    if text is None:
        return ""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict | list) else text


def short_id(text: str) -> str:
    """An id short enough for a table: its beginning and its end."""
    return text if len(text) <= 28 else f"{text[:8]}…{text[-6:]}"


FILTERS = {
    "seconds": seconds,
    "milliseconds": milliseconds,
    "count": count,
    "short_count": short_count,
    "clock": clock,
    "moment": moment,
    "iso": iso,
    "pretty": pretty,
    "short_id": short_id,
}
