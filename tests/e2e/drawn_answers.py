"""Rows of what was answered: responses, what they read, and the session as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from statistics import median
from typing import Any, Final

from tests.e2e.agreement import Rows
from tests.e2e.drawn_book import (
    EPOCH,
    MILLION,
    Book,
    Wire,
    at,
    clock,
    close,
    inner,
    place,
    refused,
    took,
)
from tests.e2e.drawn_call import PRICES, near, seconds

TOKENS: Final = {
    "input_tokens": ("input_tokens",),
    "output_tokens": ("output_tokens",),
    "total_tokens": ("total_tokens",),
    "input_text_tokens": ("input_token_details", "text_tokens"),
    "input_audio_tokens": ("input_token_details", "audio_tokens"),
    "input_image_tokens": ("input_token_details", "image_tokens"),
    "cached_tokens": ("input_token_details", "cached_tokens"),
    "cached_text_tokens": ("input_token_details", "cached_tokens_details", "text_tokens"),
    "cached_audio_tokens": ("input_token_details", "cached_tokens_details", "audio_tokens"),
    "cached_image_tokens": ("input_token_details", "cached_tokens_details", "image_tokens"),
    "output_text_tokens": ("output_token_details", "text_tokens"),
    "output_audio_tokens": ("output_token_details", "audio_tokens"),
    "reasoning_tokens": ("output_token_details", "reasoning_tokens"),
}


def responses(book: Book, speech: Rows, costs: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What set each off is the truth's; when that was, the message's."""
    opened = book.call.truth.opened_ns
    truths = {one.id: one for one in book.call.truth.responses}
    used = refused(book)
    for number, created in enumerate(book.of("response.created"), 1):
        one = truths[created.event["response"]["id"]]
        kinds = {
            "client": "response.create",
            "vad": "input_audio_buffer.speech_stopped",
            "idle_timeout": "input_audio_buffer.timeout_triggered",
        }
        causes = [
            wire
            for wire in book.of(kinds[one.trigger])
            if wire.at_ns == one.trigger_ns - opened
            and wire.position not in used
            and ((wire.event.get("response") or {}).get("conversation") == "none") == one.out_of_band
        ]
        deltas = book.deltas(one.id)
        audio = [wire for wire in deltas if wire.kind == "response.output_audio.delta"]
        done = next((wire for wire in book.of("response.done") if wire.event["response"]["id"] == one.id), None)
        told = done and done.event["response"]["usage"]
        cause = causes[0]
        used.add(cause.position)
        heard = voice_before(book, one.trigger, cause, created, speech)
        lengths = [book.length(wire.event["delta"]) for wire in audio]
        stalls, end = [], float(audio[0].at_ns) if audio else 0.0
        for wire, length in zip(audio, lengths, strict=True):
            stalls += [wire.at_ns - end] if wire.at_ns - end >= 1e6 else []
            end = max(end, wire.at_ns) + length * 1e6
        first, last = (audio[0], audio[-1]) if audio else (None, None)
        spread = (last.at_ns - first.at_ns) / 1e9 if first and last else 0
        tokens = {name: inner(told, path) for name, path in TOKENS.items()}
        voice_end = heard["voice_end_at_ns"] if heard else None
        yield {
            "response_id": one.id,
            "response_no": number,
            "out_of_band": one.out_of_band,
            "model": book.session["model"],
            "trigger": one.trigger,
            "trigger_position": cause.position,
            "trigger_at_ns": cause.at_ns,
            "created_position": created.position,
            "created_at": clock(created.at_ns),
            "created_at_ns": created.at_ns,
            "first_token_position": deltas[0].position if deltas else None,
            "first_token_at_ns": deltas[0].at_ns if deltas else None,
            "first_audio_position": place(first),
            "first_audio_at_ns": at(first),
            "last_audio_position": place(last),
            "last_audio_at_ns": at(last),
            "done_position": place(done),
            "done_at_ns": at(done),
            "queue_seconds": took(cause, created),
            "time_to_first_token_seconds": took(cause, deltas[0] if deltas else None),
            "time_to_first_audio_seconds": took(cause, first),
            "model_first_audio_seconds": took(created, first),
            "voice_end_position": heard and heard["voice_end_position"],
            "voice_end_at_ns": voice_end,
            "voice_to_voice_seconds": seconds(voice_end, at(first)),
            "endpointing_seconds": seconds(voice_end, heard["stopped_at_ns"]) if heard else None,
            "duration_seconds": took(created, done),
            "audio_ms": near(sum(lengths) or None),
            "generation_speed": close(sum(lengths) / 1e3 / spread) if spread else None,
            "stall_count": len(stalls) if audio else None,
            "stall_ms": near(sum(stalls) / 1e6) if audio else None,
            "status": one.status,
            "status_reason": one.status_reason,
            **tokens,
            "cache_hit_ratio": close(tokens["cached_tokens"] / tokens["input_tokens"]) if told else None,
            "transcript": one.transcript or None,
            "cost_usd": costs[one.id]["cost_usd"] if one.id in costs else None,
        }


def voice_before(book: Book, trigger: str, cause: Wire, created: Wire, speech: Rows) -> dict[str, Any] | None:
    """The voice that a response answers: the one whose end set it off."""
    if trigger != "vad":
        return None
    return next(row for row in speech if row["stop_position"] == cause.position)


def contexts(book: Book, answers: Rows) -> Iterator[dict[str, Any]]:
    """Each response that told of usage, and the one of the conversation before it."""
    own = {"input"} & {
        key
        for wire in book.of("response.create")
        for key in (wire.event.get("response") or {})
        if not wire.event["response"].get("conversation")
    }
    assert not own
    last: dict[str, Any] | None = None
    price = PRICES[0]
    for one in answers:
        if one["out_of_band"]:
            continue
        if one["input_tokens"] is None:
            last = None
            continue
        if last is not None:
            lost = {
                kind: max(0, last[f"cached_{kind}_tokens"] - one[f"cached_{kind}_tokens"])
                for kind in ("text", "audio", "image")
            }
            bust = one["cached_tokens"] < last["cached_tokens"]
            yield {
                "response_no": one["response_no"],
                "response_id": one["response_id"],
                "previous_response_no": last["response_no"],
                "position": one["created_position"],
                "previous_position": last["created_position"],
                "input_tokens": one["input_tokens"],
                "previous_input_tokens": last["input_tokens"],
                "previous_output_tokens": last["output_tokens"],
                "context_truncated": False,
                "dropped_tokens": None,
                "cached_tokens": one["cached_tokens"],
                "previous_cached_tokens": last["cached_tokens"],
                "cache_bust": bust,
                **{f"lost_cached_{kind}_tokens": number if bust else None for kind, number in lost.items()},
                "config_changed": False,
                "history_edited": False,
                "truncation": book.session.get("truncation"),
                "retention_ratio": None,
                "limit_tokens": None,
                "extra_cost_usd": sum(
                    number
                    * ((getattr(price, f"input_{kind}_usd") or 0) - (getattr(price, f"cached_{kind}_usd") or 0))
                    / MILLION
                    for kind, number in lost.items()
                    if bust
                ),
            }
        last = one


def session_row(book: Book, used: Rows, charged: Rows, answers: Rows) -> dict[str, Any]:
    """The whole call."""
    truth, tables = book.call.truth, book.call.tables
    inside = [one for one in answers if not one["out_of_band"]]
    first = [
        one["time_to_first_audio_seconds"].expected for one in inside if one["time_to_first_audio_seconds"] is not None
    ]
    voice = [one["voice_to_voice_seconds"].expected for one in inside if one["voice_to_voice_seconds"] is not None]
    heard = sum(row["heard_ms"] or 0 for row in tables["items"])
    voiced = [
        row["voice_end_ms"] - row["voice_start_ms"] for row in tables["speech"] if row["voice_end_ms"] is not None
    ]
    sides = [wire.direction for wire in book.wires]
    cost = sum((row["cost_usd"] for row in charged), Decimal(0)) if charged else None
    length = ((truth.closed_ns or 0) - truth.opened_ns) / 1e9

    def total(name: str) -> int | None:
        told = [row[name] for row in used if row[name] is not None]
        return sum(told) if told else None

    return {
        "server_session_id": truth.session_id,
        "opened_at": EPOCH,
        "date": EPOCH.date(),
        "source": "proxy",
        "model": truth.model,
        "voice": book.session.get("voice") or book.session["audio"]["output"]["voice"],
        "user_agent": None,
        "upstream": None,
        "labels": "{}",
        "status": "closed",
        "closed_by": "client",
        "close_code": 1000,
        "close_reason": None,
        "refusal_status": None,
        "recording": "on",
        "content_policy": None,
        "left_out_bytes": 0,
        "connect_seconds": None,
        "handshake_seconds": None,
        "session_created_seconds": seconds(0, at(book.first("session.created"))),
        "duration_seconds": close(length),
        "event_count": len(sides) + 3,
        "client_event_count": sides.count("client"),
        "server_event_count": sides.count("server"),
        "audio_in_seconds": close(truth.audio_in_ms / 1e3),
        "audio_out_seconds": close(truth.audio_out_ms / 1e3),
        "heard_seconds": close(heard / 1e3),
        "talk_ratio": close(sum(voiced) / (sum(voiced) + heard)) if voiced else None,
        "response_count": len(inside),
        "out_of_band_response_count": len(answers) - len(inside),
        "turn_count": len(tables["turns"]),
        "interruption_count": len(truth.interruptions),
        "tool_call_count": len(truth.tool_calls),
        "error_count": len(truth.errors),
        "unknown_event_count": 0,
        **{name: total(name) for name in ("input_tokens", "output_tokens", "total_tokens", "cached_tokens")},
        "time_to_first_audio_p50_seconds": close(median(first)) if first else None,
        "time_to_first_audio_n": len(first),
        "voice_to_voice_p50_seconds": close(median(voice)) if voice else None,
        "voice_to_voice_n": len(voice),
        "cost_usd": cost,
        "cost_per_minute_usd": None if cost is None else close(float(cost) / (length / 60)),
    }
