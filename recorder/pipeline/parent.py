"""What the supervisor's children have in common: how they begin, and how they learn that they should stop."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from pathlib import Path

from recorder import logs

ORDERLY = b"."
"""What the supervisor writes before it closes a child's pipe: the processes before this one have ended."""


def begin(name: str, niceness: int, *rooms: str) -> argparse.ArgumentParser:
    """What each of them does first. Signals, which are sent to all at once, are left to the supervisor.

    Args:
        name: of the process, in logs.
        niceness: by how much its priority is lowered.
        rooms: names of the directories that it is given.

    Returns:
        What takes its arguments: those, and `parent_fd`.
    """
    logs.configure(name)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(niceness)
    parser = argparse.ArgumentParser()
    for room in rooms:
        parser.add_argument(room, type=Path)
    parser.add_argument("parent_fd", type=int)
    return parser


class Parent:
    """The read end of the pipe whose other end the supervisor holds.

    Attributes:
        stopped: set once the pipe has closed.
        orderly: whether the supervisor asked for it. If not, it was killed, and the workers still serve their calls.
    """

    def __init__(self, fd: int) -> None:
        self.stopped = threading.Event()
        self.orderly = False
        threading.Thread(target=self._wait, args=(fd,), daemon=True).start()

    def _wait(self, fd: int) -> None:
        self.orderly = os.read(fd, 1) == ORDERLY
        self.stopped.set()
