"""The order of a conversation's items, and what is said in them."""

from __future__ import annotations

import pytest

from recorder.projection.conversation import project
from tests.projection.words import Session, added, ids, message


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
