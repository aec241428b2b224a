from __future__ import annotations

from recorder.protocol.envelope import Part, RecordedEvent
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
