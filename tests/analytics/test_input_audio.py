"""Drawn streams of audio, with marks of the VAD in them: the models find what a plain search of all appends finds.

Lengths are whole samples, which are no whole milliseconds, and the search adds them up as fractions.
"""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any, Final, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.analytics.engine import run_models
from recorder.protocol.builder import EventBuilder
from recorder.protocol.envelope import RecordedEvent
from recorder.store.schema import events_table
from tests.drawing import examples

SAMPLES_A_MS: Final = 24
PADDING_MS: Final = 300
SILENCE_MS: Final = 500
GAP_NS: Final = 500_000_000

Step = tuple[str, int, int]
"""What happens ("append" and samples, "started" or "stopped" and a millisecond, "other"), and ns since the last."""

_waits = st.sampled_from([0, 1_000_000, 20_000_000, 20_000_000, 150_000_000, 700_000_000])
_appends = st.tuples(st.just("append"), st.sampled_from([1, 100, 479, 480, 481, 480, 2400, 5000]), _waits)
_marks = st.tuples(st.sampled_from(["started", "stopped"]), st.integers(0, 3000), _waits)
_others = st.tuples(st.just("other"), st.just(0), _waits)
_runs = st.tuples(st.integers(1, 40), _appends).map(lambda drawn: [drawn[1]] * drawn[0])
_steps = st.lists(
    st.one_of(_runs, _runs, _marks.map(lambda step: [step]), _others.map(lambda step: [step])), min_size=1, max_size=12
).map(lambda groups: [step for group in groups for step in group])


class Heard:
    """One session's events, and its appends as a list to search."""

    def __init__(self, session_id: str, steps: list[Step]) -> None:
        builder = EventBuilder(session_id, 1_800_000_000_000_000_000, 0)
        self.events: list[RecordedEvent] = [builder.own("recorder.session_opened", "{}", 0)]
        self.appends: list[tuple[int, int, Fraction, Fraction]] = []  # position, at_ns, before ms, up to ms
        self.marks: list[tuple[int, str, int]] = []
        at_ns, sent = 0, Fraction(0)
        for kind, value, wait_ns in steps:
            at_ns += wait_ns
            position = len(self.events)
            if kind == "append":
                before, sent = sent, sent + Fraction(value, SAMPLES_A_MS)
                self.appends.append((position, at_ns, before, sent))
                message: dict[str, Any] = {"type": "input_audio_buffer.append"}
            elif kind == "other":
                message = {"type": "response.create"}
            else:
                self.marks.append((position, kind, value))
                name = "audio_start_ms" if kind == "started" else "audio_end_ms"
                message = {"type": f"input_audio_buffer.speech_{kind}", name: value, "item_id": "u"}
            sender: Literal["client", "server"] = "client" if kind in ("append", "other") else "server"
            event = builder.message(sender, json.dumps(message).encode(), at_ns=at_ns)
            event.audio_ms = value / SAMPLES_A_MS if kind == "append" else None
            self.events.append(event)
        self.events.append(builder.own("recorder.session_closed", "{}", at_ns))

    def spans(self) -> list[dict[str, Any]]:
        """Rows of `speech`: a stop belongs to the start right before it."""
        found, marks = [], list(self.marks)
        while marks:
            first, kind, value = marks.pop(0)
            start_ms, end_ms, last = (value, None, first) if kind == "started" else (None, value, first)
            if kind == "started" and marks and marks[0][1] == "stopped":
                last, _, end_ms = marks.pop(0)
            found.append(self._span(start_ms, end_ms, last))
        return found

    def _span(self, start_ms: int | None, end_ms: int | None, last: int) -> dict[str, Any]:
        sent = [up_to for position, _, _, up_to in self.appends if position < last][-1:]
        voice_end = None if end_ms is None else max(min([Fraction(end_ms - SILENCE_MS), *sent]), Fraction(0))
        bounds = sent if voice_end is None else [*sent, voice_end]
        voice_start = None if start_ms is None else min([Fraction(start_ms + PADDING_MS), *bounds])
        starting = [] if voice_start is None else [one for one in self.appends if one[3] > voice_start]
        ending = [] if voice_end is None else [one for one in self.appends if one[3] >= voice_end]
        return {
            "voice_start_ms": near(voice_start),
            "voice_end_ms": near(voice_end),
            "voice_start_at_ns": starting[0][1] if starting else None,
            "voice_end_at_ns": ending[0][1] if ending else None,
            "voice_end_position": ending[0][0] if ending else None,
        }

    def pacing(self) -> list[dict[str, Any]]:
        """The row of `pacing`."""
        if not self.appends:
            return []
        waits: list[tuple[Fraction, int]] = []
        most: Fraction | None = None
        for position, at_ns, before, _ in self.appends:
            lag = at_ns - before * 1_000_000
            waits += [(lag - most, position)] if most is not None and lag - most >= GAP_NS else []
            most = lag if most is None else max(most, lag)
        span_ms = Fraction(self.appends[-1][1] - self.appends[0][1], 1_000_000)
        gap_ms = sum((wait for wait, _ in waits), Fraction(0)) / 1_000_000
        paced = self.appends[-1][2]
        return [
            {
                "append_count": len(self.appends),
                "audio_seconds": near(self.appends[-1][3] / 1000),
                "pace": near(paced / span_ms) if span_ms else None,
                "pace_without_gaps": pytest.approx(float(paced / (span_ms - gap_ms)), rel=1e-6)
                if span_ms > gap_ms
                else None,
                "gap_count": len(waits),
                "gap_seconds": near(gap_ms / 1000),
                "first_append_position": self.appends[0][0],
                "last_append_position": self.appends[-1][0],
            }
        ]


def near(value: Fraction | None) -> Any:
    return None if value is None else pytest.approx(float(value), abs=1e-6)


@settings(max_examples=examples(10))
@given(drawn=st.lists(_steps, min_size=1, max_size=4))
def test_marks_and_gaps_are_where_a_search_of_all_appends_finds_them(drawn: list[list[Step]]) -> None:
    sessions = {f"s{number}": Heard(f"s{number}", steps) for number, steps in enumerate(drawn)}
    tables = run_models(events_table([event for heard in sessions.values() for event in heard.events]))
    for session_id, heard in sessions.items():
        for table, expected in (("speech", heard.spans()), ("pacing", heard.pacing())):
            rows = [row for row in tables[table].to_pylist() if row["session_id"] == session_id]
            assert [{name: row[name] for name in want} for row, want in zip(rows, expected, strict=True)] == expected
