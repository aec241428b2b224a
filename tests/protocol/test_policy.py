"""What a policy takes out must not be found again: not in a row, not in a part, in no form."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recorder.protocol import policy as rules
from recorder.protocol.builder import EventBuilder
from recorder.protocol.envelope import RecordedEvent
from recorder.protocol.frames import Side
from recorder.protocol.policy import ContentPolicy, LeftOut, hash_text

NO_AUDIO = ContentPolicy("both")
NO_CLIENT = ContentPolicy("client")
NO_SERVER = ContentPolicy("server")
HASHES = ContentPolicy(hash_text=True)
NOTHING = ContentPolicy("both", hash_text=True)
POLICIES = (NO_AUDIO, NO_CLIENT, NO_SERVER, HASHES, NOTHING)

PCM = bytes(range(7, 247))
AUDIO = base64.b64encode(PCM).decode()
IMAGE = "data:image/png;base64," + base64.b64encode(b"\x89PNG" * 60).decode()
SECRET = "Mrs. Quibble, born 1957"


def build(policy: ContentPolicy, direction: Side, message: object, **options: Any) -> tuple[RecordedEvent, LeftOut]:
    builder = EventBuilder("s", None, 0, policy)
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    return builder.message(direction, data, **options), builder.left_out


def kept(policy: ContentPolicy, direction: Side, message: object) -> Any:
    event, _ = build(policy, direction, message)
    return json.loads(event.message())


def traces(event: RecordedEvent) -> bytes:
    """All that is left of a message, values and bytes, however it is written."""
    row = msgspec.structs.asdict(event)
    parts = row.pop("parts")
    payload = event.payload or ""
    plain = payload.encode().decode("unicode_escape", "replace").encode("utf-8", "replace")
    return json.dumps(row, ensure_ascii=False).encode() + plain + event.message() + b"".join(p.data for p in parts)


# Which policy applies


def test_a_policy_travels_in_the_first_record() -> None:
    for chosen in (ContentPolicy(), *POLICIES):
        assert ContentPolicy.of({"recording": {"mode": "on", "policy": chosen.facts()}}) == chosen
    assert ContentPolicy.of({}).keeps_all
    assert ContentPolicy.of({"recording": {"mode": "on", "decided_by": "route"}}).keeps_all
    assert ContentPolicy.of({"recording": {"mode": "no-audio"}}) == NO_AUDIO


@pytest.mark.parametrize(
    "recording",
    [None, "on", [], {"policy": None}, {"policy": []}, {"policy": {"drop_audio": "all", "hash_text": "no"}}],
)
def test_a_policy_that_is_not_understood_is_the_strictest(recording: object) -> None:
    assert ContentPolicy.of({"recording": recording}) == NOTHING


# No audio


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        ("client", {"type": "input_audio_buffer.append", "audio": AUDIO}),
        ("client", {"type": "session.input_audio_buffer.append", "audio": AUDIO}),
        ("server", {"type": "response.output_audio.delta", "response_id": "r", "delta": AUDIO}),
        ("server", {"type": "response.audio.delta", "delta": AUDIO}),
        ("server", {"type": "session.output_audio.delta", "delta": AUDIO, "sample_rate": 24000, "channels": 1}),
        (
            "client",
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": AUDIO}]},
            },
        ),
        ("server", {"type": "response.content_part.done", "part": {"type": "audio", "audio": AUDIO}}),
    ],
)
def test_audio_goes_and_its_duration_stays(direction: Side, message: dict[str, Any]) -> None:
    whole, _ = build(ContentPolicy(), direction, message)
    event, left_out = build(NO_AUDIO, direction, message)
    assert (whole.parts[0].data, event.parts) == (PCM, ())
    assert event.audio_ms == whole.audio_ms == len(PCM) / 48
    assert (event.redacted, event.type, event.wire_bytes) == (True, whole.type, whole.wire_bytes)
    assert json.loads(event.payload or "") == json.loads(whole.payload or "")
    counted = left_out.client_bytes if direction == "client" else left_out.server_bytes
    assert (counted, left_out.audio_count, left_out.text_count, left_out.message_count) == (len(AUDIO), 1, 0, 0)
    one_speaker = NO_CLIENT if direction == "client" else NO_SERVER
    the_other = NO_SERVER if direction == "client" else NO_CLIENT
    assert build(one_speaker, direction, message)[0].parts == ()
    kept_event, nothing = build(the_other, direction, message)
    assert (kept_event.parts, kept_event.redacted, nothing) == (whole.parts, False, LeftOut())


def content(role: str | None, kind: str | None) -> dict[str, Any]:
    part = {"audio": AUDIO} | ({"type": kind} if kind else {})
    return {"type": "conversation.item.retrieved", "item": {"content": [part]} | ({"role": role} if role else {})}


@pytest.mark.parametrize(
    ("message", "whose"),
    [
        (content("user", "input_audio"), {"client"}),
        (content("user", None), {"client"}),
        (content("assistant", "output_audio"), {"server"}),
        (content("assistant", "audio"), {"server"}),
        (content(None, "input_audio"), {"client"}),
        (content(None, "audio"), {"client", "server"}),
        (content("assistant", "input_audio"), {"client", "server"}),
        (content("system", None), {"client", "server"}),
        ({"type": "x.input.echo", "audio": AUDIO}, {"client"}),
    ],
)
def test_whose_audio_a_server_repeats(message: dict[str, Any], whose: set[str]) -> None:
    for speaker, chosen in (("client", NO_CLIENT), ("server", NO_SERVER)):
        event, _ = build(chosen, "server", message)
        assert (AUDIO.encode() not in event.message()) == (speaker in whose)


def test_one_message_with_both_voices_loses_one() -> None:
    voices = [content("user", "input_audio")["item"], content("assistant", "output_audio")["item"]]
    event, left_out = build(NO_CLIENT, "server", {"type": "response.done", "response": {"output": voices}})
    output = json.loads(event.message())["response"]["output"]
    assert [item["content"][0]["audio"] for item in output] == ["", AUDIO]
    assert [part.data for part in event.parts] == [PCM]
    assert left_out.audio_count == 1


@pytest.mark.parametrize(
    "place",
    [
        {"type": "gateway.chunk", "data": AUDIO},
        {"type": "gateway.chunk", "deep": [{"er": ["note: " + AUDIO]}]},
        {"type": "gateway.chunk", "data": "\r\n".join(AUDIO[at : at + 76] for at in range(0, len(AUDIO), 76))},
        {"type": "gateway.chunk", "data": "data:audio/wav;base64," + AUDIO},
        {"type": "gateway.chunk", "data": PCM.hex()},
        {"type": "gateway.chunk", "samples": list(PCM)},
        {"type": "input_audio_buffer.append", "audio": [AUDIO[:40], AUDIO[40:80]]},
        {"type": "input_audio_buffer.append", "audio": AUDIO.rstrip("=") + "\n"},
    ],
)
@pytest.mark.parametrize("policy", [NO_AUDIO, NO_CLIENT])
def test_audio_in_unheard_of_places_goes_too(place: dict[str, Any], policy: ContentPolicy) -> None:
    event, left_out = build(policy, "client", place)
    text = event.message().decode()
    assert all(AUDIO[at : at + 24] not in text.replace("\\r\\n", "") for at in range(len(AUDIO) - 24))
    assert PCM.hex() not in text
    assert "21, 22, 23" not in text
    assert "21,22,23" not in text
    assert event.redacted
    assert left_out.audio_count > 0


def test_what_is_no_audio_stays_byte_for_byte() -> None:
    text = f'{{ "type":"conversation.item.create","item":{{"content":[{{"type":"input_text","text":"{SECRET}"}},'
    text += f' {{"type":"input_image","image_url":"{IMAGE}"}}]}}, "n":1.50}}'
    event, left_out = build(NO_AUDIO, "client", text.encode())
    assert (event.message(), event.redacted, left_out) == (text.encode(), False, LeftOut())


# Hashes for texts


def test_a_hash_is_the_same_for_the_same_text() -> None:
    assert hash_text(SECRET) == "hashed:sha256:" + hashlib.sha256(SECRET.encode()).hexdigest()[:16]
    assert hash_text(hash_text(SECRET)) == hash_text(SECRET)
    assert hash_text("") == ""
    assert hash_text("\ud83d") != hash_text("?")


H = hash_text
HASHED: list[tuple[Side, dict[str, Any], dict[str, Any]]] = [
    (
        "client",
        {
            "type": "session.update",
            "session": {
                "type": "realtime",
                "model": "gpt-realtime",
                "instructions": SECRET,
                "output_modalities": ["audio"],
                "audio": {
                    "input": {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": None},
                    "output": {"voice": "marin", "speed": 1.5},
                },
                "tools": [
                    {
                        "type": "function",
                        "name": "get_weather",
                        "description": SECRET,
                        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
                    }
                ],
                "tool_choice": "auto",
                "max_output_tokens": "inf",
            },
        },
        {
            "type": "session.update",
            "session": {
                "type": "realtime",
                "model": "gpt-realtime",
                "instructions": H(SECRET),
                "output_modalities": ["audio"],
                "audio": {
                    "input": {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": None},
                    "output": {"voice": "marin", "speed": 1.5},
                },
                "tools": [
                    {
                        "type": "function",
                        "name": "get_weather",
                        "description": H(SECRET),
                        "parameters": {H("type"): H("object"), H("properties"): {H("city"): {H("type"): H("string")}}},
                    }
                ],
                "tool_choice": "auto",
                "max_output_tokens": "inf",
            },
        },
    ),
    (
        "server",
        {
            "type": "response.done",
            "event_id": "event_1",
            "response": {
                "id": "resp_1",
                "status": "incomplete",
                "status_details": {"type": "incomplete", "reason": "max_output_tokens"},
                "metadata": {"name": "Quibble"},
                "output": [
                    {
                        "id": "item_1",
                        "type": "message",
                        "role": "assistant",
                        "content": [{"type": "output_audio", "transcript": "Hello"}],
                    },
                    {"type": "function_call", "name": "find", "call_id": "call_1", "arguments": '{"who":"Quibble"}'},
                    {"type": "message", "name": "Quibble"},
                ],
                "usage": {"total_tokens": 7, "input_token_details": {"text_tokens": 3}},
            },
        },
        {
            "type": "response.done",
            "event_id": "event_1",
            "response": {
                "id": "resp_1",
                "status": "incomplete",
                "status_details": {"type": "incomplete", "reason": "max_output_tokens"},
                "metadata": {H("name"): H("Quibble")},
                "output": [
                    {
                        "id": "item_1",
                        "type": "message",
                        "role": "assistant",
                        "content": [{"type": "output_audio", "transcript": H("Hello")}],
                    },
                    {"type": "function_call", "name": "find", "call_id": "call_1", "arguments": H('{"who":"Quibble"}')},
                    {"type": "message", "name": H("Quibble")},
                ],
                "usage": {"total_tokens": 7, "input_token_details": {"text_tokens": 3}},
            },
        },
    ),
    (
        "server",
        {"type": "error", "error": {"type": "invalid_request_error", "code": "bad_item", "message": SECRET}},
        {"type": "error", "error": {"type": "invalid_request_error", "code": "bad_item", "message": H(SECRET)}},
    ),
    (
        "server",
        {"type": "response.output_text.delta", "item_id": "i", "delta": "Hello", "logprobs": [{"token": "Hello"}]},
        {"type": "response.output_text.delta", "item_id": "i", "delta": "", "logprobs": None},
    ),
    (
        "server",
        {"type": "conversation.item.input_audio_transcription.updated", "item_id": "i", "transcript": "My name"},
        {"type": "conversation.item.input_audio_transcription.updated", "item_id": "i", "transcript": ""},
    ),
    (
        "server",
        {"type": "conversation.item.input_audio_transcription.completed", "item_id": "i", "transcript": "My name"},
        {"type": "conversation.item.input_audio_transcription.completed", "item_id": "i", "transcript": H("My name")},
    ),
    (
        "server",
        {"type": "input_audio_buffer.dtmf_event_received", "event": "9", "received_at": 1763605109},
        {"type": "input_audio_buffer.dtmf_event_received", "event": "", "received_at": 1763605109},
    ),
    (
        "server",
        {"type": "rate_limits.updated", "rate_limits": [{"name": "tokens", "remaining": 5}]},
        {"type": "rate_limits.updated", "rate_limits": [{"name": "tokens", "remaining": 5}]},
    ),
    (
        "client",
        {"type": "caller.known", "reason": "Quibble", "caller": {"id": "Quibble", "since": 1957}, "id": "not an id"},
        {
            "type": "caller.known",
            "reason": H("Quibble"),
            "caller": {H("id"): H("Quibble"), H("since"): 1957},
            "id": H("not an id"),
        },
    ),
]


@pytest.mark.parametrize(("direction", "message", "expected"), HASHED)
def test_texts_become_hashes_and_the_rest_stays(
    direction: Side, message: dict[str, Any], expected: dict[str, Any]
) -> None:
    event, left_out = build(HASHES, direction, message)
    assert json.loads(event.payload or "") == expected
    assert event.redacted == (message != expected)
    assert (left_out.text_count > 0) == event.redacted


def test_columns_say_what_the_payload_says() -> None:
    event, _ = build(HASHES, "client", {"type": "Quibble was here", "event_id": SECRET, "item": {"id": SECRET}})
    assert (event.type, event.event_id, event.item_id) == (H("Quibble was here"), H(SECRET), H(SECRET))


def test_audio_is_no_text_but_text_is_no_audio() -> None:
    event, _ = build(HASHES, "client", {"type": "input_audio_buffer.append", "audio": AUDIO, "note": SECRET})
    assert ([part.data for part in event.parts], event.audio_ms) == ([PCM], len(PCM) / 48)
    assert json.loads(event.payload or "")["note"] == H(SECRET)
    assert kept(HASHES, "client", {"type": "x", "audio": SECRET})["audio"] == H(SECRET)


def test_an_image_can_be_read_so_it_is_a_text() -> None:
    item = {"content": [{"type": "input_image", "image_url": IMAGE}]}
    event, _ = build(HASHES, "client", {"type": "conversation.item.create", "item": item})
    assert json.loads(event.message())["item"]["content"][0]["image_url"] == H(IMAGE)
    assert event.parts == ()


def test_what_stays_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8")
    named = {*rules._WORDS, *rules._OBJECTS, "reason", "code", "param"}
    assert [name for name in named if f"`{name}`" not in page and not name.endswith("_details")] == []


# What cannot be looked into


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("data", "options"),
    [
        (PCM, {"opcode": 2}),
        (b'{"type":"input_audio_buffer.append","audio":"AAAA', {}),
        (SECRET.encode(), {}),
        (json.dumps([{"type": "x", "text": SECRET}]).encode(), {}),
        (f'{{"type":"x","text":"{SECRET}","text":""}}'.encode(), {}),
        (f'{{"type":"{SECRET}","n":{"7" * 40}}}'.encode(), {}),
        (b'{"type":"x","a":' + b"[" * 5000 + b"]" * 5000 + b"}", {}),
        (b'{"type":"x","text":"\xff"}', {}),
        (b'{"type":"x"}', {"problem": "why"}),
        (PCM[:100], {"opcode": 9}),
        (PCM[:100], {"opcode": 10}),
        (PCM[:1], {"opcode": 8}),
    ],
)
def test_what_cannot_be_looked_into_is_kept_out(policy: ContentPolicy, data: bytes, options: dict[str, Any]) -> None:
    event, left_out = build(policy, "server", data, **options)
    assert (event.payload, event.parts, event.redacted, event.wire_bytes) == (None, (), True, len(data))
    assert left_out == LeftOut(server_bytes=len(data), message_count=1)
    control = {8: "websocket.close", 9: "websocket.ping", 10: "websocket.pong"}
    assert event.type == control.get(options.get("opcode", 1))
    assert event.event_id is None


def test_an_empty_ping_is_none_of_a_policys_business() -> None:
    event, left_out = build(NOTHING, "server", b"", opcode=9)
    assert (event.type, event.redacted, left_out) == ("websocket.ping", False, LeftOut())
