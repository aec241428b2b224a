"""A call is erased while the proxy that recorded it records another: rings, spools and all files lose it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from websockets.frames import Frame, Opcode

from recorder.pipeline.catalog import Catalog
from recorder.pipeline.locks import ring_of
from tests.e2e.conftest import COMMAND, PATIENCE, RecorderProcess, eventually
from tests.e2e.test_life_cycle import Echo
from tests.pipeline.scan import found
from tests.proxy.conftest import UPGRADE, read_exactly, read_head

KEPT, SECRET = b"kept-4f1c", b"secret-9d2e"


@pytest.fixture
def echo() -> Iterator[Echo]:
    with closing(Echo()) as server:
        yield server


def say(connection: socket.socket, word: bytes) -> None:
    """A message without a mask's changes, so that its bytes can be looked for; and its echo."""
    text = b'{"type":"response.create","note":"%s"}' % word
    frame = bytearray(Frame(Opcode.TEXT, text).serialize(mask=False))
    frame[1] |= 0x80
    frame[2:2] = bytes(4)  # a mask of zeros
    connection.sendall(frame)
    assert read_exactly(connection, len(frame)) == frame


def call(proxy: RecorderProcess, word: bytes) -> socket.socket:
    connection = socket.create_connection(proxy.address, PATIENCE)
    connection.sendall(UPGRADE)
    read_head(connection)
    say(connection, word)
    return connection


def sessions(data: Path) -> list[str]:
    with Catalog(data) as catalog:
        return catalog.query("SELECT session_id FROM sessions ORDER BY opened_at")["session_id"].to_list()


def test_nothing_of_it_is_left_anywhere(data: Path, run: Callable[..., RecorderProcess], echo: Echo) -> None:
    options = ("--upstream", echo.url, "--listen", "127.0.0.1:0", "--data", str(data), "--workers", "1")
    proxy = run("proxy", *options)
    places = data, ring_of(data)
    with call(proxy, KEPT) as running:
        with call(proxy, SECRET):
            assert {word for _, word in found([SECRET], *places)} == {SECRET}
        eventually(lambda: len(list(data.glob("segments/sessions/*/*"))) == 1, "the call has ended, and is sealed")
        kept, erased = sessions(data)

        done = subprocess.run([*COMMAND, "erase", erased, "--yes", "--data", str(data)], check=False, env=os.environ)

        assert done.returncode == 0
        assert not found([SECRET, erased.encode()], *places)
        say(running, KEPT)
    eventually(lambda: len(list(data.glob("segments/sessions/*/*"))) == 1, "the other goes on to its end")
    assert sessions(data) == [kept]
    with Catalog(data) as catalog:
        said = [event.message() for event in catalog.recorded_events(kept)]
    assert sum(KEPT in message for message in said) == 4
    assert proxy.stop() == 0
    assert not found([SECRET, erased.encode()], *places)
