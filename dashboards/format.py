"""Values as people read them. What is unknown is a dash, never a zero."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
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


def fine_seconds(value: float | None) -> str:
    """As `seconds`, of what is short: `48 µs`, `2.4 ms`."""
    if value is None or value >= 0.00995:
        return seconds(value)
    return f"{value * 1e3:.1f} ms" if value >= 0.0009995 else f"{value * 1e6:.0f} µs"


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


def usd(value: Decimal | float | None) -> str:
    """An amount: `$1,234.56`, `$0.0123`, `$0.001031`, `< $0.000001`."""
    if value is None:
        return NONE
    if 0 < value < 0.0000005:
        return "< $0.000001"
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.4f}" if value >= 0.01 else f"${value:.6f}"


def share(part: float | None, whole: float | None) -> str:
    """A part of a whole: `12 %`; a dash where there is no whole."""
    return NONE if part is None or not whole else f"{100 * part / whole:.0f}\u202f%"


def ratio(value: float | None) -> str:
    """A share that was reckoned before: 0.125 is `12 %`."""
    return share(value, 1.0)


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
    "fine_seconds": fine_seconds,
    "milliseconds": milliseconds,
    "count": count,
    "short_count": short_count,
    "usd": usd,
    "share": share,
    "ratio": ratio,
    "clock": clock,
    "moment": moment,
    "iso": iso,
    "pretty": pretty,
    "short_id": short_id,
}
