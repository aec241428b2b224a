"""Handing listening sockets over."""

import threading
from pathlib import Path

import pytest

from recorder.proxy.supervisor import listen
from recorder.proxy.takeover import HandOver, TakeOver, TakeOverError


@pytest.mark.parametrize("depth", [1, 40])
def test_sockets_change_hands_however_deep_the_directory_lies(tmp_path: Path, depth: int) -> None:
    rings = tmp_path / ("deep" * depth) / "rings"
    sockets, taken = listen("127.0.0.1:0", 2), threading.Event()
    old = HandOver(rings, sockets, taken.set)
    successor = TakeOver(rings)
    assert [sock.getsockname() for sock in successor.sockets] == [sock.getsockname() for sock in sockets]
    assert not taken.is_set()
    successor.ready()
    assert taken.wait(20)
    old.close()
    with pytest.raises(TakeOverError, match="cannot take over"):
        TakeOver(rings)
    for sock in (*sockets, *successor.sockets):
        sock.close()
