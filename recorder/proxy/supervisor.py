"""The supervisor: starts the processes of a proxy, restarts one that dies, stops them in order.

It holds the listening sockets, so that connections waiting in a backlog outlive the worker that was to take them, and
for each child one end of a pipe. A child stops when its pipe closes: because it is told to, in the order of the
list (workers before the recorder process before the sealer), or because the supervisor itself was killed; then running
calls go on to their end without it.
"""

from __future__ import annotations

import contextlib
import errno
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

from recorder.errors import ListenError, RecorderError, UsageError
from recorder.logs import PROCESS_VARIABLE
from recorder.proxy.config import WorkerConfig
from recorder.proxy.sockets import words_for
from recorder.proxy.worker import CONFIG_VARIABLE, READY
from recorder.store.counters import DESCRIPTOR_VARIABLE, Counters

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
        stage: when it is stopped: once those of lower stages have ended, together with those of the same.
        farewell: written to its pipe before that is closed on purpose: tells a stop from our death.
        reloads: whether it understands SIGHUP.
        announces: whether it says that it is ready, on its pipe.
        patience_seconds: how long it may take to stop before it is killed.
        counters: what it counts, kept while it is replaced.
    """

    name: str
    command: Sequence[str]
    sockets: Sequence[socket.socket] = ()
    environment: dict[str, str] = field(default_factory=dict)
    stage: int = 0
    farewell: bytes = b""
    reloads: bool = False
    announces: bool = False
    patience_seconds: float = _GRACE_SECONDS
    counters: Counters = field(default_factory=Counters)
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    starts: int = 0
    failures: int = 0
    ready: bool = False
    reload_due: bool = False
    pipe: socket.socket | None = None

    def start(self) -> None:
        """Start the process, in a process group of its own: a Ctrl-C is the supervisor's to answer.

        Not in a session of its own: Linux shares processors out between sessions first (autogroup), so that a recorder
        process with a session to itself takes as much as the worker with all its callers, and cannot give way to it.
        """
        self.pipe, inner = socket.socketpair()
        self.pipe.setblocking(False)
        self.ready = not self.announces
        fds = [inner.fileno(), *(sock.fileno() for sock in self.sockets)]
        with inner:
            self.process = subprocess.Popen(
                [*self.command, *map(str, fds)],
                pass_fds=[*fds, self.counters.fd],
                env={**os.environ, **self.environment, **self._environment()},
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        self.started = time.monotonic()
        self.starts += 1

    def _environment(self) -> dict[str, str]:
        return {DESCRIPTOR_VARIABLE: str(self.counters.fd), PROCESS_VARIABLE: self.name}

    def look(self) -> None:
        """See whether it has announced that it is ready."""
        if not self.ready and self.pipe is not None:
            with contextlib.suppress(OSError):
                self.ready = self.pipe.recv(1) == READY
            if self.ready and self.reload_due:
                self.reload()

    def reload(self) -> None:
        """SIGHUP, once it understands that: before it is ready, it would be killed by it."""
        self.reload_due = self.reloads
        if self.reload_due and self.ready and self.process is not None:
            self.reload_due = False
            self.process.send_signal(signal.SIGHUP)

    def ask_to_stop(self) -> None:
        """Say farewell and close its pipe."""
        if self.pipe is not None:
            with contextlib.suppress(OSError):
                self.pipe.send(self.farewell)
            self.pipe.close()
            self.pipe = None


class ChildFailedError(RecorderError):
    """A process of the proxy ended with an error as soon as it was started; its own words are in the log."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"the {name} process did not start", hint="What it said stands above.")
        self.name = name
        self.exit_code = code


def listen(address: str, count: int = 1) -> list[socket.socket]:
    """Listening sockets on `host:port` that share it (SO_REUSEPORT), so that the kernel spreads connections over them.

    Args:
        address: port 0 takes a free one, the same for all.
        count: how many.

    Raises:
        UsageError: the address makes no sense.
        ListenError: it cannot be had.
        OSError: there are too few file descriptors.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--listen {address!r} is no address", hint="Give it as HOST:PORT, like 127.0.0.1:8765.")
    place = (host.strip("[]"), int(port))
    sockets: list[socket.socket] = []
    try:
        # Sharing would let a second proxy slip in beside the first by mistake: a bind that does not share finds it.
        socket.create_server(place, family=_family(place), reuse_port=False).close()
        for _ in range(count):
            sock = socket.create_server(place, family=_family(place), backlog=BACKLOG, reuse_port=True)
            sockets.append(sock)
            place = sock.getsockname()[:2]
    except OSError as error:
        for sock in sockets:
            sock.close()
        if error.errno in {errno.EMFILE, errno.ENFILE}:  # another address would not help
            raise
        raise ListenError(address, words_for(error)) from None
    return sockets


def _family(place: tuple[str, int]) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in place[0] else socket.AF_INET


class Signals:
    """What was asked of the supervisor: SIGTERM and SIGINT to stop, SIGHUP to reload.

    Attributes:
        stop: set for good.
        reload: set until it is done.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.reload = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop.set())
        signal.signal(signal.SIGHUP, lambda *_: self.reload.set())
        # Children are in the terminal's background, and inherit this: what they log must not stop them (stty tostop).
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)


def supervise(
    children: list[Child],
    signals: Signals,
    *,
    on_death: Callable[[Child, int], None],
    on_ready: Callable[[], None],
    on_stop: Callable[[], None] = lambda: None,
    on_look: Callable[[], None] = lambda: None,
    poll_seconds: float = 0.1,
) -> None:
    """Keep `children` running until asked to stop, then stop them stage by stage.

    Args:
        children: not yet started.
        signals: what is asked.
        on_death: called with a child that died unasked and its exit code.
        on_ready: called once all that announce themselves have done so.
        on_stop: called when asked to stop, before the children are.
        on_look: called each time they were looked after.
        poll_seconds: how often to look after them.

    Raises:
        ChildFailedError: one failed at its very first start; the others are stopped.
    """
    due: dict[str, float] = {}
    waiting = True
    try:
        for child in children:
            child.start()
        while not signals.stop.wait(poll_seconds):
            for child in children:
                _look_after(child, due, on_death)
            on_look()
            if waiting and all(child.ready for child in children):
                waiting = False
                notify("READY=1")
                on_ready()
            if signals.reload.is_set():
                signals.reload.clear()
                _reload(children)
        notify("STOPPING=1")
        on_stop()
    finally:
        for stage in sorted({child.stage for child in children}):
            _stop([child for child in children if child.stage == stage])


def _reload(children: list[Child]) -> None:
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
    for child in children:
        child.reload()
    notify("READY=1")


def notify(state: str) -> None:
    """Tell the service manager, if there is one (sd_notify(3): a datagram to $NOTIFY_SOCKET)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def _look_after(child: Child, due: dict[str, float], on_death: Callable[[Child, int], None]) -> None:
    now = time.monotonic()
    child.look()
    if child.process is not None and (code := child.process.poll()) is not None:
        child.process = None
        child.ask_to_stop()
        if code > 0 and child.starts == 1 and now - child.started < _STEADY_SECONDS:
            raise ChildFailedError(child.name, code)
        on_death(child, code)
        child.failures = 0 if now - child.started > _STEADY_SECONDS else child.failures + 1
        due[child.name] = now + _pause(child)
    if child.process is None and now >= due[child.name]:
        try:
            child.start()
        except OSError as error:  # no memory, no process: the others go on
            child.ask_to_stop()
            child.failures += 1
            due[child.name] = now + _pause(child)
            log.error("%s cannot be started: %s; it is tried again", child.name, error.strerror)  # noqa: TRY400 - said


def _pause(child: Child) -> float:
    return min(_FIRST_PAUSE_SECONDS * 2**child.failures, _LONGEST_PAUSE_SECONDS) if child.failures > 1 else 0


def _stop(children: list[Child]) -> None:
    for child in children:
        child.ask_to_stop()
    for child in children:
        if child.process is None:
            continue
        try:
            child.process.wait(child.patience_seconds)
        except subprocess.TimeoutExpired:
            log.error("%s does not stop; killing it", child.name)  # noqa: TRY400 - the words say it all
            child.process.kill()
            child.process.wait()


def worker_child(config: WorkerConfig, number: int, listeners: list[socket.socket]) -> Child:
    """The child that is a proxy worker."""
    return Child(
        name=f"worker {number}",
        command=[sys.executable, "-m", "recorder.proxy.worker"],
        sockets=listeners,
        environment={CONFIG_VARIABLE: msgspec.json.encode(config).decode()},
        reloads=True,
        announces=True,
        patience_seconds=config.drain_seconds + _GRACE_SECONDS,
    )
