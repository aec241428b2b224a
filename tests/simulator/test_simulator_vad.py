import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.simulator.audio import AudioFormat, Samples, synthesize
from recorder.simulator.vad import FRAME_MS, SpeechStarted, SpeechStopped, VadSettings, VoiceDetector
from tests.drawing import examples

Events = list[SpeechStarted | SpeechStopped]


def audio(spans: list[tuple[float, float]], total_ms: float, rate: int = 24_000) -> Samples:
    samples = np.zeros(round(total_ms * rate / 1000), dtype=np.int16)
    for start, end in spans:
        voice = synthesize(start, end - start, rate, pitch_hz=210)
        first = round(start * rate / 1000)
        samples[first : first + len(voice)] = voice
    return samples


def detect(samples: Samples, rate: int = 24_000, vad: VadSettings | None = None, chunk: int = 10**9) -> Events:
    detector = VoiceDetector(vad or VadSettings())
    events: Events = []
    for start in range(0, len(samples), chunk):
        events += detector.feed(samples[start : start + chunk], rate)
    return events


@settings(max_examples=examples(60))
@given(
    start=st.integers(400, 900),
    length=st.integers(100, 1500),
    silence=st.integers(60, 700),
    rate=st.sampled_from([8_000, 24_000]),
)
def test_finds_a_voice_within_one_frame(start: int, length: int, silence: int, rate: int) -> None:
    samples = audio([(start, start + length)], start + length + silence + 200, rate)
    started, stopped = detect(samples, rate, VadSettings(silence_duration_ms=silence))
    assert isinstance(started, SpeechStarted)
    assert isinstance(stopped, SpeechStopped)
    assert abs(started.audio_start_ms + 300 - start) <= FRAME_MS
    assert abs(stopped.audio_end_ms - silence - (start + length)) <= FRAME_MS
    assert started.voice_start_ms == pytest.approx(start, abs=2)
    assert stopped.voice_end_ms == pytest.approx(start + length, abs=2)


@settings(max_examples=examples(30))
@given(chunk=st.integers(1, 5000))
def test_chunking_changes_nothing(chunk: int) -> None:
    samples = audio([(300, 700), (1300, 1900)], 2400, 8_000)
    assert detect(samples, 8_000, chunk=chunk) == detect(samples, 8_000)


@pytest.mark.parametrize("audio_format", list(AudioFormat))
def test_hears_through_every_wire_format(audio_format: AudioFormat) -> None:
    samples = audio_format.decode(audio_format.encode(audio([(500, 1000)], 1500, audio_format.rate)))
    started, stopped = detect(samples, audio_format.rate)
    assert isinstance(started, SpeechStarted)
    assert isinstance(stopped, SpeechStopped)
    assert (started.audio_start_ms, stopped.audio_end_ms) == (200, 1200)


def test_a_pause_shorter_than_the_silence_is_part_of_the_turn() -> None:
    samples = audio([(400, 800), (1000, 1400)], 2000)
    assert len(detect(samples, vad=VadSettings(silence_duration_ms=300))) == 2
    assert len(detect(samples, vad=VadSettings(silence_duration_ms=100))) == 4


def test_prefix_padding_stops_at_the_start_of_the_session() -> None:
    (started,) = detect(audio([(100, 600)], 700))
    assert isinstance(started, SpeechStarted)
    assert started.audio_start_ms == 0
    assert started.voice_start_ms == pytest.approx(100, abs=2)


def test_a_higher_threshold_needs_a_louder_voice() -> None:
    quiet = (audio([(400, 800)], 1200) // 8).astype(np.int16)
    assert detect(quiet, vad=VadSettings(threshold=0.9)) == []
    assert len(detect(quiet, vad=VadSettings(threshold=0.3))) == 2


def test_a_click_is_no_voice() -> None:
    assert detect(audio([(400, 415)], 1000)) == []


def test_semantic_vad_reports_the_voice_without_padding() -> None:
    vad = VadSettings(kind="semantic_vad", silence_duration_ms=500)
    started, stopped = detect(audio([(400, 800)], 1500), vad=vad)
    assert isinstance(started, SpeechStarted)
    assert isinstance(stopped, SpeechStopped)
    assert (started.audio_start_ms, stopped.audio_end_ms) == (400, 800)


def test_the_axis_runs_on_after_a_reset_and_a_skip() -> None:
    detector = VoiceDetector(VadSettings())
    detector.feed(audio([(300, 500)], 500), 24_000)
    assert detector.speaking
    detector.reset()
    detector.skip_to(5000)
    (started,) = detector.feed(audio([(400, 600)], 600), 24_000)
    assert isinstance(started, SpeechStarted)
    assert started.audio_start_ms == 5100
