"""A worker that stops still serves whom it has accepted: nobody else will."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from websockets.frames import Close, Opcode

from recorder.protocol.envelope import RecordKind
from recorder.protocol.frames import FrameDecoder
from recorder.proxy.farewell import GOING_AWAY, REASON
from recorder.proxy.worker import Worker
from tests.proxy.conftest import ACCEPT, UPGRADE, RunningWorker, Scripted, accept, read_exactly, read_head, read_to_end
from tests.proxy.fault_stage import eventually

GOODBYE = Close(GOING_AWAY, REASON).serialize()
MakeUpstream = Callable[[Callable[[socket.socket], None]], Scripted]
MakeWorker = Callable[..., RunningWorker]


def conversation(connection: socket.socket) -> None:
    accept(connection)
    while data := connection.recv(1000):
        connection.sendall(data)


def talk(client: socket.socket) -> None:
    client.sendall(UPGRADE)
    assert read_head(client) == ACCEPT
    client.sendall(b"hello")
    assert read_exactly(client, 5) == b"hello"


def test_one_that_was_accepted_at_the_last_moment(upstream: MakeUpstream, worker: MakeWorker) -> None:
    running = worker(upstream(conversation).url, drain_seconds=20.0)

    def stop_and_accept(one: Worker, client: socket.socket) -> None:
        client.connect(running.address)
        one.stop()
        one._accept(one._listeners[0])

    with socket.socket() as client:
        client.settimeout(20)
        running.call(lambda one: stop_and_accept(one, client))
        talk(client)


def test_one_whose_tls_has_only_begun(upstream: MakeUpstream, worker: MakeWorker, certificate: Path) -> None:
    running = worker(upstream(conversation).url, drain_seconds=20.0, tls_cert=str(certificate))
    context = ssl.create_default_context(cafile=str(certificate))
    with running.connect() as plain:
        eventually(lambda: running.call(lambda one: len(one._tasks) == 1), "it has been accepted")
        running.call(lambda one: one.stop())
        eventually(lambda: not running.accepts(), "it has stopped")
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            talk(client)


def test_a_call_that_began_in_the_drain_is_told_of_its_end(upstream: MakeUpstream, worker: MakeWorker) -> None:
    running = worker(upstream(conversation).url, drain_seconds=3.0)
    with running.connect() as client:
        client.sendall(UPGRADE[:10])
        eventually(lambda: running.call(lambda one: len(one._sessions) == 1), "it has been accepted")
        running.call(lambda one: one.stop())
        eventually(lambda: not running.accepts(), "it has stopped")
        client.sendall(UPGRADE[10:])
        assert read_head(client) == ACCEPT
        (message,) = FrameDecoder("server").feed(read_to_end(client))
    assert (message.opcode, message.data) == (Opcode.CLOSE, GOODBYE)
    (closed,) = running.facts(RecordKind.CLOSED)
    assert (closed["closed_by"], closed["close_code"]) == ("proxy", 1001)
