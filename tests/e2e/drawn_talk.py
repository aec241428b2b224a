"""Rows of what was said and heard: items, interruptions and turns."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

import pytest

from tests.e2e.agreement import Rows
from tests.e2e.drawn_book import Book, Wire, cut_of, place, played, refused, took
from tests.e2e.drawn_call import near, seconds

CUTS: Final = {"conversation.item.truncate", "response.cancel", "output_audio_buffer.clear"}


def items(book: Book) -> Iterator[dict[str, Any]]:
    """The conversation's items in the truth's order, which are followed by those out of band."""
    truth = book.call.truth
    apart = {name for one in truth.responses if one.out_of_band for name in one.item_ids}
    made = {name: one.id for one in truth.responses for name in one.item_ids}
    rows = {row["item_id"]: row for row in book.call.tables["items"]}
    known = [row["item_id"] for row in sorted(rows.values(), key=lambda row: row["item_no"])]
    assert [item_id for item_id in known if item_id not in apart] == [one.id for one in truth.items]
    commits = {wire.event["item_id"]: wire for wire in book.of("input_audio_buffer.committed")}
    silent = {wire.event["item_id"] for wire in book.of("input_audio_buffer.timeout_triggered")}
    heard = {wire.event["item_id"] for wire in book.of("input_audio_buffer.speech_stopped")}
    for number, item_id in enumerate(known, 1):
        shown = [wire for wire in book.about(item_id) if wire.direction == "server" and "item" in wire.event]
        item: dict[str, Any] = {}
        for wire in shown:
            item |= wire.event["item"]
        audio = list(book.of("response.output_audio.delta", item_id=item_id))
        lengths = [(wire.at_ns, book.length(wire.event["delta"])) for wire in audio]
        first = min(filter(None, (place(commits.get(item_id)), shown[0].position)))
        done = [wire for wire in shown if wire.kind.endswith(".done")]
        added = [wire for wire in shown if wire.event["item"].get("status") == "completed"]
        before = commits[item_id].event.get("previous_item_id") if item_id in commits else None
        told = [wire.event["previous_item_id"] for wire in shown if "previous_item_id" in wire.event]
        before = before or (told[0] if told else None)
        cut, end = cut_of(book, item_id)
        truncated = list(book.of("conversation.item.truncated", item_id=item_id))
        # Of some in a row that keep as much, either counts.
        ends = {
            wire.position for wire in truncated if wire.event["audio_end_ms"] == truncated[-1].event["audio_end_ms"]
        }
        counted = rows[item_id]["truncated_position"]
        whole = sum(length for _, length in lengths)
        ended = end if end is not None else (truth.closed_ns or 0) - truth.opened_ns
        yield {
            "item_id": item_id,
            "item_no": number,
            "previous_item_id": before,
            "role": item.get("role"),
            "type": item["type"],
            "status": item.get("status"),
            "text": text_of(book, item_id, item),
            "response_id": made.get(item_id),
            "out_of_band": item_id in apart,
            "created_by": "response"
            if item_id in made
            else "idle_timeout"
            if item_id in silent
            else "vad"
            if item_id in heard
            else "client",
            "created_position": first,
            "done_position": (done or added)[0].position if done or added else None,
            "deleted_position": None,
            "truncated_position": counted if counted in ends else min(ends, default=None),
            "audio_end_ms": truncated[-1].event["audio_end_ms"] if truncated else None,
            "generated_ms": near(whole) if audio else None,
            "delivered_ms": near(sum(length for at_ns, length in lengths if cut is None or at_ns <= cut))
            if audio
            else None,
            "heard_ms": None
            if not audio
            else near(min(truncated[-1].event["audio_end_ms"], whole) if truncated else played(lengths, ended)),
            "heard_estimated": not truncated if audio else None,
            "call_id": item.get("call_id"),
            "name": item.get("name"),
        }


def text_of(book: Book, item_id: str, item: dict[str, Any]) -> str | None:
    """What it says: as transcribed, as finished, or its deltas."""
    transcribed = book.first("conversation.item.input_audio_transcription.completed", item_id=item_id)
    if transcribed:
        return str(transcribed.event["transcript"])
    heard = "".join(
        one.event["delta"] for one in book.of("conversation.item.input_audio_transcription.delta", item_id=item_id)
    )
    if heard:
        return heard
    for kind, key in (("response.output_audio_transcript", "transcript"), ("response.output_text", "text")):
        done = book.first(f"{kind}.done", item_id=item_id)
        if done:
            return str(done.event[key])
        said = "".join(one.event["delta"] for one in book.of(f"{kind}.delta", item_id=item_id))
        if said:
            return said
    parts = [part.get("text") or part.get("transcript") for part in item.get("content") or []]
    told = [part for part in parts if part]
    return "\n".join(told) if told else None


def interruptions(book: Book, costs: dict[str, dict[str, Any]], answers: Rows) -> Iterator[dict[str, Any]]:
    rows = {row["item_id"]: row for row in book.call.tables["items"]}
    by_id = {row["response_id"]: row for row in answers}
    opened = book.call.truth.opened_ns
    for number, one in enumerate(book.call.truth.interruptions, 1):
        spoke = one.source == "server_vad"
        at_ns = one.at_ns - opened
        kinds = ("input_audio_buffer.speech_started",) if spoke else tuple(CUTS)
        start = next(wire for wire in book.of(*kinds) if wire.at_ns == at_ns)
        reaction = book.first(*CUTS, after=start.position)
        response, item = by_id[one.response_id], rows[one.item_id]
        unheard = item["generated_ms"] - item["heard_ms"]
        done_at = response["done_at_ns"]
        meant = meant_truncate(book, one.item_id, start)
        said = start.event.get("item_id")
        transcribed = book.first("conversation.item.input_audio_transcription.completed", item_id=said)
        stopped = book.first("input_audio_buffer.speech_stopped", item_id=said)
        charged = costs.get(one.response_id)
        yield {
            "interruption_no": number,
            "response_id": one.response_id,
            "item_id": one.item_id,
            "position": start.position,
            "at_ns": at_ns,
            "source": one.source,
            "out_of_band": False,
            "generated_ms": near(one.generated_ms),
            "delivered_ms": near(item["delivered_ms"]),
            "heard_ms": near(one.heard_ms if one.heard_ms is not None else item["heard_ms"]),
            "heard_estimated": one.heard_ms is None,
            "unheard_ms": near(unheard),
            "reaction_position": place(reaction),
            "reaction_seconds": took(start, reaction) if spoke else None,
            "stop_seconds": seconds(at_ns, done_at) if spoke and done_at is not None and done_at >= at_ns else None,
            "truncate_status": one.truncate_status,
            "truncate_position": meant,
            "false_barge_in": (None if stopped and not transcribed else False) if spoke else None,
            "wasted_cost_usd": None
            if charged is None
            else pytest.approx(
                charged["output_audio_cost_usd"] * Decimal(unheard / response["audio_ms"].expected),
                abs=Decimal("1e-11"),
            ),
        }


def meant_truncate(book: Book, item_id: str, start: Wire) -> int | None:
    """The first accepted truncate of an item, else the first."""
    sent = [wire for wire in book.of("conversation.item.truncate", item_id=item_id) if wire.position >= start.position]
    taken = [wire for wire in sent if wire.position not in refused(book)]
    return next((wire.position for wire in [*taken, *sent]), None)


def turns(book: Book, speech: Rows) -> list[dict[str, Any]]:
    """Messages of user and assistant that say something, in the order in which they began."""
    voices = {row["item_id"]: row for row in speech}
    met = {one.item_id for one in book.call.truth.interruptions}
    made = [wire for wire in book.of("conversation.item.create") if wire.position not in refused(book)]
    created = [wire.event["item"]["id"] for wire in book.of("conversation.item.added") if by_client(wire)]
    asked = dict(zip(created, made, strict=True))
    found = []
    for row in book.call.tables["items"]:
        item_id, user = row["item_id"], row["role"] == "user"
        spent = {
            wire.position
            for wire in book.of("conversation.item.truncated")
            if wire.position != row["truncated_position"]
        }
        about = [wire for wire in book.about(item_id) if wire.position not in refused(book) | spent]
        about = [wire for wire in about if not wire.kind.endswith((".truncate", "transcription.failed"))]
        about += [asked[item_id]] if item_id in asked else []
        deltas = [wire for wire in about if wire.kind.endswith(".delta")]
        audio = [wire for wire in deltas if wire.kind == "response.output_audio.delta"]
        if row["type"] != "message" or row["out_of_band"] or not (user or row["text"] or audio):
            continue
        commit = book.first("input_audio_buffer.committed", item_id=item_id)
        length = row["generated_ms"]
        if item_id in voices:
            voice = voices[item_id]
            start, end = voice["voice_start_at_ns"], voice["voice_end_at_ns"]
            length = voice["audio_end_ms"] - voice["audio_start_ms"]
        elif commit:
            held = book.held(commit)
            start, end, length = held[0][0].at_ns, commit.at_ns, held[-1][2] - held[0][1]
        elif user:
            start = end = asked[item_id].at_ns
        elif audio:
            lengths = [(wire.at_ns, book.length(wire.event["delta"])) for wire in audio]
            start, end = audio[0].at_ns, pytest.approx(reached(lengths, row["heard_ms"]), abs=2)
        else:
            start, end = deltas[0].at_ns, deltas[-1].at_ns
        found.append(
            {
                "speaker": row["role"],
                "item_id": item_id,
                "response_id": row["response_id"],
                "started_at_ns": start,
                "ended_at_ns": end,
                "position": min(wire.position for wire in about),
                "last_position": max(wire.position for wire in about),
                "modality": "audio" if commit or any("output_audio" in wire.kind for wire in deltas) else "text",
                "text": row["text"],
                "audio_ms": near(length),
                "heard_ms": None if user else row["heard_ms"],
                "interrupted": item_id in met,
            }
        )
    found.sort(key=lambda one: one["position"])
    return [{"turn_no": number, **one} for number, one in enumerate(found, 1)]


def reached(lengths: list[tuple[int, float]], heard_ms: float) -> float:
    """When so much of an item had been played."""
    free, left = float(lengths[0][0]), heard_ms
    for at_ns, length in lengths:
        if left <= 0:
            break
        free = max(free, at_ns) + min(left, length) * 1e6
        left -= length
    return free


def by_client(wire: Wire) -> bool:
    """Whether an item is one that only a client makes: what it wrote, and what its tools gave."""
    item = wire.event["item"]
    parts = [part["type"] for part in item.get("content") or []]
    return item["type"] == "function_call_output" or parts == ["input_text"]
