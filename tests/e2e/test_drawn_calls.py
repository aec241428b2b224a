"""Calls that hypothesis draws, played by the simulator: the models say what it says of itself, to the nanosecond.

Server and client live in one time (`virtual_time`), and the client's side of the socket is the tap. Truth comes from
the server's own book; what it does not note (tools' times, how far playing got) is worked out here from the client's
log.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import example, given, settings

from recorder.simulator.script import Script
from recorder.simulator.truth import ResponseTruth
from tests.drawing import examples
from tests.e2e import drawn_scripts
from tests.e2e.drawn_book import played
from tests.e2e.drawn_call import Call, call, near, seconds
from tests.e2e.drawn_tables import check_tables

APPEND_MS: Final = 20
AUDIO: Final = {"response.output_audio.delta", "response.audio.delta"}
TOKENS: Final = {
    "input_tokens": ("input_tokens",),
    "output_tokens": ("output_tokens",),
    "total_tokens": ("total_tokens",),
    "cached_tokens": ("input_token_details", "cached_tokens"),
    "input_audio_tokens": ("input_token_details", "audio_tokens"),
    "cached_audio_tokens": ("input_token_details", "cached_tokens_details", "audio_tokens"),
    "output_audio_tokens": ("output_token_details", "audio_tokens"),
}


def at(usage: dict[str, Any] | None, path: tuple[str, ...]) -> Any:
    value: Any = usage or {}
    for key in path:
        value = (value or {}).get(key)
    return value


def check_session(call: Call) -> None:
    truth, (row,) = call.truth, call.tables["sessions"]
    assert row["audio_in_seconds"] * 1000 == near(truth.audio_in_ms)
    assert row["audio_out_seconds"] * 1000 == near(truth.audio_out_ms)
    assert row["response_count"] == sum(not one.out_of_band for one in truth.responses if one.created_ns)
    assert row["interruption_count"] == len(truth.interruptions)
    assert row["tool_call_count"] == len(truth.tool_calls)
    assert row["error_count"] == len(truth.errors)
    assert row["duration_seconds"] == seconds(truth.opened_ns, truth.closed_ns)
    assert (row["total_tokens"] or 0) == truth.total("total_tokens")
    assert (row["heard_seconds"] or 0) * 1000 == near(sum(item["heard_ms"] or 0 for item in call.tables["items"]))


def check_responses(call: Call) -> None:
    rows, truths = call.tables["responses"], [one for one in call.truth.responses if one.created_ns is not None]
    truths.sort(key=lambda one: one.created_ns or 0)
    names = ("response_id", "out_of_band", "trigger", "status", "status_reason")
    assert [tuple(row[name] for name in names) for row in rows] == [
        (one.id, one.out_of_band, one.trigger, one.status, one.status_reason) for one in truths
    ]
    for row, one in zip(rows, truths, strict=True):
        assert row["queue_seconds"] == seconds(one.trigger_ns, one.created_ns)
        assert row["time_to_first_token_seconds"] == seconds(one.trigger_ns, one.first_token_ns)
        assert row["time_to_first_audio_seconds"] == seconds(one.trigger_ns, one.first_audio_ns)
        assert row["model_first_audio_seconds"] == seconds(one.created_ns, one.first_audio_ns)
        assert row["duration_seconds"] == seconds(one.created_ns, one.done_ns)
        assert row["audio_ms"] == near(one.audio_ms or None)
        assert {name: row[name] for name in TOKENS} == {name: at(one.usage, path) for name, path in TOKENS.items()}
        check_playing(call, row, one)
        check_voice_to_voice(call, row, one)


def check_playing(call: Call, row: dict[str, Any], one: ResponseTruth) -> None:
    """Speed and stalls of one response's audio, from its deltas."""
    audio = [(at_ns, ms) for at_ns, ms, response_id, _ in deltas(call) if response_id == one.id]
    if not audio:
        assert row["stall_count"] is None
        return
    span = (audio[-1][0] - audio[0][0]) / 1e9
    speed = sum(ms for _, ms in audio) / 1e3 / span if span else None
    assert row["generation_speed"] == (None if speed is None else pytest.approx(speed))
    end, stalls = float(audio[0][0]), []
    for at_ns, ms in audio:
        stalls += [at_ns - end] if at_ns - end >= 1e6 else []
        end = max(end, at_ns) + ms * 1e6
    assert (row["stall_count"], row["stall_ms"]) == (len(stalls), near(sum(stalls) / 1e6))


def check_voice_to_voice(call: Call, row: dict[str, Any], one: ResponseTruth) -> None:
    """From the last sample of the voice to the first audio of the answer, within an append."""
    if one.trigger != "vad" or one.first_audio_ns is None:
        return
    stops = [at_ns for at_ns, _ in call.said("server", "input_audio_buffer.speech_stopped")]
    stopped = max(number for number, at_ns in enumerate(stops) if at_ns <= one.trigger_ns)
    voice_end_ms = [speech.voice_end_ms for speech in call.truth.speech if speech.voice_end_ms is not None][stopped]
    appends = [at_ns for at_ns, _ in call.said("client", "input_audio_buffer.append")]
    number, into_ms = divmod(voice_end_ms, APPEND_MS)
    spoken_ns = appends[int(number)] + into_ms * 1e6
    true_ms = (one.first_audio_ns - spoken_ns) / 1e6
    assert abs(row["voice_to_voice_seconds"] * 1e3 - true_ms) <= APPEND_MS
    assert row["endpointing_seconds"] == pytest.approx(
        row["voice_to_voice_seconds"] - row["time_to_first_audio_seconds"], abs=2e-9
    )


def deltas(call: Call) -> Iterator[tuple[int, float, str, str]]:
    """Each audio delta's time, length in ms, response and item."""
    session = next(event for _, event in call.said("server", "session.created"))["session"]
    output = session.get("output_audio_format") or session["audio"]["output"]["format"]["type"]
    bytes_a_ms = 48 if output in {"pcm16", "audio/pcm"} else 8
    for at_ns, event in call.said("server", *AUDIO):
        text = event["delta"]
        length = len(text) * 3 // 4 - text.count("=")
        yield at_ns, length / bytes_a_ms, event["response_id"], event["item_id"]


def check_interruptions(call: Call) -> None:
    rows, truths = call.tables["interruptions"], call.truth.interruptions
    names = ("response_id", "item_id", "source", "truncate_status")
    assert [[row[name] for name in names] for row in rows] == [[getattr(one, name) for name in names] for one in truths]
    for row, one in zip(rows, truths, strict=True):
        assert row["at_ns"] == one.at_ns - call.truth.opened_ns
        assert row["generated_ms"] == near(one.generated_ms)
        if one.heard_ms is not None:
            assert (row["heard_ms"], row["heard_estimated"]) == (one.heard_ms, False)
        assert row["unheard_ms"] == near(row["generated_ms"] - row["heard_ms"])
        if one.source == "server_vad":
            assert row["delivered_ms"] == near(one.delivered_ms)


def check_items(call: Call) -> None:
    truths = {one.id: one for one in call.truth.items}
    for row in call.tables["items"]:
        one = truths.get(row["item_id"])
        if one is None or one.role != "assistant" or not one.audio_ms:
            continue
        assert row["generated_ms"] == near(one.audio_ms)
        if one.truncated_ms is not None:
            assert (row["heard_ms"], row["heard_estimated"]) == (one.truncated_ms, False)
        else:
            assert (row["heard_ms"], row["heard_estimated"]) == (near(played_ms(call, one.id)), True)


def played_ms(call: Call, item_id: str) -> float:
    """What a listener had heard of an item that nobody truncated, when it was cut off or the call ended."""
    audio = [(at_ns, ms) for at_ns, ms, _, item in deltas(call) if item == item_id]
    end_ns = call.truth.closed_ns or 0
    for one in call.truth.interruptions:
        if one.item_id == item_id and (one.source == "client" or interrupts(call)):
            end_ns = one.at_ns
    return played(audio, end_ns)


def interrupts(call: Call) -> bool:
    """Whether a voice stops the answer, as the session is configured."""
    session = next(event for _, event in call.said("server", "session.created"))["session"]
    listening = session if "turn_detection" in session else session["audio"]["input"]
    return (listening["turn_detection"] or {}).get("interrupt_response", True) is not False


def check_tools(call: Call) -> None:
    rows, truths = call.tables["tool_calls"], call.truth.tool_calls
    done = {event["call_id"]: at_ns for at_ns, event in call.said("server", "response.function_call_arguments.done")}
    assert [(row["call_id"], row["unanswered"]) for row in rows] == [
        (one.call_id, one.call_id in done and not one.answered) for one in truths
    ]
    first: dict[str, int] = {}
    for at_ns, event in call.said("server", "response.function_call_arguments.delta"):
        first.setdefault(event["call_id"], at_ns)
    output = {
        event["item"]["call_id"]: at_ns
        for at_ns, event in call.said("client", "conversation.item.create")
        if event["item"]["type"] == "function_call_output"
    }
    for row in rows:
        name = row["call_id"]
        assert row["arguments_seconds"] == seconds(first.get(name), done.get(name))
        assert row["execution_seconds"] == seconds(done.get(name), output.get(name))
        assert row["output_bytes"] == (4 if name in output else None)


def check_transcriptions(call: Call) -> None:
    committed = {event["item_id"]: at_ns for at_ns, event in call.said("server", "input_audio_buffer.committed")}
    stream = "conversation.item.input_audio_transcription"
    done = {event["item_id"]: at_ns for at_ns, event in call.said("server", f"{stream}.completed")}
    rows = call.tables["transcriptions"]
    assert {row["item_id"]: row["transcription_seconds"] for row in rows if row["status"] == "completed"} == {
        item_id: seconds(committed[item_id], at_ns) for item_id, at_ns in done.items()
    }


def check_pacing(call: Call) -> None:
    """A microphone is on time whenever it is on."""
    appends = [at_ns for at_ns, _ in call.said("client", "input_audio_buffer.append")]
    if len(appends) < 2:
        return
    (row,) = call.tables["pacing"]
    gaps = [(later - earlier) / 1e6 - APPEND_MS for earlier, later in pairwise(appends)]
    assert row["append_count"] == len(appends)
    assert row["span_seconds"] == seconds(appends[0], appends[-1])
    assert row["gap_count"] == sum(gap >= 500 for gap in gaps)


def check(call: Call) -> None:
    """Everything that is known of a call."""
    check_session(call)
    check_responses(call)
    check_interruptions(call)
    check_items(call)
    check_tools(call)
    check_transcriptions(call)
    check_pacing(call)
    check_tables(call)


@settings(max_examples=examples(6))
@example(script=drawn_scripts.TRUNCATED_TWICE)
@example(script=drawn_scripts.TRUNCATED_TWICE_AT_ONCE)
@example(script=drawn_scripts.BEFORE_THE_LAST_WAS_PLAYED)
@example(script=drawn_scripts.ASKED_BEFORE_THE_COMMIT)
@example(script=drawn_scripts.REFUSED_AMONG_OTHERS)
@example(script=drawn_scripts.REFUSED_AFTER_THE_COMMIT)
@given(script=drawn_scripts.scripts())
def test_the_models_agree_with_the_truth_of_drawn_calls(script: Script) -> None:
    check(call(script))
