"""Handing the listening sockets from a running proxy to its successor, so that an upgrade refuses no connection.

A supervisor listens on a Unix socket beside its rings. A successor (`recorder proxy --take-over`) connects, is handed
the very sockets (SCM_RIGHTS: what waits in their backlogs waits on), starts its workers on them, and says so; only then
is it handed the store's lock, and does the old one stop accepting and drain. Both accept for a moment, neither's calls
are cut.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from recorder.errors import RecorderError
from recorder.proxy.control import short_path
from recorder.proxy.onlyproxy import OnlyProxy
from recorder.store.ring import check_directory, claim_directory

_NAME: Final = "supervisor.sock"
_MAX_SOCKETS: Final = 253  # SCM_MAX_FD: the kernel passes no more at once
_READY: Final = b"r"
_PATIENCE_SECONDS: Final = 30.0


class TakeOverError(RecorderError):
    """There is no proxy to take over from, or it would not hand over."""

    exit_code = 6

    def __init__(self, ring_dir: Path, problem: str) -> None:
        super().__init__(
            f"cannot take over from the proxy of {ring_dir}: {problem}",
            hint="Start without --take-over if none runs on this --data.",
        )
        self.ring_dir = ring_dir


class HandOver:
    """The old supervisor's side: hands `sockets` to whoever asks; once they serve, the `lock`, and calls `on_ready`.

    Only this user's processes can ask: the socket lies in a directory of mode 0700.
    """

    def __init__(
        self, ring_dir: Path, sockets: list[socket.socket], lock: OnlyProxy, on_ready: Callable[[], None]
    ) -> None:
        self._path = ring_dir / _NAME
        self._sockets = sockets
        self._lock = lock
        self._on_ready = on_ready
        claim_directory(ring_dir)
        self._path.unlink(missing_ok=True)  # of a supervisor that was killed, or that handed over to us
        self._server = socket.socket(socket.AF_UNIX)
        with short_path(self._path) as short:
            self._server.bind(short)
        self._inode = self._path.stat().st_ino
        self._server.listen(1)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_PATIENCE_SECONDS)
                socket.send_fds(connection, [b"s"], [sock.fileno() for sock in self._sockets])
                if connection.recv(1) == _READY:
                    with contextlib.suppress(OSError):  # one of an older version does not wait for it
                        socket.send_fds(connection, [b"l"], [] if self._lock.fd is None else [self._lock.fd])
                    self._on_ready()

    def close(self) -> None:
        """Stop answering. The path may be the successor's by now; then it stays."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


class TakeOver:
    """The successor's side.

    Attributes:
        sockets: the predecessor's listening sockets.

    Raises:
        TakeOverError: nobody answers.
        StoreError: the directory is somebody else's.
    """

    def __init__(self, ring_dir: Path) -> None:
        check_directory(ring_dir)
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(_PATIENCE_SECONDS)
        try:
            with short_path(ring_dir / _NAME) as short:
                self._connection.connect(short)
            _, fds, _, _ = socket.recv_fds(self._connection, 1, _MAX_SOCKETS)
        except OSError as error:
            self._connection.close()
            raise TakeOverError(ring_dir, os.strerror(error.errno) if error.errno else str(error)) from None
        if not fds:
            self._connection.close()
            raise TakeOverError(ring_dir, "it closed the connection")
        self.sockets = [socket.socket(fileno=fd) for fd in fds]

    def ready(self, lock: OnlyProxy) -> None:
        """Tell the predecessor that the sockets are served, so that it may drain; have the store's `lock` of it.

        Raises:
            StoreError: it had none (it is of an older version, or has died), and another proxy has.
        """
        fds: list[int] = []
        with contextlib.suppress(OSError), self._connection:
            self._connection.sendall(_READY)
            fds = socket.recv_fds(self._connection, 1, 1)[1]
        if fds:
            lock.adopt(fds[0])
        else:
            lock.claim()
