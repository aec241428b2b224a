"""States at a position, of sessions of any kind."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recorder.projection.conversation import HANDLERS, Conversation, project
from recorder.protocol.envelope import RecordedEvent
from tests.projection.words import Session, added, ids


def test_states_are_independent_of_later_events(session: Session) -> None:
    events = session(added("a", None), ("server", {"type": "response.text.delta", "item_id": "a", "delta": "x"}))
    conversation = Conversation()
    for event in events[:2]:
        conversation.apply(event)
    before = conversation.state()
    conversation.apply(events[2])
    assert before.items[0].text == ""
    assert conversation.items[0].text == "x"


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
