"""Processes under measurement: started on a core of their own, counted as a tree, ended by their pids."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.machine import search_path
from recorder.errors import RecorderError

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.5
_STAT: Final = Path("/proc/stat")
_MEMORY: Final = ("RssAnon", "RssFile")
_PORTS: Final = range(20_000, 30_000)  # below what the kernel takes for outgoing connections


class BenchmarkError(RecorderError):
    """A benchmark cannot be run."""


def need(program: str, package: str) -> str:
    """The path of an installed program.

    Raises:
        BenchmarkError: it is missing.
    """
    found = shutil.which(program, path=search_path())
    if found is None:
        raise BenchmarkError(f"{program} is not installed", hint=f"apt-get install {package}")
    return found


def pinned(core: int, *, real_time: bool) -> list[str]:
    """What to put before a command, so that it runs on a core, and there before all that have no real-time priority."""
    chrt = [need("chrt", "util-linux"), "-r", "1"] if real_time else []
    return [*chrt, need("taskset", "util-linux"), "-c", str(core)]


def raise_file_limit() -> None:
    """As many descriptors as we may have: 2,000 sessions are 4,000 sockets in each process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that no outgoing connection will take meanwhile."""
    found: list[int] = []
    start = os.getpid() * 7
    for step in range(len(_PORTS)):
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", _PORTS[(start + step) % len(_PORTS)]))
            found.append(sock.getsockname()[1])
            if len(found) == count:
                return found
    raise BenchmarkError("there are not enough free ports")


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for one in found:  # grows while it is walked
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time that processes have used so far."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def machine_seconds() -> float:
    """Processor time that the machine has spent so far on anybody, and that its host has kept from it."""
    user, nice, system, _, _, irq, softirq, steal = map(int, _STAT.read_text(encoding="ascii").split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def wait_for_quiet(share: float, patience_seconds: float) -> None:
    """Return when the machine uses no more than this share of a core, or when patience is over."""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        before = machine_seconds()
        time.sleep(_LOOK_SECONDS)
        if machine_seconds() - before <= share * _LOOK_SECONDS:
            return


def memory_bytes(pids: Sequence[int]) -> int:
    """Resident memory without shared memory, where the ring lies."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
                name, _, value = line.partition(":")
                if name in _MEMORY:
                    total += int(value.split()[0]) * 1024
    return total


def children(pid: int) -> list[tuple[str, int]]:
    """The recorder's children with what they run: worker, record, sealer."""
    found: list[tuple[str, int]] = []
    for child in tree(pid)[1:]:
        with suppress(OSError):
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            ours = (word for word in words if word.startswith((b"recorder.proxy.", b"recorder.pipeline.")))
            found += [(word.decode().rpartition(".")[2], child) for word in ours]
    return found


def modules(pid: int) -> dict[str, int]:
    """Likewise, by what they run."""
    return dict(children(pid))


class Running:
    """A process with its children, from its start until the block ends.

    Args:
        command: its words.
        core: where it runs, with all its children.
        log: where its output goes.
        listens: wait until it accepts connections on this port.
        real_time: with real-time priority.

    Raises:
        BenchmarkError: it ended, or did not listen in time.
    """

    def __init__(self, command: Sequence[str], *, core: int, log: Path, listens: int, real_time: bool = False) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*pinned(core, real_time=real_time), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._log = log
        try:
            self._wait_for(listens, command[0])
        except BaseException:
            self.stop()
            raise

    def _wait_for(self, port: int, name: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                words = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise BenchmarkError(f"{name} did not start: {' / '.join(words[-3:])}")
            time.sleep(0.05)

    @property
    def pids(self) -> list[int]:
        """It and its children, as they are now."""
        return tree(self.process.pid)

    def stop(self) -> None:
        """SIGTERM, then patience, then SIGKILL for it and its children."""
        pids = self.pids
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            kill(pids)
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def kill(pids: Sequence[int]) -> None:
    """kill -9, each by its id."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
