"""What models cost: prices as data, from `genai-prices` and from a file of the user's own.

SQL sees them as the relation `prices`, and, worked out so that a plain join finds the one that holds for a model on a
day, as `stored.price_ranges`. Nothing that is stored depends on them, so history is repriced by reading it again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

TOKEN_KINDS: Final = (
    "input_text",
    "input_audio",
    "input_image",
    "cached_text",
    "cached_audio",
    "cached_image",
    "output_text",
    "output_audio",
)
"""What tokens are billed by. Prices of these are per million."""

DECIMALS: Final = Decimal("0.000001")
"""The finest step of a price per million tokens or per hour; a token's price is exact to a trillionth of a dollar."""

_PROVIDERS: Final = ("openai", "azure", "x-ai", "google")
"""Those whose models are reached by this protocol, in the order in which names are looked up."""

_UNCOUNTED: Final = ("input_text_messages_kcount",)
"""Prices for what no usage counts: a model that has one cannot be priced."""


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What one model costs from one day on, in USD.

    Attributes:
        model: its name in lower case, or the beginning of names, with `*` behind it.
        rank: of the prices that fit a model on a day, those of the lowest rank win, and of these the latest.
        provider: whose price it is; "" in files of users.
        source: where it is from: a package with its version, or a file.
        currency: in which it was given.
        valid_from: the first day on which it holds; None for all days before the next.
        input_text_usd: per million tokens of that kind, likewise the others; None where there is no price.
        hour_usd: per hour of audio, for models billed by time.
    """

    model: str
    rank: int
    provider: str
    source: str
    currency: str = "USD"
    valid_from: date | None = None
    input_text_usd: Decimal | None = None
    input_audio_usd: Decimal | None = None
    input_image_usd: Decimal | None = None
    cached_text_usd: Decimal | None = None
    cached_audio_usd: Decimal | None = None
    cached_image_usd: Decimal | None = None
    output_text_usd: Decimal | None = None
    output_audio_usd: Decimal | None = None
    hour_usd: Decimal | None = None

    @property
    def since(self) -> date:
        """The first day on which it holds."""
        return self.valid_from or date.min

    def fits(self, model: str) -> bool:
        """Whether it is a price of the model, by its name alone."""
        name = model.lower()
        return name.startswith(self.model[:-1]) if self.model.endswith("*") else name == self.model

    @property
    def of_voice(self) -> bool:
        """Whether it prices audio."""
        return not (self.input_audio_usd == self.input_text_usd and self.hour_usd is None)


def known_prices(file: Path | None = None) -> tuple[Price, ...]:
    """All prices, by rank: those of the file before the built-in ones.

    Args:
        file: prices of the user's own, as docs/cost.md describes.

    Raises:
        UsageError: the file cannot be used.
    """
    if file is None:
        return built_in_prices()
    from recorder.analytics.price_file import read_prices  # noqa: PLC0415 (it takes Price from here)

    own = read_prices(file)
    first = max((price.rank for price in own), default=-1) + 1
    return own + tuple(msgspec.structs.replace(price, rank=price.rank + first) for price in built_in_prices())


def price_of(prices: Iterable[Price], model: str, day: date) -> Price | None:
    """The price that holds for a model on a day, or None."""
    return _holding([price for price in prices if price.fits(model)], day)


def _holding(fitting: Iterable[Price], day: date) -> Price | None:
    begun = [price for price in fitting if price.since <= day]
    return min(begun, key=lambda price: (price.rank, -price.since.toordinal()), default=None)


class PriceRange(msgspec.Struct, frozen=True):
    """What names from `first_name` up to, without, `end_name` cost from `first_day` up to, without, `end_day`.

    No two of the same `billed_by` overlap. Amounts are whole micro-dollars per million tokens, which is pico-dollars a
    token, or per hour.
    """

    first_name: str
    end_name: str
    first_day: date
    end_day: date
    billed_by: str
    price_model: str
    price_source: str
    price_valid_from: date | None
    input_text: int | None = None
    input_audio: int | None = None
    input_image: int | None = None
    cached_text: int | None = None
    cached_audio: int | None = None
    cached_image: int | None = None
    output_text: int | None = None
    output_audio: int | None = None
    hour: int | None = None


def price_ranges(prices: Sequence[Price]) -> Iterator[PriceRange]:
    """The prices as ranges of names and days, so that whichever holds is found by comparing.

    Names and beginnings of names are ranges of all names in order; between two neighbouring ends of such ranges, the
    same prices fit everywhere. So with days.
    """
    by_name: dict[str, list[Price]] = {}
    for price in prices:
        by_name.setdefault(price.model, []).append(price)
    cuts = sorted({end for name in by_name for end in _range(name)})
    for first, end in pairwise(cuts):
        beginnings = (f"{first[:length]}*" for length in range(len(first) + 1))
        fitting = [price for name in (first, *beginnings) for price in by_name.get(name, ())]
        days = [*sorted({price.since for price in fitting}), date.max]
        for first_day, end_day in pairwise(days):
            holding = _holding(fitting, first_day)
            assert holding is not None
            yield from _piece((first, end), (first_day, end_day), holding)


def _range(name: str) -> tuple[str, str]:
    """The first name that fits, and the first behind them all."""
    if not name.endswith("*"):
        return name, f"{name}\0"
    beginning = name[:-1]
    return beginning, beginning[:-1] + chr(ord(beginning[-1]) + 1) if beginning else chr(sys.maxunicode)


def _piece(names: tuple[str, str], days: tuple[date, date], price: Price) -> Iterator[PriceRange]:
    common = (*names, *days)
    origin = (price.model, price.source, price.valid_from)
    micro: dict[str, Any] = {
        name.removesuffix("_usd"): int(amount * 1_000_000)
        for name in (*(f"{kind}_usd" for kind in TOKEN_KINDS), "hour_usd")
        if (amount := getattr(price, name)) is not None
    }
    hour = micro.pop("hour", None)
    if micro:
        yield PriceRange(*common, "tokens", *origin, **micro)
    if hour is not None:
        yield PriceRange(*common, "seconds", *origin, hour=hour)


@cache
def built_in_prices() -> tuple[Price, ...]:
    """The prices that come with the installed `genai-prices`. They are not looked up on the net."""
    from genai_prices.data import providers  # noqa: PLC0415 (takes a moment, and most commands need no prices)

    source = f"genai-prices {version('genai-prices')}"
    by_id = {provider.id: provider for provider in providers}
    found: dict[str, Any] = {}  # a name belongs to the first model that claims it
    for provider in map(by_id.__getitem__, _PROVIDERS):
        for model in provider.models:
            for name in _names(model.match):
                found.setdefault(name, (provider.id, model.prices))
    return tuple(
        Price(model=name, rank=rank, provider=provider, source=source, valid_from=day, **amounts)
        for rank, (name, (provider, prices)) in enumerate(found.items())
        for day, model_price in _dated(prices)
        if (amounts := _amounts(model_price))
    )


def _names(match: Any) -> Iterator[str]:
    """The names that a rule of `genai-prices` stands for. Rules by regular expression or by a part are left out."""
    if (name := getattr(match, "equals", None)) is not None:
        yield name.lower()
    elif (beginning := getattr(match, "starts_with", None)) is not None:
        yield f"{beginning.lower()}*"
    else:
        for rule in getattr(match, "or_", ()):
            yield from _names(rule)


def _dated(prices: Any) -> Iterator[tuple[date | None, ModelPrice]]:
    """Prices with their first day. The first is that of all days before the next, as `genai-prices` has it."""
    if not isinstance(prices, Sequence):
        yield None, prices
        return
    for number, conditional in enumerate(prices):
        start = getattr(conditional.constraint, "start_date", None)
        if number == 0 or start is not None:  # the rest depends on the hour of the day
            yield None if number == 0 else start, conditional.prices


def _amounts(price: ModelPrice) -> dict[str, Any]:
    """A model's prices by our kinds; empty where nothing of ours is priced, or what we cannot count is.

    Kinds without a price of their own cost what their generic one says: audio as input, cached audio as cached, cached
    as uncached. So `genai-prices` itself reckons.
    """
    given = {key: getattr(value, "base", value) for key, value in price.__dict__.items() if value is not None}
    if any(key in given for key in _UNCOUNTED):
        return {}
    amounts: dict[str, Decimal | None] = {"hour_usd": given.get("audio_hours", given.get("input_audio_hours"))}
    for kind in ("text", "audio", "image"):
        full = given.get(f"input_{kind}_mtok", given.get("input_mtok"))
        amounts[f"input_{kind}_usd"] = full
        amounts[f"cached_{kind}_usd"] = given.get(f"cache_{kind}_read_mtok", given.get("cache_read_mtok", full))
    for kind in ("text", "audio"):
        amounts[f"output_{kind}_usd"] = given.get(f"output_{kind}_mtok", given.get("output_mtok"))
    return {name: amount.quantize(DECIMALS) for name, amount in amounts.items() if amount is not None}
