"""`recorder prices`: what models cost, and where that is from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recorder.cli import output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption, PricesOption, open_catalog

if TYPE_CHECKING:
    from decimal import Decimal

    from recorder.analytics.prices import Price

EXAMPLES = (
    ("recorder prices", "of all models that hear or speak"),
    ("recorder prices gpt-realtime-mini", "what a session of this model costs today"),
    ("recorder prices --in-use", "of the models in the recordings; those without a price too"),
    ("recorder prices --prices own.toml --json", "with prices of your own, for a program"),
)

HEADINGS = (
    "MODEL",
    "SINCE",
    "TEXT IN",
    "CACHED",
    "AUDIO IN",
    "CACHED",
    "IMAGE IN",
    "CACHED",
    "TEXT OUT",
    "AUDIO OUT",
    "MINUTE",
    "SOURCE",
)
AMOUNTS = (
    "input_text_usd",
    "cached_text_usd",
    "input_audio_usd",
    "cached_audio_usd",
    "input_image_usd",
    "cached_image_usd",
    "output_text_usd",
    "output_audio_usd",
)
NUMBERS = frozenset(range(2, 11))

IN_USE = """
    SELECT model, count(*) AS n, count(cost_usd) AS priced FROM costs
    WHERE model IS NOT NULL GROUP BY model ORDER BY n DESC, model
"""


def prices(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Only what holds for this model, or for names that begin so."),
    ] = None,
    *,
    every: Annotated[
        bool, typer.Option("--all", envvar="RECORDER_PRICES_ALL", help="Models that neither hear nor speak too.")
    ] = False,
    in_use: Annotated[
        bool, typer.Option("--in-use", help="Only today's prices of the models that were billed in the recordings.")
    ] = False,
    data: DataOption = DEFAULT_DATA,
    file: PricesOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what models cost: USD per million tokens, or per minute of audio.

    The built-in prices are those of the installed package genai-prices; your own go before them. A dash is no price:
    what is used without one costs NULL, not nothing.
    """
    from recorder.analytics.prices import known_prices

    chosen = known_prices(file)
    if model is not None:
        chosen = tuple(price for price in chosen if price.fits(model) or price.model.startswith(model.lower()))
    elif not every and not in_use:
        chosen = tuple(price for price in chosen if price.of_voice)
    rows: list[tuple[str, Price | None]] = [(price.model, price) for price in chosen]
    if in_use:
        rows = _in_use(chosen, data, file, model)
    if as_json:
        output.print_json({"model": name} | _fields(price) for name, price in rows)
        return
    if not rows:
        output.note("no price" + (f" for {model}" if model else ""))
        return
    output.print_table(
        HEADINGS, [_cells(name, price) for name, price in rows], right=NUMBERS, shrink=frozenset({0, 11})
    )
    _note_unpriced([name for name, price in rows if price is None])


def _in_use(
    chosen: tuple[Price, ...], data: Path, file: Path | None, model: str | None
) -> list[tuple[str, Price | None]]:
    from recorder.analytics.prices import price_of

    today = datetime.now(UTC).date()
    with open_catalog(data, file) as catalog:
        names = catalog.query(IN_USE)["model"].to_list()
    wanted = [name for name in names if model is None or name.lower().startswith(model.lower())]
    return [(name, price_of(chosen, name, today)) for name in wanted]


def _note_unpriced(names: list[str]) -> None:
    if names:
        output.note(f"no price for {', '.join(names)}: give one in a file (--prices; docs/cost.md)")


def _fields(price: Price | None) -> dict[str, object]:
    """What `--json` tells of a price beside the model's name."""
    import msgspec

    if price is None:
        return {"source": None}
    fields = msgspec.structs.asdict(price)
    return {"price_model": fields.pop("model"), **fields}


def _cells(name: str, price: Price | None) -> list[str]:
    if price is None:
        return [name, "", *["–"] * len(NUMBERS), "none"]
    minute = None if price.hour_usd is None else price.hour_usd / 60
    return [
        name,
        str(price.valid_from or ""),
        *(_amount(getattr(price, column)) for column in AMOUNTS),
        _amount(minute),
        price.source,
    ]


def _amount(value: Decimal | None) -> str:
    """`0.40`, with more decimals where there are, or `–`."""
    if value is None:
        return "–"
    short = f"{value.normalize():f}"
    return short if len(short.partition(".")[2]) > 2 else f"{value:.2f}"
