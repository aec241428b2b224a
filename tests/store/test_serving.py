"""Waiting in C, for what it carries by itself."""

import errno
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder.proxy.selector import READ, SpliceSelector
from recorder.store.carry import NO_ROOM, NOTHING, SAMPLED, serving
from recorder.store.ring_reader import RingReader
from tests.store.conftest import Lane

pytestmark = pytest.mark.usefixtures("compiled")


class Served:
    """Lanes whose sources are waited for by C."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        served = serving(self.epoll.fileno())
        assert served is not None
        self.serving = served

    def watch(self, lane: Lane) -> None:
        self.epoll.register(lane.source.fileno(), select.EPOLLIN)
        self.serving.carry(lane.source.fileno(), lane.carrier.lane)

    def serve(self, timeout_ms: int = 0) -> list[tuple[int, int]]:
        count = self.serving.serve(self.serving.native, timeout_ms)
        assert count >= 0
        assert count >> 8 == len(self.serving.undone)
        ready = self.serving.unpack(self.serving.ready, count & 0xFF)
        return [(event & 0xFFFF_FFFF, event >> 32) for event in ready]


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.epoll.close()


def test_what_lanes_have_to_carry_is_carried_while_waiting(lane: Lane, served: Served) -> None:
    """It goes on waiting until there is something else, and settles first: what was sent on may be wiped."""
    served.watch(lane)
    lane.speaker.send(b"hello")
    listener = lane.listener.fileno()
    served.epoll.register(listener, select.EPOLLIN)
    assert served.serve(timeout_ms=-1) == [(listener, select.EPOLLIN)]
    assert served.serving.undone == []
    assert lane.listener.recv(100) == b"hello"
    assert lane.records() == [(0, 7, 4, b"hello")]
    with RingReader(lane.writer.path) as reader:
        reader.release(reader.head)
        assert reader.used_bytes == 0
    assert served.serve() == []


def test_what_a_lane_leaves_undone_is_told_once(tmp_path: Path, served: Served) -> None:
    lanes = [Lane(tmp_path, sample_every=1), Lane(tmp_path), Lane(tmp_path), Lane(tmp_path)]
    for one in lanes:
        served.watch(one)
    sampled, ended, blocked, usual = lanes
    sampled.speaker.send(b"its time is taken")
    ended.speaker.shutdown(socket.SHUT_WR)
    blocked.carrier.block(True)
    blocked.speaker.send(b"step by step")
    usual.speaker.send(b"carried")
    assert served.serve() == []
    assert sorted(served.serving.undone) == sorted(
        (one.source.fileno(), outcome, select.EPOLLIN)
        for one, outcome in ((sampled, SAMPLED), (ended, NOTHING), (blocked, NO_ROOM))
    )
    assert blocked.source.recv(100) == b"step by step"
    served.serving.carry(ended.source.fileno(), None)
    assert served.serve() == [(ended.source.fileno(), select.EPOLLIN)]  # Python's from now on
    assert served.serving.undone == []
    for one in lanes:
        one.close()


def test_what_is_more_than_to_be_read_is_left_to_python(lane: Lane, served: Served) -> None:
    served.watch(lane)
    lane.speaker.send(b"last words")
    lane.speaker.close()
    assert served.serve() == [(lane.source.fileno(), select.EPOLLIN | select.EPOLLHUP)]
    assert lane.records() == []


def test_it_knows_as_many_lanes_as_there_are(tmp_path: Path, served: Served) -> None:
    lanes = [Lane(tmp_path) for _ in range(20)]
    for number, one in enumerate(lanes):
        served.watch(one)
        one.speaker.send(bytes([number]))
    assert served.serve() == []
    assert [one.listener.recv(10) for one in lanes] == [bytes([number]) for number in range(20)]
    for one in lanes:
        one.close()


def test_what_cannot_be_waited_for_is_an_error(served: Served) -> None:
    served.serving.native.epoll = -1
    assert served.serving.serve(served.serving.native, 0) == -errno.EBADF


def test_what_was_received_is_dealt_with_though_another_stops_watching(tmp_path: Path) -> None:
    """Of two lanes that are ready at once, the first one's end may change what is watched of the second."""
    lanes = [Lane(tmp_path, sample_every=1), Lane(tmp_path, sample_every=1)]
    selector = SpliceSelector()
    dealt: list[tuple[int, int]] = []

    def deal(outcome: int, mask: int) -> None:
        dealt.append((outcome, mask))
        for one in lanes:
            selector.unwatch(one.source.fileno())

    for one in lanes:
        selector.watch(one.source.fileno(), READ, lambda _: pytest.fail("C has carried it"), (one.carrier.lane, deal))
        one.speaker.send(b"x")
    selector.select(0)
    assert dealt == [(SAMPLED, READ), (SAMPLED, READ)]
    selector.select(0)
    assert len(dealt) == 2
    selector.close()
    for one in lanes:
        one.close()
