"""A proxy worker: one process, one thread, one ring, many splices.

Run as `python -m recorder.proxy.worker`; the supervisor hands over its configuration (JSON, in the environment), the
listening sockets and one end of a pipe (a socket pair) whose other end it holds: when that closes, or on SIGTERM, the
worker takes no more connections, lets running sessions go on for the drain time, and exits. SIGHUP reloads.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import time
from pathlib import Path

import msgspec

from recorder import logs
from recorder.errors import RecorderError
from recorder.proxy.calls import Call
from recorder.proxy.config import WorkerConfig
from recorder.proxy.control import ControlServer
from recorder.proxy.http import RefusedError
from recorder.proxy.refusals import close_politely
from recorder.proxy.selector import SpliceSelector
from recorder.proxy.session import Session
from recorder.proxy.settings import Settings
from recorder.proxy.sideband import Sideband
from recorder.proxy.slices import ask_for_short_slices
from recorder.proxy.sockets import prepare, send_all, start_tls
from recorder.store.counters import (
    ACCEPTING,
    CONNECTIONS_OPEN,
    ERROR,
    HEARTBEAT,
    LOOP_LAG,
    REFUSED,
    Counters,
    inherited,
)
from recorder.store.ring import CONTROL_SUFFIX, RingWriter

log = logging.getLogger(__name__)

CONFIG_VARIABLE = "RECORDER_WORKER_CONFIG"
READY = b"r"
"""What a worker writes to its parent's pipe when it accepts connections."""

_ACCEPTS_A_WAKE_UP = 64
_SWEEP_SECONDS = 1.0
_SWEEP_AT_ONCE = 16  # sessions looked after before traffic is served again
_REFUSAL_SECONDS = 2.0
_PAUSE_SECONDS = 0.2  # after running out of file descriptors


class Worker:
    """Accepts connections and runs their sessions until told to stop.

    Args:
        config: fixed settings.
        selector: what the event loop runs on.
        listeners: sockets to accept from, non-blocking.
        counters: this process's; None counts for nobody.

    Raises:
        StoreError: there is no room for the ring.
        UsageError: certificates cannot be used.
    """

    def __init__(
        self,
        config: WorkerConfig,
        selector: SpliceSelector,
        listeners: list[socket.socket],
        counters: Counters | None = None,
    ) -> None:
        self._config = config
        self._counters = counters or Counters()
        self._selector = selector
        self._listeners = listeners
        self._settings = Settings(config)
        self._ring = RingWriter(Path(config.ring_dir), config.ring_bytes)
        selector.before_wait = self._ring.settle
        self._sessions: set[Session | Sideband] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._session_no = 0
        self._securing = 0
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self, parent_fd: int | None = None) -> None:
        """Serve until `stop` is called or the parent's end of the pipe closes; then drain."""
        loop = asyncio.get_running_loop()
        if parent_fd is not None:
            loop.add_reader(parent_fd, self._stopping.set)
        control = ControlServer(self._ring.path.with_suffix(CONTROL_SUFFIX), lambda: self._sessions)
        await control.start()
        for listener in self._listeners:
            loop.add_reader(listener.fileno(), self._accept, listener)
        self._counters.set(ACCEPTING, 1)
        if parent_fd is not None:
            with contextlib.suppress(BrokenPipeError):  # it has gone, or wants no more of this: the reader hears of it
                os.write(parent_fd, READY)
        sweeper = loop.create_task(self._look_after_sessions())
        await self._stopping.wait()
        self._counters.set(ACCEPTING, 0)
        if parent_fd is not None:
            loop.remove_reader(parent_fd)
        for listener in self._listeners:
            loop.remove_reader(listener.fileno())
            listener.close()
        await self._drain()
        sweeper.cancel()
        control.close()
        self._selector.before_wait = lambda: None
        self._ring.close()
        if not self._config.recording:  # no recorder process will come and remove it
            self._ring.path.unlink(missing_ok=True)

    def reload(self) -> None:
        """Read routes, tokens and certificates anew, for connections to come.

        In a thread, for the system's authorities alone take a tenth of a second, and calls are running.
        """
        asyncio.get_running_loop().run_in_executor(None, self._settings.reload)

    def stop(self) -> None:
        """Take no more connections, drain, and let `run` return."""
        self._stopping.set()

    async def _drain(self) -> None:
        log.info("stopping: %d sessions have %.0f s to end", len(self._sessions), self._config.drain_seconds)
        for session in self._sessions:
            session.begin_drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_seconds):
                await self._idle.wait()
        for task in list(self._tasks):  # handshakes: nobody is in a call yet
            task.cancel()
        for session in self._sessions:  # some have begun meanwhile
            session.begin_drain()
        await asyncio.gather(*(session.end("the proxy stopped") for session in self._sessions))
        await self._idle.wait()

    async def _look_after_sessions(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _SWEEP_SECONDS
            self._counters.set(HEARTBEAT, time.monotonic_ns())
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            self._counters.observe(LOOP_LAG, now - due)
            for number, session in enumerate(list(self._sessions), 1):
                session.look_after(now)
                if not number % _SWEEP_AT_ONCE:
                    await asyncio.sleep(0)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_WAKE_UP):
            try:
                client, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    self._counters.add(ERROR, value="accept")
                    told = {"cause": "accept"}
                    log.error("cannot accept connections: %s", error.strerror, extra=told)  # noqa: TRY400 - said all
                    self._pause(listener)
                    return
                continue  # that connection is gone already
            client.setblocking(False)
            self._start(prepare(client), address)

    def _pause(self, listener: socket.socket) -> None:
        """Leave the backlog alone for a moment: a listener that stays ready would spin."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener.fileno())

        def resume() -> None:
            if not self._stopping.is_set():
                loop.add_reader(listener.fileno(), self._accept, listener)

        loop.call_later(_PAUSE_SECONDS, resume)

    def _start(self, client: socket.socket, address: tuple[str, int]) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(client, f"{address[0]}:{address[1]}"))
        self._tasks.add(task)
        self._idle.clear()
        task.add_done_callback(self._handshake_ended)

    async def _serve(self, client: socket.socket, address: str) -> None:
        settings = self._settings.current
        if settings.listener_tls is not None:
            secured = await self._secure(client, settings.listener_tls, address)
            if secured is None:
                return
            client = secured
        if len(self._sessions) >= self._config.max_sessions:
            await self._refuse(client)
            return
        self._session_no += 1
        session = Session(
            config=self._config,
            settings=settings,
            selector=self._selector,
            ring=self._ring,
            client=client,
            address=address,
            session_no=self._session_no,
            counters=self._counters,
            on_call=self._join,
            on_end=lambda: self._ended(session),
        )
        self._began(session)
        await session.run()

    async def _secure(self, client: socket.socket, context: ssl.SSLContext, address: str) -> ssl.SSLSocket | None:
        """TLS with a client; None where it fails, or where too many have only begun it: each takes memory."""
        if self._securing >= self._config.max_sessions:
            self._counters.add(REFUSED, value="too_many_sessions")
            client.close()
            return None
        self._securing += 1
        try:
            async with asyncio.timeout(self._config.handshake_timeout_seconds):
                return await start_tls(client, context, server_side=True)
        except (OSError, TimeoutError) as error:
            self._counters.add(ERROR, value="client_tls")
            why = str(error) or "it took too long"
            log.info("TLS with %s failed: %s", address, why, extra={"cause": "client_tls"})
            return None
        finally:
            self._securing -= 1

    def _join(self, call: Call) -> None:
        """Follow a call that goes past this proxy."""
        if self._stopping.is_set() or len(self._sessions) >= self._config.max_sessions:
            self._counters.add(ERROR, value="sideband")
            why = "the proxy is stopping" if self._stopping.is_set() else "it serves its most sessions already"
            log.error("call %s is not recorded: %s", call.call_id, why)
            return
        self._session_no += 1
        sideband = Sideband(
            call,
            config=self._config,
            ring=self._ring,
            session_no=self._session_no,
            counters=self._counters,
            on_end=lambda: self._ended(sideband),
        )
        self._began(sideband)
        sideband.start()

    def _began(self, session: Session | Sideband) -> None:
        self._sessions.add(session)
        self._counters.set(CONNECTIONS_OPEN, len(self._sessions))
        self._idle.clear()

    async def _refuse(self, client: socket.socket) -> None:
        refusal = RefusedError(
            503, "too_many_sessions", f"the proxy serves {self._config.max_sessions} sessions already"
        )
        self._counters.add(REFUSED, value=refusal.code)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_REFUSAL_SECONDS):
                await send_all(client, refusal.response())
                await close_politely(client)
        client.close()

    def _handshake_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._notice_idleness()

    def _ended(self, session: Session | Sideband) -> None:
        self._sessions.discard(session)
        self._counters.set(CONNECTIONS_OPEN, len(self._sessions))
        self._notice_idleness()

    def _notice_idleness(self) -> None:
        if not self._sessions and not self._tasks:
            self._idle.set()


def main() -> int:
    """Entry point of the process. Arguments: the parent pipe's descriptor, then the listeners'."""
    logs.configure("worker")
    ask_for_short_slices()
    config = msgspec.json.decode(os.environ[CONFIG_VARIABLE], type=WorkerConfig)
    parent_fd, *fds = (int(argument) for argument in sys.argv[1:])
    listeners = [socket.socket(fileno=fd) for fd in fds]
    for listener in listeners:
        listener.setblocking(False)
    selector = SpliceSelector()

    async def serve() -> None:
        worker = Worker(config, selector, listeners, inherited())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, worker.stop)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, worker.reload)
        gc.freeze()  # what lives as long as the process need not be looked at again
        await worker.run(parent_fd)

    try:
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            runner.run(serve())
    except RecorderError as error:
        log.error("%s", ". ".join(filter(None, (error.message, error.hint))))  # noqa: TRY400 - its words say it all
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
