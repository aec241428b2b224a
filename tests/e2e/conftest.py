"""The `recorder` command as its users run it: real processes on free ports."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import pytest

from recorder.pipeline.locks import ring_of

COMMAND = [sys.executable, "-c", "from recorder.cli.main import main; main()"]
PATIENCE = 60.0


def eventually(check: Callable[[], bool], what: str) -> None:
    """Wait until `check` holds; for things that other processes do and nobody announces."""
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)


class RecorderProcess:
    """A `recorder …` that prints its URL when it is ready."""

    def __init__(self, *arguments: str, stderr: IO[bytes] | None = None, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
            env=os.environ | environment,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert "://" in self.url, f"recorder {arguments[0]} did not start"

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.partition("://")[2].rpartition(":")
        return host, int(port)

    def children(self) -> dict[str, int]:
        """Pids by what they run: worker, record, sorter, sealer."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        found: dict[str, int] = {}
        for pid in map(int, listed.split()):
            with suppress(OSError, StopIteration):  # gone, or not yet what it will be
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                found[next(word for word in words if word.startswith(b"recorder.")).decode().split(".")[-1]] = pid
        return found

    def kill(self, what: str) -> None:
        """kill -9 one of the children, or all there is."""
        children = self.children()
        if what == "all":
            for pid in (self.process.pid, *children.values()):
                os.kill(pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
            eventually(lambda: all(map(is_gone, children.values())), "all killed")
        else:
            os.kill(children[what], signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, and wait; what does not stop fails the test and is killed."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill("all")
            raise
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that its new parent has not waited for yet is still listed."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.fixture(scope="session")
def start_recorder() -> type[RecorderProcess]:
    """For recordings that several tests look at; whoever starts a process stops it."""
    return RecorderProcess


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A store whose rings are removed with it."""
    path = tmp_path / "data"
    yield path
    rings = ring_of(path)
    if rings.is_dir():
        for ring in rings.iterdir():
            ring.unlink()
        rings.rmdir()


@pytest.fixture
def run(data: Path) -> Iterator[Callable[..., RecorderProcess]]:
    """Start a long-running `recorder …` command; it is stopped at the test's end, before `data` is cleared."""
    del data
    started: list[RecorderProcess] = []

    def start(*arguments: str, **settings: Any) -> RecorderProcess:
        started.append(RecorderProcess(*arguments, **settings))
        return started[-1]

    with ExitStack() as stops:
        yield start
        for process in started:
            stops.callback(process.stop)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
