"""Whose audio sounds when, worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recorder.pipeline.audio_timeline import Piece, place
from recorder.protocol.envelope import RecordedEvent

MS = 1_000_000


class Call:
    """Events of a call, each with the millisecond at which it came; None for a recording without times."""

    def __init__(self) -> None:
        self.events: list[RecordedEvent] = []

    def event(self, at_ms: float | None, direction: Any, kind: str, **fields: Any) -> Call:
        payload = json.dumps({"type": kind, **fields.pop("payload", {})})
        at_ns = None if at_ms is None else round(at_ms * MS)
        self.events.append(
            RecordedEvent("s", len(self.events), direction, None, at_ns, kind, payload=payload, **fields)
        )
        return self

    def append(self, at_ms: float | None, audio_ms: float = 20.0) -> Call:
        return self.event(at_ms, "client", "input_audio_buffer.append", audio_ms=audio_ms)

    def created(self, at_ms: float | None, response: str = "r") -> Call:
        return self.event(
            at_ms, "server", "response.created", response_id=response, payload={"response": {"id": response}}
        )

    def delta(self, at_ms: float | None, audio_ms: float, item: str = "a", response: str = "r") -> Call:
        ids = {"item_id": item, "response_id": response}
        kind = "response.output_audio.delta"
        return self.event(at_ms, "server", kind, audio_ms=audio_ms, **ids, content_index=0, payload=ids)

    def truncated(self, at_ms: float | None, end_ms: int, item: str = "a") -> Call:
        facts = {"item_id": item, "content_index": 0, "audio_end_ms": end_ms}
        self.event(at_ms, "client", "conversation.item.truncate", item_id=item, payload=facts)
        return self.event(at_ms, "server", "conversation.item.truncated", item_id=item, payload=facts)

    def closed(self, at_ms: float | None) -> Call:
        return self.event(at_ms, "recorder", "recorder.session_closed")


def shown(pieces: list[Piece]) -> list[tuple[int, float, float, bool]]:
    """Position, start and length in milliseconds, and whether it follows the piece before."""
    return [(piece.position, piece.start_ns / MS, pytest.approx(piece.play_ms), piece.follows) for piece in pieces]  # type: ignore[misc]


def test_a_steady_stream_sounds_when_it_came() -> None:
    call = Call().append(120).append(140).append(160)

    assert shown(place(call.events)) == [(0, 100, 20, False), (1, 120, 20, True), (2, 140, 20, True)]


def test_what_came_late_and_in_a_burst_sounds_when_it_was_spoken() -> None:
    call = Call().append(120).append(2_140).append(2_140).append(2_140).append(2_160)

    assert [start for _, start, *_ in shown(place(call.events))] == [100, 2_080, 2_100, 2_120, 2_140]


def test_a_stall_of_the_network_moves_nothing() -> None:
    steady = [20 * n for n in range(1, 200)]
    arrivals = [at if not 1_000 < at < 3_000 else 3_000 for at in steady]
    call = Call()
    for at in arrivals:
        call.append(at)

    assert [start for _, start, *_ in shown(place(call.events))] == [at - 20 for at in steady]


def test_jitter_makes_no_gaps_and_pauses_stay() -> None:
    call = Call().append(120).append(151).append(163).append(180).append(1_000)

    pieces = shown(place(call.events))
    assert [follows for *_, follows in pieces] == [False, True, True, True, False]
    assert [start for _, start, *_ in pieces] == [100, 120, 140, 160, 980]


def test_audio_sent_faster_than_it_was_spoken_ends_when_it_came() -> None:
    call = Call().append(60_000, 10_000).append(60_010, 5_000)

    assert shown(place(call.events)) == [(0, 45_010, 10_000, False), (1, 55_010, 5_000, True)]
    assert shown(place(Call().append(10, 500).events)) == [(0, 0, 500, False)]


def test_a_response_sounds_from_its_first_audio_on_in_real_time() -> None:
    call = Call().created(90).delta(100, 300).delta(110, 300).delta(120, 400).closed(5_000)

    assert shown(place(call.events)) == [(1, 100, 300, False), (2, 400, 300, True), (3, 700, 400, True)]


def test_audio_that_comes_too_late_is_waited_for() -> None:
    call = Call().created(0).delta(100, 100).delta(500, 100).closed(5_000)

    assert shown(place(call.events)) == [(1, 100, 100, False), (2, 500, 100, False)]


def test_truncation_says_what_was_heard() -> None:
    call = Call().created(0).delta(100, 600).delta(110, 600).truncated(500, 350).closed(5_000)

    assert shown(place(call.events)) == [(1, 100, 350, False)]


def test_what_was_truncated_stands_in_the_file_as_sent() -> None:
    call = Call().created(0).delta(100, 600).delta(110, 600).truncated(500, 350)
    call.created(800, "q").delta(900, 100, "b", "q").closed(5_000)

    heard, sent = place(call.events), place(call.events, as_sent=True)
    assert shown(heard) == [(1, 100, 350, False), (6, 900, 100, False)]
    assert shown(sent)[:2] == [(1, 100, 600, False), (2, 700, 600, True)]
    assert (sent[2].position, sent[2].play_ms, sent[2].follows) == (6, 100, True)


def test_the_sessions_end_is_the_end_of_what_was_heard() -> None:
    call = Call().created(0).delta(100, 1_000).closed(400)

    assert shown(place(call.events)) == [(1, 100, 300, False)]
    assert shown(place(call.events, as_sent=True)) == [(1, 100, 1_000, False)]


def test_without_times_one_speaks_after_the_other() -> None:
    call = Call().append(None).append(None).created(None).delta(None, 300).delta(None, 300).truncated(None, 400)
    call.append(None)

    assert shown(place(call.events)) == [
        (0, 0, 20, False),
        (1, 20, 20, True),
        (3, 40, 300, False),
        (4, 340, 100, True),
        (7, 440, 20, False),
    ]
    assert [piece.play_ms for piece in place(call.events, as_sent=True)] == [20, 20, 300, 300, 20]


def test_no_audio_no_pieces() -> None:
    assert place([]) == []
    assert place(Call().created(0).closed(10).events) == []


def test_audio_of_kinds_that_no_call_has_is_no_sound() -> None:
    call = Call().event(5, "client", "conversation.item.create", audio_ms=100.0, payload={"item": {"id": "x"}})
    call.event(6, "server", "response.output_audio.done", audio_ms=100.0, item_id="a")

    assert place(call.events) == []
