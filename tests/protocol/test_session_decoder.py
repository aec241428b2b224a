import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode

from recorder.protocol.decode import SessionDecoder
from recorder.protocol.envelope import Record, RecordedEvent, RecordKind
from recorder.protocol.redact import fingerprint

OPENED = {"session_id": "s1", "source": "proxy", "opened_at_ns": 1_700_000_000_000_000_000, "monotonic_ns": 1000}


def record(kind: RecordKind, at_ns: int, content: bytes | dict[str, Any]) -> Record:
    return Record(kind, at_ns, content if isinstance(content, bytes) else json.dumps(content).encode())


def text(data: bytes, *, mask: bool) -> bytes:
    return Frame(Opcode.TEXT, data).serialize(mask=mask)


def close(code: int, reason: str = "", *, mask: bool) -> bytes:
    return Frame(Opcode.CLOSE, Close(code, reason).serialize()).serialize(mask=mask)


def decode(*records: Record) -> list[RecordedEvent]:
    decoder = SessionDecoder()
    return [event for one in records for event in decoder.feed(one)]


def session(*records: Record, closed: dict[str, Any] | None = None) -> list[RecordedEvent]:
    """A whole session around some records."""
    return decode(
        record(RecordKind.OPENED, 1000, OPENED),
        record(RecordKind.ACCEPTED, 2000, {"status": 101, "headers": []}),
        *records,
        record(RecordKind.CLOSED, 9000, closed or {"closed_by": None, "client_bytes": 5}),
    )


def closing(events: list[RecordedEvent]) -> tuple[object, object, object]:
    assert events[-1].type == "recorder.session_closed"
    facts = json.loads(events[-1].payload or "")
    return facts["closed_by"], facts["close_code"], facts["close_reason"]


def test_a_session_from_first_to_last() -> None:
    events = session(
        record(RecordKind.SERVER_BYTES, 3000, text(b'{"type":"session.created","event_id":"e1"}', mask=False)),
        record(RecordKind.CLIENT_BYTES, 4000, text(b'{"type":"response.create"}', mask=True) * 2),
        record(RecordKind.CLIENT_BYTES, 5000, close(1000, "bye", mask=True)),
        record(RecordKind.SERVER_BYTES, 6000, close(1000, "", mask=False)),
    )
    assert [event.type for event in events] == [
        "recorder.session_opened",
        "recorder.handshake_completed",
        "session.created",
        "response.create",
        "response.create",
        "websocket.close",
        "websocket.close",
        "recorder.session_closed",
    ]
    assert [event.position for event in events] == list(range(8))
    assert {event.session_id for event in events} == {"s1"}
    assert [event.direction for event in events[1:5]] == ["recorder", "server", "client", "client"]
    assert [event.monotonic_ns for event in events] == [0, 1000, 2000, 3000, 3000, 4000, 5000, 8000]
    assert events[3].recorded_at_ns == 1_700_000_000_000_003_000
    assert events[3].wire_bytes == len(text(b'{"type":"response.create"}', mask=True))
    assert json.loads(events[0].payload or "") == OPENED
    assert json.loads(events[1].payload or "") == {"status": 101, "headers": []}
    assert closing(events) == ("client", 1000, "bye")
    assert json.loads(events[-1].payload or "")["client_bytes"] == 5


def test_the_first_close_frame_tells_who_closed() -> None:
    server_first = [
        record(RecordKind.SERVER_BYTES, 3000, close(3000, "auth", mask=False)),
        record(RecordKind.CLIENT_BYTES, 4000, close(1000, mask=True)),
    ]
    assert closing(session(*server_first)) == ("upstream", 3000, "auth")
    assert closing(session(*server_first[::-1])) == ("client", 1000, "")


def test_an_error_and_a_close_in_one_chunk_both_arrive() -> None:
    chunk = text(b'{"type":"error"}', mask=False) + close(4000, "beta_api_shape_disabled", mask=False)
    events = session(record(RecordKind.SERVER_BYTES, 3000, chunk))
    assert [event.type for event in events[2:4]] == ["error", "websocket.close"]
    assert closing(events) == ("upstream", 4000, "beta_api_shape_disabled")


def test_a_close_frame_without_a_status_is_1005() -> None:
    empty = Frame(Opcode.CLOSE, b"").serialize(mask=True)
    assert closing(session(record(RecordKind.CLIENT_BYTES, 3000, empty))) == ("client", 1005, "")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, ("lost", None, None)),
        ({"closed_by": None}, ("lost", None, None)),
        ({"closed_by": "upstream", "status": 401}, ("upstream", None, None)),
        ({"closed_by": "proxy", "close_code": 1001, "close_reason": "drain"}, ("proxy", 1001, "drain")),
    ],
)
def test_without_a_close_frame_the_record_is_believed(
    said: dict[str, Any], expected: tuple[object, object, object]
) -> None:
    assert closing(session(closed=said)) == expected


def test_the_proxys_own_close_is_not_overruled_by_the_answer_to_it() -> None:
    answer = record(RecordKind.CLIENT_BYTES, 3000, close(1000, mask=True))
    said = {"closed_by": "proxy", "close_code": 1001, "close_reason": "drain"}
    assert closing(session(answer, closed=said)) == ("proxy", 1001, "drain")
    assert closing(session(answer, closed={"closed_by": "proxy"})) == ("proxy", 1000, "")


def test_records_out_of_place_give_nothing() -> None:
    opened, closed = record(RecordKind.OPENED, 0, OPENED), record(RecordKind.CLOSED, 9, {})
    early = record(RecordKind.SERVER_BYTES, 0, text(b"{}", mask=False))
    assert decode(early, closed) == []
    types = [event.type for event in decode(opened, opened, Record(99, 1, b"?"), closed, closed, early)]
    assert types == ["recorder.session_opened", "recorder.session_closed"]


def test_times_do_not_follow_a_stepping_wall_clock() -> None:
    later = record(RecordKind.CLIENT_BYTES, 3_601_000_001_000, text(b"{}", mask=True))
    event = decode(record(RecordKind.OPENED, 1000, OPENED), later)[1]
    assert event.recorded_at_ns == OPENED["opened_at_ns"] + 3_601_000_000_000  # type: ignore[operator]


@pytest.mark.parametrize("broken", [b"", b"[]", b"{", b"\xff", b'{"headers":7}', b'{"headers":[[1],2,["a","b","c"]]}'])
def test_damaged_facts_are_no_facts(broken: bytes) -> None:
    events = decode(
        record(RecordKind.OPENED, 1, broken),
        record(RecordKind.ACCEPTED, 2, broken),
        record(RecordKind.GAP, 3, broken),
        record(RecordKind.CLOSED, 4, broken),
    )
    assert [event.position for event in events] == [0, 1, 2, 3]
    assert [event.recorded_at_ns for event in events] == [None] * 4


def test_compression_is_taken_from_the_answer_to_the_handshake() -> None:
    accepted = {"headers": [["sec-websocket-EXTENSIONS", "permessage-deflate; server_no_context_takeover"]]}
    client, server = PerMessageDeflate(False, False, 15, 15), PerMessageDeflate(True, True, 15, 15)
    append = b'{"type":"input_audio_buffer.append","audio":"AAAA"}'
    created = b'{"type":"session.created"}'
    events = decode(
        record(RecordKind.OPENED, 0, OPENED),
        record(RecordKind.ACCEPTED, 0, accepted),
        *[
            record(RecordKind.CLIENT_BYTES, 0, Frame(Opcode.TEXT, append).serialize(mask=True, extensions=[client]))
            for _ in range(2)
        ],
        *[
            record(RecordKind.SERVER_BYTES, 0, Frame(Opcode.TEXT, created).serialize(mask=False, extensions=[server]))
            for _ in range(2)
        ],
    )
    assert [event.message() for event in events[2:]] == [append, append, created, created]
    assert events[3].wire_bytes < len(append)


def test_a_gap_gives_what_was_half_read_then_says_so_and_goes_on() -> None:
    whole = text(b'{"type":"response.create"}', mask=True)
    events = session(
        record(RecordKind.CLIENT_BYTES, 3000, whole + whole[:7]),
        record(RecordKind.GAP, 4000, {"direction": "client", "bytes": 20, "reason": "ring full"}),
        record(RecordKind.CLIENT_BYTES, 5000, whole[-4:]),
        record(RecordKind.CLIENT_BYTES, 6000, whole),
    )
    shown = [(event.type, event.opcode) for event in events[2:-1]]
    assert shown == [("response.create", 1), (None, 2), ("recorder.gap", None), (None, 2), ("response.create", 1)]
    assert events[3].message() == b"{"  # of the header nothing, and what there is of the payload without its mask
    assert json.loads(events[4].payload or "") == {"direction": "client", "bytes": 20, "reason": "ring full"}


def test_a_gap_of_one_side_leaves_the_other_alone() -> None:
    halves = text(b'{"type":"session.created"}', mask=False)
    events = session(
        record(RecordKind.SERVER_BYTES, 3000, halves[:9]),
        record(RecordKind.GAP, 4000, {"direction": "client", "bytes": 20, "reason": "ring full"}),
        record(RecordKind.SERVER_BYTES, 5000, halves[9:]),
    )
    assert [event.type for event in events[2:-1]] == ["recorder.gap", "session.created"]


def test_what_is_left_at_the_end_comes_before_it() -> None:
    half = text(b'{"type":"response.create"}', mask=True)[:11]
    events = session(record(RecordKind.CLIENT_BYTES, 3000, half))
    assert [(event.type, event.direction) for event in events[-2:]] == [
        (None, "client"),
        ("recorder.session_closed", "recorder"),
    ]
    assert (events[-2].message(), events[-2].wire_bytes) == (b'{"typ', len(half))


@given(st.lists(st.integers(1, 500), max_size=20), st.lists(st.integers(1, 500), max_size=20))
def test_cuts_in_the_streams_change_nothing_but_the_times(client_cuts: list[int], server_cuts: list[int]) -> None:
    client = b"".join(text(b'{"type":"input_audio_buffer.append","audio":"AAAA"}', mask=True) for _ in range(6))
    server = b"".join(text(b'{"type":"response.output_text.delta","delta":"x"}', mask=False) for _ in range(6))

    def run(cuts_of_client: list[int], cuts_of_server: list[int]) -> list[tuple[object, ...]]:
        records = []
        for kind, wire, cuts in (
            (RecordKind.CLIENT_BYTES, client, cuts_of_client),
            (RecordKind.SERVER_BYTES, server, cuts_of_server),
        ):
            at = 0
            for size in [*cuts, len(wire)]:
                records.append(Record(kind, 5, wire[at : at + size]))
                at += size
        return [(e.position, e.direction, e.type, e.message(), e.wire_bytes, e.audio_ms) for e in session(*records)]

    assert run(client_cuts, server_cuts) == run([], [])


@given(
    st.lists(
        st.builds(Record, st.sampled_from(list(RecordKind)), st.integers(0, 2**62), st.binary(max_size=30)),
        max_size=12,
    )
)
def test_any_records_decode_with_gapless_positions(records: list[Record]) -> None:
    events = decode(Record(RecordKind.OPENED, 0, b'{"session_id":"s"}'), *records)
    assert [event.position for event in events] == list(range(len(events)))


def test_a_secret_in_a_frame_that_was_never_finished_is_found_behind_its_mask() -> None:
    update = b'{"type":"session.update","session":{"tools":[{"type":"mcp","authorization":"tok_of_theirs"}]}}'
    events = session(record(RecordKind.CLIENT_BYTES, 3000, text(update, mask=True)[:-2]))
    unfinished = next(event for event in events if event.problem == "the frame was never finished")
    assert unfinished.redacted
    assert unfinished.message() == update[:-2].replace(b"tok_of_theirs", fingerprint("tok_of_theirs").encode())
