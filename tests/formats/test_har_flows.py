"""Other tools' recordings of WebSockets. The files in `samples` were written by mitmproxy 11 itself."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import ImportFormatError
from recorder.formats import har, tnetstring
from recorder.formats.recordings import open_recordings
from recorder.protocol.envelope import RecordedEvent

SAMPLES = Path(__file__).parent / "samples"
SECOND = 10**9
NOON = 1_769_860_800 * SECOND
WIRE = [
    ("server", 1, b'{"type":"session.created","session":{"id":"sess_1","model":"gpt-realtime"}}', NOON + SECOND // 4),
    ("client", 1, b'{"type": "input_audio_buffer.append", "audio": "AAEC"}', NOON + SECOND // 2),
    ("client", 2, b"\x00\xff", NOON + SECOND * 7 // 4),
    ("server", 1, '{"type":"something.new","text":"é"}'.encode(), NOON + SECOND * 2),
]


def events_of(path: Path) -> list[RecordedEvent]:
    (recording,) = open_recordings(path)
    return list(recording.events())


def on_the_wire(events: list[RecordedEvent]) -> list[tuple[Any, ...]]:
    return [
        (event.direction, event.opcode, event.message(), event.recorded_at_ns)
        for event in events
        if event.direction != "recorder"
    ]


def facts(event: RecordedEvent) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(event.payload or "")
    return decoded


def archive(tmp_path: Path, *messages: object, url: str = "wss://api.example/v1/realtime", name: str = "a.har") -> Path:
    entry = {"request": {"url": url, "method": "GET", "headers": []}, "_webSocketMessages": messages}
    path = tmp_path / name
    path.write_bytes(msgspec.json.encode({"log": {"version": "1.2", "entries": [{"request": {"url": "x"}}, entry]}}))
    return path


def message(data: str = '{"type":"session.created"}', **more: object) -> dict[str, object]:
    return {"type": "receive", "time": 1769860800.5, "opcode": 1, "data": data, **more}


def test_a_flow_file_of_mitmproxy() -> None:
    events = events_of(SAMPLES / "mitmproxy.flow")

    close = ("client", 8, b'{"code":1000,"reason":"bye"}', NOON + SECOND * 25 // 8)
    assert on_the_wire(events) == [*WIRE, close]
    opened, closed = facts(events[0]), facts(events[-1])
    assert (opened["upstream"], opened["request"]["target"]) == (
        "ws://127.0.0.1:8765",
        "/v1/realtime?model=gpt-realtime",
    )
    headers = dict(opened["request"]["headers"])
    assert headers["user-agent"] == "a client/1.0"
    assert headers["authorization"].startswith("Bearer redacted:sha256:")
    assert "verysecret" not in events[0].message().decode()
    assert (closed["closed_by"], closed["close_code"], closed["close_reason"]) == ("client", 1000, "bye")


def test_an_archive_of_mitmproxy_is_the_same_session_but_for_its_close() -> None:
    events = events_of(SAMPLES / "mitmproxy.har")

    assert on_the_wire(events) == WIRE
    assert facts(events[0])["request"]["target"] == "/v1/realtime?model=gpt-realtime"
    assert "verysecret" not in events[0].message().decode()
    assert facts(events[-1])["closed_by"] is None


def test_an_archive_of_a_browser(tmp_path: Path) -> None:
    path = archive(
        tmp_path,
        message(),
        {"type": "error", "time": 1769860800.6, "opcode": -1, "data": "net::ERR_FAILED"},
        url="wss://user:password@api.example/v1/realtime?model=m&api-key=abcdefgh12345678",
    )

    events = events_of(path)

    assert [event.type for event in events[1:-1]] == ["session.created"]
    opened = facts(events[0])
    assert "password" not in opened["upstream"]
    assert "abcdefgh12345678" not in opened["request"]["target"]


def test_sockets_that_are_no_realtime_sessions_are_left_out(tmp_path: Path) -> None:
    path = archive(tmp_path, message("ping"), message('{"type":"chat"}'))

    with pytest.raises(ImportFormatError, match=r"no Realtime session in it \(2 requests, 1 with WebSocket messages\)"):
        open_recordings(path)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (message(time="yesterday"), r"log.entries\[1\]._webSocketMessages\[1\]: time is no number"),
        (message(time=12), "time is no number of seconds since 1970"),
        (message("not base64!", opcode=2), "data is not base64"),
        ({"type": "send"}, "not an HTTP archive: Object missing required field"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, wrong: dict[str, object], problem: str) -> None:
    with pytest.raises(ImportFormatError, match=problem):
        open_recordings(archive(tmp_path, message(), wrong))


def test_an_archive_is_known_by_how_it_starts(tmp_path: Path) -> None:
    (recording,) = open_recordings(archive(tmp_path, message(), name="download.json"))

    assert [event.type for event in recording.events()][1] == "session.created"


def test_what_is_exported_comes_back(tmp_path: Path) -> None:
    events = events_of(SAMPLES / "mitmproxy.flow")
    path = tmp_path / "again.har"
    with path.open("wb") as file:
        assert har.export_har(events, file) == 4

    again = events_of(path)

    assert on_the_wire(again) == WIRE
    assert facts(again[0])["request"] == facts(events[0])["request"]
    assert facts(again[0])["upstream"] == facts(events[0])["upstream"]


def test_two_sessions_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "two.flow"
    one = (SAMPLES / "mitmproxy.flow").read_bytes()
    path.write_bytes(one + one.replace(b"sess_1", b"sess_2"))

    first, second = open_recordings(path)

    assert first.session_id != second.session_id


@pytest.mark.parametrize("cut", [1, 100, 2000, 4000])
def test_a_cut_off_flow_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.flow"
    path.write_bytes((SAMPLES / "mitmproxy.flow").read_bytes()[:-cut])

    with pytest.raises(ImportFormatError, match="not a flow at byte"):
        open_recordings(path)


@given(st.binary(min_size=1, max_size=60))
def test_bytes_that_are_no_tnetstring_raise_nothing_else(data: bytes) -> None:
    with contextlib.suppress(tnetstring.TnetstringError):
        tnetstring.read(io.BytesIO(data))


def test_the_end_of_a_file_is_told_from_a_cut() -> None:
    with pytest.raises(EOFError):
        tnetstring.read(io.BytesIO(b""))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"3:abc,", b"abc"),
        ("2:é;".encode(), "é"),
        (b"2:-5#", -5),
        (b"4:true!", True),
        (b"0:~", None),
        (b"0:]", []),
        (b"11:1:a,4:true!}", {b"a": True}),
        (b"12:3:abc,3:xyz,]", [b"abc", b"xyz"]),
    ],
)
def test_values(data: bytes, value: object) -> None:
    file = io.BytesIO(data + b"rest")

    assert tnetstring.read(file) == value
    assert file.read() == b"rest"


def test_nesting_has_an_end() -> None:
    data = b""
    for _ in range(1000):
        data = b"%d:%s]" % (len(data), data)

    with pytest.raises(tnetstring.TnetstringError, match="nested too deeply"):
        tnetstring.read(io.BytesIO(data))


@pytest.mark.parametrize("content", [b"hello\n", bytes(range(255, 0, -1)), b"\n"])
def test_what_is_only_called_a_flow_file_is_told_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.FLOW"
    path.write_bytes(content)

    with pytest.raises(ImportFormatError, match="not a flow at byte 0: no length where one is due"):
        open_recordings(path)


def test_lines_that_are_called_a_flow_file_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines.flow"
    path.write_bytes(b'{"type": "session.created"\n')

    with pytest.raises(ImportFormatError, match="not valid JSON") as caught:
        open_recordings(path)
    assert caught.value.line == 1


@pytest.mark.parametrize("length", [b"99999999999", b"999999999999", b"41"])
def test_a_length_beyond_the_file_reserves_no_memory(tmp_path: Path, length: bytes) -> None:
    path = tmp_path / "a.flow"
    path.write_bytes(length + b":1:a,")
    with pytest.raises(ImportFormatError, match=r"middle of a value|no length"):
        open_recordings(path)


def test_a_time_beyond_all_clocks_is_none(tmp_path: Path) -> None:
    path = archive(tmp_path, message(time=0))
    path.write_bytes(path.read_bytes().replace(b'"time":0', b'"time":9e999999'))
    with pytest.raises(ImportFormatError, match="time is no number of seconds since 1970: 9e999999"):
        events_of(path)


def test_an_address_that_is_none_is_left_out(tmp_path: Path) -> None:
    opened = facts(events_of(archive(tmp_path, message(), url="wss://[x/v1/realtime?api-key=abc"))[0])
    assert (opened["upstream"], opened["request"]["target"]) == ("://", "")
