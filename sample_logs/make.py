#!/usr/bin/env python
"""Make the samples anew: each script through the simulator and a real proxy, exported, with the numbers to expect.

    python sample_logs/make.py DIRECTORY        writes DIRECTORY/<name>.jsonl and DIRECTORY/expected/<name>.yaml

What is expected comes from the simulator's own truth, from what its client saw, and, for times, from plain reading of
the exported lines; never from the recorder's decoder or models, which are what the samples test.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

import yaml

from recorder.simulator.client import ClientLog, play
from recorder.simulator.script import Script, load_script
from recorder.simulator.server import Simulator
from recorder.simulator.truth import InterruptionTruth, ResponseTruth, Truth

SCRIPTS: Final = Path(__file__).parent / "scripts"
NAMES: Final = ("text_turn", "voice_turn", "barge_in", "tool_call", "unknown_events", "beta_names")
UNKNOWN: Final = {"session.capabilities.announced", "response.thinking.delta", "session.future_update"}
TRIGGERS: Final = {"client": "response.create", "vad": "input_audio_buffer.speech_stopped"}
AUDIO: Final = {"response.output_audio.delta", "response.audio.delta"}
TOKENS: Final = (
    "response.output_text.delta",
    "response.text.delta",
    "response.output_audio_transcript.delta",
    "response.audio_transcript.delta",
    "response.function_call_arguments.delta",
    *AUDIO,
)
RECORDER: Final = [sys.executable, "-c", "from recorder.cli.main import main; main()"]

Line = dict[str, Any]


def script_of(name: str) -> Script:
    """A script of this directory, or the packaged one of that name."""
    own = SCRIPTS / f"{name}.yaml"
    return load_script(own if own.exists() else name)


async def record(name: str, data: Path) -> tuple[Truth, ClientLog]:
    """Play a script through a proxy that records into `data`, and wait until the recording is sealed."""
    script = script_of(name)
    async with Simulator(script, seed=f"sample {name}", ping_interval=None) as simulator:
        upstream = simulator.url.removesuffix("/v1/realtime")
        command = [*RECORDER, "proxy", "--listen", "127.0.0.1:0", "--upstream", upstream, "--data", str(data)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:  # noqa: ASYNC220  short
            assert proxy.stdout is not None
            url = proxy.stdout.readline().strip()
            log = await play(script, f"{url}/v1/realtime?model={script.model}", compression=True)
            await simulator.idle()
            proxy.terminate()
    return simulator.truths[0], log


def expected(truth: Truth, log: ClientLog, lines: list[Line]) -> dict[str, Any]:
    """The numbers that every reader of the sample must find."""
    return {
        "session": _session(truth, log),
        "events": {direction: _types(log, direction) for direction in ("client", "server")},
        "turns": _turns(truth),
        "responses": [_response(one, lines, log) for one in truth.responses],
        "interruptions": [_interruption(one) for one in truth.interruptions],
        "tool_calls": [
            {"call_id": one.call_id, "name": one.name, "response_id": one.response_id}
            | {"arguments": one.arguments, "output": one.output, "unanswered": not one.answered}
            for one in truth.tool_calls
        ],
        "speech": [
            {"item_id": one.item_id, "audio_start_ms": one.audio_start_ms, "audio_end_ms": one.audio_end_ms}
            | {"voice_start_ms": round(one.voice_start_ms), "voice_end_ms": round(one.voice_end_ms or 0)}
            for one in truth.speech
        ],
    }


def _session(truth: Truth, log: ClientLog) -> dict[str, Any]:
    usages = [one.usage or {} for one in truth.responses]
    totals = {name: sum(usage.get(name, 0) for usage in usages) for name in ("input_tokens", "output_tokens")}
    cached = sum(usage.get("input_token_details", {}).get("cached_tokens", 0) for usage in usages)
    types = truth.client_events + truth.server_events
    return {
        "server_session_id": truth.session_id,
        "model": truth.model,
        "source": "proxy",
        "status": "closed",
        "closed_by": "client",
        "close_code": log.close_code,
        "client_event_count": truth.client_event_count,
        "server_event_count": truth.server_event_count,
        "audio_in_seconds": truth.audio_in_ms / 1000,
        "audio_out_seconds": truth.audio_out_ms / 1000,
        "response_count": len(truth.responses),
        "turn_count": len(_turns(truth)),
        "interruption_count": len(truth.interruptions),
        "tool_call_count": len(truth.tool_calls),
        "error_count": len(truth.errors),
        "unknown_event_count": sum(kind in UNKNOWN for kind in types),
        **totals,
        "total_tokens": sum(totals.values()),
        "cached_tokens": cached,
    }


def _types(log: ClientLog, direction: Any) -> dict[str, int]:
    return dict(sorted(Counter(log.types(direction)).items()))


def _turns(truth: Truth) -> list[dict[str, Any]]:
    cut = {one.item_id for one in truth.interruptions}
    return [
        {"speaker": one.role, "item_id": one.id, "text": one.text, "interrupted": one.id in cut}
        for one in truth.items
        if one.type == "message"
    ]


def _interruption(truth: InterruptionTruth) -> dict[str, Any]:
    assert truth.heard_ms is not None
    return {
        "response_id": truth.response_id,
        "item_id": truth.item_id,
        "source": truth.source,
        "generated_ms": truth.generated_ms,
        "delivered_ms": truth.delivered_ms,
        "heard_ms": truth.heard_ms,
        "unheard_ms": truth.generated_ms - truth.heard_ms,
        "truncate_status": truth.truncate_status,
    }


def _response(truth: ResponseTruth, lines: list[Line], log: ClientLog) -> dict[str, Any]:
    usage = truth.usage or {}
    given, produced = usage["input_token_details"], usage["output_token_details"]
    return {
        "response_id": truth.id,
        "trigger": truth.trigger,
        "status": truth.status,
        "status_reason": truth.status_reason,
        "transcript": truth.transcript or None,
        "audio_ms": truth.audio_ms or None,
        "input_tokens": usage["input_tokens"],
        "output_tokens": usage["output_tokens"],
        "cached_tokens": given["cached_tokens"],
        "input_text_tokens": given["text_tokens"],
        "input_audio_tokens": given["audio_tokens"],
        "output_text_tokens": produced["text_tokens"],
        "output_audio_tokens": produced["audio_tokens"],
        **_times(truth, lines, log),
    }


def _times(truth: ResponseTruth, lines: list[Line], log: ClientLog) -> dict[str, float | None]:
    """Latencies in nanoseconds' precision, by looking along the lines for the events that bound them."""
    own = [line for line in lines if line["response_id"] == truth.id]
    created = next(line for line in own if line["type"] == "response.created")
    before = lines[: created["position"]]
    trigger = next(line for line in reversed(before) if line["type"] == TRIGGERS[truth.trigger])
    token = next((line for line in own if line["type"] in TOKENS), None)
    audio = next((line for line in own if line["type"] in AUDIO), None)
    done = next(line for line in own if line["type"] == "response.done")
    voice = _voice_end(lines, log, trigger) if truth.trigger == "vad" else None
    return {
        "queue_seconds": _between(trigger, created),
        "time_to_first_token_seconds": _between(trigger, token),
        "time_to_first_audio_seconds": _between(trigger, audio),
        "voice_to_voice_seconds": _between(voice, audio),
        "duration_seconds": _between(created, done),
    }


def _voice_end(lines: list[Line], log: ClientLog, stopped: Line) -> Line:
    """The append that carried the last sample of the voice that ended before `stopped`."""
    appends = [line for line in lines if line["type"] == "input_audio_buffer.append"]
    step = log.audio_sent_ms / len(appends)
    carriers = [appends[-int(-end // step) - 1] for _, end in log.voices]
    return [line for line in carriers if line["position"] < stopped["position"]][-1]


def _between(start: Line | None, end: Line | None) -> float | None:
    if start is None or end is None:
        return None
    return float(end["monotonic_ns"] - start["monotonic_ns"]) / 1e9


def _lines(file: Path) -> list[Line]:
    """The exported lines, each with the id of the response it belongs to."""
    lines = [json.loads(text) for text in file.read_text("utf-8").splitlines()]
    for line in lines:
        event = json.loads(line["message"]) if line["direction"] == "server" and line["type"] else {}
        line["response_id"] = event.get("response_id") or (event.get("response") or {}).get("id")
    return lines


def main() -> None:
    """Make all of them."""
    target = Path(sys.argv[1])
    (target / "expected").mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            truth, log = asyncio.run(record(name, Path(folder)))
            file = target / f"{name}.jsonl"
            subprocess.run([*RECORDER, "export", "last", "--data", folder, "-o", file], check=True)
            file.chmod(0o644)  # exports are private; these are not
        text = yaml.safe_dump(expected(truth, log, _lines(file)), sort_keys=False, width=120, allow_unicode=True)
        description = re.sub(r"\s+", " ", script_of(name).description).strip()
        (target / "expected" / f"{name}.yaml").write_text(f"# {description}\n{text}", "utf-8")


if __name__ == "__main__":
    main()
