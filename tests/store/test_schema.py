from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.append_runs import AppendRun, joined
from recorder.protocol.envelope import Part, RecordedEvent
from recorder.store import audio_blocks
from recorder.store.audio_blocks import BlockWriter
from recorder.store.schema import AUDIO, EVENTS, PARTS, events_table
from recorder.store.segments import recorded_events, rows

EVENTS_OF_ALL_KINDS = [
    RecordedEvent("s", 0, "recorder", None, None, "recorder.session_opened", payload="{}"),
    RecordedEvent(
        session_id="s", position=1, direction="server", recorded_at_ns=2**62 + 1, monotonic_ns=-5, type="odd é",
        event_id="e", response_id="r", item_id="i", call_id="c", previous_item_id="p", output_index=1,
        content_index=2**31 - 1, payload="", audio_ms=0.1, opcode=1, wire_bytes=2**40, redacted=True,
        parts=(Part(0, 3, "audio", "base64", b""), Part(1, 9, "image", "base64", bytes(range(256)))),
    ),
    RecordedEvent("s", 2, "client", 0, 0, None, opcode=2, parts=(Part(0, 0, "binary", "raw", b"\xff"),)),
    RecordedEvent("s", 3, "client", 0, 0, None, opcode=1, problem="invalid UTF-8 at byte 3"),
]  # fmt: skip


def test_every_field_survives() -> None:
    blocks = BlockWriter("s")
    events, parts, audio = events_table(EVENTS_OF_ALL_KINDS), blocks.parts(EVENTS_OF_ALL_KINDS), blocks.blocks()

    assert events.schema.equals(EVENTS)
    assert parts.schema.equals(PARTS)
    assert audio.schema.equals(AUDIO)
    assert list(recorded_events(events, parts, rows(audio))) == EVENTS_OF_ALL_KINDS


def test_no_events_make_typed_tables() -> None:
    assert events_table([]).schema.equals(EVENTS)
    assert BlockWriter("s").parts([]).schema.equals(PARTS)
    assert BlockWriter("s").blocks().schema.equals(AUDIO)
    assert list(recorded_events(events_table([]), BlockWriter("s").parts([]))) == []


def run_of_appends(count: int, size: int, *, event_ids: bool, timed: bool) -> AppendRun:
    pattern = RecordedEvent(
        "s", 3, "client", 5, 5, "input_audio_buffer.append", event_id="e0" if event_ids else None,
        payload='{"event_id":"e0","audio":""}', opcode=1, wire_bytes=99,
        parts=(Part(0, 26, "audio", "base64", bytes(size)),),
    )  # fmt: skip
    ids = b"".join(b"e%d" % (row % 10) for row in range(count)) if event_ids else b""
    times = list(range(7, 7 + count))
    positions = [*range(20, 20 + 2 * count, 2)]
    return AppendRun(pattern, positions, times if timed else None, times, ids, 13, bytes(range(size)) * count, 0.5)


@pytest.mark.parametrize(("event_ids", "timed"), [(True, True), (False, False)])
def test_a_run_makes_the_rows_that_its_events_make(event_ids: bool, timed: bool) -> None:
    run = run_of_appends(12, 25, event_ids=event_ids, timed=timed)
    plain = EVENTS_OF_ALL_KINDS[3]
    events = [plain, *run.events(), plain]

    assert len(events) == 14
    assert events_table([plain, run, plain]).equals(events_table(events))


@given(count=st.integers(1, 40), size=st.integers(1, 60), before=st.integers(0, 50))
def test_a_run_fills_the_blocks_that_its_events_fill(count: int, size: int, before: int) -> None:
    run = run_of_appends(count, size, event_ids=True, timed=True)
    first = RecordedEvent("s", 1, "client", 0, 0, "x", audio_ms=1.0, parts=(Part(0, 0, "audio", "raw", bytes(before)),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio_blocks, "BLOCK_BYTES", 100)
        made = [BlockWriter("s"), BlockWriter("s")]
        parts = [made[0].parts(joined([first, run, run])), made[1].parts([first, *run.events(), *run.events()])]

    assert parts[0].equals(parts[1])
    assert made[0].blocks().equals(made[1].blocks())
