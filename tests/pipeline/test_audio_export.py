"""A session's sound against samples placed by hand, through everything between the store and the file."""

from __future__ import annotations

import base64
import io
import json
import struct
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile

from recorder.errors import NoAudioError, SessionNotFoundError
from recorder.pipeline.audio_export import AudioExport, export_audio
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.imports import import_files
from recorder.simulator.audio import AudioFormat
from recorder.store import manifests

Line = dict[str, Any]


def line(at: float | None, side: str, kind: str, **fields: Any) -> Line:
    return {"dir": side, "event": {"type": kind, **fields}} | ({} if at is None else {"t": at})


def append(at: float | None, data: bytes) -> Line:
    return line(at, "client", "input_audio_buffer.append", audio=base64.b64encode(data).decode())


def delta(at: float | None, data: bytes) -> Line:
    ids = {"response_id": "r", "item_id": "a", "output_index": 0, "content_index": 0}
    return line(at, "server", "response.output_audio.delta", **ids, delta=base64.b64encode(data).decode())


def pcm(value: int, milliseconds: int, rate: int = 24_000) -> bytes:
    return np.full(milliseconds * rate // 1000, value, dtype="<i2").tobytes()


def created(at: float | None, **session: Any) -> Line:
    return line(at, "server", "session.created", session={"id": "sess_1", **session})


def answer(at: float | None) -> Line:
    return line(at, "server", "response.created", response={"id": "r"})


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., tuple[list[list[int]], AudioExport]]:
    """Imports lines, and gives the frames of their sound."""

    def run(*lines: Line, form: Any = "wav", as_sent: bool = False) -> tuple[list[list[int]], AudioExport]:
        path = tmp_path / "session.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
        data_dir = tmp_path / str(len(list(tmp_path.iterdir())))
        import_files(data_dir, [path])
        file = io.BytesIO()
        with Catalog(data_dir) as catalog:
            done = export_audio(catalog, catalog.resolve("last"), file, form, as_sent=as_sent)
        file.seek(0)
        frames, rate = soundfile.read(file, dtype="int16")
        assert rate == done.sample_rate
        return frames.tolist(), done

    return run


def runs(frames: list[list[int]]) -> list[tuple[int, int, int]]:
    """Runs of equal frames: how many, left, right."""
    found: list[tuple[int, int, int]] = []
    for left, right in frames:
        if found and found[-1][1:] == (left, right):
            found[-1] = (found[-1][0] + 1, left, right)
        else:
            found.append((1, left, right))
    return found


CALL = (
    created(0.0),
    append(0.120, pcm(10, 20)),
    append(0.140, pcm(20, 20)),
    answer(0.150),
    delta(0.130 + 0.025, pcm(-7, 100)),
    delta(0.156, pcm(-8, 100)),
    line(0.300, "client", "conversation.item.truncate", item_id="a", content_index=0, audio_end_ms=150),
    line(0.310, "server", "conversation.item.truncated", item_id="a", content_index=0, audio_end_ms=150),
    append(0.320, pcm(30, 20)),
    line(0.500, "server", "response.done", response={"id": "r", "status": "cancelled"}),
)


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_what_was_heard_is_placed_in_time(export: Callable[..., Any], form: str) -> None:
    frames, done = export(*CALL, form=form)

    assert runs(frames) == [
        (2_400, 0, 0), (480, 10, 0), (480, 20, 0), (360, 0, 0),
        (2_400, 0, -7), (1_080, 0, -8), (120, 30, -8), (360, 30, 0), (4_320, 0, 0),
    ]  # fmt: skip
    assert done == AudioExport(seconds=0.5, sample_rate=24_000, missing_seconds=0.0, timed=True)


def test_as_it_was_sent_nothing_is_cut(export: Callable[..., Any]) -> None:
    frames, _ = export(*CALL, as_sent=True)

    assert sum(right == -8 for _, right in frames) == 2_400


PCM = {10: b"\x0a\x00", 20: b"\x14\x00", 30: b"\x1e\x00", -7: b"\xf9\xff", -8: b"\xf8\xff"}
ULAW = {8: b"\xfe", 16: b"\xfd", 24: b"\xfc", -8: b"\x7e", -32_124: b"\x00"}
ALAW = {8: b"\xd5", 24: b"\xd4", 32_256: b"\xaa", -8: b"\x55", -32_256: b"\x2a"}
"""By sample, its bytes on the wire: three of the caller's and two of the assistant's, by hand from G.711's tables."""

WITH_TRUNCATION = [
    (100, None, None), (20, 0, None), (20, 1, None), (15, None, None), (100, None, 3),
    (45, None, 4), (5, 2, 4), (15, 2, None), (180, None, None),
]  # fmt: skip
WITHOUT = [
    (100, None, None), (20, 0, None), (20, 1, None), (15, None, None), (100, None, 3),
    (45, None, 4), (20, 2, 4), (35, None, 4), (145, None, None),
]  # fmt: skip
"""Milliseconds, which sound is left, which right. What the caller sent had been spoken by then; the assistant's starts
when it comes, goes on without a pause, and is cut at 150 ms: at 305 ms, five after the caller has begun again."""


@pytest.mark.parametrize("form", ["wav", "flac"])
@pytest.mark.parametrize("as_sent", [False, True])
@pytest.mark.parametrize(
    ("kind", "rate", "codes"),
    [
        ({"type": "audio/pcm", "rate": 24_000}, 24_000, PCM),
        ({"type": "audio/pcm", "rate": 8_000}, 8_000, PCM),
        ({"type": "audio/pcmu"}, 8_000, ULAW),
        ({"type": "audio/pcma"}, 8_000, ALAW),
    ],
)
def test_every_sample_stands_where_it_sounded(
    tmp_path: Path, form: Any, kind: dict[str, Any], rate: int, codes: dict[int, bytes], *, as_sent: bool
) -> None:
    values, sounds = list(codes), list(codes.values())
    per_ms = rate // 1000
    cut = {"item_id": "a", "content_index": 0, "audio_end_ms": 150}
    call = (
        created(0.0, audio={"input": {"format": kind}, "output": {"format": kind}}),
        append(0.120, sounds[0] * 20 * per_ms),
        append(0.140, sounds[1] * 20 * per_ms),
        answer(0.150),
        delta(0.155, sounds[3] * 100 * per_ms),
        delta(0.156, sounds[4] * 100 * per_ms),
        line(0.300, "client", "conversation.item.truncate", **cut),
        line(0.310, "server", "conversation.item.truncated", **cut),
        append(0.320, sounds[2] * 20 * per_ms),
        line(0.500, "server", "response.done", response={"id": "r", "status": "cancelled"}),
    )
    (tmp_path / "call.jsonl").write_text("\n".join(map(json.dumps, call)), "utf-8")
    import_files(tmp_path / "data", [tmp_path / "call.jsonl"])

    with Catalog(tmp_path / "data") as catalog, (tmp_path / "sound").open("w+b") as file:
        done = export_audio(catalog, catalog.resolve("last"), file, form, as_sent=as_sent)

    frames = read_back(tmp_path / "sound", form, rate)
    wanted = WITHOUT if as_sent else WITH_TRUNCATION
    heard = {None: 0} | dict(enumerate(values))
    assert frames == [(heard[left], heard[right]) for ms, left, right in wanted for _ in range(ms * per_ms)]
    assert (done.seconds, done.sample_rate, done.missing_seconds) == (0.5, rate, 0.0)


def read_back(path: Path, form: str, rate: int) -> list[tuple[int, int]]:
    """Frames of a 16-bit stereo file, left and right; of WAV without the library that wrote it."""
    if form == "wav":
        with wave.open(str(path), "rb") as sound:
            assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (2, 2, rate)
            return list(struct.iter_unpack("<hh", sound.readframes(sound.getnframes())))
    with soundfile.SoundFile(path) as sound:
        assert (sound.format, sound.subtype, sound.channels, sound.samplerate) == ("FLAC", "PCM_16", 2, rate)
        return [(left, right) for left, right in sound.read(dtype="int16").tolist()]


def test_g711_is_decoded_and_brought_to_the_other_sides_rate(export: Callable[..., Any]) -> None:
    law = AudioFormat.ALAW
    codes = law.encode(np.full(800, 1_000, dtype=np.int16))
    value = int(law.decode(codes)[0])
    formats = {"audio": {"input": {"format": {"type": "audio/pcma"}}}}

    frames, done = export(created(0.0, **formats), append(0.100, codes), answer(0.1), delta(0.2, pcm(5, 20)))

    assert done.sample_rate == 24_000
    left = [pair[0] for pair in frames]
    assert set(left[:2_398]) == {value}
    assert set(left[2_400:]) == {0}


def test_a_session_of_g711_stays_at_its_rate(export: Callable[..., Any]) -> None:
    codes = AudioFormat.ULAW.encode(np.full(160, -2_000, dtype=np.int16))
    formats = {"input_audio_format": "g711_ulaw", "output_audio_format": "g711_ulaw"}

    frames, done = export(created(0.0, **formats), append(0.02, codes))

    assert done.sample_rate == 8_000
    assert runs(frames) == [(160, int(AudioFormat.ULAW.decode(codes)[0]), 0)]


def test_audio_that_stayed_in_its_message_sounds_too(export: Callable[..., Any]) -> None:
    odd = append(0.02, pcm(257, 20))
    odd["event"]["audio"] = base64.b64encode(pcm(257, 20) + b"\1").decode().rstrip("=")

    frames, done = export(created(0.0), odd)

    assert runs(frames) == [(480, 257, 0)]
    assert done.missing_seconds == 0


def test_without_times_one_speaks_after_the_other(export: Callable[..., Any]) -> None:
    frames, done = export(created(None), append(None, pcm(1, 20)), answer(None), delta(None, pcm(2, 20)))

    assert runs(frames) == [(480, 1, 0), (480, 0, 2)]
    assert not done.timed


def test_a_session_without_audio_is_no_sound_file(export: Callable[..., Any]) -> None:
    with pytest.raises(NoAudioError, match=r"has no audio$"):
        export(created(0.0))


def test_a_session_that_is_not_there(tmp_path: Path) -> None:
    import_files(tmp_path / "data", [])
    with Catalog(tmp_path / "data") as catalog, pytest.raises(SessionNotFoundError):
        export_audio(catalog, "no such", io.BytesIO(), "wav")


def test_audio_that_was_removed_is_silence_or_an_error(tmp_path: Path, export: Callable[..., Any]) -> None:
    export(*CALL)
    data_dir = next(path for path in tmp_path.iterdir() if path.is_dir())
    manifest = manifests.read(next(data_dir.glob("manifests/*/*.json")))
    kept = tuple(file for file in manifest.files if file.data_set != "audio")
    manifests.write(data_dir, msgspec.structs.replace(manifest, files=kept))

    with Catalog(data_dir) as catalog, pytest.raises(NoAudioError, match="not kept, or removed"):
        export_audio(catalog, catalog.resolve("last"), io.BytesIO(), "wav")
