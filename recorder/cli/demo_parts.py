"""The parts of the demo: `recorder` commands as processes of their own, found by the URL they print."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import BinaryIO, Final

from recorder.errors import DemoError
from recorder.store.keys import KEY_COMMAND, KEY_FILE

COMMAND: Final = (sys.executable, "-c", "from recorder.cli.main import main; main()")
START_SECONDS: Final = 60
STOP_SECONDS: Final = 30
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
KEPT: Final = frozenset({"RECORDER_DEBUG", "RECORDER_RING_DIR", KEY_FILE, KEY_COMMAND})
"""Settings that the parts take from outside; any other would make another demo of it."""


class Part:
    """One running command.

    Attributes:
        name: the command's.
        url: what it printed: where it listens.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, errors: BinaryIO) -> None:
        self.name = name
        self.url = ""
        self._process = process
        self._errors = errors

    async def ready(self) -> None:
        """Wait for its URL.

        Raises:
            DemoError: it ended, or printed none in time.
        """
        assert self._process.stdout is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while line := await self._process.stdout.readline():
                    if found := re.search(rb"\w+://\S+", line):
                        self.url = found[0].decode()
                        return
        raise DemoError(f"`recorder {self.name}` did not start{self._last_words()}")

    async def ended(self) -> None:
        """Wait until it ends by itself, which it should not.

        Raises:
            DemoError: always, then.
        """
        code = await self._process.wait()
        raise DemoError(f"`recorder {self.name}` ended with code {code}{self._last_words()}")

    async def stop(self) -> None:
        """Ask it to end; make it, if it does not."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._errors.close()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")] or lines
        return f": {said[-1]}" if said else ""


@asynccontextmanager
async def running(name: str, *arguments: str) -> AsyncIterator[Part]:
    """Run `recorder NAME ARGUMENTS…` for as long as the context lasts.

    In a session of its own: Ctrl-C is for the demo alone, which ends its parts in order.

    Raises:
        DemoError: it did not start.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RECORDER_") or key in KEPT}
    errors = tempfile.TemporaryFile()  # noqa: SIM115  the part closes it
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        name,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        start_new_session=True,
        preexec_fn=_end_with_parent,
        env=environment,
    )
    part = Part(name, process, errors)
    try:
        await part.ready()
        yield part
    finally:
        await part.stop()


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM when the demo is killed, however that happens."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def preferred(port: int) -> str:
    """The loopback address with this port if it is free, else one where any free port is taken."""
    with suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return f"127.0.0.1:{port}"
    return "127.0.0.1:0"
