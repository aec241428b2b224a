"""What `EventBuilder` makes of messages; `traps.jsonl` holds those that real clients and servers were seen to send."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recorder.protocol.builder import EventBuilder
from recorder.protocol.envelope import Part, RecordedEvent
from recorder.protocol.frames import Side
from recorder.protocol.redact import fingerprint

TRAPS = [json.loads(line) for line in (Path(__file__).parent / "traps.jsonl").read_text().splitlines()]
PCM_20_MS = base64.b64encode(b"\x01\x02" * 480).decode()


def build(text: str | bytes, direction: Side = "server", **options: Any) -> RecordedEvent:
    data = text.encode() if isinstance(text, str) else text
    return EventBuilder("s", None, 0).message(direction, data, **options)


@pytest.mark.parametrize("trap", TRAPS, ids=[trap["name"] for trap in TRAPS])
def test_traps(trap: dict[str, Any]) -> None:
    event = build(trap["text"], trap["direction"])
    assert {name: getattr(event, name) for name in trap["expected"]} == pytest.approx(trap["expected"])
    assert event.message() == trap["text"].encode()
    assert (event.opcode, event.wire_bytes, event.redacted) == (1, len(trap["text"].encode()), False)


def test_positions_count_all_events_and_times_follow_the_monotonic_clock() -> None:
    builder = EventBuilder("s", 1_000_000, 500)
    opened = builder.own("recorder.session_opened", "{}", 500)
    sent = builder.message("client", b"{}", at_ns=750)
    untimed = builder.message("server", b"{}")
    assert [event.position for event in (opened, sent, untimed)] == [0, 1, 2]
    assert [event.direction for event in (opened, sent, untimed)] == ["recorder", "client", "server"]
    assert [event.monotonic_ns for event in (opened, sent, untimed)] == [0, 250, None]
    assert [event.recorded_at_ns for event in (opened, sent, untimed)] == [1_000_000, 1_000_250, None]


def test_without_a_wall_time_there_is_a_monotonic_one() -> None:
    event = EventBuilder("s", None, 500).message("client", b"{}", at_ns=750)
    assert (event.recorded_at_ns, event.monotonic_ns) == (None, 250)


def test_binary_messages_are_a_part() -> None:
    event = build(b"\x00\xff", opcode=2, wire_bytes=4)
    assert (event.type, event.payload, event.opcode, event.wire_bytes) == (None, None, 2, 4)
    assert event.parts == (Part(0, 0, "binary", "raw", b"\x00\xff"),)
    assert event.message() == b"\x00\xff"
    assert event.problem is None


@pytest.mark.parametrize("text", [b'{"type":"x"}\xff', b'{"audio":"AAAA","x":"\xff"}', b"\xed\xa0\x80"])
def test_text_that_is_no_utf8_is_kept_as_bytes(text: bytes) -> None:
    event = build(text)
    assert (event.type, event.payload, event.opcode, event.audio_ms) == (None, None, 1, None)
    assert event.parts == (Part(0, 0, "binary", "raw", text),)
    assert event.problem == f"invalid UTF-8 at byte {_first_fault(text)}"


def _first_fault(text: bytes) -> int:
    with pytest.raises(UnicodeDecodeError) as caught:
        text.decode()
    return caught.value.start


@pytest.mark.parametrize("opcode", [1, 2])
def test_undecodable_bytes_keep_their_opcode_and_say_why(opcode: int) -> None:
    event = build(b'{"type":"x"}', opcode=opcode, problem="the message was never finished")
    assert (event.type, event.payload, event.opcode, event.message()) == (None, None, opcode, b'{"type":"x"}')
    assert event.problem == "the message was never finished"


@pytest.mark.parametrize(("opcode", "kind"), [(1, None), (2, None), (8, "websocket.close"), (9, "websocket.ping")])
def test_bytes_that_shall_stay_bytes_are_no_problem(opcode: int, kind: str | None) -> None:
    event = build(b"\x03\xe8", opcode=opcode, opaque=True)
    assert (event.type, event.payload, event.problem, event.message()) == (kind, None, None, b"\x03\xe8")


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        (b"", '{"code":1005,"reason":""}'),
        (b"\x03\xe8", '{"code":1000,"reason":""}'),
        (b'\x0f\xa0na\xc3\xafve "q"', '{"code":4000,"reason":"naïve \\"q\\""}'),
        (b"\x00\x01", '{"code":1,"reason":""}'),
    ],
)
def test_close_frames(data: bytes, payload: str) -> None:
    event = build(data, opcode=8, wire_bytes=len(data) + 2)
    assert (event.type, event.payload, event.opcode, event.parts) == ("websocket.close", payload, 8, ())


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"\x03", "close frame: a code of one byte"), (b"\x03\xe8\xff", "close frame: invalid UTF-8 at byte 0")],
)
def test_close_frames_that_break_the_rules_keep_their_bytes(data: bytes, problem: str) -> None:
    event = build(data, opcode=8)
    assert (event.type, event.payload, event.message()) == ("websocket.close", None, data)
    assert event.problem == problem


@pytest.mark.parametrize(("opcode", "name"), [(9, "websocket.ping"), (10, "websocket.pong")])
def test_pings_and_pongs(opcode: int, name: str) -> None:
    event = build(b"\x01\xff", opcode=opcode)
    assert (event.type, event.payload, event.message()) == (name, None, b"\x01\xff")
    assert build(b"", opcode=opcode).parts == ()


class TestFormatsInForce:
    def test_input_and_output_follow_the_session(self) -> None:
        builder = EventBuilder("s", None, 0)
        append = f'{{"type":"input_audio_buffer.append","audio":"{PCM_20_MS}"}}'.encode()
        delta = f'{{"type":"response.output_audio.delta","response_id":"r","delta":"{PCM_20_MS}"}}'.encode()
        assert builder.message("client", append).audio_ms == 20
        builder.message(
            "client", b'{"type":"session.update","session":{"audio":{"input":{"format":{"type":"audio/pcmu"}}}}}'
        )
        assert builder.message("client", append).audio_ms == 20
        builder.message(
            "server", b'{"type":"session.updated","session":{"audio":{"input":{"format":{"type":"audio/pcmu"}}}}}'
        )
        assert builder.message("client", append).audio_ms == 120
        assert builder.message("server", delta).audio_ms == 20
        created = (
            b'{"type":"response.created","response":{"id":"r","audio":{"output":{"format":{"type":"audio/pcma"}}}}}'
        )
        builder.message("server", created)
        assert builder.message("server", delta).audio_ms == 120
        assert builder.message("server", delta.replace(b'"r"', b'"other"')).audio_ms == 20

    def test_an_unknown_format_has_no_duration(self) -> None:
        builder = EventBuilder("s", None, 0)
        builder.message("server", b'{"type":"session.created","session":{"input_audio_format":"opus"}}')
        event = builder.message("client", b'{"type":"input_audio_buffer.append","audio":"AAAA"}')
        assert (event.audio_ms, event.parts[0].data) == (None, b"\0\0\0")

    def test_user_audio_that_the_server_sends_is_in_the_input_format(self) -> None:
        builder = EventBuilder("s", None, 0)
        builder.message("server", b'{"type":"session.created","session":{"input_audio_format":"g711_ulaw"}}')
        item = f'{{"type":"conversation.item.retrieved","item":{{"content":[{{"type":"%s","audio":"{PCM_20_MS}"}}]}}}}'
        assert builder.message("server", (item % "input_audio").encode()).audio_ms == 120
        assert builder.message("server", (item % "audio").encode()).audio_ms == 20
        reflected = f'{{"type":"session.input_audio.append","audio":"{PCM_20_MS}"}}'.encode()
        assert builder.message("server", reflected).audio_ms == 120


class TestSecrets:
    TEXT = b'{"type":"session.update","session":{"tools":[{"type":"mcp","authorization":"secret"}]}}'

    def test_they_are_replaced_and_the_row_is_flagged(self) -> None:
        event = build(self.TEXT, "client")
        assert event.redacted
        assert event.message() == self.TEXT.replace(b"secret", fingerprint("secret").encode())

    def test_audio_beside_them_is_cut_at_the_right_place(self) -> None:
        text = (
            '{"type":"response.create","response":{"tools":[{"authorization":"s"}],'
            '"input":[{"content":[{"audio":"AAAA"}]}]},"audio":"AAAA"}'
        )
        event = build(text, "client")
        assert (event.redacted, len(event.parts)) == (True, 2)
        assert event.message() == text.replace('"s"', f'"{fingerprint("s")}"').encode()

    @pytest.mark.parametrize("options", [{"opcode": 2}, {"problem": "why"}])
    def test_bytes_that_hold_them_are_redacted_too(self, options: dict[str, Any]) -> None:
        event = build(self.TEXT, "client", **options)
        assert event.redacted
        assert b"secret" not in event.message()

    def test_escapes_alone_flag_nothing(self) -> None:
        event = build('{"type":"x","audio":"AAAA","text":"\\u00e9"}')
        assert (event.redacted, event.payload) == (False, '{"type":"x","audio":"","text":"\\u00e9"}')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just("AAAA"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "audio", "delta", "item", "content", "part", "response", "output", "image_url", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
TYPES = st.sampled_from(
    ["input_audio_buffer.append", "response.output_audio.delta", "response.done", "conversation.item.create", "x"]
)


@example({"delta": "AAAA"}, "response.output_audio.delta", None, False, b"\x00")
@given(JSON, TYPES, st.sampled_from([None, 1]), st.booleans(), st.binary(max_size=30))
def test_any_json_comes_back_byte_for_byte(
    value: object, kind: str, indent: int | None, ascii_only: bool, audio: bytes
) -> None:
    if isinstance(value, dict):
        encoded = base64.b64encode(audio).decode()
        value = {**value, "type": kind, "audio": encoded, "item": {"content": [{"audio": encoded}, value]}}
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    event = build(text)
    assert event.message() == text
    if isinstance(value, dict) and event.payload is not None:
        assert event.type == kind
        if audio and not (kind == "response.output_audio.delta" and isinstance(value.get("delta"), str)):
            assert audio in {part.data for part in event.parts}  # of a delta with audio, that alone is cut out


@given(st.text(max_size=60) | st.from_regex(r'\{"audio":"[A-Za-z0-9+/\\]{0,12}={0,3}"\}', fullmatch=True))
def test_any_text_comes_back_byte_for_byte(text: str) -> None:
    data = text.encode()
    assert build(data).message() == data


@given(st.binary(max_size=60), st.sampled_from([1, 2, 8, 9, 10]), st.booleans())
def test_any_bytes_can_be_built_and_stored(data: bytes, opcode: int, opaque: bool) -> None:
    event = build(data, opcode=opcode, opaque=opaque)
    for value in (event.type, event.payload, event.event_id):
        assert value is None or value.encode() is not None
    if opcode < 8:
        assert event.message() == data
