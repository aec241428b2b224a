import re
from pathlib import Path

import pytest

from recorder.protocol.event_types import VOCABULARY, canonical, is_known, lookup, reference

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


@pytest.mark.skipif(not TYPES.exists(), reason="the protocol's type definitions are no part of the repository")
def test_every_event_of_the_protocols_types_is_known_with_its_sender() -> None:
    source = TYPES.read_text()
    senders: dict[str, str] = {}
    for side in ("Client", "Server"):
        union = re.search(rf"export type Realtime{side}Event =\s*((?:\|\s*[\w.]+\s*)+);", source)
        assert union is not None
        for interface in re.findall(r"\|\s*(?:\w+\.)?(\w+)", union[1]):
            body = re.search(rf"export interface {interface} \{{(.*?)\n\}}", source, re.DOTALL)
            assert body is not None, interface
            name = re.findall(r"^type: '([^']+)';", body[1], re.MULTILINE)[-1]
            senders[name] = side.lower()
    senders |= {"transcription_session.update": "client", "transcription_session.updated": "server"}
    assert len(senders) == 11 + 46 + 2
    assert {name: BY_NAME[name].direction for name in senders if name in BY_NAME} == senders


def test_the_reference_page_is_up_to_date() -> None:
    page = ROOT / "docs" / "events.md"
    assert page.read_text() == reference(), "write it anew: docs/events.md is recorder.protocol.event_types.reference()"
