"""Policies over whole sessions, and over whatever can be said in them."""

import base64
import itertools
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

from recorder.protocol.decode import SessionDecoder
from recorder.protocol.envelope import Record, RecordedEvent, RecordKind
from recorder.protocol.frames import Side
from recorder.protocol.policy import ContentPolicy, hash_text
from tests.protocol.test_policy import (
    AUDIO,
    HASHES,
    NO_AUDIO,
    NO_CLIENT,
    NO_SERVER,
    NOTHING,
    POLICIES,
    SECRET,
    build,
    traces,
)

# Whole sessions


def record(kind: RecordKind, content: bytes | dict[str, Any]) -> Record:
    return Record(kind, next(TIMES), content if isinstance(content, bytes) else json.dumps(content).encode())


TIMES = itertools.count(1000)


def session(policy: ContentPolicy, closed: dict[str, Any], *records: Record) -> list[RecordedEvent]:
    recording = {"mode": "on", "policy": policy.facts()}
    opened = {"session_id": "s", "opened_at_ns": 1, "monotonic_ns": 0, "recording": recording}
    decoder = SessionDecoder()
    records = (
        record(RecordKind.OPENED, opened),
        record(RecordKind.ACCEPTED, {"status": 101, "headers": []}),
        *records,
        record(RecordKind.CLOSED, closed),
    )
    return [event for one in records for event in decoder.feed(one)]


def frame(message: object, *, mask: bool) -> bytes:
    return Frame(Opcode.TEXT, json.dumps(message).encode()).serialize(mask=mask)


def test_a_session_says_at_its_end_what_was_left_out() -> None:
    events = session(
        NOTHING,
        {"closed_by": None, "client_bytes": 900, "left_out": {"client_bytes": 1000, "server_bytes": 2000}},
        record(
            RecordKind.CLIENT_BYTES, frame({"type": "input_audio_buffer.append", "audio": AUDIO}, mask=True) + b"\xff"
        ),
        record(RecordKind.SERVER_BYTES, Frame(Opcode.CLOSE, Close(1000, SECRET).serialize()).serialize(mask=False)),
    )
    facts = json.loads(events[-1].payload or "")
    assert (facts["closed_by"], facts["close_code"], facts["close_reason"]) == ("upstream", 1000, hash_text(SECRET))
    assert facts["left_out"] == {
        "client_bytes": 1000 + len(AUDIO) + 1,
        "server_bytes": 2000 + len(SECRET),
        "audio_count": 1,
        "text_count": 1,
        "message_count": 1,
    }
    assert all(SECRET.encode() not in traces(event) for event in events)


def test_a_session_without_a_policy_says_nothing_of_it() -> None:
    events = session(ContentPolicy(), {"closed_by": None})
    assert json.loads(events[-1].payload or "") == {"closed_by": "lost", "close_code": None, "close_reason": None}


def test_who_closed_is_not_known_where_the_end_was_left_out() -> None:
    events = session(ContentPolicy(), {"closed_by": None, "left_out": {"client_bytes": 1, "server_bytes": 2}})
    facts = json.loads(events[-1].payload or "")
    assert (facts["closed_by"], facts["left_out"]) == (None, {"client_bytes": 1, "server_bytes": 2})


# Whatever is said

WORDS = st.text("abcdefghij äßŁ", min_size=3, max_size=30).map(lambda text: f"Quib {text} ble")
SAMPLES = st.binary(min_size=30, max_size=300).map(lambda data: b"\x01QuibBle\x02" + data)
KEYS = st.sampled_from(["type", "id", "text", "transcript", "item", "content", "session", "delta", "name", "x"]) | WORDS


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves | st.integers(-9, 9) | st.none() | st.booleans(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=12,
    )


TYPES = st.sampled_from(
    [
        "session.update",
        "conversation.item.create",
        "response.output_text.delta",
        "response.output_audio.delta",
        "response.done",
        "conversation.item.input_audio_transcription.completed",
        "unheard.of",
    ]
)
MESSAGES = st.builds(lambda body, kind: body | {"type": kind}, st.dictionaries(KEYS, trees(WORDS), max_size=5), TYPES)


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from texts(key)
            yield from texts(one)


@given(MESSAGES, st.booleans(), st.sampled_from(["client", "server"]))
def test_no_text_survives_anywhere(message: dict[str, Any], ascii_only: bool, direction: Side) -> None:
    data = json.dumps(message, ensure_ascii=ascii_only).encode()
    event, _ = build(HASHES, direction, data)
    left = traces(event)
    assert b"Quib " not in left
    for text in texts(message):
        if text.startswith("Quib "):
            assert text.encode() not in left
    assert json.loads(event.message()).keys() >= {"type"}


@given(
    MESSAGES,
    SAMPLES,
    st.sampled_from(["audio", "delta", "deep"]),
    st.sampled_from([NO_AUDIO, NO_CLIENT, NO_SERVER, NOTHING]),
    st.sampled_from(["client", "server"]),
)
def test_no_audio_survives_anywhere(
    message: dict[str, Any], samples: bytes, place: str, policy: ContentPolicy, direction: Side
) -> None:
    encoded = base64.b64encode(samples).decode()
    message = {
        "audio": message | {"audio": encoded},
        "delta": message | {"type": "response.output_audio.delta", "delta": encoded},
        "deep": {"type": "x", "item": {"content": [{"audio": encoded}, message]}},
    }[place]
    speaker = "server" if place == "delta" and direction == "server" else "client"
    whole, _ = build(ContentPolicy(), direction, message)
    event, _ = build(policy, direction, message)
    goes = policy.drop_audio == "both" or (direction == "client" and policy.drop_audio == speaker)
    if goes:
        assert encoded.encode() not in traces(event)
        assert samples not in traces(event)
        assert all(part.kind != "audio" for part in event.parts)
    assert event.audio_ms == whole.audio_ms
    assert event.direction == whole.direction


@given(st.binary(max_size=200), st.sampled_from(POLICIES))
def test_no_bytes_make_a_policy_fail(data: bytes, policy: ContentPolicy) -> None:
    event, left_out = build(policy, "client", data)
    assert not event.payload or isinstance(json.loads(event.message()), dict)
    assert left_out.client_bytes <= max(len(data), 1) * 2
