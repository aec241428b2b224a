"""Prices: what genai-prices says in our words, and the user's file."""

from __future__ import annotations

import random
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from genai_prices import Usage, calc_price

from recorder.analytics.prices import TOKEN_KINDS, Price, built_in_prices, known_prices, price_of, price_ranges
from recorder.errors import UsageError

DAY = date(2026, 9, 1)
VOICE_MODELS = (
    "gpt-realtime",
    "gpt-realtime-1.5",
    "gpt-realtime-2",
    "gpt-realtime-2025-08-28",
    "gpt-realtime-mini",
    "gpt-4o-realtime-preview-2024-12-17",
    "gpt-4o-mini-realtime-preview",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
)


def _file(folder: Path, text: str) -> Path:
    path = folder / "prices.toml"
    path.write_text(text)
    return path


def _known(model: str, prices: tuple[Price, ...] = (), day: date = DAY) -> Price:
    price = price_of(prices or built_in_prices(), model, day)
    assert price is not None, model
    return price


def test_the_price_of_a_voice_model_in_all_its_kinds() -> None:
    price = _known("GPT-Realtime")
    amounts = [getattr(price, f"{kind}_usd") for kind in TOKEN_KINDS]
    assert amounts == [Decimal(said) for said in ("4", "32", "5", "0.4", "0.4", "0.5", "16", "64")]
    assert (price.provider, price.currency, price.valid_from, price.hour_usd) == ("openai", "USD", None, None)
    assert price.source.startswith("genai-prices ")


def test_models_billed_by_time() -> None:
    assert _known("whisper-1").hour_usd == Decimal("0.36")  # $0.006 a minute
    assert _known("gpt-realtime-translate").hour_usd == Decimal("2.04")
    assert _known("whisper-1").input_audio_usd is None
    assert _known("whisper-1").of_voice
    assert not _known("gpt-4o").of_voice


def test_unknown_models_have_no_price() -> None:
    for name in ("gpt-realtime-9", "gpt-realtime-2099-01-01", "", "gpt", "my gpt-realtime"):
        assert price_of(built_in_prices(), name, DAY) is None
    # It is billed by messages as well, which no usage counts.
    assert price_of(built_in_prices(), "grok-voice-latest", DAY) is None


def test_prices_change_on_their_day() -> None:
    assert _known("o3", day=date(2025, 6, 9)).input_text_usd == Decimal(10)
    assert _known("o3", day=date(2025, 6, 10)).input_text_usd == Decimal(2)


@pytest.mark.parametrize("model", VOICE_MODELS)
def test_amounts_are_those_of_genai_prices(model: str) -> None:
    """Its own calculator, on usage divided at random."""
    rng = random.Random(model)
    price = _known(model)
    for _ in range(20):
        tokens = {kind: rng.randrange(10_000) for kind in TOKEN_KINDS}
        if "transcribe" in model:
            tokens |= dict.fromkeys(("input_image", "cached_text", "cached_audio", "cached_image", "output_audio"), 0)
        mine = sum(count * getattr(price, f"{kind}_usd") for kind, count in tokens.items()) / 1_000_000
        usage = Usage(
            input_tokens=sum(count for kind, count in tokens.items() if not kind.startswith("output")),
            output_tokens=tokens["output_text"] + tokens["output_audio"],
            cache_read_tokens=sum(tokens[f"cached_{kind}"] for kind in ("text", "audio", "image")),
            input_text_tokens=tokens["input_text"] + tokens["cached_text"],
            input_audio_tokens=tokens["input_audio"] + tokens["cached_audio"],
            input_image_tokens=tokens["input_image"] + tokens["cached_image"],
            cache_text_read_tokens=tokens["cached_text"],
            cache_audio_read_tokens=tokens["cached_audio"],
            cache_image_read_tokens=tokens["cached_image"],
            output_text_tokens=tokens["output_text"],
            output_audio_tokens=tokens["output_audio"],
        )
        assert mine == calc_price(usage, model, provider_id="openai").total_price


def test_a_file_goes_before_the_built_in_prices(tmp_path: Path) -> None:
    prices = known_prices(
        _file(
            tmp_path,
            """
            [rates]
            EUR = 1.10

            [[price]]
            model = "gpt-realtime*"
            currency = "EUR"
            input_text = 5

            [[price]]
            model = "GPT-realtime-2"
            valid_from = 2026-08-01
            output_audio = 50.5

            [[price]]
            model = "gpt-realtime-2"
            valid_from = 2026-09-02
            output_audio = 40

            [[price]]
            model = "my-whisper"
            per_minute = 0.003
            """,
        )
    )
    assert _known("gpt-realtime-2", prices).output_audio_usd == Decimal("50.5")  # the exact name wins, dated
    assert _known("gpt-realtime-2", prices).input_text_usd is None  # an entry says all that it says
    assert _known("gpt-realtime-2", prices, date(2026, 9, 2)).output_audio_usd == Decimal(40)
    assert _known("gpt-realtime-2", prices, date(2026, 7, 31)).input_text_usd == Decimal("5.5")  # else the beginning
    assert _known("gpt-realtime-2", prices).source == str(tmp_path / "prices.toml")
    assert _known("my-whisper", prices).hour_usd == Decimal("0.18")
    assert _known("whisper-1", prices).source.startswith("genai-prices")
    assert _known("gpt-realtime-9", prices).currency == "EUR"


def test_longer_beginnings_win(tmp_path: Path) -> None:
    entries = "".join(
        f'[[price]]\nmodel = "{name}"\noutput_text = {amount}\n'
        for name, amount in (("a*", 1), ("*", 2), ("a-b-*", 3), ("a-b-c", 4))
    )
    prices = known_prices(_file(tmp_path, entries))
    found = [_known(name, prices).output_text_usd for name in ("a-b-c", "a-b-d", "ab", "b")]
    assert found == [4, 3, 1, 2]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "missing required field `price`"),
        ("[[price]]\nmodel = ", "Invalid value"),
        ("[[price]]\ninput_text = 1", "missing required field `model`"),
        ("[[price]]\nmodel = 'm'\ninput = 1", "unknown field `input`"),
        ("[[price]]\nmodel = 'm'\ninput_text = 'one'", "Invalid decimal string"),
        ("[[price]]\nmodel = 'm'\ninput_text = -1", "m: -1 is no price"),
        ("[[price]]\nmodel = 'm'\ninput_text = nan", "m: NaN is no price"),
        ("[[price]]\nmodel = 'm'\ninput_text = 10001", "m: 10001 is no price"),
        ("[[price]]\nmodel = 'm'", "m: prices nothing"),
        ("[[price]]\nmodel = 'm*x'\ninput_text = 1", "m*x: model is no name"),
        ("[[price]]\nmodel = ' '\ninput_text = 1", "model is no name"),
        ("[[price]]\nmodel = 'm'\ncurrency = 'EUR'\ninput_text = 1", "m: no rate for EUR"),
        ("[[price]]\nmodel = 'm'\nper_hour = 1\nper_minute = 1", "m: per_hour and per_minute exclude each other"),
        ("[[price]]\nmodel = 'm'\nper_hour = 1\n[[price]]\nmodel = 'M'\nper_hour = 2", "m: is there 2 times"),
        ("[[price]]\nmodel = 'm'\nvalid_from = 'then'\nper_hour = 1", "RFC3339"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str, problem: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        known_prices(path)
    assert problem in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        known_prices(tmp_path / "none.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="binary"):
        known_prices(tmp_path / "binary")


def test_ranges_give_what_a_search_gives(tmp_path: Path) -> None:
    """Names between, at and beyond all beginnings and ends, on the days before and after all changes."""
    entries = "".join(
        f"[[price]]\nmodel = {name!r}\nvalid_from = 2026-0{month}-01\noutput_text = {month}\nper_hour = {number}\n"
        for number, (name, month) in enumerate(
            [("a*", 1), ("a*", 3), ("a-b", 2), ("a-b*", 4), ("a-b-c", 1), ("é*", 2), ("gpt-realtime", 9)]
        )
    )
    prices = known_prices(_file(tmp_path, entries))
    ranges = list(price_ranges(prices))
    names = {price.model.rstrip("*") + end for price in prices[:40] for end in ("", "\0", " ", "-b", "zz")} | {
        "",
        "\U0010ffff",
    }
    for day in (date(2025, 12, 31), *(date(2026, month, 1) for month in range(1, 10))):
        for name in names:
            found = [
                one
                for one in ranges
                if one.billed_by == "seconds"
                and one.first_name <= name < one.end_name
                and one.first_day <= day < one.end_day
            ]
            price = price_of(prices, name, day)
            if price is None or price.hour_usd is None:
                assert found == [], (name, day)
            else:
                assert [(one.price_model, one.hour) for one in found] == [
                    (price.model, int(price.hour_usd * 1_000_000))
                ]
