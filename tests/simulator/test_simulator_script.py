from pathlib import Path

import pytest

from recorder.errors import ScriptError
from recorder.simulator.conversation import Item
from recorder.simulator.director import Director
from recorder.simulator.ids import Ids
from recorder.simulator.script import Script, load_script, packaged_names, parse_script

EXPECTED = {
    "auth_error",
    "barge_in",
    "beta_names",
    "dangling_response",
    "default",
    "disconnect",
    "failed_response",
    "incomplete_response",
    "model_error",
    "push_to_talk",
    "server_close",
    "text_turn",
    "tool_call",
    "unknown_events",
    "voice_turn",
}


def test_every_packaged_script_is_valid_and_described() -> None:
    assert set(packaged_names()) >= EXPECTED
    for name in packaged_names():
        script = load_script(name)
        assert script.name == name
        assert script.description
        assert script.client.steps


def test_an_empty_file_is_a_script() -> None:
    assert parse_script("", source="empty.yaml", name="empty") == Script(name="empty")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("turns:\n  - say: [", "line 2: not valid YAML"),
        ("turns:\n  - say: hello\n    paze: 3\n", "unknown field `paze` - at `$.turns[0]`"),
        ("turns:\n  - pacing: {quue_ms: 3}\n", "pacing: Object contains unknown field `quue_ms` - at `$.turns[0]`"),
        ("client: {steps: [{speak: 1, wait: x}]}", "a step has exactly one of"),
        ("client: {steps: [{speak: -1}]}", "at `$.client.steps[0].speak`"),
        ("pacing: {pace: 0}", "at `$.pacing.pace`"),
        ("turns:\n  - pacing: {pace: 0}\n", "at `$.turns[0]`"),
        ("fallback: []", "at `$.fallback`"),
        ("session: {tools: 5}", "at `$.session`"),
        ("session: {audio: {input: {turn_detection: {type: magic}}}}", "at `$.session`"),
        ("- just\n- a list\n", "Expected `object`"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_a_bad_script_is_refused_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ScriptError) as refused:
        load_script(file)
    assert refused.value.path == str(file)
    assert problem in refused.value.problem
    assert "\n" not in refused.value.message


def test_a_missing_script_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ScriptError, match=r"no such script or file; packaged: .*voice_turn"):
        load_script("no_such_script")


def test_a_file_is_named_by_its_stem_or_by_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("model: gpt-realtime-mini")
    (tmp_path / "other.yaml").write_text("name: renamed")
    assert load_script(tmp_path / "mine.yaml").name == "mine"
    assert load_script(tmp_path / "other.yaml").name == "renamed"


def test_ids_look_real_and_repeat_by_lane() -> None:
    lane, again, other = Ids("1").lane("a"), Ids("1").lane("a"), Ids("1").lane("b")
    first = lane.new("event")
    assert first == again.new("event")
    assert first != other.new("event")
    assert len(first) == len("event_E6U0wB3eiENYwSnJIBpFN")
    assert first[:11] == other.new("item").replace("item", "event")[:11]
    assert len(lane.call()) == len("call_uMNE0Myi2tDTPu0w")
    assert len(" Hello" + lane.padding(" Hello")) == 16


def user(text: str) -> Item:
    return Item({"id": "item_1", "type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})


WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
    },
}


def test_default_repeats_what_was_said() -> None:
    turn = Director(load_script("default")).next_turn([user("Hi!")], [], "auto")
    assert turn.say == "I heard you say: Hi!"


@pytest.mark.parametrize(
    ("text", "choice", "calls"),
    [
        ("How is the weather?", "auto", True),
        ("How are you?", "auto", False),
        ("How are you?", "required", True),
        ("How are you?", {"type": "function", "name": "get_weather"}, True),
        ("How is the weather?", "none", False),
    ],
)
def test_default_calls_a_tool_that_fits_or_is_demanded(text: str, choice: object, calls: bool) -> None:
    turn = Director(load_script("default")).next_turn([user(text)], [WEATHER], choice)
    assert [call.arguments for call in turn.tools] == ([{"city": "example", "days": 1, "unit": "C"}] if calls else [])


def test_default_reports_a_tools_output() -> None:
    output = Item({"id": "item_2", "type": "function_call_output", "call_id": "call_1", "output": "12 degrees"})
    turn = Director(load_script("default")).next_turn([user("weather?"), output], [WEATHER], "auto")
    assert turn.say == "Here is what I found: 12 degrees"
