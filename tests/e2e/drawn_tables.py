"""What every row of every table must hold, column by column, worked out from what went over the wire and the truth.

By the definitions of the metrics alone, with loops over the messages; a column that is not worked out is named in
`LEFT_OUT`, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

import pytest

from recorder.analytics.registry import shown_models
from tests.e2e import drawn_answers, drawn_talk
from tests.e2e.agreement import Rows
from tests.e2e.drawn_book import APPEND_MS, EPOCH, MILLION, Book, Wire, at, clock, close, place, took
from tests.e2e.drawn_call import PRICES, Call, near

LEFT_OUT: Final[dict[str, dict[str, str]]] = {
    "contexts": dict.fromkeys(
        ("added_tokens", "expected_input_tokens", "tolerance_tokens", "expected_estimated"),
        "an estimate: the truth is that nothing was dropped",
    )
    | {"added_item_count": "as the estimate", "cache_bust_cause": "the truth has no name for it"},
    "interruptions": {"unheard_text": "an estimate, checked to a word"},
}
"""Columns by table; what there is to be said of them is asserted apart."""

NOTHING: Final = {"mcp_calls": "the simulator has no MCP", "proxy_overhead": "there is no proxy in between"}
"""Tables that have no row here."""


def same(call: Call, table: str, expected: Iterable[dict[str, Any]]) -> Rows:
    """Each row is as expected, in every column that is not left out; return the rows."""
    rows = call.tables[table]
    expected = list(expected)
    columns = {column.name for column in shown_models()[table].shown_columns} - {"session_id"}
    assert len(rows) == len(expected), table
    for row, want in zip(rows, expected, strict=True):
        assert set(want) == columns - set(LEFT_OUT.get(table, ())), table
        assert {name: row[name] for name in want} == want, table
    return rows


def check_tables(call: Call) -> None:
    """All of it."""
    book = Book(call)
    speech = list(spans(book))
    for table, why in NOTHING.items():
        assert not call.tables[table], why
    same(call, "pacing", pacing(book))
    same(call, "rate_limits", limits(book))
    same(call, "speech", speech)
    same(call, "errors", errors(book))
    same(call, "transcriptions", transcriptions(book))
    same(call, "input_signals", signals(book))
    same(call, "tool_calls", tool_calls(book))
    same(call, "usage", used := list(usage(book)))
    same(call, "costs", charged := [cost(row) for row in used])
    check_voices(call, speech)
    costs = {row["response_id"]: row for row in charged if row["kind"] == "response"}
    same(call, "responses", answers := list(drawn_answers.responses(book, speech, costs)))
    same(call, "items", drawn_talk.items(book))
    same(call, "interruptions", drawn_talk.interruptions(book, costs, answers))
    check_unheard_texts(call)
    same(call, "turns", drawn_talk.turns(book, speech))
    same(call, "contexts", drawn_answers.contexts(book, answers))
    same(call, "sessions", [drawn_answers.session_row(book, used, charged, answers)])


def pacing(book: Book) -> Iterator[dict[str, Any]]:
    if not book.appends:
        return
    first, last, audio = book.appends[0][0], book.appends[-1], book.appends[-1][2]
    played, gaps = float(first.at_ns), []
    for wire, start, end in book.appends:
        if wire.at_ns - played >= 500e6:
            gaps.append((wire.at_ns - played, wire.position))
        played = max(played, wire.at_ns) + (end - start) * 1e6
    span, gap = (last[0].at_ns - first.at_ns) / 1e9, sum(length for length, _ in gaps) / 1e9
    longest = max(gaps, key=lambda one: one[0], default=None)
    yield {
        "append_count": len(book.appends),
        "audio_seconds": close(audio / 1e3),
        "span_seconds": close(span),
        "pace": close(last[1] / 1e3 / span) if span else None,
        "pace_without_gaps": close(last[1] / 1e3 / (span - gap)) if span else None,
        "gap_count": len(gaps),
        "gap_seconds": close(gap),
        "longest_gap_seconds": longest and close(longest[0] / 1e9),
        "longest_gap_position": longest and longest[1],
        "first_append_position": first.position,
        "last_append_position": last[0].position,
    }


def limits(book: Book) -> Iterator[dict[str, Any]]:
    lowest: dict[str, float] = {}
    number = 0
    for wire in book.of("rate_limits.updated"):
        begun = sum(1 for one in book.of("response.created") if one.position < wire.position)
        for limit in wire.event["rate_limits"]:
            number += 1
            ratio = limit["remaining"] / limit["limit"]
            lowest[limit["name"]] = min(ratio, lowest.get(limit["name"], ratio))
            yield {
                "rate_limit_no": number,
                "position": wire.position,
                "at_ns": wire.at_ns,
                "response_no": begun or None,
                "name": limit["name"],
                "limit_value": limit["limit"],
                "remaining_value": limit["remaining"],
                "reset_seconds": limit["reset_seconds"],
                "remaining_ratio": close(ratio),
                "lowest_remaining_ratio": close(lowest[limit["name"]]),
            }


def spans(book: Book) -> Iterator[dict[str, Any]]:
    """A speech's voice: less the margins that a server VAD puts around it."""
    server = (book.detection or {}).get("type") == "server_vad"
    before = book.detection["prefix_padding_ms"] if server else 0
    behind = book.detection["silence_duration_ms"] if server else 0
    for number, start in enumerate(book.of("input_audio_buffer.speech_started"), 1):
        stop = book.first("input_audio_buffer.speech_stopped", item_id=start.event["item_id"])
        end_ms = stop.event["audio_end_ms"] - behind if stop else None
        start_ms = min(
            start.event["audio_start_ms"] + before, *(() if end_ms is None else (end_ms,)), book.appends[-1][2]
        )
        spoken = None if end_ms is None else next(wire for wire, _, end in book.appends if end >= end_ms)
        yield {
            "speech_no": number,
            "item_id": start.event["item_id"],
            "started_at_ns": start.at_ns,
            "stopped_at_ns": at(stop),
            "audio_start_ms": start.event["audio_start_ms"],
            "audio_end_ms": stop and stop.event["audio_end_ms"],
            "voice_start_ms": near(start_ms),
            "voice_end_ms": near(end_ms),
            "voice_start_at_ns": next(wire for wire, _, end in book.appends if end > start_ms).at_ns,
            "voice_end_at_ns": at(spoken),
            "voice_end_position": place(spoken),
            "start_position": start.position,
            "stop_position": place(stop),
        }


def check_voices(call: Call, speech: list[dict[str, Any]]) -> None:
    """The voices are where the samples have them, within a frame of the VAD's, which is as long as an append."""
    for row, one in zip(call.tables["speech"], call.truth.speech, strict=True):
        assert row["voice_start_ms"] == pytest.approx(one.voice_start_ms, abs=APPEND_MS)
        assert row["voice_end_ms"] == (
            None if one.voice_end_ms is None else pytest.approx(one.voice_end_ms, abs=APPEND_MS)
        )


def errors(book: Book) -> Iterator[dict[str, Any]]:
    """The client's message that the server answered: no error names it, so it is inferred."""
    asked = [wire for wire in book.wires if wire.direction == "client"]
    wires = book.of("error")
    for number, (wire, cause) in enumerate(zip(wires, book.call.truth.error_causes, strict=False), 1):
        blamed = None if cause is None else asked[cause]
        yield {
            "error_no": number,
            "position": wire.position,
            "at_ns": wire.at_ns,
            "type": wire.event["error"]["type"],
            "code": wire.event["error"]["code"],
            "param": wire.event["error"]["param"],
            "message": wire.event["error"]["message"],
            "cause_event_id": None,
            "cause_position": place(blamed),
            "cause_type": blamed and blamed.kind,
            "cause_confidence": "none" if blamed is None else "inferred",
        }


def transcriptions(book: Book) -> Iterator[dict[str, Any]]:
    name = "conversation.item.input_audio_transcription"
    told: dict[str, list[Wire]] = {}
    for wire in book.of(f"{name}.delta", f"{name}.completed", f"{name}.failed"):
        told.setdefault(wire.event["item_id"], []).append(wire)
    for number, (item_id, wires) in enumerate(told.items(), 1):
        committed = book.first("input_audio_buffer.committed", item_id=item_id)
        first, done = book.first(f"{name}.delta", item_id=item_id), book.first(f"{name}.completed", item_id=item_id)
        failed = book.first(f"{name}.failed", item_id=item_id)
        tokens = {} if done is None else done.event["usage"]
        error = failed.event["error"] if failed else {}
        yield {
            "transcription_no": number,
            "item_id": item_id,
            "content_index": 0,
            "model": book.transcriber,
            "status": "completed" if done else "failed" if failed else "dangling",
            "transcript": done.event["transcript"]
            if done
            else "".join(one.event.get("delta", "") for one in wires) or None,
            "committed_position": place(committed),
            "committed_at_ns": at(committed),
            "position": wires[0].position,
            "first_delta_position": place(first),
            "first_delta_at_ns": at(first),
            "end_position": place(done or failed),
            "end_at_ns": at(done or failed),
            "first_delta_seconds": took(committed, first),
            "transcription_seconds": took(committed, done),
            "delta_count": sum(wire.kind.endswith("delta") for wire in wires),
            "mean_logprob": None,
            "segment_count": 0,
            "speaker_count": 0,
            "segments": None,
            "error_type": error.get("type"),
            "error_code": error.get("code"),
            "error_message": error.get("message"),
            "input_tokens": tokens.get("input_tokens"),
            "output_tokens": tokens.get("output_tokens"),
            "audio_seconds": tokens.get("seconds"),
        }


def signals(book: Book) -> Iterator[dict[str, Any]]:
    """Timeouts; the truth says which response each was the trigger of."""
    begun = sorted((one.created_ns, one) for one in book.call.truth.responses if one.created_ns is not None)
    triggered = {
        one.trigger_ns - book.call.truth.opened_ns: number
        for number, (_, one) in enumerate(begun, 1)
        if one.trigger == "idle_timeout"
    }
    for number, wire in enumerate(book.of("input_audio_buffer.timeout_triggered"), 1):
        yield {
            "signal_no": number,
            "kind": "idle_timeout",
            "position": wire.position,
            "at_ns": wire.at_ns,
            "item_id": wire.event["item_id"],
            "audio_start_ms": wire.event["audio_start_ms"],
            "audio_end_ms": wire.event["audio_end_ms"],
            "response_no": triggered.get(wire.at_ns),
            "key": None,
            "received_at": None,
        }


def tool_calls(book: Book) -> Iterator[dict[str, Any]]:
    stem = "response.function_call_arguments"
    begun = [wire for wire in book.of("response.output_item.added") if wire.event["item"]["type"] == "function_call"]
    for number, added in enumerate(begun, 1):
        item = added.event["item"]
        call_id = item["call_id"]
        first, done = book.first(f"{stem}.delta", call_id=call_id), book.first(f"{stem}.done", call_id=call_id)
        output = next(
            (one for one in book.of("conversation.item.create") if one.event["item"].get("call_id") == call_id), None
        )
        resumed = output and book.first("response.created", after=output.position)
        resume = resumed and next(iter(book.deltas(resumed.event["response"]["id"])), None)
        said = "".join(one.event["delta"] for one in book.of(f"{stem}.delta", call_id=call_id))
        yield {
            "tool_call_no": number,
            "call_id": call_id,
            "name": item["name"],
            "item_id": item["id"],
            "response_id": added.event["response_id"],
            "arguments": done.event["arguments"] if done else said or None,
            "arguments_valid": valid(done.event["arguments"]) if done else None,
            "output": output and output.event["item"]["output"],
            "output_bytes": output and len(output.event["item"]["output"].encode()),
            "started_at_ns": at(first or added),
            "arguments_done_at_ns": at(done),
            "output_at_ns": at(output),
            "arguments_seconds": took(first, done),
            "execution_seconds": took(done, output),
            "resume_seconds": took(output, resume),
            "unanswered": done is not None and output is None,
            "position": added.position,
            "arguments_done_position": place(done),
            "output_position": place(output),
            "resume_position": place(resume),
        }


def valid(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def usage(book: Book) -> Iterator[dict[str, Any]]:
    """A row for each response.done and each transcription."""
    begun = [wire.event["response"]["id"] for wire in book.of("response.created")]
    apart = {one.id: one.out_of_band for one in book.call.truth.responses}
    done = book.of("response.done", "conversation.item.input_audio_transcription.completed")
    for number, wire in enumerate(done, 1):
        response = wire.event.get("response")
        told = response["usage"] if response else wire.event["usage"]
        heard = "seconds" in told
        given, made = told.get("input_token_details", {}), told.get("output_token_details", {})
        kept = given.get("cached_tokens_details", {})
        kinds = ("text", "audio", "image")
        fresh = {kind: given.get(f"{kind}_tokens", 0) - kept.get(f"{kind}_tokens", 0) for kind in kinds}
        yield {
            "usage_no": number,
            "kind": "response" if response else "transcription",
            "response_no": begun.index(response["id"]) + 1 if response else None,
            "response_id": response and response["id"],
            "out_of_band": apart[response["id"]] if response else None,
            "item_id": None if response else wire.event["item_id"],
            "model": book.session["model"] if response else book.transcriber,
            "date": EPOCH.date(),
            "position": wire.position,
            "recorded_at": clock(wire.at_ns),
            "at_ns": wire.at_ns,
            "billed_by": "seconds" if heard else "tokens",
            "input_tokens": told.get("input_tokens"),
            "output_tokens": told.get("output_tokens"),
            "total_tokens": told.get("total_tokens"),
            "cached_tokens": given.get("cached_tokens"),
            "reasoning_tokens": None,
            **{f"uncached_{kind}_tokens": None if heard else fresh[kind] for kind in kinds},
            **{f"cached_{kind}_tokens": None if heard else kept.get(f"{kind}_tokens", 0) for kind in kinds},
            "output_text_tokens": None if heard else made.get("text_tokens", told["output_tokens"]),
            "output_audio_tokens": None if heard else made.get("audio_tokens", 0),
            "audio_seconds": told.get("seconds"),
            "split_estimated": False,
            "cached_split_estimated": False,
            "seconds_estimated": False,
        }


def cost(used: dict[str, Any]) -> dict[str, Any]:
    """What a row of usage costs, at the prices of `PRICES`."""
    price = next(price for price in PRICES if price.model == used["model"])
    parts = {
        f"{kind}_cost_usd": None
        if used["billed_by"] == "seconds"
        else used[f"{kind}_tokens"] * Decimal(getattr(price, f"{kind.replace('uncached', 'input')}_usd") or 0) / MILLION
        for kind in (
            *("uncached_text", "uncached_audio", "uncached_image", "cached_text", "cached_audio", "cached_image"),
            *("output_text", "output_audio"),
        )
    }
    told = ("usage_no", "kind", "response_no", "response_id", "item_id", "position", "model", "date")
    same = {name: used[name] for name in told} | {
        "price_model": price.model,
        "price_source": "drawn",
        "price_valid_from": None,
        "price_day_assumed": False,
        "estimated": False,
    }
    if used["billed_by"] == "seconds":
        whole = (used["audio_seconds"] * Decimal(price.hour_usd or 0) / 3600).quantize(Decimal("1e-12"))
        sums = {"audio_time_cost_usd": whole, "input_cost_usd": None, "output_cost_usd": None, "cost_usd": whole}
        return {**same, **parts, **sums, "cache_saving_usd": None}
    numbers = list(parts.values())
    saved = sum(
        used[f"cached_{kind}_tokens"] * (getattr(price, f"input_{kind}_usd") - getattr(price, f"cached_{kind}_usd"))
        for kind in ("text", "audio", "image")
        if used[f"cached_{kind}_tokens"]
    )
    sums = {
        "audio_time_cost_usd": None,
        "input_cost_usd": sum(numbers[:6]),
        "output_cost_usd": sum(numbers[6:]),
        "cost_usd": sum(numbers),
        "cache_saving_usd": saved / MILLION,
    }
    return {**same, **parts, **sums}


def check_unheard_texts(call: Call) -> None:
    """The tail of what was said, from about where the sound ended, on a word's border."""
    texts = {row["item_id"]: row["text"] for row in call.tables["items"]}
    for row in call.tables["interruptions"]:
        text, tail = texts[row["item_id"]] or "", row["unheard_text"] or ""
        share = row["heard_ms"] / row["generated_ms"]
        cut = len(text) - len(tail)
        assert text.endswith(tail)
        assert not tail or cut == 0 or " " not in text or (not tail[0].isspace() and text[cut - 1].isspace())
        assert share * len(text) - 1 <= cut <= share * len(text) + max(map(len, text.split()), default=0) + 1
