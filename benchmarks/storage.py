"""`python -m benchmarks storage`: what a recorded call takes on disk, by column, and what audio takes of its PCM.

A call is made up, decoded and sealed as a recorded one is: 20 ms appends of 24 kHz PCM all along, an answer every dozen
seconds, ids as random as a server's. The voices are espeak-ng's where it is installed, else harmonics and filtered
noise under the rhythm of speech; the caller speaks half of the time, with the noise of a microphone all along.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import string
import subprocess
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import pybase64
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from recorder.protocol.builder import EventBuilder
from recorder.protocol.envelope import RecordedEvent
from recorder.store import audio_blocks, layout, segments, session_tables
from recorder.store.segments import SegmentFile

RATE: Final = 24_000
TURN_SECONDS: Final = 12.0
GOAL_BYTES_AN_EVENT: Final = 9.0
GOAL_AUDIO_SHARE: Final = 0.55

_APPEND_SAMPLES: Final = RATE // 50
_DELTA_SAMPLES: Final = RATE // 10
_OPENED_NS: Final = 1_769_860_800_000_000_000
_LETTERS: Final = string.ascii_letters + string.digits
_SAID: Final = (
    "Hello, I would like to know when the museum opens on Sunday, and whether dogs may wait in the garden.",
    "We open at ten, every day but Monday, and the garden is open to everybody, dogs included.",
    "That is good to hear. How do I get there from the harbour, and how long does it take on foot?",
    "Follow the promenade to the lighthouse, then take the steps to your left: it is a quarter of an hour.",
)

Samples = NDArray[np.int16]


def run(console: Console, *, minutes: float = 10.0) -> bool:
    """Measure and print; whether the goals are reached."""
    rng = random.Random(1)
    voices = {"caller": _noisy(_voice(0)), "assistant": _voice(1)}
    with tempfile.TemporaryDirectory() as folder:
        events = list(_call(voices, minutes, rng))
        began = time.process_time()
        tables = session_tables.collect(events[0].session_id, events).data_sets()
        layout.create(Path(folder))
        files = segments.write(Path(folder), "2026-01-31", events[0].session_id, tables)
        seconds = time.process_time() - began
        columns = _columns(Path(folder), files)
    audio = {file.data_set: file.bytes for file in files}["audio"]
    pcm = sum(len(part.data) for event in events for part in event.parts)
    metadata = sum(columns.values())
    _print_columns(console, columns, len(events))
    _print_audio(console, voices)
    a_second = len(events) / seconds
    console.print(f"{len(events):,} events to tables and files at {a_second:,.0f} a second of one core")
    console.print(f"metadata: {metadata / len(events):.2f} bytes an event (goal: {GOAL_BYTES_AN_EVENT:g})")
    console.print(f"audio: {audio / pcm:.3f} of its PCM (goal: {GOAL_AUDIO_SHARE:g})")
    return metadata <= GOAL_BYTES_AN_EVENT * len(events) and audio <= GOAL_AUDIO_SHARE * pcm


def made_up_call(minutes: float) -> list[RecordedEvent]:
    """The events of such a call, the same each time."""
    voices = {"caller": _noisy(_voice(0)), "assistant": _voice(1)}
    return list(_call(voices, minutes, random.Random(1)))


def _columns(data_dir: Path, files: tuple[SegmentFile, ...]) -> dict[tuple[str, str], int]:
    """Compressed bytes by data set and column, audio aside; what is left of a file is its footer."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    for file in files:
        if file.data_set == "audio":
            continue
        metadata = pq.read_metadata(data_dir / file.path)
        left = file.bytes
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                found[file.data_set, column.path_in_schema] += column.total_compressed_size
                left -= column.total_compressed_size
        found[file.data_set, "(footer)"] += left
    return found


def _print_columns(console: Console, columns: dict[tuple[str, str], int], events: int) -> None:
    table = Table("column", "events", "appends", "parts", "bytes an event", title=f"{events:,} events")
    names = sorted({name for _, name in columns}, key=lambda name: -sum(_of(columns, name)))
    for name in names:
        each = _of(columns, name)
        table.add_row(name, *(f"{size:,}" for size in each), f"{sum(each) / events:.2f}")
    console.print(table)


def _of(columns: dict[tuple[str, str], int], name: str) -> list[int]:
    return [columns.get((data_set, name), 0) for data_set in ("events", "appends", "parts")]


def _print_audio(console: Console, voices: dict[str, Samples]) -> None:
    """The share of its PCM that each kind of audio takes, at each level, and how fast."""
    noise = np.random.default_rng(1).integers(-20_000, 20_000, 20 * RATE).astype(np.int16)
    kinds = {**voices, "noise": noise}
    table = Table("FLAC level", *kinds, title="share of PCM, and MB a second")
    for level in (step / 8 for step in range(9)):
        table.add_row(f"{level:g}", *(_measured(samples, level) for samples in kinds.values()))
    console.print(table)
    console.print(f"level in use: {audio_blocks.LEVEL:g}")


def _measured(samples: Samples, level: float) -> str:
    block = audio_blocks.BLOCK_BYTES // 2
    began = time.process_time()
    size = 0
    for start in range(0, len(samples), block):
        file = io.BytesIO()
        piece = samples[start : start + block]
        soundfile.write(file, piece, RATE, format="FLAC", subtype="PCM_16", compression_level=level)
        size += len(file.getvalue())
    seconds = time.process_time() - began
    return f"{size / samples.nbytes:.3f}, {samples.nbytes / seconds / 1e6:.0f}"


def _voice(speaker: int) -> Samples:
    """Sentences; the caller listens as long as the other speaks."""
    spoken = [_spoken(text, speaker) for text in _SAID[speaker::2]]
    pause = np.zeros(RATE // 2 if speaker else max(map(len, spoken)), dtype=np.int16)
    return np.concatenate([piece for words in spoken * 3 for piece in (words, pause)])


def _spoken(text: str, speaker: int) -> Samples:
    program = shutil.which("espeak-ng")
    if program is None:
        return _imitated(len(text) * 0.06, speaker)
    voice = ("en-us+f3", "en-gb+m2")[speaker]
    wave = subprocess.run([program, "-v", voice, "--stdout", text], capture_output=True, check=True).stdout
    samples, rate = soundfile.read(io.BytesIO(wave), dtype="int16")
    at = np.arange(int(len(samples) * RATE / rate)) * rate / RATE
    converted: Samples = np.interp(at, np.arange(len(samples)), samples).astype(np.int16)
    return converted


def _imitated(seconds: float, speaker: int) -> Samples:
    """Harmonics of a gliding pitch, and hiss between them, under a rhythm of syllables."""
    at = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * (110, 190)[speaker] * at + 2 * np.sin(2 * np.pi * 0.7 * at)
    voiced = sum(np.sin(n * phase + n) / n for n in range(1, 20))
    hiss = np.convolve(np.random.default_rng(speaker).normal(0, 1, len(at)), [0.25, 0.5, 0.25], "same")
    syllables = np.sin(np.pi * 4.1 * at) ** 2
    spoken: Samples = (4_000 * voiced * syllables + 900 * hiss * (1 - syllables)).clip(-32_768, 32_767).astype(np.int16)
    return spoken


def _noisy(samples: Samples) -> Samples:
    """With what a headset's microphone hums and hisses: 66 dB under full scale, less of it the higher it sounds."""
    noise = np.convolve(np.random.default_rng(3).normal(0, 1, len(samples)), np.ones(4) / 2, "same") * 16
    noisy: Samples = (samples + noise).round().clip(-32_768, 32_767).astype(np.int16)
    return noisy


def _call(voices: dict[str, Samples], minutes: float, rng: random.Random) -> Iterator[RecordedEvent]:
    builder = EventBuilder(str(uuid.UUID(int=1 << 76)), _OPENED_NS, 0)
    yield builder.own("recorder.session_opened", json.dumps({"source": "proxy", "opened_at_ns": _OPENED_NS}), 0)
    yield builder.message("server", _event("session.created", rng, session={"id": _id("sess", rng)}), at_ns=10**8)
    answers: list[tuple[int, bytes]] = []
    heard = said = 0
    for number in range(round(minutes * 60 * 50)):
        at_ns = 2 * 10**8 + number * 20_000_000 + abs(round(rng.gauss(0, 1_500_000)))
        if number % round(TURN_SECONDS * 50) == 0:
            answers += _answer(voices["assistant"], said, at_ns, rng)
            said += 40 * _DELTA_SAMPLES
        while answers and answers[0][0] <= at_ns:
            when, message = answers.pop(0)
            yield builder.message("server", message, at_ns=when, wire_bytes=len(message) + 4)
        audio = np.take(voices["caller"], range(heard, heard + _APPEND_SAMPLES), mode="wrap").tobytes()
        heard += _APPEND_SAMPLES
        message = json.dumps(
            {"type": "input_audio_buffer.append", "audio": pybase64.b64encode_as_string(audio)}
        ).encode()
        yield builder.message("client", message, at_ns=at_ns, wire_bytes=len(message) + 8)


def _answer(voice: Samples, said: int, at_ns: int, rng: random.Random) -> list[tuple[int, bytes]]:
    """What a server says of one turn, and when: four seconds of audio, five times as fast as it sounds."""
    item, response, user = (_id(kind, rng) for kind in ("item", "resp", "item"))
    ids = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
    message = {"id": item, "object": "realtime.item", "type": "message", "role": "assistant", "status": "in_progress"}
    made = [
        _event("input_audio_buffer.speech_stopped", rng, audio_end_ms=at_ns // 10**6, item_id=user),
        _event("input_audio_buffer.committed", rng, item_id=user, previous_item_id=None),
        _event("conversation.item.added", rng, item={"id": user, "type": "message", "role": "user"}),
        _event("response.created", rng, response={"id": response, "status": "in_progress", "output": []}),
        _event("response.output_item.added", rng, response_id=response, output_index=0, item=message),
        _event("response.content_part.added", rng, **ids, part={"type": "audio", "transcript": ""}),
    ]
    words = " ".join(_SAID).split()
    for number in range(40):
        audio = np.take(voice, range(said, said + _DELTA_SAMPLES), mode="wrap").tobytes()
        said += _DELTA_SAMPLES
        made.append(_event("response.output_audio.delta", rng, **ids, delta=pybase64.b64encode_as_string(audio)))
        if number % 2:
            made.append(_event("response.output_audio_transcript.delta", rng, **ids, delta=" " + rng.choice(words)))
    text = " ".join(rng.choices(words, k=20))
    usage = {"total_tokens": rng.randrange(9_000), "input_tokens": rng.randrange(8_000), "output_tokens": 200}
    made += [
        _event("response.output_audio.done", rng, **ids),
        _event("response.output_audio_transcript.done", rng, **ids, transcript=text),
        _event("response.content_part.done", rng, **ids, part={"type": "audio", "transcript": text}),
        _event("response.output_item.done", rng, response_id=response, output_index=0, item=message),
        _event("response.done", rng, response={"id": response, "status": "completed", "usage": usage}),
        _event("rate_limits.updated", rng, rate_limits=[{"name": "tokens", "limit": 40_000, "remaining": 30_000}]),
    ]
    gap = 20_000_000 * 40 // len(made)
    return [(at_ns + 400_000_000 + n * gap + rng.randrange(gap), each) for n, each in enumerate(made)]


def _event(kind: str, rng: random.Random, **fields: Any) -> bytes:
    return json.dumps({"type": kind, "event_id": _id("event", rng), **fields}).encode()


def _id(kind: str, rng: random.Random) -> str:
    return f"{kind}_" + "".join(rng.choices(_LETTERS, k=21))
