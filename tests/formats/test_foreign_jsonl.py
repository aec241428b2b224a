from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recorder.errors import ImportFormatError
from recorder.formats import lines
from recorder.formats.foreign_jsonl import ForeignMessage, read_messages


def read(tmp_path: Path, *texts: str | bytes) -> list[ForeignMessage]:
    path = tmp_path / "session.jsonl"
    path.write_bytes(b"".join(text.encode() + b"\n" if isinstance(text, str) else text for text in texts))
    return [message for _, message in read_messages(path)]


def problem(tmp_path: Path, *texts: str | bytes) -> ImportFormatError:
    with pytest.raises(ImportFormatError) as caught:
        read(tmp_path, *texts)
    return caught.value


def test_an_object_is_its_text_as_it_stands_in_the_file(tmp_path: Path) -> None:
    odd = '{ "type" :"response.create",\t"x": 1.50e0, "\\u00e9": "é\\/" }'
    (message,) = read(tmp_path, f'{{"seq": 0, "dir": "client", "event": {odd}}}')

    assert (message.direction, message.opcode, message.data) == ("client", 1, odd.encode())


def test_text_is_that_text(tmp_path: Path) -> None:
    first, second = read(
        tmp_path,
        '{"direction": "sent", "message": "{\\"type\\":  \\"response.create\\"}"}',
        '{"direction": "received", "payload": "not JSON \\u00e9"}',
    )

    assert (first.direction, first.data) == ("client", b'{"type":  "response.create"}')
    assert (second.direction, second.data) == ("server", "not JSON é".encode())


@pytest.mark.parametrize(
    ("word", "direction"),
    [
        ("client", "client"), ("sent", "client"), ("out", "client"), ("up", "client"), ("Outgoing", "client"),
        ("server", "server"), ("received", "server"), ("in", "server"), ("down", "server"), ("INBOUND", "server"),
        ("c2s", "client"), ("client_to_server", "client"), ("s2c", "server"), ("Server->Client", "server"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["dir", "direction"])
def test_words_for_directions(tmp_path: Path, key: str, word: str, direction: str) -> None:
    (message,) = read(tmp_path, f'{{"{key}": "{word}", "event": {{"type": "x"}}}}')

    assert message.direction == direction


def test_bare_events_say_who_sent_them(tmp_path: Path) -> None:
    messages = read(
        tmp_path,
        '{"type": "session.created", "session": {}}',
        '{"type": "response.create", "event": {"no": "wrapper"}}',
        '{"schema": "X", "event": {"type": "response.audio.delta", "delta": "AAAA"}}',
        '{"message": "{\\"type\\": \\"input_audio_buffer.append\\"}"}',
    )

    assert [message.direction for message in messages] == ["server", "client", "server", "client"]
    assert messages[1].data == b'{"type": "response.create", "event": {"no": "wrapper"}}'
    assert messages[2].data == b'{"type": "response.audio.delta", "delta": "AAAA"}'


def test_what_tells_no_direction_is_taken_for_the_servers(tmp_path: Path) -> None:
    lines = ['{"type": "made.up"}', '{"event": {"x": 1}}', '{"message": "no JSON"}', '{"type": "response.create"}']
    messages = read(tmp_path, *lines)

    assert [message.direction for message in messages] == ["server", "server", "server", "client"]
    assert [message.guessed for message in messages] == [True, True, True, False]
    assert messages[0].data == b'{"type": "made.up"}'


def test_the_time_of_a_bare_event_is_part_of_the_message(tmp_path: Path) -> None:
    (message,) = read(tmp_path, '{"type": "response.audio.delta", "ts": 17}')

    assert message.time is None


def test_binary_messages(tmp_path: Path) -> None:
    (message,) = read(tmp_path, '{"dir": "server", "base64": "AAEC"}')

    assert (message.opcode, message.data) == (2, b"\x00\x01\x02")


@pytest.mark.parametrize(
    ("close", "payload"),
    [
        ('{"code": 1000, "reason": "bye"}', b"\x03\xe8bye"),
        ('{"code": 4000, "reason": null}', b"\x0f\xa0"),
        ("1001", b"\x03\xe9"),
        ('{"code": 1005}', b""),
        ("{}", b""),
        ("null", b""),
        ("true", b""),
        ('{"code": 1006}', None),
    ],
)
def test_closes(tmp_path: Path, close: str, payload: bytes | None) -> None:
    (message,) = read(tmp_path, f'{{"dir": "server", "close": {close}}}')

    assert (message.direction, message.opcode, message.data) == ("server", 8, payload)


def test_bom_crlf_blank_lines_and_a_missing_last_line_end_are_harmless(tmp_path: Path) -> None:
    messages = read(
        tmp_path,
        b'\xef\xbb\xbf{"dir": "client", "event": {"type": "a"}}\r\n',
        b"\r\n  \n\n",
        b'  {"dir": "server", "event": {"type": "b"}}  ',
    )

    assert [message.data for message in messages] == [b'{"type": "a"}', b'{"type": "b"}']


GOOD = '{"dir": "client", "event": {"type": "a"}}'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nope", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ("17", "not a JSON object"),
        ('{"dir": "sideways", "event": {}}', 'unknown direction "sideways"'),
        ('{"dir": null, "event": {}}', "unknown direction null"),
        ('{"dir": "client"}', "no message in it"),
        ('{"dir": "client", "event": null}', "no message in it"),
        ('{"dir": "client", "event": 3}', "'event' is neither an object nor text"),
        ('{"base64": "AAEC"}', "a binary message does not tell it"),
        ('{"dir": "client", "base64": "A!EC"}', "not base64"),
        ('{"dir": "client", "close": {"code": "x"}}', "close: "),
        ('{"dir": "client", "close": {"code": 70000}}', "no close code: 70000"),
        ('{"dir": "client", "event": {}, "ts": "yesterday"}', "'ts' is no time"),
        ('{"dir": "client", "event": {}, "ts": true}', "'ts' is no time"),
        ('{"dir": "client", "event": {}, "ts": -1}', "'ts' is no time"),
        ('{"dir": "client", "event": {}, "ts": 1e300}', "'ts' is no time"),
        ('{"dir": "client", "event": {}, "ts": [1]}', "'ts' is no time"),
        ('{"dir": "client", "message": "\\ud800"}', "not valid JSON"),
        (b'{"dir": "client", "event": {"x": "\xff"}}\n', "not UTF-8 (byte 34"),
        ('{"dir": "client", "event": ' + '{"x":' * 5000 + "1" + "}" * 5001, "nested too deeply"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    error = problem(tmp_path, GOOD, "", text)

    assert words in error.problem
    assert error.line == 3
    assert error.message.startswith(f"{tmp_path}/session.jsonl:3: ")


def test_a_cut_off_end_is_called_that(tmp_path: Path) -> None:
    error = problem(tmp_path, GOOD, b'{"dir": "client", "event": {"ty')

    assert (error.line, error.problem) == (2, "the file ends in the middle of this line: is it complete?")


def test_other_encodings_are_called_by_name(tmp_path: Path) -> None:
    assert "UTF-16" in problem(tmp_path, GOOD.encode("utf-16")).problem


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none.jsonl", "no such file"), (tmp_path, "not a file")):
        with pytest.raises(ImportFormatError, match=words):
            list(read_messages(path))


@pytest.mark.parametrize(("limit", "words"), [("MAX_LINE_BYTES", "longer than"), ("MAX_FILE_BYTES", "larger than")])
def test_sizes_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, words: str) -> None:
    monkeypatch.setattr(lines, limit, 20)

    assert words in problem(tmp_path, GOOD).problem


def test_fifos_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(ImportFormatError, match="not a file"):
        list(read_messages(tmp_path / "pipe.jsonl"))


def times(tmp_path: Path, **fields: Any) -> Any:
    text = msgspec.json.encode({"dir": "client", **fields, "event": {}}).decode()
    (message,) = read(tmp_path, text)
    return message.time


def test_times_that_are_dates(tmp_path: Path) -> None:
    noon = 1_769_860_800 * 10**9
    for value in (
        "2026-01-31T12:00:00Z", "2026-01-31 12:00", "2026-01-31T13:00:00+01:00", "2026-01-31T12:00:00.000+0000",
        1769860800, 1769860800000, 1769860800000000, 1769860800000000000, "1769860800", "1769860800000.0",
    ):  # fmt: skip
        assert times(tmp_path, ts=value).absolute_ns == noon, value


def test_dates_keep_every_digit(tmp_path: Path) -> None:
    assert times(tmp_path, time="2026-01-31T12:00:00.123456789Z").absolute_ns == 1_769_860_800_123_456_789
    (message,) = read(tmp_path, '{"dir": "client", "event": {}, "timestamp": 1769860800.123456}')
    assert message.time is not None
    assert message.time.absolute_ns == 1_769_860_800_123_456_000


def test_times_since_the_start(tmp_path: Path) -> None:
    assert times(tmp_path, t=1.25).since_start_ns(10**9) == 1_250_000_000
    assert times(tmp_path, t=1250).since_start_ns(10**6) == 1_250_000_000
    assert times(tmp_path, offset_ms=1250.5).since_start_ns(10**9) == 1_250_500_000
    assert times(tmp_path, ms=3).since_start_ns(10**9) == 3_000_000
    assert times(tmp_path, t=1.25).is_fraction
    assert not times(tmp_path, t=1250).is_fraction
    assert not times(tmp_path, offset_ms=1.5).is_fraction


def test_a_date_is_believed_before_an_offset(tmp_path: Path) -> None:
    assert times(tmp_path, offset_ms=5, timestamp="2026-01-31T12:00:00Z").absolute_ns is not None
    assert times(tmp_path, timestamp=None, offset_ms=5).absolute_ns is None
