from typing import Any

import pytest

from recorder.simulator.audio import AudioFormat
from recorder.simulator.conversation import Conversation, Item, Tokens
from recorder.simulator.refusal import EventRefusedError
from recorder.simulator.session import Session
from recorder.simulator.usage import Meter, transcription_usage, usage_object
from recorder.simulator.vad import VadSettings


@pytest.fixture
def session() -> Session:
    return Session("sess_1", "gpt-realtime", dialect="ga", overrides={})


def update(session: Session, patch: dict[str, Any], *, has_spoken: bool = False) -> None:
    session.update({"type": "realtime", **patch}, has_spoken=has_spoken)


def test_an_update_merges_at_every_depth(session: Session) -> None:
    update(session, {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 0.7}}}})
    assert session.vad is not None
    assert (session.vad.threshold, session.vad.prefix_padding_ms) == (0.7, 300)
    assert session.wire["audio"]["output"]["voice"] == "alloy"


def test_null_turns_detection_off_and_an_object_turns_it_on_with_defaults(session: Session) -> None:
    update(session, {"audio": {"input": {"turn_detection": None}}})
    assert session.wire["audio"]["input"]["turn_detection"] is None
    update(session, {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}}})
    assert session.vad == VadSettings(kind="semantic_vad", silence_duration_ms=300)


def test_transcription_is_completed_with_its_defaults(session: Session) -> None:
    update(session, {"audio": {"input": {"transcription": {"model": "whisper-1"}}}})
    assert session.transcription == {"model": "whisper-1", "language": None, "prompt": None}


def test_a_format_is_replaced_whole(session: Session) -> None:
    update(session, {"audio": {"output": {"format": {"type": "audio/pcma"}}}})
    assert session.output_format is AudioFormat.ALAW
    assert session.wire["audio"]["output"]["format"] == {"type": "audio/pcma"}


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ({"modalities": ["text"]}, "unknown_parameter"),
        ({"id": "sess_2"}, "unknown_parameter"),
        ({"audio": {"input": {"format": {"type": "audio/opus"}}}}, "invalid_value"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}}, "invalid_value"),
        ({"audio": {"input": {"turn_detection": {"type": "magic"}}}}, "invalid_value"),
        ({"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 7}}}}, "invalid_value"),
        ({"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": "loud"}}}}, "invalid_type"),
        ({"audio": 5}, "invalid_type"),
    ],
)
def test_a_bad_update_changes_nothing(session: Session, patch: dict[str, Any], code: str) -> None:
    before = session.wire
    with pytest.raises(EventRefusedError) as refused:
        update(session, {"instructions": "New.", **patch})
    assert refused.value.code == code
    assert session.wire == before
    assert session.input_format is AudioFormat.PCM16


def test_the_voice_is_settled_once_it_was_heard(session: Session) -> None:
    update(session, {"audio": {"output": {"voice": "marin"}}})
    with pytest.raises(EventRefusedError, match="voice"):
        update(session, {"audio": {"output": {"voice": "alloy"}}}, has_spoken=True)
    assert session.voice == "marin"


def test_the_beta_session_is_flat() -> None:
    beta = Session("sess_1", "gpt-4o-realtime-preview", dialect="beta", overrides={})
    beta.update({"modalities": ["text"], "input_audio_format": "g711_ulaw"}, has_spoken=False)
    assert (beta.modalities, beta.input_format) == (["text"], AudioFormat.ULAW)


def message(item_id: str, text: str, role: str = "user") -> Item:
    content = [{"type": "input_text", "text": text}]
    return Item({"id": item_id, "type": "message", "role": role, "content": content})


def test_items_are_inserted_where_the_client_says() -> None:
    conversation = Conversation()
    for item_id, previous in [("b", None), ("a", "root"), ("d", None), ("c", "b")]:
        conversation.insert(message(item_id, ""), previous)
    assert [item.id for item in conversation.items] == ["a", "b", "c", "d"]
    with pytest.raises(EventRefusedError, match="already exists"):
        conversation.insert(message("a", ""), None)
    with pytest.raises(EventRefusedError, match="does not exist"):
        conversation.insert(message("e", ""), "nowhere")


def test_truncation_takes_the_transcript_and_shortens_the_prompt() -> None:
    wire = {
        "id": "a",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_audio", "transcript": "Hey!"}],
    }
    conversation = Conversation([Item(wire, audio_ms=1000)])
    assert conversation.items[0].tokens == Tokens(text=1, audio=20)
    with pytest.raises(EventRefusedError, match="Audio content of 1000ms is already shorter than 1001ms"):
        conversation.truncate("a", 1001)
    item = conversation.truncate("a", 500)
    assert (item.tokens, item.said, item.text) == (Tokens(text=0, audio=10), "Hey!", "")
    with pytest.raises(EventRefusedError, match="Audio content of 500ms is already shorter than 501ms"):
        conversation.truncate("a", 501)
    assert conversation.truncate("a", 200).truncated_ms == 200


def test_only_an_assistants_audio_can_be_truncated() -> None:
    conversation = Conversation([message("a", "hi")])
    with pytest.raises(EventRefusedError, match="Only model output audio"):
        conversation.truncate("a", 0)


def test_the_cache_holds_whole_blocks_of_the_previous_prompt() -> None:
    meter = Meter()
    items = [message("a", "x" * 400)]
    assert meter.prompt("y" * 400, [], items) == (Tokens(text=200), Tokens())
    items.append(message("b", "x" * 200))
    assert meter.prompt("y" * 400, [], items) == (Tokens(text=250), Tokens(text=192))
    assert meter.prompt("y" * 400, [], items, remember=False)[1] == Tokens(text=192)
    assert meter.prompt("changed", [], items)[1] == Tokens()


def test_usage_adds_up() -> None:
    usage = usage_object(Tokens(100, 20, 3), Tokens(64, 0, 0), Tokens(7, 40))
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (123, 47, 170)
    assert usage["input_token_details"]["cached_tokens"] == 64


def test_whisper_is_billed_by_seconds_the_others_by_tokens() -> None:
    assert transcription_usage("whisper-1", 2600, "hi") == {"type": "duration", "seconds": 3}
    assert transcription_usage("gpt-4o-transcribe", 2600, "hi there")["total_tokens"] == 28
