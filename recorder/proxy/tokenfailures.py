"""How often a client may fail to show a valid token before it is told to go slower.

What is limited is failing. A valid token is never refused for what others of the same address did: behind one address
there may be a load balancer, an office, or this machine, and one app with an old token, trying again every second,
would shut everybody else out. Nor is guessing what this is against: tokens are 256 random bits.
"""

from __future__ import annotations

import ipaddress
import logging
from typing import Final

from recorder.proxy.http import RETRY_SECONDS, RefusedError

log = logging.getLogger(__name__)

MAX_FAILURES: Final = 10
"""Failures of one address within `RETRY_SECONDS` that are answered 401; further ones are answered 429."""

_MAX_ADDRESSES: Final = 4096
_IPV6_NETWORK: Final = 64  # bits; who has one address has them all


class TokenFailures:
    """Counts failures by address, in windows of `RETRY_SECONDS` that begin with the first."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[float, int]] = {}  # where from: when it began, how many; oldest first

    def refusal(self, host: str, now: float) -> RefusedError:
        """What to answer a client without a valid token, which counts as a failure.

        Args:
            host: its address.
            now: seconds of a monotonic clock.
        """
        place = _network(host)
        began, count = self._windows.get(place, (now, 0))
        if now - began >= RETRY_SECONDS:
            began, count = now, 0
        if not count:
            self._windows.pop(place, None)
            self._forget_the_oldest()
        self._windows[place] = began, count + 1
        if count < MAX_FAILURES:
            return RefusedError(401, "unauthorized", "a valid client token is needed here", by="client")
        if count == MAX_FAILURES:
            log.warning(
                "%d clients without a valid token from %s: more get 429, and no line each",
                count,
                place,
                extra={"cause": "too_many_failures"},
            )
        return RefusedError(429, "too_many_failures", "too many attempts without a valid client token", by="client")

    def _forget_the_oldest(self) -> None:
        while len(self._windows) >= _MAX_ADDRESSES:
            del self._windows[next(iter(self._windows))]


def _network(host: str) -> str:
    """Whom an address stands for: itself, or an IPv6 network."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 4 or address.ipv4_mapped is not None:
        return host
    return str(ipaddress.ip_network((address, _IPV6_NETWORK), strict=False))
