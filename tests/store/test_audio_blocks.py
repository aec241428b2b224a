"""Blocks of audio: whatever is put in comes out, byte for byte, from as few blocks as can be."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import StoreError
from recorder.protocol.envelope import Part, RecordedEvent
from recorder.store import audio_blocks
from recorder.store.audio_blocks import BLOCK_BYTES, BlockReader, BlockWriter, decode, encode
from recorder.store.schema import events_table
from recorder.store.segments import recorded_events, rows

PCM_24K, PCM_16K, G711 = 48, 32, 8


def tone(length_bytes: int, seed: int = 0) -> bytes:
    """16-bit PCM that FLAC can make smaller; odd lengths end in half a sample."""
    steps = np.arange(length_bytes // 2 + 1) + 1_000 * seed
    return (3_000 * np.sin(steps / 9)).astype("<i2").tobytes()[:length_bytes]


def message(
    position: int, *audio: bytes, direction: str = "client", bytes_per_ms: float | None = PCM_24K
) -> RecordedEvent:
    parts = tuple(Part(number, number, "audio", "base64", data) for number, data in enumerate(audio))
    event = RecordedEvent(
        "s", position, "client", None, None, "input_audio_buffer.append", payload="x" * 9, parts=parts
    )
    event.direction = "server" if direction == "server" else "client"
    event.audio_ms = sum(map(len, audio)) / bytes_per_ms if bytes_per_ms else None
    return event


def stored(events: Sequence[RecordedEvent]) -> tuple[list[RecordedEvent], list[dict[str, Any]]]:
    """The events as they come back, and the blocks between."""
    writer = BlockWriter("s")
    half = len(events) // 2
    parts = pa.concat_tables([writer.parts(events[:half]), writer.parts(events[half:])])
    blocks = list(rows(writer.blocks()))
    return list(recorded_events(events_table(events), parts, blocks, whole=True)), blocks


pieces = st.one_of(
    st.binary(max_size=40),
    st.builds(tone, st.integers(0, 3_000), st.integers(0, 9)),
    st.builds(lambda size, seed: random.Random(seed).randbytes(size), st.integers(0, 3_000), st.integers(0, 9)),
)
messages = st.tuples(
    st.lists(pieces, max_size=3),
    st.sampled_from(["client", "server"]),
    st.sampled_from([PCM_24K, PCM_24K, PCM_16K, G711, 0.001, 1e6, None]),
)


@given(st.lists(messages, max_size=30), st.sampled_from([100, 4_096, BLOCK_BYTES]))
def test_whatever_was_said_comes_back_byte_for_byte(
    said: list[tuple[list[bytes], str, float | None]], block_bytes: int
) -> None:
    events = [
        message(position, *audio, direction=direction, bytes_per_ms=rate)
        for position, (audio, direction, rate) in enumerate(said)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio_blocks, "BLOCK_BYTES", block_bytes)
        back, blocks = stored(events)

    assert back == events
    assert len({block["position"] for block in blocks}) == len(blocks)
    assert sum(block["size_bytes"] for block in blocks) == sum(len(one) for audio, *_ in said for one in audio)


@given(st.binary(max_size=400), st.sampled_from([1, 8_000, 24_000, 44_100, 65_535, None]))
def test_a_block_decodes_to_what_was_encoded(audio: bytes, rate: int | None) -> None:
    codec, data = encode(audio, rate)

    assert decode(codec, data, len(audio)) == audio
    assert len(data) <= len(audio)


def test_speech_in_pcm_becomes_flac_that_any_player_plays() -> None:
    audio = tone(48_000)
    codec, data = encode(audio, 24_000)

    assert codec == "flac"
    samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    assert rate == 24_000
    assert samples.tobytes() == audio


def test_half_a_sample_between_two_messages_spoils_nothing() -> None:
    audio = tone(40_000)
    cuts = [0, 961, 1_920, 2_881, 40_000]
    split = [message(n, audio[start:end]) for n, (start, end) in enumerate(pairwise(cuts))]
    whole = [message(0, audio)]

    assert stored(split)[1][0]["bytes"] == stored(whole)[1][0]["bytes"]


def test_a_block_ends_between_two_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_blocks, "BLOCK_BYTES", 10_000)

    _, blocks = stored([message(n, tone(5_001, n)) for n in range(10)])

    assert [block["size_bytes"] for block in blocks] == [10_002] * 5
    assert {block["sample_rate"] for block in blocks} == {24_000}


def test_a_block_that_never_reaches_a_whole_sample_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_blocks, "BLOCK_BYTES", 1_000)

    _, blocks = stored([message(0, b"x"), *(message(n, tone(500, n)) for n in range(1, 10))])

    assert [block["size_bytes"] for block in blocks] == [2_001, 1_000, 1_000, 500]


def test_sides_formats_and_messages_are_not_mixed() -> None:
    events = [
        message(0, tone(96), tone(96)),
        message(1, tone(480), direction="server"),
        message(2, tone(96)),
        message(3, tone(80), bytes_per_ms=G711),
        message(4, tone(96), bytes_per_ms=PCM_16K),
    ]

    _, blocks = stored(events)

    assert [(block["position"], block["last_position"], block["direction"]) for block in blocks] == [
        (0, 2, "client"),
        (1, 1, "server"),
        (3, 3, "client"),
        (4, 4, "client"),
    ]
    assert [block["size_bytes"] for block in blocks] == [288, 480, 80, 96]


def test_g711_and_noise_stay_as_they_are() -> None:
    noise = random.Random(7).randbytes(50_000)
    _, blocks = stored(
        [message(0, tone(50_000), bytes_per_ms=G711), message(1, noise), message(2, noise, direction="server")]
    )

    assert [(block["codec"], block["sample_rate"]) for block in blocks] == [("raw", None)] * 3
    assert blocks[0]["bytes"] == tone(50_000)


def test_places_are_the_same_whether_audio_is_kept_or_not() -> None:
    events = [message(n, tone(30_000, n), direction=("client", "server")[n % 2]) for n in range(60)]

    assert BlockWriter("s", keep=False).parts(events).equals(BlockWriter("s").parts(events))


def test_a_reader_holds_no_more_blocks_than_it_needs() -> None:
    writer = BlockWriter("s")
    parts = writer.parts([message(n, tone(BLOCK_BYTES // 2, n)) for n in range(20)])
    taken: list[int] = []

    def blocks() -> Iterator[dict[str, Any]]:
        for block in rows(writer.blocks()):
            taken.append(block["position"])
            yield block

    reader = BlockReader(blocks())
    ahead = []
    for part in rows(parts):
        reader.read(part)
        ahead.append(len(taken) - part["position"] // 2)

    assert max(ahead) <= 2


@pytest.mark.parametrize("at", [0, 2_000, -300])
def test_damage_is_named(at: int) -> None:
    codec, data = encode(tone(50_000), 24_000)
    damaged = bytearray(data)
    damaged[at] ^= 0x01

    with pytest.raises(StoreError, match="block of audio is damaged"):
        decode(codec, bytes(damaged), 50_000)
    with pytest.raises(StoreError, match="block of audio is damaged"):
        decode(codec, data[: len(data) // 2], 50_000)


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(StoreError, match="unknown codec, 'opus'"):
        decode("opus", b"", 0)
