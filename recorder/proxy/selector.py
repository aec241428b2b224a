"""The worker's one wait: splices first, asyncio for everything else.

A splice's socket becomes ready tens of thousands of times a second; asyncio would spend more on each of those wake-ups
(key objects, handles, contexts) than the splice itself does. So the worker's event loop runs on this selector, which
waits on an epoll of its own, serves splices straight from it, and tells asyncio only about the file descriptors that
asyncio registered: handshakes, timers, signals. Those lie in asyncio's own epoll, which is itself one member of ours.
"""

from __future__ import annotations

import os
import select
import selectors
from collections.abc import Callable, Mapping
from typing import Any

from recorder.proxy.alarm import Alarm
from recorder.proxy.streams import Step
from recorder.store.carry import Serving, serving
from recorder.store.ring import WINDOW

READ = select.EPOLLIN
WRITE = select.EPOLLOUT

Handler = Callable[[int], None]

_AT_ONCE = 64  # of more, the list that the kernel fills would be too large for malloc's fast lane


_FD = 0xFFFF_FFFF
_MASK_SHIFT = 32
_READY = 0xFF


class _Handlers(dict[int, Handler]):
    """What is called for a descriptor. For one that was forgotten while its event was on the way, nothing."""

    def __missing__(self, _fd: int) -> Handler:
        return _ignore


def _ignore(_mask: int) -> None:
    """Nobody wants to know any more."""


class SpliceSelector(selectors.BaseSelector):
    """A selector for `asyncio.SelectorEventLoop` with a fast lane.

    `watch` and `unwatch` put descriptors on the fast lane: their handler gets the epoll mask, inside `select`.
    A handler that has scheduled something on the event loop calls `interrupt`, so that the loop runs at once.

    Attributes:
        before_wait: called whenever handlers have done what was due.
        scratch: what handlers, which come one after the other, may read into: memory for all of them, always warm.
    """

    def __init__(self) -> None:
        self.before_wait: Callable[[], None] = lambda: None
        self._slow = selectors.EpollSelector()
        self._epoll = select.epoll()
        self._serving = serving(self._epoll.fileno())
        if self._serving is not None:
            self._wait, self._unpack = self._serving.serve, self._serving.unpack
            self._native, self._ready = self._serving.native, self._serving.ready
        self._deals: dict[int, Callable[[int, int], None]] = {}
        self._alarm = Alarm()
        self._handlers = _Handlers()
        self._interrupted = False
        self.scratch = memoryview(bytearray(WINDOW))
        for fd in (self._slow.fileno(), self._alarm.fd):
            self.watch(fd, READ, self._wake)

    def watch(self, fd: int, mask: int, handler: Handler, step: Step | None = None) -> None:
        """Call `handler(ready_mask)` whenever `fd` is ready for `mask` (level-triggered).

        Args:
            fd: a descriptor.
            mask: of epoll.
            handler: for whatever it is ready for.
            step: may be taken instead where it is ready to be read, and nothing else.
        """
        if fd in self._handlers:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._handlers[fd] = handler
        self._step(fd, step)

    def _step(self, fd: int, step: Step | None) -> None:
        if self._serving is not None:
            if step is None:
                self._deals.pop(fd, None)
                self._serving.carry(fd, None)
            else:
                lane, self._deals[fd] = step
                self._serving.carry(fd, lane)

    def unwatch(self, fd: int) -> None:
        """Forget `fd`. Nothing happens where it is not watched."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            self._step(fd, None)

    def interrupt(self) -> None:
        """Make the `select` under way return after the handlers that are due."""
        self._interrupted = True

    def _wake(self, _mask: int) -> None:
        self._interrupted = True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Serve splices until asyncio has something to do or `timeout` seconds are over."""
        handlers, poll, before_wait, serving = self._handlers, self._epoll.poll, self.before_wait, self._serving
        at_once = timeout is not None and timeout <= 0
        if not at_once:
            self._alarm.set(timeout)
        while True:
            before_wait()
            if serving is None:
                for fd, mask in poll(0 if at_once else None, _AT_ONCE):
                    handlers[fd](mask)
            else:
                self._serve(serving, 0 if at_once else -1)
            if self._interrupted or at_once:
                self._interrupted = False
                return self._slow.select(0)

    def _serve(self, serving: Serving, timeout_ms: int) -> None:
        """Have C carry what it can, until there is something else."""
        ready = self._wait(self._native, timeout_ms)
        if not 0 <= ready <= _AT_ONCE:
            ready = self._deal_with(serving, ready)
        handlers = self._handlers
        for event in self._unpack(self._ready, ready):
            handlers[event & _FD](event >> _MASK_SHIFT)

    def _deal_with(self, serving: Serving, ready: int) -> int:
        """Do what lanes have left undone, or raise the error; gives how many are ready beside that."""
        if ready < 0:
            raise OSError(-ready, os.strerror(-ready))
        # Whoever stops watching what meanwhile: this has been received.
        undone = [(self._deals[fd], outcome, mask) for fd, outcome, mask in serving.undone]
        for deal, outcome, mask in undone:
            deal(outcome, mask)
        return ready & _READY

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As any selector; asyncio's lane."""
        return self._slow.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """As any selector; asyncio's lane."""
        return self._slow.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As any selector; asyncio's lane."""
        return self._slow.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """As any selector; asyncio's lane."""
        return self._slow.get_map()

    def close(self) -> None:
        """Close both lanes; the watched descriptors stay open."""
        self._handlers.clear()
        self._epoll.close()
        self._alarm.close()
        self._slow.close()
