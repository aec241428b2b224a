from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recorder.errors import ImportFormatError
from recorder.formats.foreign_session import ForeignSession
from recorder.protocol.envelope import RecordedEvent

SECOND = 10**9
NOON = 1_769_860_800 * SECOND


def write(tmp_path: Path, *rows: dict[str, Any], name: str = "s.jsonl", end: bytes = b"\n") -> ForeignSession:
    path = tmp_path / name
    path.write_bytes(b"".join(msgspec.json.encode(row) + end for row in rows))
    return ForeignSession(path)


def events(tmp_path: Path, *rows: dict[str, Any]) -> list[RecordedEvent]:
    return list(write(tmp_path, *rows).events())


def facts(event: RecordedEvent) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(event.payload or "")
    return decoded


CREATED = {"dir": "server", "event": {"type": "session.created", "event_id": "event_1"}}
CREATE = {"dir": "client", "event": {"type": "response.create"}}


def test_a_session_is_framed_by_its_own_events(tmp_path: Path) -> None:
    made = events(tmp_path, CREATED, CREATE)

    assert [(event.position, event.direction, event.type) for event in made] == [
        (0, "recorder", "recorder.session_opened"),
        (1, "server", "session.created"),
        (2, "client", "response.create"),
        (3, "recorder", "recorder.session_closed"),
    ]
    assert {event.monotonic_ns for event in made} == {event.recorded_at_ns for event in made} == {None}
    opened = facts(made[0])
    assert (opened["source"], opened["file"], opened["opened_at"]) == ("import", "s.jsonl", None)
    assert opened["session_id"] == made[0].session_id
    closed = facts(made[-1])
    assert (closed["closed_by"], closed["close_code"], closed["status"]) == (None, None, None)
    assert closed["client_bytes"] == len('{"type":"response.create"}')
    assert made[1].event_id == "event_1"
    assert made[1].wire_bytes == len(made[1].message())


def test_unknown_types_without_a_direction_do_not_cost_the_file(tmp_path: Path) -> None:
    made = events(tmp_path, {"type": "made.up"}, {"type": "session.created"}, {"event": {"no": "type"}})

    assert [(event.direction, event.type) for event in made[1:-1]] == [
        ("server", "made.up"), ("server", "session.created"), ("server", None)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "rows", [[{"type": "made.up"}], [{"level": "info", "message": "started"}], [{"close": 1000}, {"event": {"x": 1}}]]
)
def test_a_file_in_which_nothing_tells_a_direction_is_none(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(ImportFormatError, match="is it a recording") as caught:
        write(tmp_path, *rows)
    assert caught.value.line == len(rows)


def test_the_id_is_a_digest_of_the_content_alone(tmp_path: Path) -> None:
    first = write(tmp_path, CREATED, CREATE).session_id
    renamed = write(tmp_path, CREATED, CREATE, name="t.jsonl", end=b"\r\n\r\n").session_id
    others = {
        write(tmp_path, CREATE, CREATED).session_id,
        write(tmp_path, CREATED, CREATE | {"dir": "server"}).session_id,
        write(tmp_path, CREATED, CREATE | {"ts": 3}).session_id,
        write(tmp_path, CREATED).session_id,
    }

    assert renamed == first
    assert len(others | {first}) == 5
    identity = uuid.UUID(first)
    assert (identity.version, identity.variant) == (8, uuid.RFC_4122)


def test_dates(tmp_path: Path) -> None:
    made = events(
        tmp_path,
        CREATED | {"ts": "2026-01-31T12:00:00Z"},
        CREATE | {"ts": "2026-01-31T12:00:02.5Z"},
        CREATE | {"ts": "2026-01-31T12:00:01Z"},  # the wall clock was set back
        CREATE,
        CREATE | {"ts": "2026-01-31T12:00:04Z"},
    )

    assert [event.recorded_at_ns for event in made[1:4]] == [NOON, NOON + 25 * SECOND // 10, NOON + SECOND]
    assert [event.monotonic_ns for event in made] == [
        0, 0, 2_500_000_000, 2_500_000_000, None, 4 * SECOND, 4 * SECOND
    ]  # fmt: skip
    assert made[4].recorded_at_ns is None
    assert (made[0].recorded_at_ns, made[-1].recorded_at_ns) == (NOON, NOON + 4 * SECOND)
    assert facts(made[0])["opened_at"] == "2026-01-31T12:00:00.000000000Z"
    assert facts(made[0])["opened_at_ns"] == NOON


@pytest.mark.parametrize(
    ("given", "expected_ns"),
    [
        ([0.5, 1.25, 3.0], [500_000_000, 1_250_000_000, 3_000_000_000]),  # a fraction: seconds
        ([0, 20, 2000], [0, 20_000_000, 2_000_000_000]),  # all whole: milliseconds
        ([90_000_000, 90_000_500, 90_001_000], [0, 500_000_000, 1_000_000_000]),  # some machine's uptime
    ],
)
def test_times_since_the_start(tmp_path: Path, given: list[float], expected_ns: list[int]) -> None:
    made = events(tmp_path, *(CREATE | {"t": value} for value in given))

    assert [event.monotonic_ns for event in made] == [0, *expected_ns, expected_ns[-1]]
    assert {event.recorded_at_ns for event in made} == {None}
    assert facts(made[0])["opened_at_ns"] is None


def test_dates_and_offsets_do_not_mix(tmp_path: Path) -> None:
    with pytest.raises(ImportFormatError, match=r"s\.jsonl:2: some times"):
        write(tmp_path, CREATED | {"ts": "2026-01-31"}, CREATE | {"ts": 5})


@pytest.mark.parametrize(
    ("close", "expected"),
    [
        ({"dir": "server", "close": {"code": 4000, "reason": "no"}}, ("upstream", 4000, "no")),
        ({"dir": "client", "close": {}}, ("client", 1005, "")),
        ({"close": {"code": 1000}}, (None, 1000, "")),
        ({"dir": "server", "close": {"code": 1006}}, ("lost", None, None)),
    ],
)
def test_closes(tmp_path: Path, close: dict[str, Any], expected: tuple[Any, ...]) -> None:
    made = events(tmp_path, CREATED, close, {"dir": "client", "close": {"code": 1001}})

    closed = facts(made[-1])
    assert (closed["closed_by"], closed["close_code"], closed["close_reason"]) == expected
    shown = [event.direction for event in made if event.type == "websocket.close"]
    assert shown == ([close["dir"]] if expected[0] in {"client", "upstream"} else []) + ["client"]


def test_a_file_without_messages_is_no_session(tmp_path: Path) -> None:
    with pytest.raises(ImportFormatError, match="no messages in it"):
        write(tmp_path)


def test_audio_is_cut_out_and_put_back(tmp_path: Path) -> None:
    text = '{"type": "input_audio_buffer.append", "audio": "AAECAwQF"}'
    made = events(tmp_path, {"dir": "client", "message": text})

    assert made[1].parts[0].data == bytes(range(6))
    assert made[1].message().decode() == text
    assert made[1].audio_ms == 6 / 48


def test_a_file_name_may_be_anything(tmp_path: Path) -> None:
    odd = "\x1b[31m\udcff.jsonl"

    made = list(write(tmp_path, CREATED, name=odd).events())

    assert facts(made[0])["file"] == "\x1b[31m?.jsonl"
