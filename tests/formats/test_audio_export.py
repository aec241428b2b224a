"""Sound files against samples worked out by hand."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile

from recorder.errors import UsageError
from recorder.formats.audio_export import LEFT, RIGHT, SoundFormat, StereoFile, decode, g711_table
from recorder.simulator.audio import AudioFormat


def pcm(*samples: int) -> bytes:
    return np.array(samples, dtype="<i2").tobytes()


def written(file: io.BytesIO) -> tuple[list[list[int]], int]:
    """Frames as pairs of left and right, and the rate."""
    file.seek(0)
    frames, rate = soundfile.read(file, dtype="int16")
    return frames.tolist(), rate


def test_pcm_is_little_endian_and_whole() -> None:
    assert decode(b"\x01\x00\xff\xff\x07", "pcm16").tolist() == [1, -1]


def test_g711_by_the_standard() -> None:
    assert decode(bytes([0xFF, 0x7F, 0x80, 0x00]), "pcmu").tolist() == [0, 0, 32_124, -32_124]
    assert decode(bytes([0xD5, 0x55, 0xAA, 0x2A]), "pcma").tolist() == [8, -8, 32_256, -32_256]


@pytest.mark.parametrize(("law", "known"), [("pcmu", AudioFormat.ULAW), ("pcma", AudioFormat.ALAW)])
def test_every_g711_code_means_what_it_means_to_others(law: Any, known: AudioFormat) -> None:
    assert g711_table(law).tolist() == known.decode(bytes(range(256))).tolist()


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_two_speakers_placed_in_time(form: SoundFormat) -> None:
    file = io.BytesIO()
    with StereoFile(file, form, 1_000) as sound:
        sound.put(LEFT, pcm(1, 2, 3), "pcm16", 1_000, at_seconds=0.002)
        sound.put(LEFT, pcm(4), "pcm16", 1_000, at_seconds=None)
        sound.put(RIGHT, pcm(-7, -8), "pcm16", 1_000, at_seconds=0.004)
        sound.finish(0.008)

    frames, rate = written(file)
    assert rate == 1_000
    assert frames == [[0, 0], [0, 0], [1, 0], [2, 0], [3, -7], [4, -8], [0, 0], [0, 0]]


def test_a_sample_split_between_two_pieces_is_one_sample() -> None:
    file = io.BytesIO()
    with StereoFile(file, "wav", 1_000) as sound:
        sound.put(LEFT, pcm(1, 258)[:3], "pcm16", 1_000, at_seconds=0.0)
        sound.put(LEFT, pcm(258, 3)[1:], "pcm16", 1_000, at_seconds=None)
        sound.finish(0)

    assert [left for left, _ in written(file)[0]] == [1, 258, 3]


def test_a_speaker_does_not_talk_over_herself() -> None:
    file = io.BytesIO()
    with StereoFile(file, "wav", 1_000) as sound:
        sound.put(RIGHT, pcm(1, 2, 3), "pcm16", 1_000, at_seconds=0.0)
        sound.put(RIGHT, pcm(4), "pcm16", 1_000, at_seconds=0.001)
        sound.finish(0)

    assert [right for _, right in written(file)[0]] == [1, 2, 3, 4]


def test_another_rate_is_interpolated_without_seams() -> None:
    file = io.BytesIO()
    with StereoFile(file, "wav", 24_000) as sound:
        for start in range(0, 80, 20):
            ramp = pcm(*(30 * n for n in range(start, start + 20)))
            sound.put(LEFT, ramp, "pcm16", 8_000, at_seconds=0.0 if start == 0 else None)
        sound.finish(0)

    left = [frame[0] for frame in written(file)[0]]
    assert left == [10 * n for n in range(79 * 3 + 1)]


def test_what_was_flushed_leaves_memory_and_stands_in_the_file() -> None:
    file = io.BytesIO()
    with StereoFile(file, "wav", 1_000) as sound:
        for second in range(50):
            sound.put(second % 2, pcm(*[second + 1] * 500), "pcm16", 1_000, at_seconds=second)
            sound.flush(second + 0.5)
            assert len(sound._frames) <= 4_000
        sound.flush(100.0)
        sound.put(LEFT, pcm(99), "pcm16", 1_000, at_seconds=100.0)
        sound.finish(101.0)

    frames, _ = written(file)
    assert len(frames) == 101_000
    assert [frames[second * 1_000 + 499][second % 2] for second in range(50)] == list(range(1, 51))
    assert frames[49_500:100_000] == [[0, 0]] * 50_500
    assert frames[100_000] == [99, 0]


def test_a_wav_file_that_would_be_too_long_is_refused() -> None:
    with pytest.raises(UsageError, match="13 hours are more than a WAV file can hold"):
        StereoFile(io.BytesIO(), "wav", 24_000, seconds=13 * 3600)
    StereoFile(io.BytesIO(), "flac", 24_000, seconds=13 * 3600).__exit__(None, None, None)
