from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.projection.conversation import HANDLERS, Conversation, project
from recorder.projection.state import split_heard
from recorder.protocol.envelope import RecordedEvent

Session = Callable[..., list[RecordedEvent]]


def message(item_id: str | None, role: str = "user", text: str = "", **more: Any) -> dict[str, Any]:
    kind = {"user": "input_text", "system": "input_text", "assistant": "output_text"}[role]
    content = [{"type": kind, "text": text}] if text else []
    return {"id": item_id, "type": "message", "role": role, "content": content, **more}


def added(item_id: str, previous: str | None, **more: Any) -> tuple[str, dict[str, Any]]:
    event = {"type": "conversation.item.added", "previous_item_id": previous, "item": message(item_id, **more)}
    return "server", event


def ids(events: list[RecordedEvent], at: int | None = None) -> list[str | None]:
    return [item.id for item in project(events, at).items]


def pcm(milliseconds: int) -> str:
    return "AAAA" * (milliseconds * 16)


def audio_delta(item_id: str, milliseconds: int, response_id: str = "r1") -> dict[str, Any]:
    return {
        "type": "response.output_audio.delta",
        "response_id": response_id,
        "item_id": item_id,
        "content_index": 0,
        "delta": pcm(milliseconds),
    }


# Order


def test_previous_item_id_puts_an_item_where_the_server_says(session: Session) -> None:
    events = session(added("a", None), added("b", "a"), added("c", "a"), added("d", "b"))
    assert ids(events) == ["a", "c", "b", "d"]
    assert ids(events, at=2) == ["a", "b"]


def test_null_means_first_from_a_server_that_keeps_the_order(session: Session) -> None:
    assert ids(session(added("a", None), added("b", "a"), added("c", None))) == ["c", "a", "b"]


def test_null_where_all_before_is_deleted_does_not_put_an_item_before_it(session: Session) -> None:
    deleted = [("server", {"type": "conversation.item.deleted", "item_id": one}) for one in ("a", "b")]
    assert ids(session(added("a", None), added("b", "a"), *deleted, added("c", None))) == ["a", "b", "c"]
    assert ids(session(added("a", None), added("b", "a"), deleted[0], added("c", None))) == ["c", "a", "b"]


def test_null_means_nothing_from_a_server_that_sends_nothing_else(session: Session) -> None:
    assert ids(session(added("a", None), added("b", None), added("c", None))) == ["a", "b", "c"]


def test_an_unknown_predecessor_and_a_missing_one_append(session: Session) -> None:
    missing = {"type": "conversation.item.created", "item": message("c")}
    assert ids(session(added("a", None), added("b", "never seen"), ("server", missing))) == ["a", "b", "c"]


def test_root_comes_first(session: Session) -> None:
    create = {
        "type": "conversation.item.create",
        "previous_item_id": "root",
        "item": message("s", "system", "Be kind."),
    }
    events = session(added("a", None), ("client", create), added("s", None, role="system"))
    assert ids(events, at=2) == ["s", "a"]
    assert [item.confirmed for item in project(events, at=2).items] == [False, True]
    assert ids(events) == ["s", "a"]
    assert all(item.confirmed for item in project(events).items)


def test_a_later_word_on_an_item_does_not_move_it(session: Session) -> None:
    done = {"type": "conversation.item.done", "previous_item_id": "a", "item": message("b", status="completed")}
    events = session(added("a", None), added("b", "a"), added("c", "a"), ("server", done))
    assert ids(events) == ["a", "c", "b"]


def test_deleted_items_keep_their_place_flagged(session: Session) -> None:
    gone = ("server", {"type": "conversation.item.deleted", "item_id": "a"})
    state = project(session(added("a", None), added("b", "a"), gone, added("c", "b")))
    assert [(item.id, item.deleted) for item in state.items] == [("a", True), ("b", False), ("c", False)]


def test_an_item_the_client_sent_without_an_id_gets_the_servers(session: Session) -> None:
    create = ("client", {"type": "conversation.item.create", "item": message(None, text="Hi")})
    events = session(create, added("srv", None, text="Hi"))
    before, after = project(events, at=1).items, project(events).items
    assert [(item.id, item.text, item.confirmed) for item in before] == [(None, "Hi", False)]
    assert [(item.id, item.text, item.confirmed, item.position) for item in after] == [("srv", "Hi", True, 1)]


def test_an_item_that_the_server_refused_is_taken_back(session: Session) -> None:
    create = ("client", {"type": "conversation.item.create", "event_id": "e1", "item": message("x", text="Hi")})
    error = ("server", {"type": "error", "error": {"code": "item_exists", "event_id": "e1"}})
    events = session(create, error)
    assert ids(events, at=1) == ["x"]
    assert ids(events) == []


def test_an_item_that_an_error_speaks_of_is_taken_back(session: Session) -> None:
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "param": "item.content[0].type"}}
    asked = {"type": "conversation.item.create", "item": message(None)}
    assert project(session(("client", asked), ("server", refusal))).items == []


# Content


@pytest.mark.parametrize(
    ("delta", "done", "field"),
    [
        ("response.output_text.delta", "response.output_text.done", "text"),
        ("response.text.delta", "response.text.done", "text"),
        ("response.output_audio_transcript.delta", "response.output_audio_transcript.done", "transcript"),
        ("response.audio_transcript.delta", "response.audio_transcript.done", "transcript"),
    ],
)
def test_text_grows_by_deltas_and_ends_with_the_whole(session: Session, delta: str, done: str, field: str) -> None:
    where = {"response_id": "r1", "item_id": "a", "content_index": 0}
    events = session(
        ("server", {"type": delta, **where, "delta": "Hel"}),
        ("server", {"type": delta, **where, "delta": "lo"}),
        ("server", {"type": done, **where, field: "Hello!"}),
        ("server", {"type": delta, **where, "delta": " late double"}),
    )
    said = [project(events, at=position).items[0].text for position in (1, 2, 3, 4)]
    assert said == ["Hel", "Hello", "Hello!", "Hello!"]
    assert project(events).items[0].role == "assistant"


def test_input_transcription_by_deltas_by_updates_and_whole(session: Session) -> None:
    stream = "conversation.item.input_audio_transcription"
    events = session(
        ("server", {"type": "input_audio_buffer.committed", "previous_item_id": None, "item_id": "u"}),
        ("server", {"type": f"{stream}.delta", "item_id": "u", "content_index": 0, "delta": "Good"}),
        ("server", {"type": f"{stream}.updated", "item_id": "u", "content_index": 0, "transcript": "Good mor"}),
        ("server", {"type": f"{stream}.delta", "item_id": "u", "content_index": 0, "delta": "ning"}),
        ("server", {"type": f"{stream}.completed", "item_id": "u", "content_index": 0, "transcript": "Good morning."}),
    )
    said = [project(events, at=position).items[0].text for position in range(1, 6)]
    assert said == ["", "Good", "Good mor", "Good morning", "Good morning."]
    assert project(events).items[0].role == "user"


def test_a_truncated_item_keeps_what_was_generated_and_says_what_was_heard(session: Session) -> None:
    where = {"response_id": "r1", "item_id": "a", "content_index": 0}
    text = "one two three four "
    events = session(
        ("server", {"type": "response.output_audio_transcript.done", **where, "transcript": text}),
        ("server", audio_delta("a", 1000)),
        ("server", {"type": "conversation.item.truncated", "item_id": "a", "content_index": 0, "audio_end_ms": 500}),
        ("server", {"type": "conversation.item.done", "item": {"id": "a", "content": [{"type": "output_audio"}]}}),
    )
    item = project(events).items[0]
    assert (item.truncated, item.audio_ms, item.heard_ms, item.heard_estimated) == (True, 1000.0, 500.0, False)
    assert item.text == text
    assert split_heard(item) == ("one two three", " four ")


@pytest.mark.parametrize(
    ("text", "heard_ms", "unheard"),
    [
        ("one two three", 500, " three"),
        ("one two three", 700, ""),
        ("one two three", 0, "one two three"),
        ("0123456789abcdefghij", 350, "789abcdefghij"),
        ("你好，请问有什么可以帮您", 500, "什么可以帮您"),
        ("on " + "x" * 57, 500, ""),
        ("on " + "x" * 58, 500, "x" * 31),
    ],
)
def test_a_word_that_has_begun_is_heard(session: Session, text: str, heard_ms: int, unheard: str) -> None:
    where = {"response_id": "r1", "item_id": "a", "content_index": 0}
    events = session(
        ("server", {"type": "response.output_audio_transcript.done", **where, "transcript": text}),
        ("server", audio_delta("a", 1000)),
        ("server", {"type": "conversation.item.truncated", "item_id": "a", "audio_end_ms": heard_ms}),
    )
    assert split_heard(project(events).items[0])[1] == unheard


def test_a_truncation_beyond_the_audio_is_clamped(session: Session) -> None:
    cut = {"type": "conversation.item.truncated", "item_id": "a", "content_index": 0, "audio_end_ms": 9999}
    item = project(session(("server", audio_delta("a", 100)), ("server", cut))).items[0]
    assert item.heard_ms == 100.0
    assert item.audio_end_ms == 9999.0


def test_a_barge_in_without_truncation_is_estimated(session: Session) -> None:
    events = session(
        ("server", audio_delta("a", 2000), 1.0),
        ("server", {"type": "input_audio_buffer.speech_started", "audio_start_ms": 0, "item_id": "u"}, 1.5),
        ("server", audio_delta("a", 1000), 1.6),
        ("server", {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 900, "item_id": "u"}, 9.0),
    )
    item = project(events).items[0]
    assert (item.heard_ms, item.heard_estimated, item.audio_ms) == (500.0, True, 3000.0)
    assert item.interrupted
    assert not item.truncated


@pytest.mark.parametrize(
    "stop",
    [
        {"type": "response.cancel"},
        {"type": "output_audio_buffer.clear"},
        {"type": "conversation.item.truncate", "item_id": "a"},
    ],
)
def test_a_client_that_stops_has_heard_so_far(session: Session, stop: dict[str, Any]) -> None:
    later = {"type": "rate_limits.updated", "rate_limits": []}
    state = project(session(("server", audio_delta("a", 2000), 1.0), ("client", stop, 1.25), ("server", later, 9.0)))
    assert [(item.heard_ms, item.heard_estimated, item.interrupted) for item in state.items] == [(250.0, True, True)]


def test_a_truncation_holds_from_the_request_on_until_it_is_refused(session: Session) -> None:
    ask = {"type": "conversation.item.truncate", "event_id": "e1", "item_id": "a", "audio_end_ms": 700}
    refusal = {"type": "error", "error": {"code": "invalid_value", "event_id": "e1"}}
    events = session(("server", audio_delta("a", 2000), 1.0), ("client", ask, 1.25), ("server", refusal, 1.3))
    items = [project(events, at=position).items[0] for position in (2, 3)]
    assert [(item.heard_ms, item.heard_estimated) for item in items] == [(700.0, False), (250.0, True)]
    assert [(item.interrupted, item.truncated) for item in items] == [(True, False)] * 2


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        ({"param": "audio_end_ms"}, False),
        ({"message": "Audio content of 2000ms is already shorter than 700ms"}, False),
        ({"code": "input_audio_buffer_commit_empty"}, True),
    ],
)
def test_a_refusal_that_names_nothing_is_matched_by_what_it_says(
    session: Session, error: dict[str, Any], kept: bool
) -> None:
    ask = {"type": "conversation.item.truncate", "item_id": "a", "audio_end_ms": 700}
    events = session(("server", audio_delta("a", 2000)), ("client", ask), ("server", {"type": "error", "error": error}))
    assert project(events).items[0].audio_end_ms == (700.0 if kept else None)


def test_a_sideband_tells_what_was_played(session: Session) -> None:
    buffer = {"response_id": "r1"}
    events = session(
        ("server", {"type": "response.created", "response": {"id": "r1"}}, 1.0),
        ("server", {"type": "response.output_item.added", "response_id": "r1", "item": message("a", "assistant")}, 1.1),
        ("server", {"type": "output_audio_buffer.started", **buffer}, 2.0),
        ("server", {"type": "input_audio_buffer.speech_started", "item_id": "u", "audio_start_ms": 0}, 3.4),
        ("server", {"type": "output_audio_buffer.cleared", **buffer}, 3.5),
        ("server", {"type": "response.done", "response": {"id": "r1", "status": "cancelled"}}, 4.0),
    )
    heard = [project(events, at=position).items[0] for position in (2, 3, 4, 6)]
    assert [(item.heard_ms, item.interrupted) for item in heard] == [
        (None, False),
        (0.0, False),
        (1400.0, True),
        (1500.0, True),
    ]


def test_content_without_ids_is_of_the_response_that_started_last_and_its_last_item(session: Session) -> None:
    delta = {"type": "response.output_audio_transcript.delta", "delta": "Hi"}
    events = session(
        ("server", {"type": "response.created", "response": {"id": "r1"}}),
        ("server", {"type": "response.output_item.added", "item": message("a", "assistant")}),
        ("server", delta),
        ("server", {"type": "response.done", "response": {"status": "completed"}}),
    )
    state = project(events)
    assert [(item.id, item.text, item.response_id) for item in state.items] == [("a", "Hi", "r1")]
    assert state.active_responses == []


def test_heard_is_unknown_without_times(session: Session) -> None:
    item = project(session(("server", audio_delta("a", 2000)))).items[0]
    assert (item.audio_ms, item.heard_ms) == (2000.0, None)


# Tool calls and responses


def call_events() -> list[tuple[str, dict[str, Any]]]:
    item = {"id": "f", "type": "function_call", "status": "in_progress", "name": "get_weather", "call_id": "c1"}
    where = {"response_id": "r1", "item_id": "f", "call_id": "c1"}
    return [
        ("server", {"type": "response.created", "response": {"id": "r1", "conversation_id": "conv"}}),
        ("server", {"type": "response.output_item.added", "response_id": "r1", "item": item}),
        ("server", {"type": "response.function_call_arguments.delta", **where, "delta": '{"city":'}),
        ("server", {"type": "response.function_call_arguments.done", **where, "arguments": '{"city": "Bonn"}'}),
        ("server", {"type": "response.done", "response": {"id": "r1", "status": "completed", "output": []}}),
        (
            "client",
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            },
        ),
    ]


def test_a_tool_call_is_pending_until_its_output(session: Session) -> None:
    events = session(*call_events())
    pending = [project(events, at=position).pending_tool_calls for position in range(7)]
    assert [len(calls) for calls in pending] == [0, 0, 1, 1, 1, 1, 0]
    assert (pending[3][0].arguments, pending[3][0].complete) == ('{"city":', False)
    assert (pending[4][0].arguments, pending[4][0].complete) == ('{"city": "Bonn"}', True)
    assert project(events).items[-1].output == "rain"


def test_responses_are_active_from_created_to_done(session: Session) -> None:
    events = session(*call_events())
    assert [[active.id for active in project(events, at=n).active_responses] for n in (0, 1, 4, 5)] == [
        [],
        ["r1"],
        ["r1"],
        [],
    ]


@pytest.mark.parametrize("response", [{"id": "r9", "conversation_id": None}, {"id": "r9"}])
def test_out_of_band_responses_stay_outside(session: Session, response: dict[str, Any]) -> None:
    events = session(
        added("a", None, text="Hi"),
        ("client", {"type": "response.create", "response": {"conversation": "none"}}),
        ("server", {"type": "response.created", "response": response}),
        ("server", {"type": "response.output_item.added", "response_id": "r9", "item": message("o", "assistant")}),
        ("server", {"type": "response.output_text.delta", "response_id": "r9", "item_id": "o", "delta": "aside"}),
    )
    state = project(events)
    assert [item.id for item in state.items] == ["a"]
    assert [(item.id, item.text, item.out_of_band) for item in state.out_of_band] == [("o", "aside", True)]
    assert state.active_responses[0].out_of_band


def test_response_done_alone_tells_the_answer(session: Session) -> None:
    done = {"id": "r1", "status": "completed", "output": [message("a", "assistant", "All at once.")]}
    state = project(session(("server", {"type": "response.done", "response": done})))
    assert [(item.id, item.text, item.response_id) for item in state.items] == [("a", "All at once.", "r1")]


# Session and input audio


def test_the_configuration_is_what_the_server_confirmed(session: Session) -> None:
    vad = {"type": "server_vad", "threshold": 0.5}
    events = session(
        ("server", {"type": "session.created", "session": {"model": "m", "audio": {"input": {"turn_detection": vad}}}}),
        ("client", {"type": "session.update", "session": {"instructions": "never confirmed"}}),
        ("server", {"type": "session.updated", "session": {"audio": {"output": {"voice": "marin"}}}}),
        (
            "server",
            {"type": "session.updated", "session": {"audio": {"input": {"turn_detection": {"threshold": 0.7}}}}},
        ),
        (
            "server",
            {"type": "session.updated", "session": {"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}},
        ),
    )
    assert project(events, at=4).session == {
        "model": "m",
        "audio": {
            "input": {"turn_detection": {"type": "server_vad", "threshold": 0.7}},
            "output": {"voice": "marin"},
        },
    }
    assert project(events).session["audio"]["input"] == {"turn_detection": {"type": "semantic_vad"}}


def test_uncommitted_audio_by_client_commit_and_clear(session: Session) -> None:
    append = ("client", {"type": "input_audio_buffer.append", "audio": pcm(100)})
    events = session(
        append,
        append,
        ("client", {"type": "input_audio_buffer.commit"}),
        append,
        ("server", {"type": "input_audio_buffer.committed", "item_id": "u"}),
        ("client", {"type": "input_audio_buffer.clear"}),
        append,
        ("server", {"type": "input_audio_buffer.cleared"}),
    )
    waiting = [project(events, at=position).uncommitted_audio_ms for position in range(9)]
    assert waiting == [0, 100, 200, 200, 300, 100, 100, 200, 100]
    assert project(events).items[0].audio_ms == 200.0


def test_a_refused_commit_is_forgotten(session: Session) -> None:
    append = ("client", {"type": "input_audio_buffer.append", "audio": pcm(100)})
    events = session(
        ("client", {"type": "input_audio_buffer.commit"}),
        ("server", {"type": "error", "error": {"code": "input_audio_buffer_commit_empty"}}),
        append,
        ("client", {"type": "input_audio_buffer.commit"}),
        ("server", {"type": "input_audio_buffer.committed", "item_id": "u"}),
    )
    state = project(events)
    assert (state.items[0].audio_ms, state.uncommitted_audio_ms) == (100.0, 0.0)


def test_uncommitted_audio_by_server_vad(session: Session) -> None:
    append = ("client", {"type": "input_audio_buffer.append", "audio": pcm(100)})
    events = session(
        *[append] * 5,
        ("server", {"type": "input_audio_buffer.speech_started", "audio_start_ms": 100, "item_id": "u"}),
        ("server", {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 400, "item_id": "u"}),
        ("server", {"type": "input_audio_buffer.committed", "item_id": "u", "previous_item_id": None}),
    )
    state = project(events)
    assert state.items[0].audio_ms == 300.0
    assert state.uncommitted_audio_ms == 100.0


def test_a_close_ends_it(session: Session) -> None:
    assert project(session(("recorder", {"type": "recorder.session_closed"}))).closed


def test_states_are_independent_of_later_events(session: Session) -> None:
    events = session(added("a", None), ("server", {"type": "response.text.delta", "item_id": "a", "delta": "x"}))
    conversation = Conversation()
    for event in events[:2]:
        conversation.apply(event)
    before = conversation.state()
    conversation.apply(events[2])
    assert before.items[0].text == ""
    assert conversation.items[0].text == "x"


# Anything at all

KEYS = ["item", "session", "response", "part", "error", "delta", "text", "transcript", "arguments", "audio_end_ms"]
IDS = st.sampled_from(["a", "b", "c", "root", "", None, 7, ["x"]])
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "type", "content", *KEYS]), inner)
    ),
    max_leaves=6,
)
ITEMS = st.fixed_dictionaries(
    {"id": IDS},
    optional={
        "type": st.sampled_from(["message", "function_call", "function_call_output", 3]),
        "role": st.sampled_from(["user", "assistant", None]),
        "call_id": IDS,
        "content": JUNK | st.just([{"type": "input_text", "text": "hi"}]),
        "status": JUNK,
    },
)
MESSAGES = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted({name for _, name in HANDLERS}))},
    optional={
        "item_id": IDS,
        "previous_item_id": IDS,
        "response_id": IDS,
        "call_id": IDS,
        "event_id": IDS,
        "content_index": st.sampled_from([0, 1, -1, 10**30, "0"]),
        "item": ITEMS | JUNK,
        "response": st.fixed_dictionaries({"id": IDS, "output": st.lists(ITEMS, max_size=2)}) | JUNK,
        **dict.fromkeys(KEYS[1:2] + KEYS[3:], JUNK),
    },
)
LINES = st.lists(st.tuples(st.sampled_from(["client", "server"]), MESSAGES), max_size=25)


@given(lines=LINES)
def test_any_prefix_of_anything_gives_a_sound_state(session: Session, lines: list[tuple[str, dict[str, Any]]]) -> None:
    events = session(*lines)
    conversation = Conversation()
    for event in events:
        conversation.apply(event)
        state = conversation.state()
        named = [item.id for item in [*state.items, *state.out_of_band] if item.id is not None]
        assert len(named) == len(set(named))
        assert state == project(events, at=event.position)
        assert state.uncommitted_audio_ms >= 0


@given(places=st.lists(st.integers(0, 30), max_size=20))
def test_any_inserts_equal_inserts_into_a_list(session: Session, places: list[int]) -> None:
    expected: list[str] = ["first", "second"]
    lines = [added("first", None), added("second", "first")]
    for number, wanted in enumerate(places):
        place = wanted % (len(expected) + 1)
        lines.append(added(f"i{number}", expected[place - 1] if place else None))
        expected.insert(place, f"i{number}")
    assert ids(session(*lines)) == expected


@given(payload=st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_payloads_that_are_no_json_change_nothing(payload: str) -> None:
    event = RecordedEvent("s", 1, "server", None, None, "conversation.item.added", item_id="a", payload=payload)
    state = project([event])
    assert state.position == 1
    assert state.items == []


def test_numbers_and_strings_json_cannot_hold_are_made_harmless(session: Session) -> None:
    text = b'{"type":"session.created","session":{"a":NaN,"b":"\\ud800","c":1e999,"model":"m"}}'
    state = project(session(("server", text)))
    assert state.session["model"] == "m"
    assert json.loads(json.dumps(state.session, allow_nan=False)) == state.session
    str(state.session).encode()
