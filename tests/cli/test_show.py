from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from recorder.errors import AmbiguousSessionError, EventNotFoundError, SessionNotFoundError, UsageError

Run = Callable[..., Result]

VOICE = "0199c2f1-0000-7000-8000-000000000001"


def shown(run: Run, *arguments: str) -> list[str]:
    result = run("show", *arguments)
    assert result.exit_code == 0, result.output
    assert result.exception is None
    return result.stdout.splitlines()


def test_a_timeline_folds_runs_and_says_what_happened(run: Run) -> None:
    lines = shown(run, "sess_voice")
    assert lines[0] == VOICE
    body = [" ".join(line.split()) for line in lines[3:]]
    assert body[0] == "+0.000 0 · recorder.session_opened wss://upstream.test"
    assert body[2] == "+0.300 2 ↑ input_audio_buffer.append ×50 1,000 ms"
    assert "+2.500 58 ↓ response.output_audio_transcript.delta ×2 “No way.”" in body
    assert "+3.200 62 ↑ conversation.item.truncate at 500 ms · item_a" in body
    assert "+12.000 67 ↓ response.done cancelled · turn_detected · tokens 120 in, 30 out" in body
    assert body[-1] == "+12.500 68 · recorder.session_closed by client · code 1000"


def test_all_gives_each_event_its_line(run: Run) -> None:
    assert len(shown(run, VOICE, "--all")) == 3 + 69
    assert len(shown(run, VOICE)) == 3 + 19


def test_recorded_words_cannot_command_the_terminal(run: Run) -> None:
    for arguments in (["sess_voice"], ["sess_voice", "--transcript"], ["sess_voice", "--at", "66"], ["last", "--json"]):
        text = run("show", *arguments).stdout
        assert not set(text) & {"\x1b", "\x9b", "\x07", "\u202e"}
    assert "Clear \\x1b[2J the \\u202escreen\\x9b1m!" in run("show", "sess_voice", "--transcript").stdout
    assert "evil\\x1b[31m.event" in run("show", "sess_voice").stdout


def test_a_session_without_times_shows_positions_only(run: Run) -> None:
    lines = shown(run, "5f0c")
    assert "no times" in lines[1]
    assert lines[3].split()[:2] == ["0", "·"]
    assert "+" not in "".join(lines[3:])
    assert lines[6].split(maxsplit=3)[3] == "undecodable: invalid UTF-8 at byte 0 · 11 bytes"


def test_the_transcript_has_speakers_and_what_was_heard(run: Run) -> None:
    lines = [" ".join(line.split()) for line in shown(run, "sess_voice", "--transcript")[3:]]
    assert lines == [
        "+2.000 user Clear \\x1b[2J the \\u202escreen\\x9b1m!",
        "+2.500 assistant No [not heard: way.] (interrupted: 500 of 2,000 ms heard)",
        "+3.400 tool call get_weather({})",
    ]


def test_the_state_at_a_moment(run: Run) -> None:
    text = "\n".join(" ".join(line.split()) for line in shown(run, "sess_voice", "--at", "+2.5"))
    assert "state after position 59, +2.500 s" in text
    assert "audio.output.voice = marin" in text
    assert "active response resp_1 since position 56" in text
    assert "assistant No way." in text
    assert "pending tool" not in text
    assert "pending tool get_weather({}) call_1" in "\n".join(
        " ".join(line.split()) for line in shown(run, "sess_voice", "--at", "66")
    )


@pytest.mark.parametrize("moment", ["59", "+2.5", "2026-09-21T14:13:22.5", "2026-09-21T16:13:22.500001+02:00"])
def test_a_moment_is_a_position_seconds_or_a_time(run: Run, moment: str) -> None:
    assert json.loads(run("show", "sess_voice", "--at", moment, "--json").stdout)["position"] == 59


def test_json_of_events_transcript_and_state(run: Run) -> None:
    events = json.loads(run("show", "sess_voice", "--json").stdout)
    assert [event["position"] for event in events] == list(range(69))
    assert events[1]["payload"]["session"]["id"] == "sess_voice"
    assert events[1]["offset_seconds"] == 0.25
    assert events[1]["recorded_at"] == "2026-09-21T14:13:20.250000000Z"
    items = json.loads(run("show", "sess_voice", "--transcript", "--json").stdout)
    assert [(item["id"], item["role"], item["heard_ms"]) for item in items] == [
        ("item_u", "user", None),
        ("item_a", "assistant", 500.0),
        ("item_f", None, None),
    ]
    state = json.loads(run("show", "sess_voice", "--at", "66", "--json").stdout)
    assert state["position"] == 66
    assert [call["name"] for call in state["pending_tool_calls"]] == ["get_weather"]


def test_a_running_session_shows_what_there_is(run: Run) -> None:
    lines = shown(run, "sess_running")
    assert "running" in lines[1]
    assert lines[-1].split()[3:5] == ["session.created", "sess_running"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nothing-like-it"], SessionNotFoundError),
        (["0199c"], AmbiguousSessionError),
        (["sess_voice", "--at", "69"], EventNotFoundError),
        (["sess_voice", "--at", "soon"], UsageError),
        (["sess_text", "--at", "+1"], UsageError),
        (["sess_voice", "--all", "--transcript"], UsageError),
    ],
)
def test_failures_are_ours(run: Run, arguments: list[str], error: type[Exception]) -> None:
    assert isinstance(run("show", *arguments).exception, error)
