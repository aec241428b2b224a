"""Each packaged script, played by its client against the server, at high speed."""

import asyncio
from itertools import groupby
from typing import Any, get_args

import pydantic
import pytest
from openai.types.realtime import RealtimeServerEvent

from recorder.simulator.client import ClientLog, play
from recorder.simulator.script import load_script, packaged_names
from recorder.simulator.server import Simulator
from recorder.simulator.truth import ResponseTruth, Truth

SPEED = 20

CREATED = ["session.created", "session.updated"]
USER_ITEM = ["conversation.item.added", "conversation.item.done"]
ITEM_OPENED = ["response.output_item.added", "conversation.item.added"]
ITEM_CLOSED = ["conversation.item.done", "response.output_item.done"]
ENDED = ["response.done", "rate_limits.updated"]
TEXT = [
    "response.created",
    *ITEM_OPENED,
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    *ITEM_CLOSED,
    *ENDED,
]
CALL = [
    "response.created",
    *ITEM_OPENED,
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    *ITEM_CLOSED,
    *ENDED,
]
SPOKEN = [
    "response.created",
    *ITEM_OPENED,
    "response.content_part.added",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    *ITEM_CLOSED,
    *ENDED,
]
HEARD = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    *USER_ITEM,
]
SPOKEN_DELTAS = {"response.output_audio.delta", "response.output_audio_transcript.delta"}


async def run(name: str, *, speed: float = SPEED, seed: int | None = 1) -> tuple[ClientLog, Truth]:
    async with Simulator(seed=seed, speed=speed) as simulator:
        log = await play(name, f"{simulator.url}?script={name}", speed=speed)
        await simulator.idle()
        return log, simulator.truths[0]


SLOWER = {"barge_in": 8.0, "push_to_talk": 8.0}
"""Scripts in which the user must be in time to interrupt, on a busy machine too."""

_played: dict[str, tuple[ClientLog, Truth]] = {}


async def played(name: str) -> tuple[ClientLog, Truth]:
    """What came of playing a script; each is played once for all tests that look at it."""
    if name not in _played:
        _played[name] = await run(name, speed=SLOWER.get(name, SPEED))
    return _played[name]


def order(log: ClientLog) -> list[str]:
    """The server's types, runs of equal ones as one, without what interleaves freely: deltas, transcription."""
    types = [
        kind for kind in log.types("server") if kind not in SPOKEN_DELTAS and "input_audio_transcription" not in kind
    ]
    return [kind for kind, _ in groupby(types)]


def of_type(log: ClientLog, kind: str) -> list[dict[str, Any]]:
    return [event for event in log.events("server") if event.get("type") == kind]


@pytest.mark.parametrize("name", packaged_names())
async def test_truth_counts_what_the_client_saw(name: str) -> None:
    log, truth = await played(name)
    assert truth.script == name
    assert truth.server_events == log.types("server")
    assert truth.client_event_count == len(log.events("client"))
    assert truth.audio_in_ms == log.audio_sent_ms
    heard = sum(response.audio_ms for response in truth.responses)
    assert truth.audio_out_ms == heard
    for response in truth.responses:
        assert response.done_ns is not None or response.status == "dangling"
        moments = [response.trigger_ns, response.created_ns, response.first_token_ns, response.done_ns]
        seen = [moment for moment in moments if moment is not None]
        assert seen == sorted(seen)


@pytest.mark.parametrize("name", sorted(set(packaged_names()) - {"beta_names", "unknown_events"}))
async def test_every_event_fits_the_published_types(name: str) -> None:
    log, _ = await played(name)
    union, _ = get_args(RealtimeServerEvent)
    types = {kind: model for model in get_args(union) for kind in get_args(model.model_fields["type"].annotation)}
    assert log.events("server")
    for event in log.events("server"):
        pydantic.TypeAdapter(types[event["type"]]).validate_python(event)


async def test_text_turn() -> None:
    log, truth = await played("text_turn")
    assert order(log) == [*CREATED, *USER_ITEM, *TEXT, *USER_ITEM, *TEXT]
    first, second = truth.responses
    assert first.trigger == second.trigger == "client"
    assert first.transcript == load_script("text_turn").turns[0].say
    assert (first.usage or {})["input_token_details"]["cached_tokens"] == 0
    assert (second.usage or {})["input_token_details"]["cached_tokens"] == 64
    assert [event["response"]["usage"] for event in of_type(log, "response.done")] == [first.usage, second.usage]
    assert [item.role for item in truth.items] == ["user", "assistant", "user", "assistant"]


async def test_voice_turn() -> None:
    log, truth = await played("voice_turn")
    assert order(log) == [*CREATED, *HEARD, *SPOKEN, *HEARD, *SPOKEN]
    assert [response.trigger for response in truth.responses] == ["vad", "vad"]
    assert [response.audio_ms for response in truth.responses] == [3200, 3600]
    completed = of_type(log, "conversation.item.input_audio_transcription.completed")
    assert [event["transcript"] for event in completed] == ["Hello, my name is Ada.", "What can you do?"]
    assert truth.interruptions_by("script") == []
    assert len(log.voices) == len(truth.speech) == 2
    for (start, end), speech in zip(log.voices, truth.speech, strict=True):
        assert speech.voice_start_ms == pytest.approx(start, abs=2)
        assert speech.voice_end_ms == pytest.approx(end, abs=2)
        assert abs(speech.audio_start_ms + 300 - start) <= 20
        assert speech.audio_end_ms is not None
        assert abs(speech.audio_end_ms - 300 - end) <= 20


async def test_barge_in() -> None:
    log, truth = await played("barge_in")
    done = [(response.status, response.status_reason) for response in truth.responses]
    assert done == [("cancelled", "turn_detected"), ("completed", None), ("completed", None)]
    first, second = truth.interruptions_by("script")
    assert [one.source for one in (first, second)] == ["server_vad", "server_vad"]
    assert [one.truncate_status for one in (first, second)] == ["ok", "ok"]
    cut = of_type(log, "conversation.item.truncated")
    assert [(one.item_id, one.heard_ms) for one in (first, second)] == [
        (event["item_id"], event["audio_end_ms"]) for event in cut
    ]
    assert first.generated_ms < 9000
    assert second.generated_ms == second.delivered_ms == 6000
    assert first.heard_ms is not None
    assert first.heard_ms <= first.delivered_ms <= first.generated_ms
    types = log.types("server")
    second_voice = [index for index, kind in enumerate(types) if kind == "input_audio_buffer.speech_started"][1]
    cancelled = types.index("response.done")
    assert second_voice < cancelled
    assert "response.output_audio.delta" not in types[second_voice:cancelled]
    truncated = [item for item in truth.items if item.truncated_ms is not None]
    assert [item.text != "" for item in truncated] == [True, True]


async def test_tool_call() -> None:
    log, truth = await played("tool_call")
    assert order(log) == [*CREATED, *USER_ITEM, *CALL, *USER_ITEM, *SPOKEN]
    (call,) = truth.tool_calls
    assert (call.name, call.arguments, call.answered) == ("get_weather", '{"city":"London"}', True)
    assert call.output == '{"city":"London","sky":"foggy","celsius":12}'
    assert [item.type for item in truth.items] == ["message", "function_call", "function_call_output", "message"]


async def test_unknown_events() -> None:
    log, truth = await played("unknown_events")
    assert {"session.capabilities.announced", "response.thinking.delta", "ping"} <= set(truth.server_events)
    (done,) = of_type(log, "response.done")
    assert done["response"]["status_details"] == "unimplemented"
    (limits,) = of_type(log, "rate_limits.updated")
    assert "event_id" not in limits
    (error,) = truth.errors
    assert error["event_id"] == "event_client_1"


async def test_beta_names() -> None:
    log, truth = await played("beta_names")
    assert "output_modalities" not in of_type(log, "session.created")[0]["session"]
    types = set(truth.server_events)
    assert {"conversation.item.created", "response.audio.delta", "response.audio_transcript.done"} <= types
    assert {"response.text.delta", "response.text.done"} <= types
    assert not {kind for kind in types if "output_audio" in kind or "output_text" in kind}
    assert not {"conversation.item.added", "conversation.item.done"} & types
    parts = [
        part["type"] for event in of_type(log, "response.done") for part in event["response"]["output"][0]["content"]
    ]
    assert parts == ["audio", "text"]


async def test_push_to_talk() -> None:
    log, truth = await played("push_to_talk")
    assert [response.status for response in truth.responses] == ["cancelled", "completed", "completed"]
    assert [response.out_of_band for response in truth.responses] == [False, True, False]
    first, second = truth.interruptions_by("script")
    assert (first.source, first.truncate_status) == ("client", "ok")
    assert (second.source, second.truncate_status, second.heard_ms) == ("client", "beyond_audio", None)
    assert truth.client_events.count("(binary)") == truth.client_events.count("(undecodable)") == 1
    assert [error["code"] for error in truth.errors] == [
        "invalid_value",
        "invalid_json",
        "invalid_event",
        "input_audio_buffer_commit_empty",
    ]
    assert truth.errors[-1]["event_id"] == "event_early_commit"
    assert truth.speech == []
    assert log.close_code == 1000


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("failed_response", [("failed", "rate_limit_exceeded"), ("completed", None)]),
        ("incomplete_response", [("incomplete", "max_output_tokens"), ("incomplete", "content_filter")]),
        ("dangling_response", [("dangling", None), ("completed", None)]),
        ("disconnect", [("dangling", None)]),
        ("server_close", [("dangling", None)]),
    ],
)
async def test_responses_that_go_wrong(name: str, statuses: list[tuple[str, str | None]]) -> None:
    log, truth = await played(name)
    assert [(response.status, response.status_reason) for response in truth.responses] == statuses
    done = [response for response in truth.responses if response.status != "dangling"]
    assert [event["response"]["status"] for event in of_type(log, "response.done")] == [one.status for one in done]


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("auth_error", 3000, "invalid_request_error.invalid_api_key"),
        ("model_error", 4000, "invalid_request_error.model_not_found"),
        ("server_close", 1001, "session_expired"),
        ("disconnect", 1006, ""),
    ],
)
async def test_closes_by_the_server(name: str, code: int, reason: str) -> None:
    log, truth = await played(name)
    assert (log.close_code, log.close_reason) == (code, reason)
    assert truth.close is not None
    assert truth.close.by == "server"
    if name.endswith("_error"):
        assert log.types("server") == ["error"]


def repeatable(log: ClientLog) -> list[dict[str, Any]]:
    """Server events by id, without what the clock decides: the time of day, and when the user spoke up."""
    events = sorted(log.events("server"), key=lambda event: str(event.get("event_id")))
    for event in events:
        event.get("session", {}).pop("expires_at", None)
        event.pop("audio_start_ms", None)
        event.pop("audio_end_ms", None)
    return events


@pytest.mark.parametrize("name", ["text_turn", "voice_turn", "tool_call"])
async def test_a_seed_repeats_every_event(name: str) -> None:
    (one, _), (two, _), (other, _) = await asyncio.gather(run(name, seed=5), run(name, seed=5), run(name, seed=6))
    assert repeatable(one) == repeatable(two)
    assert repeatable(one) != repeatable(other)


def told(responses: list[ResponseTruth]) -> list[tuple[object, ...]]:
    return [(one.trigger, one.status, one.status_reason, one.audio_ms, one.transcript, one.usage) for one in responses]


@pytest.mark.parametrize("name", ["voice_turn", "tool_call", "beta_names"])
async def test_speed_changes_no_logic(name: str) -> None:
    (slow_log, slow), (fast_log, fast) = await asyncio.gather(run(name), run(name, speed=50))
    assert told(slow.responses) == told(fast.responses)
    assert order(slow_log) == order(fast_log)
    assert [item.text for item in slow.items] == [item.text for item in fast.items]
