"""Asking a worker about its running sessions: a Unix socket beside its ring, a line of JSON in, lines of JSON out.

The directory is its owner's alone (0700), and so is the socket (0600). An admin server asks every socket it finds
there, so calls that a predecessor still drains (`--take-over`) are reached as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from recorder.store.ring import CONTROL_SUFFIX

_PATIENCE_SECONDS: Final = 5.0
_AT_ONCE: Final = 64  # sessions described before others' work goes on
_MAX_REQUEST: Final = 4096


class Controlled(Protocol):
    """What can be asked of a session."""

    session_id: str | None

    def describe(self) -> dict[str, Any]:
        """What is known about it, as JSON."""

    def stop_recording(self) -> bool:
        """Whether it was being recorded until now."""


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for `path` that fits into a socket address (107 bytes), however deep its directory lies."""
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


class ControlServer:
    """The worker's side.

    Args:
        path: the socket's.
        sessions: returns those that are there now.
    """

    def __init__(self, path: Path, sessions: Callable[[], Collection[Controlled]]) -> None:
        self._path = path
        self._sessions = sessions
        self._socket = socket.socket(socket.AF_UNIX)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to answer."""
        with short_path(self._path) as short:
            self._socket.bind(short)
        self._path.chmod(0o600)
        self._server = await asyncio.start_unix_server(self._answer, sock=self._socket, limit=_MAX_REQUEST)

    def close(self) -> None:
        """Stop answering and remove the socket."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, TimeoutError, msgspec.MsgspecError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                request = msgspec.json.decode(await reader.readline(), type=dict[str, str])
                wanted = request.get("session_id")
                for number, session in enumerate(list(self._sessions())):
                    if session.session_id is not None and wanted in {None, session.session_id}:
                        answer = session.describe()
                        if request.get("do") == "stop_recording" and wanted is not None:
                            answer["was_recorded"] = session.stop_recording()
                            answer["recorded"] = False
                        writer.write(msgspec.json.encode(answer) + b"\n")
                    if number % _AT_ONCE == _AT_ONCE - 1:
                        await writer.drain()
                        await asyncio.sleep(0)
                await writer.drain()
        writer.close()


def list_sessions(ring_dir: Path) -> list[dict[str, Any]]:
    """The running sessions of all workers whose rings lie in `ring_dir`, oldest first."""
    found = [session for path in _sockets(ring_dir) for session in _ask(path, {"do": "list"})]
    return sorted(found, key=lambda session: str(session["session_id"]))


def stop_recording(ring_dir: Path, session_id: str) -> dict[str, Any] | None:
    """Stop recording a session that goes on.

    Returns:
        The session, and in `was_recorded` whether this changed anything; None if no worker has it.
    """
    request = {"do": "stop_recording", "session_id": session_id}
    return next((session for path in _sockets(ring_dir) for session in _ask(path, request)), None)


def _sockets(ring_dir: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError):
        return [path for path in ring_dir.iterdir() if path.suffix == CONTROL_SUFFIX]
    return []


def _ask(path: Path, request: dict[str, str]) -> list[dict[str, Any]]:
    """A worker's answer; nothing from one that is gone, or does not answer."""
    answer = bytearray()
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_PATIENCE_SECONDS)
        with short_path(path) as short:
            sock.connect(short)
        sock.sendall(msgspec.json.encode(request) + b"\n")
        while data := sock.recv(65536):
            answer += data
    return [msgspec.json.decode(line) for line in bytes(answer).split(b"\n")[:-1]]
