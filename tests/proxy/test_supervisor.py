"""What the supervisor does where the system gives it nothing."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recorder.proxy import supervisor
from recorder.proxy.supervisor import Child, Signals, supervise
from recorder.proxy.worker import READY


def test_a_child_that_cannot_be_started_again_is_tried_until_it_can_be(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    signals = SimpleNamespace(stop=threading.Event(), reload=threading.Event())
    dies = Child(name="dies", command=[sys.executable, "-c", "import sys; sys.exit()"])
    lives = Child(name="lives", command=[sys.executable, "-c", "import os, sys; os.read(int(sys.argv[1]), 1)"])
    starts = 0
    real = subprocess.Popen

    def popen(command: list[str], **settings: Any) -> Any:
        nonlocal starts
        starts += command[:3] == dies.command
        if starts in {2, 3}:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if starts == 4:
            signals.stop.set()
        return real(command, **settings)

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE_SECONDS", 0.001)
    supervise(
        [dies, lives], cast("Signals", signals), on_death=lambda *_: None, on_ready=lambda: None, poll_seconds=0.001
    )
    assert starts == 4
    assert lives.starts == 1
    told = [entry.getMessage() for entry in caplog.records if entry.levelname == "ERROR"]
    assert told == ["dies cannot be started: Resource temporarily unavailable; it is tried again"] * 2


def test_a_reload_waits_until_a_worker_understands_it() -> None:
    """One that is still starting would die of the signal, again and again where they come often enough."""
    sent: list[int] = []
    child = Child(name="worker", command=[], reloads=True, announces=True)
    child.process = cast("subprocess.Popen[bytes]", SimpleNamespace(send_signal=sent.append))
    child.pipe, worker = socket.socketpair()
    with child.pipe, worker:
        child.pipe.setblocking(False)
        child.reload()
        child.look()
        assert sent == []
        worker.send(READY)
        child.look()
        child.look()
        assert sent == [signal.SIGHUP]
        child.reload()
        assert sent == [signal.SIGHUP] * 2
