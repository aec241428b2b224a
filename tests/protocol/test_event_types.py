import re
from pathlib import Path

import pytest

from recorder.protocol.event_types import ID_FIELDS, VOCABULARY, canonical, is_known, lookup, reference

ROOT = Path(__file__).parents[2]
TYPES = ROOT.parent / "shared" / "protocol" / "realtime.ts"

BY_NAME = {event_type.name: event_type for event_type in VOCABULARY}


def test_names_are_said_once() -> None:
    assert len(BY_NAME) == len(VOCABULARY)


@pytest.mark.parametrize(
    ("beta", "ga"),
    [
        ("response.audio.delta", "response.output_audio.delta"),
        ("response.audio.done", "response.output_audio.done"),
        ("response.audio_transcript.delta", "response.output_audio_transcript.delta"),
        ("response.audio_transcript.done", "response.output_audio_transcript.done"),
        ("response.text.delta", "response.output_text.delta"),
        ("response.text.done", "response.output_text.done"),
    ],
)
def test_beta_names_map_to_ga(beta: str, ga: str) -> None:
    assert canonical(beta) == ga
    assert BY_NAME[beta].canonical == ga
    assert BY_NAME[ga].dialect == "ga"


def test_other_names_are_their_own() -> None:
    assert canonical("conversation.item.created") == "conversation.item.created"
    assert canonical("made.up") == "made.up"
    assert not is_known("made.up")
    assert not is_known(None)
    assert lookup("made.up") is None
    assert lookup("ping") == BY_NAME["ping"]


def test_every_canonical_name_is_in_the_vocabulary() -> None:
    assert all(is_known(event_type.canonical) for event_type in VOCABULARY)


def test_descriptions_are_one_sentence() -> None:
    for event_type in VOCABULARY:
        assert event_type.description.endswith("."), event_type.name
        assert "|" not in event_type.description


def _interfaces() -> dict[str, tuple[str, dict[str, bool]]]:
    """Name of each event in the types → who sends it, and its fields beside `type` with whether they are required."""
    source = TYPES.read_text()
    bodies = dict(re.findall(r"^export interface (\w+) \{(.*?)\n\}", source, re.DOTALL | re.MULTILINE))
    sides = {"TranscriptionSessionUpdate": "client", "TranscriptionSessionUpdatedEvent": "server"}  # beta: in no union
    for side in ("Client", "Server"):
        union = re.search(rf"export type Realtime{side}Event =\s*((?:\|\s*[\w.]+\s*)+);", source)
        assert union is not None
        sides |= dict.fromkeys(re.findall(r"\|\s*(?:\w+\.)?(\w+)", union[1]), side.lower())
    found = {}
    for interface, side in sides.items():
        fields = dict(re.findall(r"^(\w+)(\??):", bodies[interface], re.MULTILINE))
        name = re.findall(r"^type: '([^']+)';", bodies[interface], re.MULTILINE)[-1]
        found[name] = (side, {field: mark == "" for field, mark in fields.items() if field != "type"})
    return found


@pytest.mark.skipif(not TYPES.exists(), reason="the protocol's type definitions are no part of the repository")
def test_every_event_of_the_protocols_types_is_known_with_its_sender_fields_and_ids() -> None:
    interfaces = _interfaces()
    assert len(interfaces) == 11 + 46 + 2
    assert sorted(interfaces.keys() - BY_NAME.keys()) == []
    for name, (sender, fields) in interfaces.items():
        row = BY_NAME[name]
        assert row.direction == sender, name
        assert fields.keys() - {*row.fields, *row.optional} == set(), name
        assert {field for field in row.fields if not fields.get(field, False)} == set(), f"{name}: not always there"
        assert {field for field in fields if field in ID_FIELDS} <= set(row.ids), name


def test_ids_come_from_the_top_level_and_from_the_item_or_response() -> None:
    assert BY_NAME["response.done"].ids == ("event_id", "response_id")
    assert BY_NAME["response.create"].ids == ("event_id",)
    assert BY_NAME["conversation.item.create"].ids == ("event_id", "item_id", "call_id", "previous_item_id")
    assert BY_NAME["websocket.close"].ids == ()


def test_fields_are_said_once() -> None:
    for row in VOCABULARY:
        named = [*row.fields, *row.optional]
        assert len(named) == len(set(named)), row.name
        assert "type" not in named, row.name


def test_paths_reach_into_the_objects_that_an_event_carries() -> None:
    paths = list(BY_NAME["conversation.item.added"].paths())
    assert {"type", "event_id", "previous_item_id", "item", "item.id", "item.call_id", "item.phase"} <= set(paths)
    assert "response.id" not in paths


def test_the_reference_page_is_up_to_date() -> None:
    page = ROOT / "docs" / "events.md"
    assert page.read_text() == reference(), "write it anew: docs/events.md is recorder.protocol.event_types.reference()"
