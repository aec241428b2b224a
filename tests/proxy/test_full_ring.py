"""Sessions that begin while the ring has no room for them."""

import socket
from collections.abc import Callable

import pytest

from recorder.protocol.envelope import RecordKind
from tests.proxy.conftest import (
    ACCEPT,
    UPGRADE,
    RunningWorker,
    Scripted,
    exchange,
    read_exactly,
    read_head,
    read_to_end,
    take,
)
from tests.proxy.fault_stage import fill

MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]


@pytest.mark.parametrize("policy", ["pass", "refuse"])
def test_a_session_that_cannot_be_recorded(upstream: MakeUpstream, worker: MakeWorker, policy: str) -> None:
    """Nobody drains this ring, so that a few sessions fill it."""

    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(ACCEPT)

    proxy = worker(upstream(behave).url, ring_bytes=8192, on_recording_failure=policy)
    answers = {exchange(proxy, UPGRADE)[0] for _ in range(20)}
    accepted, refused = b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 503 Service Unavailable"
    assert answers == ({accepted} if policy == "pass" else {accepted, refused})


def test_one_that_begins_while_nothing_can_be_recorded_is_on_record_later(
    upstream: MakeUpstream, worker: MakeWorker
) -> None:
    """With a gap for what it has said until then."""

    def behave(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(ACCEPT)
        for count in (7, 5):
            connection.sendall(read_exactly(connection, count))
        assert read_to_end(connection) == b""

    proxy = worker(upstream(behave).url, ring_bytes=1 << 20)
    proxy.call(fill)
    with proxy.connect() as client:
        client.sendall(UPGRADE)
        assert read_head(client) == ACCEPT
        client.sendall(b"missing")
        assert read_exactly(client, 7) == b"missing"
        take(proxy.reader)
        client.sendall(b"there")
        assert read_exactly(client, 5) == b"there"
    opened, accepted, *_ = records = [record for record in proxy.records() if record.session_no]
    assert (opened.kind, accepted.kind) == (RecordKind.OPENED, RecordKind.ACCEPTED)
    gaps = [(gap["direction"], gap["bytes"], gap["reason"]) for gap in proxy.facts(RecordKind.GAP) if "bytes" in gap]
    assert gaps == [("client", 7, "ring full"), ("server", 7, "ring full")]
    assert proxy.tapped(RecordKind.CLIENT_BYTES) == proxy.tapped(RecordKind.SERVER_BYTES) == b"there"
    (closed,) = proxy.facts(RecordKind.CLOSED)
    assert (records[-1].kind, closed["missed_bytes"]) == (RecordKind.CLOSED, 14)
