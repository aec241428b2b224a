"""Our costs against LiteLLM's calculator on the same events, with random usage: equal, or the difference has a name."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from recorder.analytics.engine import Engine, run_models
from recorder.analytics.prices import Price, built_in_prices, price_of
from recorder.store import schema
from tests.e2e.installs import CLIENTS, execute, python_with

EXACT = Decimal("1e-10")
"""LiteLLM reckons in floats; a hundredth of a cent-millionth."""

PRICES = built_in_prices()
DAY = date(2027, 1, 1)
OPENED_AT_NS = 1_800_000_000_000_000_000

REALTIME = {
    "gpt-realtime",
    "gpt-realtime-1.5",
    "gpt-realtime-2",
    "gpt-realtime-2.1",
    "gpt-realtime-2.1-mini",
    "gpt-realtime-2025-08-28",
    "gpt-realtime-mini",
    "gpt-realtime-mini-2025-12-15",
    "gpt-4o-mini-realtime-preview-2024-12-17",
}
TRANSCRIBERS = {"gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-transcribe-diarize"}
TIMERS = {"whisper-1", "gpt-transcribe", "gpt-realtime-whisper", "gpt-live-transcribe"}
"""What both must know at least: realtime models, and transcription models by tokens and by seconds."""

FIRST, SECOND = "gpt-4o-realtime-preview-2024-10-01", "gpt-4o-realtime-preview-2024-12-17"
SMALL = "gpt-4o-mini-realtime-preview-2024-12-17"
AZURE = {
    "gpt-realtime",
    "gpt-realtime-1.5",
    "gpt-realtime-2",
    "gpt-realtime-2.1",
    "gpt-realtime-2.1-mini",
    "gpt-realtime-2025-08-28",
    "gpt-realtime-mini",
    "gpt-realtime-mini-2025-10-06",
    SECOND,
    SMALL,
}
"""What LiteLLM knows as `azure/<name>`."""

ZONES = {"azure/eu", "azure/us"}
"""Azure's zones of data, of which LiteLLM knows the previews by names that never go over the wire."""

TIMED_ON_AZURE = (
    "gpt-live-1",
    "gpt-live-transcribe",
    "gpt-realtime-translate",
    "gpt-realtime-whisper",
    "gpt-transcribe",
)
"""What is billed by the second, and LiteLLM knows as `azure/<name>` too."""

GEMINI = {
    "gemini-3.1-flash-live-preview",
    "gemini-3.8-live",
    "gemini-3.8-live-extended-thinking",
    "gemini-2.5-flash-native-audio-latest",
    "gemini-2.5-flash-native-audio-preview-09-2025",
    "gemini-2.5-flash-native-audio-preview-12-2025",
    "gemini-live-2.5-flash-preview-native-audio-09-2025",
}
"""What LiteLLM knows as `<name>`, of Google or Vertex, and as `gemini/<name>`."""

VERTEX = {
    "gemini-live-2.5-flash-native-audio": "gemini-live-2.5-flash-native-audio",
    "vertex_ai/gemini-3.8-live": "gemini-3.8-live",
}
"""LiteLLM's names of what it knows on Vertex only, and ours."""

GROK = {"grok-voice-latest", "grok-voice-3.0", "grok-voice-2.0"}
"""What xAI bills by the hour and by the message of text, and LiteLLM knows as `xai/<name>`."""


class Case(NamedTuple):
    """One session, by LiteLLM's name of its model, and what LiteLLM is known to reckon otherwise: USD it has less."""

    model: str
    events: list[dict[str, Any]]
    explained: Decimal = Decimal(0)


def elsewhere() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Models that both know under other names: ours, LiteLLM's, and the USD per million it takes instead of ours.

    Named differences: the first version on Azure at its first price; cached audio of Gemini at the price of text; its
    images at the price of text where LiteLLM has no other. Azure's surcharge on zones of data is in neither sum, since
    LiteLLM goes by the session's own name of the model.
    """
    for name in sorted(AZURE):
        yield name, f"azure/{name}", {}
    for place in ("azure", *sorted(ZONES)):
        yield FIRST, f"{place}/{FIRST}", {"input_audio": "100", "output_audio": "200"}
    for zone, name in product(sorted(ZONES), (SECOND, SMALL)):
        yield name, f"{zone}/{name}", {}
    google = {f"{prefix}{name}": name for name in GEMINI for prefix in ("gemini/", "")} | VERTEX
    for theirs, name in sorted(google.items()):
        heard = {"cached_audio": str(priced(name).cached_text_usd)}
        blind = "gemini-2.5" in theirs or theirs.startswith("gemini/gemini-live-2.5")
        seen = {"input_image": str(priced(name).input_text_usd)} if blind else {}
        yield name, theirs, heard | seen


def priced(model: str) -> Price:
    """What a model costs, by its name."""
    price = price_of(PRICES, model, DAY)
    assert price is not None
    return price


def per_token(price: Price, kind: str) -> Decimal:
    amount: Decimal | None = getattr(price, f"{kind}_usd")
    assert amount is not None
    return amount / 1_000_000


def usage(rng: random.Random) -> dict[str, Any]:
    """A response's usage, divided in full."""
    text, audio, image = (
        rng.randrange(1, 9000),
        rng.choice((0, rng.randrange(9000))),
        rng.choice((0, rng.randrange(99))),
    )
    cached = {"text_tokens": rng.randrange(text), "audio_tokens": rng.randrange(audio + 1)}
    cached["image_tokens"] = rng.randrange(image + 1)
    spoken, written = rng.choice((0, rng.randrange(4000))), rng.randrange(1, 900)
    return {
        "input_tokens": text + audio + image,
        "output_tokens": spoken + written,
        "total_tokens": text + audio + image + spoken + written,
        "input_token_details": {
            "text_tokens": text,
            "audio_tokens": audio,
            "image_tokens": image,
            "cached_tokens": sum(cached.values()),
            "cached_tokens_details": cached,
        },
        "output_token_details": {
            "text_tokens": written,
            "audio_tokens": spoken,
            "reasoning_tokens": rng.randrange(written),
        },
    }


def created(model: str) -> dict[str, Any]:
    return {"type": "session.created", "session": {"id": "s", "model": model}}


def done(used: dict[str, Any], number: int) -> dict[str, Any]:
    return {"type": "response.done", "response": {"id": f"r{number}", "status": "completed", "usage": used}}


def conversation(
    price: Price, rng: random.Random, *, ours: str | None = None, theirs: str | None = None, **rates: str
) -> Case:
    """Named difference: LiteLLM bills cached images at the text's cached price.

    `ours` and `theirs` are the model's names, `rates` USD per million of LiteLLM that differ for further reasons.
    """
    used = [usage(rng) for _ in range(rng.randrange(1, 5))]
    taken = {"cached_image": str(price.cached_text_usd)} | rates
    explained = sum(
        (
            tokens * (per_token(price, kind) - Decimal(taken[kind]) / 1_000_000)
            for one in used
            for kind, tokens in billed(one).items()
            if kind in taken
        ),
        Decimal(0),
    )
    events = [created(ours or price.model), *(done(one, n) for n, one in enumerate(used))]
    return Case(theirs or price.model, events, explained)


def billed(used: dict[str, Any]) -> dict[str, int]:
    """A usage that is divided in full, by the kinds of prices."""
    told, said = used["input_token_details"], used["output_token_details"]
    cached = told["cached_tokens_details"]
    kinds = ("text", "audio", "image")
    return {
        **{f"input_{kind}": told[f"{kind}_tokens"] - cached[f"{kind}_tokens"] for kind in kinds},
        **{f"cached_{kind}": cached[f"{kind}_tokens"] for kind in kinds},
        **{f"output_{kind}": said[f"{kind}_tokens"] for kind in ("text", "audio")},
    }


def undivided(price: Price, rng: random.Random) -> Case:
    """Named difference: cached tokens that the server does not divide, LiteLLM bills all at the text's cached price."""
    used = usage(rng)
    details = used["input_token_details"]
    image = details.pop("image_tokens")
    used["input_tokens"] -= image
    del details["cached_tokens_details"]
    details["cached_tokens"] = rng.randrange(details["text_tokens"] + details["audio_tokens"] + 1)
    beyond = max(details["cached_tokens"] - details["text_tokens"], 0)
    explained = beyond * (per_token(price, "cached_audio") - per_token(price, "cached_text"))
    return Case(price.model, [created(price.model), done(used, 0)], explained)


def transcribing(model: str) -> dict[str, Any]:
    session = {"id": "s", "model": "gpt-realtime", "audio": {"input": {"transcription": {"model": model}}}}
    return {"type": "session.created", "session": session}


def completed(used: dict[str, Any], number: int) -> dict[str, Any]:
    kind = "conversation.item.input_audio_transcription.completed"
    return {"type": kind, "item_id": f"i{number}", "content_index": 0, "transcript": "Hm.", "usage": used}


def transcription(price: Price, rng: random.Random) -> Case:
    """Named difference: LiteLLM bills the audio that transcription models hear at the price of text."""
    text, audio, said = rng.randrange(90), rng.randrange(1, 9000), rng.randrange(900)
    used = {
        "type": "tokens",
        "input_tokens": text + audio,
        "output_tokens": said,
        "total_tokens": text + audio + said,
        "input_token_details": {"text_tokens": text, "audio_tokens": audio},
    }
    explained = audio * (per_token(price, "input_audio") - per_token(price, "input_text"))
    return Case(price.model, [transcribing(price.model), completed(used, 0)], explained)


def timed_transcriptions(price: Price, rng: random.Random) -> Case:
    used = [{"type": "duration", "seconds": rng.randrange(1, 600_000) / 1000} for _ in range(3)]
    return Case(price.model, [transcribing(price.model), *(completed(one, n) for n, one in enumerate(used))])


def cases() -> Iterator[Case]:
    rng = random.Random(11)
    for price in built_in_prices():
        if price.provider != "openai" or not price.of_voice or price.model.endswith("*"):
            continue
        if price.hour_usd is not None:
            yield from (timed_transcriptions(price, rng) for _ in range(10))
        elif "transcribe" in price.model:
            yield from (transcription(price, rng) for _ in range(10))
        elif "realtime" in price.model:
            yield from (conversation(price, rng) for _ in range(20))
            yield from (undivided(price, rng) for _ in range(10))
    preview = undivided(priced(SMALL), rng)
    yield conversation(priced(SMALL), rng, ours=SMALL, theirs=SMALL)
    yield Case(SMALL, [created(SMALL), *preview.events[1:]], preview.explained)
    for name in TIMED_ON_AZURE:
        events = timed_transcriptions(priced(name), rng).events
        yield Case(f"azure/{name}", events)
    for ours, theirs, rates in elsewhere():
        yield from (conversation(priced(ours), rng, ours=ours, theirs=theirs, **rates) for _ in range(10))


def our_costs(chosen: list[Case]) -> list[Decimal]:
    rows = [
        {
            "session_id": f"{number:05}",
            "position": position,
            "direction": "server" if position else "recorder",
            "recorded_at": OPENED_AT_NS + position,
            "monotonic_ns": position,
            "type": event["type"],
            "item_id": event.get("item_id"),
            "content_index": event.get("content_index"),
            "payload": json.dumps(event),
            "opcode": 1 if position else None,
            "wire_bytes": 0,
            "redacted": False,
        }
        for number, case in enumerate(chosen)
        for position, event in enumerate([{"type": "recorder.session_opened"}, *case.events])
    ]
    with Engine(prices=built_in_prices()) as engine:
        engine.update(live=run_models(pa.Table.from_pylist(rows, schema=schema.EVENTS)))
        return list(engine.query("SELECT cost_usd FROM sessions ORDER BY session_id")["cost_usd"])


@pytest.fixture(scope="module")
def litellm_python() -> Path:
    return python_with("litellm", CLIENTS / "litellm" / "requirements.lock")


def theirs_of_realtime(python: Path) -> set[str]:
    """All that LiteLLM calls a model of realtime conversations."""
    names = execute(python, CLIENTS / "litellm" / "calculate.py", "--realtime", stdin="[]")
    return set(json.loads(names))


def asked(python: Path, chosen: list[Case]) -> list[float | None]:
    """What LiteLLM reckons; None for models that it does not know."""
    text = json.dumps([{"model": case.model, "events": case.events} for case in chosen])
    answers: list[float | None] = json.loads(execute(python, CLIENTS / "litellm" / "calculate.py", stdin=text))
    return answers


def test_costs_are_litellms(litellm_python: Path) -> None:
    chosen = list(cases())
    answers = asked(litellm_python, chosen)
    both_know = {case.model for case, answer in zip(chosen, answers, strict=True) if answer is not None}
    assert both_know >= REALTIME | TRANSCRIBERS | TIMERS | {theirs for _, theirs, _ in elsewhere()}
    known = {name for name in theirs_of_realtime(litellm_python) if price_of(PRICES, name.split("/")[-1], DAY)}
    assert known - both_know == set()
    wrong = {
        case.model: ours - case.explained - Decimal(theirs)
        for case, ours, theirs in zip(chosen, our_costs(chosen), answers, strict=True)
        if theirs is not None and abs(ours - case.explained - Decimal(theirs)) >= EXACT
    }
    assert wrong == {}


def test_what_is_billed_by_the_message_is_unknown_here_and_nothing_there(litellm_python: Path) -> None:
    rng = random.Random(12)
    chosen = [Case(f"xai/{name}", [created(name), done(usage(rng), 0)]) for name in sorted(GROK)]
    assert our_costs(chosen) == [None] * len(GROK)
    assert asked(litellm_python, chosen) == [0] * len(GROK)
