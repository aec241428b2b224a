"""What a child process learns from its parent's pipe: that it should stop, and whether its parent said so."""

from __future__ import annotations

import os
import threading

ORDERLY = b"."
"""What the supervisor writes before it closes a child's pipe: the processes before this one have ended."""


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
