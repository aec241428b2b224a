"""Handing listening sockets over."""

import os
import threading
from pathlib import Path

import pytest

from recorder.errors import StoreError
from recorder.proxy.onlyproxy import OnlyProxy
from recorder.proxy.supervisor import listen
from recorder.proxy.takeover import HandOver, TakeOver, TakeOverError


@pytest.mark.parametrize("depth", [1, 40])
def test_sockets_change_hands_however_deep_the_directory_lies(tmp_path: Path, depth: int) -> None:
    rings = tmp_path / ("deep" * depth) / "rings"
    lock = OnlyProxy(tmp_path)
    lock.claim()
    sockets, taken = listen("127.0.0.1:0", 2), threading.Event()
    old = HandOver(rings, sockets, lock, taken.set)
    successor = TakeOver(rings)
    assert [sock.getsockname() for sock in successor.sockets] == [sock.getsockname() for sock in sockets]
    assert not taken.is_set()
    mine = OnlyProxy(tmp_path)
    successor.ready(mine)
    assert taken.wait(20)
    lock.release()
    with pytest.raises(StoreError, match=f"in use by another proxy: process {os.getpid()} on "):
        OnlyProxy(tmp_path).claim()
    mine.release()
    OnlyProxy(tmp_path).claim()
    old.close()
    with pytest.raises(TakeOverError, match="cannot take over"):
        TakeOver(rings)
    for sock in (*sockets, *successor.sockets):
        sock.close()


def test_a_predecessor_of_an_older_version_has_no_lock_to_give(tmp_path: Path) -> None:
    sockets, mine = listen("127.0.0.1:0"), OnlyProxy(tmp_path)
    old = HandOver(tmp_path / "rings", sockets, OnlyProxy(tmp_path), lambda: None)
    successor = TakeOver(tmp_path / "rings")
    successor.ready(mine)
    assert mine.fd is not None
    old.close()
    mine.release()
    for sock in (*sockets, *successor.sockets):
        sock.close()
