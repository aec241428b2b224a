"""Round trip of real recordings and of the official examples, where they are at hand."""

import json
from pathlib import Path

import pytest

from recorder.protocol.builder import EventBuilder
from recorder.protocol.event_types import is_known

REAL = Path(__file__).parents[3] / "shared" / "real"

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are no part of the repository")


@pytest.mark.parametrize("ascii_only", [True, False])
def test_real_sessions_come_back_byte_for_byte_with_known_types(ascii_only: bool) -> None:
    files = sorted((REAL / "openai_ga").glob("*.jsonl"))
    assert len(files) == 3
    for file in files:
        builder = EventBuilder(file.stem, None, 0)
        for line in file.read_text().splitlines():
            record = json.loads(line)
            if "event" not in record:
                continue
            text = json.dumps(record["event"], ensure_ascii=ascii_only).encode()
            event = builder.message(record["dir"], text)
            assert event.message() == text
            assert is_known(event.type), event.type
            assert event.type == record["event"]["type"]
            carries_audio = event.type in {"input_audio_buffer.append", "response.output_audio.delta"}
            assert (event.audio_ms is not None) == carries_audio


def test_the_official_examples_come_back_byte_for_byte_with_known_types() -> None:
    builder = EventBuilder("examples", None, 0)
    for line in (REAL / "openapi_examples.jsonl").read_text().splitlines():
        example = json.loads(line)["event"]
        text = json.dumps(example).encode()
        event = builder.message("server", text)
        assert event.redacted == (b'"ek_' in text)
        if event.redacted:
            assert b"ek_" not in event.message()
        else:
            assert event.message() == text
        assert event.type == example.get("type")
        assert is_known(event.type) or "type" not in example or example["type"] == "translation", event.type
