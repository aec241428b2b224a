"""The user's own prices: TOML in, prices out, and every mistake named with its place."""

from __future__ import annotations

import tomllib
from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from recorder.analytics.prices import DECIMALS, TOKEN_KINDS, Price
from recorder.errors import UsageError

MOST: Final = Decimal(10_000)
"""USD per million tokens or per hour. More is a mistake of the unit, and sums of pico-dollars stay within 64 bits."""

_HOURS: Final = {"per_hour": 1, "per_minute": 60, "per_second": 3600}


class _Refusal(Exception):  # noqa: N818 - it never leaves this module
    """What is wrong with an entry, and what to do."""


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[price]]`."""

    model: str
    valid_from: date | None = None
    currency: str = "USD"
    input_text: Decimal | None = None
    input_audio: Decimal | None = None
    input_image: Decimal | None = None
    cached_text: Decimal | None = None
    cached_audio: Decimal | None = None
    cached_image: Decimal | None = None
    output_text: Decimal | None = None
    output_audio: Decimal | None = None
    per_hour: Decimal | None = None
    per_minute: Decimal | None = None
    per_second: Decimal | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    price: list[_Entry]
    rates: dict[str, Decimal] = {}


def read_prices(path: Path) -> tuple[Price, ...]:
    """The prices of a file, by rank: exact names first, then the longer beginnings before the shorter ones.

    Raises:
        UsageError: it cannot be used; names the file, the entry and what is wrong.
    """
    said = _parsed(path)
    names = {entry.model.lower() for entry in said.price}
    exact_first = sorted(names, key=lambda name: (name.endswith("*"), -len(name), name))
    ranks = {name: rank for rank, name in enumerate(exact_first)}
    prices = [_price(path, entry, ranks[entry.model.lower()], said.rates) for entry in said.price]
    counted = Counter((price.model, price.valid_from) for price in prices)
    for (model, day), count in counted.items():
        if count > 1:
            since = f" with valid_from {day}" if day else ""
            raise UsageError(f"{path}: {model}: is there {count} times{since}", hint="Keep one, or date them.")
    return tuple(sorted(prices, key=lambda price: price.rank))


def _parsed(path: Path) -> _File:
    hint = "docs/cost.md describes the file."
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        return msgspec.convert(document, _File)
    except OSError as error:
        raise UsageError(f"--prices {path}: {error.strerror}") from None
    except (msgspec.ValidationError, ValueError) as error:
        raise UsageError(f"{path}: {error}", hint=hint) from None


def _price(path: Path, entry: _Entry, rank: int, rates: dict[str, Decimal]) -> Price:
    try:
        rate = _rate(entry, rates)
        amounts: dict[str, Any] = {name: _usd(amount, rate) for name, amount in _given(entry).items()}
    except _Refusal as refusal:
        problem, hint = refusal.args
        raise UsageError(f"{path}: {entry.model or 'a price'}: {problem}", hint=hint) from None
    return Price(
        model=entry.model.lower(),
        rank=rank,
        provider="",
        source=str(path),
        currency=entry.currency,
        valid_from=entry.valid_from,
        **amounts,
    )


def _rate(entry: _Entry, rates: dict[str, Decimal]) -> Decimal:
    if not entry.model.strip() or "*" in entry.model[:-1]:
        raise _Refusal("model is no name", "Give the model's name, or the beginning of names with * behind it.")
    if entry.currency == "USD":
        return Decimal(1)
    if entry.currency not in rates:
        wanted = f"Say what one is worth in USD: a table [rates] with {entry.currency} = …"
        raise _Refusal(f"no rate for {entry.currency}", wanted)
    return rates[entry.currency]


def _given(entry: _Entry) -> dict[str, Decimal]:
    """What an entry prices, by the names of `Price`."""
    times = [(name, amount) for name in _HOURS if (amount := getattr(entry, name)) is not None]
    if len(times) > 1:
        raise _Refusal(f"{times[0][0]} and {times[1][0]} exclude each other", "Give one.")
    given = {f"{kind}_usd": amount for kind in TOKEN_KINDS if (amount := getattr(entry, kind)) is not None}
    if times:
        name, amount = times[0]
        given["hour_usd"] = amount * _HOURS[name]
    if not given:
        raise _Refusal("prices nothing", f"Give {', '.join(TOKEN_KINDS)} per million tokens, or per_minute.")
    return given


def _usd(amount: Decimal, rate: Decimal) -> Decimal:
    usd = amount * rate
    if not usd.is_finite() or not 0 <= usd <= MOST:
        raise _Refusal(f"{amount} is no price", f"From 0 to {MOST:,} USD per million tokens, or per hour.")
    return usd.quantize(DECIMALS)
