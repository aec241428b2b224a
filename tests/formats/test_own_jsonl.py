from __future__ import annotations

import base64
import json
import struct
import uuid
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.errors import ImportFormatError
from recorder.formats import jsonl
from recorder.formats.foreign_session import ForeignSession
from recorder.formats.own_jsonl import OwnSession
from recorder.protocol.builder import EventBuilder
from recorder.protocol.envelope import RecordedEvent

SESSION = "019c1410-7c00-7000-8000-000000000001"
OPENED_NS = 1_769_860_800_123_456_789


def opened(session_id: str = SESSION, **more: Any) -> str:
    return json.dumps({"session_id": session_id, "source": "proxy", "opened_at_ns": OPENED_NS, "é": "\u2028", **more})


def session(*messages: tuple[Any, bytes, int, str | None], closed: bool = True) -> list[RecordedEvent]:
    """Events as the decode makes them, of (direction, data, opcode, problem)."""
    builder = EventBuilder(SESSION, OPENED_NS, 7)
    events = [builder.own("recorder.session_opened", opened(), 7)]
    for number, (direction, data, opcode, problem) in enumerate(messages):
        at_ns = 8 + 1_000 * number
        events.append(builder.message(direction, data, opcode=opcode, wire_bytes=3, at_ns=at_ns, problem=problem))
    events.append(builder.own("recorder.gap", '{"direction":"server","bytes":3,"reason":"ring full"}', None))
    if closed:
        events.append(builder.own("recorder.session_closed", '{"closed_by":"client"}', 10**12))
    return events


def export(path: Path, events: list[RecordedEvent]) -> Path:
    with path.open("wb") as file:
        assert jsonl.export(events, file) == len(events)
    return path


AUDIO = st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["input_audio_buffer.append", "response.output_audio.delta", "session.update", "odd"])},
    optional={
        "audio": AUDIO | JSON,
        "delta": AUDIO | JSON,
        "event_id": JSON,
        "response_id": JSON,
        "output_index": JSON,
        "session": st.builds(lambda value: {"tools": [{"authorization": value}]}, JSON),
        "client_secret": st.fixed_dictionaries({"value": st.text()}),
        "item": JSON,
    },
)  # fmt: skip
TEXTS = st.builds(
    lambda value, ascii_, spaced: json.dumps(value, ensure_ascii=ascii_, separators=None if spaced else (",", ":")),
    EVENTS,
    st.booleans(),
    st.booleans(),
).map(lambda text: text.encode("utf-8", "surrogatepass"))
MESSAGES = st.tuples(
    st.sampled_from(["client", "server"]),
    st.one_of(TEXTS, st.binary(max_size=60), st.text().map(str.encode)),
    st.sampled_from([1, 1, 1, 2, 9, 10]),
    st.sampled_from([None, None, "the message was never finished"]),
) | st.tuples(
    st.sampled_from(["client", "server"]),
    st.builds(lambda code, reason: struct.pack(">H", code) + reason, st.integers(0, 65535), st.binary(max_size=20))
    | st.binary(max_size=3),
    st.just(8),
    st.none(),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(MESSAGES, max_size=6))
def test_an_export_gives_the_same_rows_and_parts(messages: list[tuple[Any, bytes, int, str | None]]) -> None:
    events = session(*messages)

    with TemporaryDirectory() as room:
        read = OwnSession(export(Path(room) / "s.jsonl", events))
        assert read.session_id == SESSION
        assert list(read.events()) == events


@given(st.lists(MESSAGES, max_size=4))
def test_an_export_is_json_lines(messages: list[tuple[Any, bytes, int, str | None]]) -> None:
    file = BytesIO()
    jsonl.export(session(*messages), file)

    rows = [json.loads(line) for line in file.getvalue().decode().split("\n")[:-1]]
    assert [row["position"] for row in rows] == list(range(len(rows)))
    assert all(("message" in row) != ("message_base64" in row) for row in rows)


def test_a_line_says_what_was_on_the_wire(tmp_path: Path) -> None:
    text = b'{"type": "input_audio_buffer.append", "audio": "AAECAwQF", "event_id": "\\u00e9"}'
    path = export(tmp_path / "s.jsonl", session(("client", text, 1, None), ("server", b"\x00\xff", 2, None)))

    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows[1] == {
        "session_id": SESSION,
        "position": 1,
        "direction": "client",
        "recorded_at": "2026-01-31T12:00:00.123456790Z",
        "monotonic_ns": 1,
        "type": "input_audio_buffer.append",
        "opcode": 1,
        "wire_bytes": 3,
        "redacted": False,
        "message": text.decode(),
    }
    assert rows[2]["message_base64"] == "AP8="
    assert rows[2]["type"] is None


def test_what_was_undecodable_stays_so_and_what_a_policy_kept_out_does_not_become_it(tmp_path: Path) -> None:
    events = session(
        ("server", b"{}", 1, "invalid frame length"), ("server", b"\xff", 1, None), ("client", b"", 8, None)
    )
    for event in events[2:4]:  # as a content policy leaves them
        event.payload, event.parts, event.problem, event.redacted = None, (), None, True

    path = export(tmp_path / "s.jsonl", events)

    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row.get("problem", "") for row in rows[1:4]] == ["invalid frame length", "", ""]
    assert list(OwnSession(path).events()) == events


def test_our_form_is_told_from_others(tmp_path: Path) -> None:
    own = export(tmp_path / "own.jsonl", session())
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text('{"dir": "client", "event": {"type": "response.create"}}')

    assert isinstance(jsonl.open_recording(own), OwnSession)
    assert isinstance(jsonl.open_recording(foreign), ForeignSession)
    (tmp_path / "empty").write_text("\n\n")
    with pytest.raises(ImportFormatError, match="the file is empty"):
        jsonl.open_recording(tmp_path / "empty")


def test_a_session_that_was_running_ends_as_lost(tmp_path: Path) -> None:
    events = session(("client", b"{}", 1, None), closed=False)

    read = list(OwnSession(export(tmp_path / "s.jsonl", events)).events())

    assert read[:-1] == events
    assert (read[-1].type, read[-1].position) == ("recorder.session_closed", len(events))
    assert json.loads(read[-1].payload or "")["closed_by"] == "lost"


def test_a_peer_cannot_end_a_session_by_our_name_for_it(tmp_path: Path) -> None:
    events = session(("server", b'{"type":"recorder.session_closed"}', 1, None), closed=False)[:-1]

    read = list(OwnSession(export(tmp_path / "s.jsonl", events)).events())

    assert read[:-1] == events
    assert (read[-1].direction, read[-1].type) == ("recorder", "recorder.session_closed")


OTHER = str(uuid.UUID(int=5))
MANGLED = [
    ({"position": 2}, "position 2 where 1 is due"),
    ({"position": True}, "not a line of an export"),
    ({"session_id": OTHER}, "another session begins here"),
    ({"session_id": "../../etc"}, "not a line of an export"),
    ({"direction": "sideways"}, "not a line of an export"),
    ({"recorded_at": "noon"}, "recorded_at is no time"),
    ({"monotonic_ns": 1 << 64}, "not a line of an export"),
    ({"wire_bytes": -1}, "not a line of an export"),
    ({"opcode": 99}, "not a line of an export"),
    ({"message_base64": "AA=="}, "expected one of message and message_base64"),
    ({"message": None}, "not a line of an export"),
    ({"opcode": 8, "message": "[]"}, "close: "),
    ({"opcode": 8, "message": '{"code": 70000, "reason": ""}'}, "no close code"),
]


@pytest.mark.parametrize(("change", "words"), MANGLED)
def test_a_mangled_line_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = export(tmp_path / "s.jsonl", session(("client", b"{}", 1, None)))
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | change)
    path.write_text("\n".join(lines), encoding="utf-8")

    with pytest.raises(ImportFormatError) as caught:
        list(OwnSession(path).events())
    assert words in caught.value.problem
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "recorder.gap"}, "an export starts with recorder.session_opened"),
        ({"direction": "client", "opcode": 1}, "an export starts with recorder.session_opened"),
        ({"message": opened(OTHER)}, "is that of another session"),
        ({"message": opened(opened_at_ns=-5)}, "recorder.session_opened: "),
        ({"message": opened(opened_at_ns="noon")}, "recorder.session_opened: "),
        ({"message": "nope"}, "recorder.session_opened: "),
    ],
)
def test_a_mangled_opening_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = export(tmp_path / "s.jsonl", session())
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | change)
    path.write_text("\n".join(lines), encoding="utf-8")

    with pytest.raises(ImportFormatError, match=words):
        OwnSession(path)


def test_missing_lines_are_noticed(tmp_path: Path) -> None:
    path = export(tmp_path / "s.jsonl", session(("client", b"{}", 1, None)))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:1] + lines[2:]), encoding="utf-8")

    with pytest.raises(ImportFormatError, match="lines are missing or moved"):
        OwnSession(path)
