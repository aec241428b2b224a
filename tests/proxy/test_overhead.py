"""What the proxy adds to a session's messages is told with its end."""

import socket
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.envelope import RecordKind
from recorder.proxy.overhead import Overhead
from recorder.proxy.splice import SAMPLE_EVERY
from recorder.store.counters import ADDED_LATENCY
from tests.proxy.conftest import ACCEPT, UPGRADE, RunningWorker, Scripted, read_exactly, read_head, read_to_end

ROUNDS = 3 * SAMPLE_EVERY


@given(st.lists(st.integers(0, 10**12), min_size=1))
def test_each_time_is_in_its_bucket_which_is_narrow(times: list[int]) -> None:
    told: list[int] = []
    overhead = Overhead(64, told.append)
    for time in times:
        overhead.observe(RecordKind.SERVER_BYTES, time)
    facts = overhead.facts()["added_latency"]
    side = facts["server"]
    assert (told, facts["every"], "client" in facts) == (times, 64, False)
    assert (side["sum_ns"], side["max_ns"], sum(side["counts"])) == (sum(times), max(times), len(times))
    assert list(side["upper_ns"]) == sorted(set(side["upper_ns"]))
    ordered = [upper for upper, count in zip(side["upper_ns"], side["counts"], strict=True) for _ in range(count)]
    for time, upper in zip(sorted(times), ordered, strict=True):
        assert time < upper <= max(time + 1, time * 17 / 16 + 1)


def test_what_was_not_measured_is_not_told() -> None:
    assert Overhead(64, lambda _: None).facts() == {}


def test_a_session_ends_with_its_histograms(
    upstream: Callable[[Callable[[socket.socket], None]], Scripted], worker: Callable[..., RunningWorker]
) -> None:
    def echo(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(ACCEPT)
        while data := connection.recv(100):
            connection.sendall(data)

    running = worker(upstream(echo).url)
    with running.connect() as client:
        client.sendall(UPGRADE)
        read_head(client)
        for _ in range(ROUNDS):
            client.sendall(b"chunk")
            assert read_exactly(client, 5) == b"chunk"
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b""
    counters = running.call(lambda one: one._counters)
    (closed,) = running.facts(RecordKind.CLOSED)
    added = closed["added_latency"]
    assert [sum(added[side]["counts"]) for side in ("client", "server")] == [ROUNDS / SAMPLE_EVERY] * 2
    assert counters[ADDED_LATENCY] == 2 * ROUNDS / SAMPLE_EVERY
    for side in ("client", "server"):
        assert 0 < added[side]["max_ns"] <= added[side]["sum_ns"]
        assert added[side]["upper_ns"][-1] > added[side]["max_ns"]
