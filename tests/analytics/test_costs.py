"""Costs: usage × prices, worked by hand. Amounts are exact."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from recorder.analytics.engine import Engine, run_models
from recorder.analytics.prices import Price, built_in_prices, known_prices
from recorder.analytics.registry import Model, built_in_models

Build = Callable[..., pa.Table]
Ask = Callable[..., list[dict[str, Any]]]

OPENED = date(2027, 1, 15)  # the day of every case

CREATED = {"type": "session.created", "session": {"id": "s", "model": "gpt-realtime"}}
TRANSCRIBED = {
    "type": "conversation.item.input_audio_transcription.completed",
    "item_id": "u1",
    "content_index": 0,
    "transcript": "Hi.",
}
USAGE = {
    "input_tokens": 1000,
    "output_tokens": 300,
    "input_token_details": {
        "text_tokens": 600,
        "audio_tokens": 390,
        "image_tokens": 10,
        "cached_tokens": 448,
        "cached_tokens_details": {"text_tokens": 384, "audio_tokens": 60, "image_tokens": 4},
    },
    "output_token_details": {"text_tokens": 100, "audio_tokens": 200},
}
"""Of gpt-realtime: 216 × 4 + 330 × 32 + 6 × 5 + 384 × 0.4 + 60 × 0.4 + 4 × 0.5 = 11 633.6 millionths for the input,
100 × 16 + 200 × 64 = 14 400 for the output."""


def done(usage: dict[str, Any] | None, name: str = "r1", **fields: Any) -> dict[str, Any]:
    return {"type": "response.done", "response": {"id": name, "status": "completed", "usage": usage, **fields}}


def needed(sql: str) -> dict[str, Model]:
    """The models that a query's tables are made of: fewer take less time."""
    known = built_in_models()
    wanted = {"usage", *(name for name in ("contexts", "interruptions", "responses", "sessions") if name in sql)}
    if "interruptions" in wanted:
        wanted.add("responses")  # what is wasted is their share
    for name in reversed(known):
        if name in wanted:
            wanted.update(known[name].depends_on)
    return {name: model for name, model in known.items() if name in wanted}


@pytest.fixture
def ask(build: Build, tmp_path: Path) -> Iterator[Ask]:
    """Rows of a query over one session of these server messages, a second apart; (message, ms) carries audio."""

    engines: list[Engine] = []

    def asking(
        sql: str, *messages: Any, prices: tuple[Price, ...] | None = None, timed: bool = True
    ) -> list[dict[str, Any]]:
        lines = []
        for number, one in enumerate(messages, 1):
            message, *audio_ms = one if isinstance(one, tuple) else (one,)
            lines.append(json.dumps([1000 * number if timed else None, "server", message, *audio_ms]))
        (tmp_path / "input.jsonl").write_text("\n".join(lines))
        engine = Engine(prices=built_in_prices() if prices is None else prices)
        engines.append(engine)
        engine.update(live=run_models(build(tmp_path / "input.jsonl"), models=needed(sql)))
        return engine.query(sql).to_dicts()

    yield asking
    for engine in engines:
        engine.close()


def own(tmp_path: Path, text: str) -> tuple[Price, ...]:
    (tmp_path / "prices.toml").write_text(text)
    return known_prices(tmp_path / "prices.toml")


def test_every_part_of_a_response(ask: Ask) -> None:
    (row,) = ask("FROM costs", CREATED, done(USAGE))
    assert (row["kind"], row["model"], row["price_model"], row["date"]) == (
        "response",
        "gpt-realtime",
        "gpt-realtime",
        OPENED,
    )
    parts = [value for name, value in row.items() if name.endswith("_usd")]
    millionths = (864, 10560, 30, "153.6", 24, 2, 1600, 12800, None, "11633.6", 14400, "26033.6", "3296.4")
    # The last is what the cache saved: 384 × 3.6 + 60 × 31.6 + 4 × 4.5.
    assert parts == [None if one is None else Decimal(one) / 1_000_000 for one in millionths]
    assert (row["estimated"], row["price_day_assumed"]) == (False, False)


def test_sessions_and_responses_have_their_costs(ask: Ask) -> None:
    messages = (CREATED, done(USAGE), done(None, "r2"), done(USAGE, "r3"))
    assert [row["cost_usd"] for row in ask("SELECT cost_usd FROM responses ORDER BY response_no", *messages)] == [
        Decimal("0.0260336"),
        None,
        Decimal("0.0260336"),
    ]
    (session,) = ask("SELECT cost_usd, cost_per_minute_usd, duration_seconds FROM sessions", *messages)
    assert session["cost_usd"] == Decimal("0.0520672")
    assert session["duration_seconds"] == 3  # from the first message on
    assert session["cost_per_minute_usd"] == pytest.approx(0.0520672 * 20)


def test_transcriptions_cost_by_their_own_model(ask: Ask) -> None:
    audio = {"input": {"transcription": {"model": "whisper-1"}}}
    whisper = {"type": "session.created", "session": {"model": "gpt-realtime", "audio": audio}}
    usage = {"type": "duration", "seconds": 7.5}
    rows = ask("FROM costs ORDER BY usage_no", whisper, {**TRANSCRIBED, "usage": usage}, done(USAGE))
    assert [(row["kind"], row["price_model"], row["cost_usd"]) for row in rows] == [
        ("transcription", "whisper-1", Decimal("0.00075")),  # 7.5 s at 0.6 cents a minute
        ("response", "gpt-realtime", Decimal("0.0260336")),
    ]
    assert rows[0]["audio_time_cost_usd"] == rows[0]["cost_usd"]
    assert rows[0]["input_cost_usd"] is None


def test_an_unknown_model_has_no_cost_rather_than_none(ask: Ask) -> None:
    messages = (CREATED, done(USAGE), done(USAGE, "r2", model="gpt-unheard"))
    rows = ask("SELECT price_model, cost_usd FROM costs ORDER BY usage_no", *messages)
    assert rows[1] == {"price_model": None, "cost_usd": None}
    (session,) = ask("SELECT cost_usd, cost_per_minute_usd FROM sessions", *messages)
    assert session == {"cost_usd": None, "cost_per_minute_usd": None}


def test_without_usage_nothing_is_known(ask: Ask) -> None:
    assert ask("FROM costs", CREATED, done(None)) == []
    assert ask("SELECT cost_usd FROM sessions", CREATED, done(None)) == [{"cost_usd": None}]


def test_only_what_was_used_needs_a_price(ask: Ask, tmp_path: Path) -> None:
    text_only = own(tmp_path, '[[price]]\nmodel = "gpt-realtime"\ninput_text = 1\noutput_text = 2\n')
    written = {"input_tokens": 10, "output_tokens": 5}
    rows = ask("FROM costs ORDER BY usage_no", CREATED, done(written), done(USAGE, "r2"), prices=text_only)
    assert [row["cost_usd"] for row in rows] == [Decimal("0.000020"), None]
    assert rows[0]["uncached_audio_cost_usd"] == 0
    assert rows[1]["uncached_text_cost_usd"] == Decimal("0.000216")
    assert rows[1]["uncached_audio_cost_usd"] is None
    assert rows[0]["estimated"]  # without details, tokens count as text


def test_prices_hold_from_their_day_on(ask: Ask, tmp_path: Path) -> None:
    entry = '[[price]]\nmodel = "gpt-realtime"\nvalid_from = {day}\ninput_text = {amount}\noutput_text = {amount}\n'
    days = (("2027-01-14", 1), ("2027-01-15", 2), ("2027-01-16", 4))
    dated = own(tmp_path, "".join(entry.format(day=day, amount=amount) for day, amount in days))
    usage = {"input_tokens": 1_000_000, "output_tokens": 0}
    (row,) = ask("FROM costs", CREATED, done(usage), prices=dated)
    assert (row["cost_usd"], row["price_valid_from"]) == (2, OPENED)
    (row,) = ask("FROM costs", CREATED, done(usage), prices=tuple(one for one in dated if one.valid_from != OPENED))
    assert (row["cost_usd"], row["price_valid_from"]) == (1, date(2027, 1, 14))
    (row,) = ask("FROM costs", CREATED, done(usage), prices=dated[2:3])
    assert (row["cost_usd"], row["price_model"]) == (None, None)


def test_recordings_without_times_have_todays_prices(ask: Ask) -> None:
    (row,) = ask("FROM costs", CREATED, done(USAGE), timed=False)
    assert (row["date"], row["price_day_assumed"], row["cost_usd"]) == (None, True, Decimal("0.0260336"))
    (session,) = ask("SELECT cost_usd, cost_per_minute_usd FROM sessions", CREATED, done(USAGE), timed=False)
    assert session == {"cost_usd": Decimal("0.0260336"), "cost_per_minute_usd": None}


def test_sums_are_exact(ask: Ask) -> None:
    odd = {"input_tokens": 3, "input_token_details": {"cached_tokens": 3}, "output_tokens": 1}
    many = ask(
        "SELECT sum(cost_usd) AS s, count(*) AS n FROM costs", CREATED, *(done(odd, f"r{n}") for n in range(500))
    )
    assert many == [{"s": Decimal("0.0000172") * 500, "n": 500}]  # 3 × 0.4 + 16 millionths each


def test_the_largest_numbers_do_not_overflow(ask: Ask, tmp_path: Path) -> None:
    kinds = ("input_text", "input_audio", "cached_text", "cached_audio", "output_text", "output_audio")
    dear = own(
        tmp_path, '[[price]]\nmodel = "*"\n' + "".join(f"{kind} = 10000\n" for kind in kinds) + "per_hour = 3600"
    )
    most = 100_000_000
    usage = {
        "input_tokens": most,
        "output_tokens": most,
        "input_token_details": {"text_tokens": most, "audio_tokens": most},
        "output_token_details": {"text_tokens": most, "audio_tokens": most},
    }
    (row,) = ask("FROM costs", CREATED, done(usage), prices=dear)
    assert row["cost_usd"] == 4_000_000
    session = {"type": "session.usage.updated", "usage": {"type": "duration", "seconds": 1_000_000}}
    assert ask("SELECT cost_usd FROM costs", CREATED, session, prices=dear) == [{"cost_usd": 1_000_000}]


def test_what_nobody_heard_cost_its_share(ask: Ask) -> None:
    """4 s of audio, of which 1 s was heard: three quarters of 200 × 64 millionths."""
    ids = {"response_id": "r1", "item_id": "a1", "output_index": 0, "content_index": 0}
    audio = {"type": "response.output_audio.delta", "delta": "", **ids}
    started = {"type": "input_audio_buffer.speech_started", "item_id": "u1", "audio_start_ms": 0}
    truncated = {"type": "conversation.item.truncated", "item_id": "a1", "content_index": 0, "audio_end_ms": 1000}
    sql = "SELECT unheard_ms, wasted_cost_usd FROM interruptions"
    created = {"type": "response.created", "response": {"id": "r1"}}
    assert ask(sql, CREATED, created, (audio, 4000), started, truncated, done(USAGE)) == [
        {"unheard_ms": 3000.0, "wasted_cost_usd": Decimal("0.0096")}
    ]
    assert ask(sql, CREATED, created, (audio, 4000), started, truncated, done(None)) == [
        {"unheard_ms": 3000.0, "wasted_cost_usd": None}
    ]


def test_columns_that_nobody_asks_for_cost_nothing(ask: Ask, build: Build) -> None:
    """The 30-day panels read sessions and responses without reading usage."""
    with Engine(prices=built_in_prices()) as engine:
        for sql in (
            "SELECT count(*) FROM sessions",
            "SELECT model, avg(duration_seconds) FROM responses GROUP BY model",
        ):
            assert "usage" not in engine.query(f"EXPLAIN {sql}").rows()[0][1]
        assert "usage" in engine.query("EXPLAIN SELECT sum(cost_usd) FROM sessions").rows()[0][1]


def test_what_a_lost_cache_costs(ask: Ask) -> None:
    """Cached were 384 of text, 60 of audio, 4 of images, then 64 of text: 320 × 3.6 + 60 × 31.6 + 4 × 4.5."""
    cold = json.loads(json.dumps(USAGE))
    cold["input_token_details"] |= {"cached_tokens": 64, "cached_tokens_details": {"text_tokens": 64}}
    created = [{"type": "response.created", "response": {"id": f"r{n}"}} for n in range(4)]
    messages = (created[1], done(USAGE), created[2], done(USAGE, "r2"), created[3], done(cold, "r3"))
    assert ask("SELECT response_no, cache_bust, extra_cost_usd FROM contexts ORDER BY 1", CREATED, *messages) == [
        {"response_no": 2, "cache_bust": False, "extra_cost_usd": 0},
        {"response_no": 3, "cache_bust": True, "extra_cost_usd": Decimal("0.003066")},
    ]
