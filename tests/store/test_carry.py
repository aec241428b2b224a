"""The step in C between two plain sockets, and the half-steps."""

import errno
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recorder.proxy.streams import given_to, taken_by
from recorder.proxy.tap import Tap
from recorder.store import carry
from recorder.store.carry import CARRIED, NO_ROOM, NOTHING, SAMPLED, UNSENT, serving
from recorder.store.ring import HEADER, PAGE, WINDOW, RingWriter
from recorder.store.ring_reader import RingReader
from tests.store.conftest import NEVER, Lane

pytestmark = pytest.mark.usefixtures("compiled")


def test_a_message_is_on_record_and_sent_on(lane: Lane) -> None:
    lane.speaker.send(b"hello")
    before = time.monotonic_ns()
    assert lane.carry() == CARRIED
    after = time.monotonic_ns()
    assert lane.listener.recv(100) == b"hello"
    assert lane.records() == [(0, 7, 4, b"hello")]
    with RingReader(lane.writer.path) as reader:
        assert before <= reader.read()[0][0].at_ns <= after
    assert lane.carrier.lane.carried == 5


def test_the_header_in_c_is_the_ring_s(native: Any) -> None:
    assert native.ffi.sizeof("struct record") == HEADER
    codes = [getattr(native.lib, name) for name in ("CARRIED", "SAMPLED", "NO_ROOM", "NOTHING", "UNSENT")]
    assert codes == [CARRIED, SAMPLED, NO_ROOM, NOTHING, UNSENT]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(1, 60_000)), min_size=1, max_size=60))
def test_it_takes_turns_with_the_other_ways_into_the_ring(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int]]
) -> None:
    """Carried or appended, in any order and for many laps: each record is there once, whole, and where it belongs."""
    lane = Lane(tmp_path_factory.mktemp("ring"), capacity=2 * WINDOW)
    with RingReader(lane.writer.path) as reader:
        for number, (carried, size) in enumerate(steps):
            data = bytes([number % 251]) * size
            outcome = NO_ROOM
            if carried:
                lane.speaker.sendall(data)
                outcome = lane.carry()
                if outcome == NO_ROOM:  # at the end of the ring, where the window does not fit: nothing was read
                    assert lane.source.recv(size) == data
                else:
                    assert outcome == CARRIED
                    assert lane.listener.recv(1 << 20) == data
            if outcome == NO_ROOM:
                assert lane.writer.append(9, 8, 1, data)
            (record,) = reader.read()[0]
            kind, session_no = (9, 8) if outcome == NO_ROOM else (4, 7)
            assert (record.kind, record.session_no, bytes(record.data)) == (kind, session_no, data)
            lane.writer.settle()
            reader.release(reader.head)
    lane.close()


def test_without_room_nothing_is_read(tmp_path: Path) -> None:
    lane = Lane(tmp_path, capacity=WINDOW + PAGE)
    lane.speaker.send(b"first")
    assert lane.carry() == CARRIED
    while lane.writer.append(9, 8, 1, bytes(1000)):
        pass
    lane.speaker.send(b"second")
    assert lane.carry() == NO_ROOM
    assert lane.source.recv(100) == b"second"
    assert lane.carrier.lane.carried == 5
    lane.close()


def test_where_nothing_comes_it_says_why(lane: Lane) -> None:
    assert (lane.carry(), type(lane.carrier.error)) == (NOTHING, BlockingIOError)
    lane.speaker.close()
    assert (lane.carry(), lane.carrier.error) == (NOTHING, None)
    assert lane.records() == []


def test_a_reset_is_told_as_the_socket_tells_it(tmp_path: Path) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    speaker = socket.create_connection(listening.getsockname())
    source, _ = listening.accept()
    sink, listener = socket.socketpair()
    writer = RingWriter(tmp_path, 4 * WINDOW)
    carrier = writer.carrier(source.fileno(), sink.fileno(), kind=4, session_no=7, sample_every=NEVER)
    assert carrier is not None
    speaker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    speaker.close()
    assert carrier.carry(carrier.lane) == NOTHING
    assert isinstance(carrier.error, ConnectionResetError)
    assert carrier.error.errno == errno.ECONNRESET
    for sock in (listening, source, sink, listener):
        sock.close()
    writer.close()


def test_what_a_slow_reader_does_not_take_is_left_to_hold(lane: Lane) -> None:
    sent = b""
    outcome = CARRIED
    while outcome == CARRIED:
        data = bytes([len(sent) % 251]) * 50_000
        lane.speaker.sendall(data)
        sent += data
        outcome = lane.carry()
    assert outcome == UNSENT
    error = lane.carrier.error
    assert error is None or isinstance(error, BlockingIOError)
    rest = lane.carrier.rest
    assert rest
    assert b"".join(data for *_, data in lane.records()) == sent
    arrived = b""
    while len(arrived) < len(sent) - len(rest):
        arrived += lane.listener.recv(1 << 20)
    assert arrived + rest == sent


def test_one_who_has_gone_takes_nothing_and_it_is_on_record(lane: Lane) -> None:
    lane.listener.close()
    lane.speaker.send(b"too late")
    assert lane.carry() == UNSENT
    assert isinstance(lane.carrier.error, BrokenPipeError)
    assert lane.carrier.rest == b"too late"
    assert lane.records() == [(0, 7, 4, b"too late")]


def test_of_so_many_messages_one_s_time_is_taken(tmp_path: Path) -> None:
    lane = Lane(tmp_path, sample_every=3)
    outcomes = []
    for _ in range(9):
        lane.speaker.send(b"x")
        outcomes.append(lane.carry())
    assert outcomes == [CARRIED, CARRIED, SAMPLED] * 3
    assert lane.carrier.took_ns > 0
    lane.close()


def test_a_closed_ring_is_not_written_to(tmp_path: Path) -> None:
    lane = Lane(tmp_path)
    lane.speaker.send(b"late")
    lane.close()
    assert lane.carry() == NO_ROOM
    assert lane.carrier.take(lane.carrier.lane) == -NO_ROOM
    assert lane.carrier.room(lane.carrier.lane) == 0


def never() -> bytes:
    raise AssertionError("not step by step")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(1, 60_000)), min_size=1, max_size=60))
def test_what_is_taken_is_what_the_receiver_would_have_taken(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int]]
) -> None:
    """In one step or by the ring's own receiver, in any order and for many laps, it is the same bytes on record."""
    lane = Lane(tmp_path_factory.mktemp("ring"), capacity=2 * WINDOW)
    by_itself = lane.writer.receiver(lane.source.recv_into, 4, 7, (), never)  # type: ignore[arg-type]
    at_once = taken_by(lane.carrier, by_itself)
    with RingReader(lane.writer.path) as reader:
        for number, (one_step, size) in enumerate(steps):
            data = bytes([number % 251]) * size
            lane.speaker.sendall(data)
            before = time.monotonic_ns()
            assert bytes(at_once() if one_step else by_itself()) == data
            (record,) = reader.read()[0]
            assert (record.kind, record.session_no, bytes(record.data)) == (4, 7, data)
            assert before <= record.at_ns <= time.monotonic_ns()
            lane.writer.settle()
            reader.release(reader.head)
    lane.close()


def test_what_was_received_otherwise_is_on_record_and_sent_on(lane: Lane) -> None:
    """As what OpenSSL has decrypted is."""
    carry = given_to(lane.carrier, lane.source.recv_into)
    lane.speaker.send(b"decrypted")
    before = time.monotonic_ns()
    assert carry(lane.carrier.lane) == CARRIED
    assert lane.listener.recv(100) == b"decrypted"
    assert lane.records() == [(0, 7, 4, b"decrypted")]
    with RingReader(lane.writer.path) as reader:
        assert before <= reader.read()[0][0].at_ns <= time.monotonic_ns()
    assert lane.carrier.lane.carried == 9
    assert (carry(lane.carrier.lane), type(lane.carrier.raised)) == (NOTHING, BlockingIOError)
    lane.listener.close()
    lane.speaker.send(b"too late")
    assert carry(lane.carrier.lane) == UNSENT
    assert isinstance(lane.carrier.error, BrokenPipeError)
    assert lane.carrier.rest == b"too late"
    lane.speaker.close()
    assert (carry(lane.carrier.lane), lane.carrier.raised) == (NOTHING, None)
    assert [data for *_, data in lane.records()] == [b"decrypted", b"too late"]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(1, 60_000)), min_size=1, max_size=60))
def test_what_is_given_to_c_is_what_c_would_have_carried(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int]]
) -> None:
    """For many laps; where there is no room at the ring's end, nothing is received."""
    lane = Lane(tmp_path_factory.mktemp("ring"), capacity=2 * WINDOW)
    carry = given_to(lane.carrier, lane.source.recv_into)
    with RingReader(lane.writer.path) as reader:
        for number, (given_bytes, size) in enumerate(steps):
            data = bytes([number % 251]) * size
            lane.speaker.sendall(data)
            outcome = carry(lane.carrier.lane) if given_bytes else lane.carry()
            if outcome == NO_ROOM:
                assert lane.source.recv(size) == data
                assert lane.writer.append(4, 7, 1, data)
            else:
                assert outcome == CARRIED
                assert lane.listener.recv(1 << 20) == data
            (record,) = reader.read()[0]
            assert (record.kind, record.session_no, bytes(record.data)) == (4, 7, data)
            lane.writer.settle()
            reader.release(reader.head)
    lane.close()


def test_while_blocked_nothing_is_taken_at_once(lane: Lane) -> None:
    lane.carrier.block(True)
    lane.speaker.send(b"hello")
    assert lane.carry() == NO_ROOM
    assert given_to(lane.carrier, lane.source.recv_into)(lane.carrier.lane) == NO_ROOM
    assert taken_by(lane.carrier, lambda: b"step by step")() == b"step by step"
    lane.carrier.block(False)
    assert bytes(taken_by(lane.carrier, never)()) == b"hello"
    assert lane.records() == [(0, 7, 4, b"hello")]
    assert lane.carrier.lane.carried == 0  # that counts what was sent on


def test_where_nothing_is_taken_it_raises_as_the_socket_does(lane: Lane) -> None:
    receive = taken_by(lane.carrier, never)
    with pytest.raises(BlockingIOError):
        receive()
    lane.speaker.close()
    assert receive() == b""
    assert lane.records() == []


def test_what_was_taken_may_not_be_wiped_before_it_is_settled(lane: Lane) -> None:
    lane.speaker.send(b"on its way")
    data = taken_by(lane.carrier, never)()
    with RingReader(lane.writer.path) as reader:
        reader.release(reader.head)
        assert bytes(data) == b"on its way"
        lane.writer.settle()
        reader.release(reader.head)
        assert bytes(data) == bytes(10)


def test_without_the_module_there_is_no_carrier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry, "_carry", None)
    writer = RingWriter(tmp_path, 4 * WINDOW)
    assert writer.carrier(0, 1, kind=4, session_no=7, sample_every=64) is None
    assert serving(0) is None
    writer.close()


def test_a_tap_with_a_gap_to_end_first_has_all_done_step_by_step(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, 8 * PAGE)
    tap = Tap(writer, 7)
    carrier = tap.carrier(4, 0, 1, NEVER)
    assert carrier is not None
    assert not carrier.lane.blocked
    tap.chunk(4, bytes(PAGE))
    tap.chunk(4, bytes(8 * PAGE))  # more than there is room for
    assert carrier.lane.blocked
    with RingReader(writer.path) as reader:
        reader.release(reader.head)
    tap.chunk(4, b"room again")
    assert not carrier.lane.blocked
    while tap.facts(9, {"some": "facts"}):
        pass
    assert carrier.lane.blocked
    with RingReader(writer.path) as reader:
        reader.release(reader.head)
    assert tap.settle()
    assert not carrier.lane.blocked
    tap.stop("enough")
    assert carrier.lane.blocked
    later = Tap(writer, 8, off=True).carrier(4, 0, 1, NEVER)
    assert later is not None
    assert later.lane.blocked
    writer.close()


def test_a_session_that_begins_anew_in_another_store_tells_so_before_c_carries_on(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, 8 * PAGE)
    tap = Tap(writer, 7)
    carrier = tap.carrier(4, 0, 1, NEVER)
    assert carrier is not None
    while writer.append(4, 7, 1, bytes(1000)):
        pass
    tap.begin_anew({4: 20})
    assert carrier.lane.blocked
    with RingReader(writer.path) as reader:
        reader.release(reader.head)
    assert tap.settle()
    assert not carrier.lane.blocked
    writer.close()
