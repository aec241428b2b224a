import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.simulator.audio import AudioFormat, synthesize
from recorder.simulator.inbox import InputAudioBuffer
from recorder.simulator.playback import Playback

# ITU-T G.711: code → 16-bit sample, from the tables of the recommendation.
ULAW_SAMPLES = {0x00: -32124, 0x80: 32124, 0x7F: 0, 0xFF: 0, 0x8F: 16764, 0xFE: 8}
ALAW_SAMPLES = {0x55: -8, 0xD5: 8, 0x2A: -32256, 0xAA: 32256, 0x80: 5504}


@pytest.mark.parametrize(
    ("audio_format", "samples"), [(AudioFormat.ULAW, ULAW_SAMPLES), (AudioFormat.ALAW, ALAW_SAMPLES)]
)
def test_g711_decodes_as_the_recommendation_says(audio_format: AudioFormat, samples: dict[int, int]) -> None:
    decoded = audio_format.decode(bytes(samples))
    assert decoded.tolist() == list(samples.values())


@given(st.sampled_from([AudioFormat.ULAW, AudioFormat.ALAW]), st.binary(min_size=1, max_size=64))
def test_g711_codes_survive_decoding_and_encoding(audio_format: AudioFormat, codes: bytes) -> None:
    samples = audio_format.decode(codes)
    assert audio_format.decode(audio_format.encode(samples)).tolist() == samples.tolist()


@given(st.binary(max_size=65))
def test_pcm_drops_an_odd_last_byte(data: bytes) -> None:
    whole = len(data) // 2 * 2
    assert AudioFormat.PCM16.encode(AudioFormat.PCM16.decode(data)) == data[:whole]


@given(st.integers(0, 40), st.integers(1, 40))
def test_pieces_of_a_voice_join_without_a_seam(first: int, second: int) -> None:
    whole = synthesize(0, first + second, 24_000, pitch_hz=200)
    pieces = [synthesize(0, first, 24_000, pitch_hz=200), synthesize(first, second, 24_000, pitch_hz=200)]
    assert np.array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize("rate", [8_000, 24_000])
def test_a_voice_is_loud_in_every_frame_and_never_clips(rate: int) -> None:
    voice = synthesize(0, 10_000, rate, pitch_hz=150).astype(np.float64).reshape(-1, rate // 50)
    loudness = 20 * np.log10(np.sqrt(np.mean(voice**2, axis=1)) / 32768)
    assert loudness.min() > -28
    assert np.abs(voice).max() < 32767


def test_buffer_commits_the_span_that_was_asked_for() -> None:
    buffer = InputAudioBuffer()
    for number in range(10):
        buffer.append(bytes([number]) * 80, AudioFormat.ULAW)  # 10 ms each
    taken = buffer.take(20, 50)
    assert taken.audio_ms == 30
    assert taken.audio == bytes([2]) * 80 + bytes([3]) * 80 + bytes([4]) * 80
    assert buffer.length_ms == 50
    buffer.clear()
    assert (buffer.length_ms, buffer.total_ms) == (0, 100)


def test_playback_starts_late_and_stalls_when_it_runs_dry() -> None:
    playback = Playback()
    playback.add(500, now=10.0)
    assert playback.left_ms(10.2) == pytest.approx(300)
    assert playback.left_ms(11.0) == 0
    playback.add(500, now=12.0)
    assert playback.left_ms(12.1) == pytest.approx(400)
    playback.flush(12.1)
    assert playback.left_ms(12.1) == 0


def test_playback_at_speed_consumes_faster() -> None:
    playback = Playback(speed=10)
    playback.add(1000, now=0.0)
    assert playback.left_ms(0.05) == pytest.approx(500)
