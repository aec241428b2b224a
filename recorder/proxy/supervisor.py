"""The supervisor: starts the processes of a proxy, restarts one that dies, stops them in order.

It holds the listening sockets, so that connections waiting in a backlog outlive the worker that was to take them, and
for each child the write end of a pipe. A child stops when its pipe closes: because it is told to, in the order of the
list (workers before the recorder process before the sealer), or because the supervisor itself was killed; then running
calls go on to their end without it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from recorder.errors import ListenError, UsageError
from recorder.proxy.config import WorkerConfig
from recorder.proxy.worker import CONFIG_VARIABLE

log = logging.getLogger(__name__)

BACKLOG: Final = 1024
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_STEADY_SECONDS: Final = 10.0  # a child that lived so long starts again at once
_GRACE_SECONDS: Final = 30.0


@dataclass
class Child:
    """One process to keep running.

    Attributes:
        name: for the log.
        command: its arguments; the parent pipe's descriptor is added, then those of `sockets`.
        sockets: inherited by it.
        environment: added to ours.
        patience_seconds: how long it may take to stop before it is killed.
    """

    name: str
    command: Sequence[str]
    sockets: Sequence[socket.socket] = ()
    environment: dict[str, str] = field(default_factory=dict)
    patience_seconds: float = _GRACE_SECONDS
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    pipe: int = -1

    def start(self) -> None:
        """Start the process, in a session of its own: a Ctrl-C is the supervisor's to answer."""
        inner, self.pipe = os.pipe()
        fds = [sock.fileno() for sock in self.sockets]
        try:
            self.process = subprocess.Popen(
                [*self.command, str(inner), *map(str, fds)],
                pass_fds=[inner, *fds],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(inner)
        self.started = time.monotonic()

    def ask_to_stop(self) -> None:
        """Close its pipe."""
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1


def listen(address: str) -> socket.socket:
    """A listening socket on `host:port` that a later version may share (SO_REUSEPORT).

    Raises:
        UsageError: the address makes no sense.
        ListenError: it cannot be had.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--listen {address!r} is no address", hint="Give it as HOST:PORT, like 127.0.0.1:8765.")
    host = host.strip("[]")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, int(port)))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(address, error.strerror or str(error)) from None
    return sock


def supervise(
    children: list[Child], *, stop: threading.Event, poll_seconds: float = 0.1, on_death: Callable[[Child, int], None]
) -> None:
    """Keep `children` running until `stop` is set, then stop them in the order of the list.

    Args:
        children: not yet started.
        stop: set by a signal handler.
        poll_seconds: how often to look after them.
        on_death: called with a child that died unasked and its exit code.
    """
    for child in children:
        child.start()
    due: dict[str, float] = {}
    while not stop.wait(poll_seconds):
        for child in children:
            _look_after(child, due, on_death)
    for child in children:
        _stop(child)


def _look_after(child: Child, due: dict[str, float], on_death: Callable[[Child, int], None]) -> None:
    now = time.monotonic()
    if child.process is not None and (code := child.process.poll()) is not None:
        child.process = None
        child.ask_to_stop()
        on_death(child, code)
        child.failures = 0 if now - child.started > _STEADY_SECONDS else child.failures + 1
        pause = min(_FIRST_PAUSE_SECONDS * 2**child.failures, _LONGEST_PAUSE_SECONDS) if child.failures > 1 else 0
        due[child.name] = now + pause
    if child.process is None and now >= due[child.name]:
        child.start()


def _stop(child: Child) -> None:
    child.ask_to_stop()
    if child.process is None:
        return
    try:
        child.process.wait(child.patience_seconds)
    except subprocess.TimeoutExpired:
        log.error("%s does not stop; killing it", child.name)  # noqa: TRY400 - the words say it all
        child.process.kill()
        child.process.wait()


def worker_child(config: WorkerConfig, number: int, listener: socket.socket) -> Child:
    """The child that is a proxy worker."""
    return Child(
        name=f"worker {number}",
        command=[sys.executable, "-m", "recorder.proxy.worker"],
        sockets=[listener],
        environment={CONFIG_VARIABLE: msgspec.json.encode(config).decode()},
        patience_seconds=config.drain_seconds + _GRACE_SECONDS,
    )


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
