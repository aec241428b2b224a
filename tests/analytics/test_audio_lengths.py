"""Lengths of audio worked by hand from its bytes, by the format in force where it was sent."""

from __future__ import annotations

import base64
import json
from typing import Any, Literal

import pytest

from recorder.analytics.engine import run_models
from recorder.protocol.builder import EventBuilder
from recorder.store.schema import events_table

AUDIO = base64.b64encode(bytes(4800)).decode()
"""4800 bytes: 100 ms of PCM (24 kHz × 2 bytes), 150 ms of PCM at 16 kHz, 600 ms of G.711 (8 kHz × 1 byte)."""


def heard(audio_format: dict[str, Any]) -> dict[str, Any]:
    return {"type": "session.updated", "session": {"audio": {"input": {"format": audio_format}}}}


def delta(response: str, item: str) -> dict[str, Any]:
    return {"type": "response.output_audio.delta", "response_id": response, "item_id": item, "delta": AUDIO}


def created(response: str, **more: Any) -> dict[str, Any]:
    return {"type": "response.created", "response": {"id": response, "conversation_id": "c", **more}}


def test_lengths_go_by_the_format_in_force() -> None:
    append = {"type": "input_audio_buffer.append", "audio": AUDIO}
    asked = {"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}}
    messages: list[tuple[Literal["client", "server"], dict[str, Any]]] = [
        ("server", {"type": "session.created", "session": {"id": "s", "model": "m"}}),
        ("client", append),  # nothing was said of formats: PCM at 24 kHz, 100 ms
        ("client", asked),
        ("client", append),  # not yet confirmed: 100 ms
        ("server", heard({"type": "audio/pcmu"})),
        ("client", append),  # 600 ms
        ("server", heard({"type": "audio/pcm", "rate": 16000})),
        ("client", append),  # 150 ms
        ("server", heard({"type": "audio/pcma"})),
        ("client", append),  # 600 ms
        ("client", {"type": "response.create"}),
        ("server", created("r1")),
        ("server", delta("r1", "a1")),  # the output is still PCM at 24 kHz: 100 ms
        ("server", delta("r1", "a1")),  # 100 ms
        ("server", {"type": "response.done", "response": {"id": "r1", "status": "completed"}}),
        ("client", {"type": "response.create"}),
        ("server", created("r2", audio={"output": {"format": {"type": "audio/pcmu"}}})),
        ("server", delta("r2", "a2")),  # a format of the response's own: 600 ms
        ("server", {"type": "response.done", "response": {"id": "r2", "status": "completed"}}),
    ]
    builder = EventBuilder("hand", 1_800_000_000_000_000_000, 0)
    events = [builder.own("recorder.session_opened", '{"source": "proxy"}', 0)]
    events += [
        builder.message(direction, json.dumps(event).encode(), at_ns=number * 1_000_000_000)
        for number, (direction, event) in enumerate(messages, 1)
    ]
    events.append(builder.own("recorder.session_closed", '{"closed_by": "client"}', 60_000_000_000))

    tables = {name: table.to_pylist() for name, table in run_models(events_table(events)).items()}

    (session,) = tables["sessions"]
    assert session["audio_in_seconds"] == pytest.approx(1.55)  # 100 + 100 + 600 + 150 + 600 ms
    assert session["audio_out_seconds"] == pytest.approx(0.8)  # 100 + 100 + 600 ms
    assert [row["audio_ms"] for row in tables["responses"]] == [200.0, 600.0]
    assert [(row["generated_ms"], row["heard_ms"]) for row in tables["items"]] == [(200.0, 200.0), (600.0, 600.0)]
    # The second delta came 1 s after the first, whose 100 ms were played by then.
    assert [(row["stall_count"], row["stall_ms"]) for row in tables["responses"]] == [(1, 900.0), (0, 0.0)]
    (pacing,) = tables["pacing"]
    # Appends at 2, 4, 6, 8 and 10 s: waits of 1.9, 1.9, 1.4 and 1.85 s after what was sent had run out.
    assert (pacing["gap_count"], pacing["gap_seconds"]) == (4, pytest.approx(7.05))
    assert pacing["pace"] == pytest.approx(0.95 / 8)  # (1.55 − 0.6) ÷ (10 − 2)
    assert pacing["pace_without_gaps"] == pytest.approx(1.0)  # 0.95 ÷ (8 − 7.05)
