"""Identifiers and jitter that look real and repeat with a seed."""

from __future__ import annotations

import string
from random import Random

_ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits
_OBFUSCATED_LENGTH = 16


class Ids:
    """All randomness of one connection, split in lanes.

    Concurrent activities (a response, a transcription) each draw from a lane of their own, so that an event gets
    the same id in every run, whatever the order in which the activities happened to interleave.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._stamp = _draw(_random(f"{seed}/stamp"), 5)

    def lane(self, name: str) -> Lane:
        """Open the lane `name`; the same name gives the same sequence again."""
        return Lane(_random(f"{self._seed}/{name}"), self._stamp)


class Lane:
    """One deterministic sequence of ids, paddings and jittered delays."""

    def __init__(self, random: Random, stamp: str) -> None:
        self._random = random
        self._stamp = stamp

    def new(self, kind: str) -> str:
        """An id such as `item_E6U0wB3eiENYwSnJIBpFN`; ids of one connection share their first characters."""
        return f"{kind}_{self._stamp}{_draw(self._random, 16)}"

    def call(self) -> str:
        """A tool call's id, which is shorter than the others."""
        return f"call_{_draw(self._random, 16)}"

    def padding(self, delta: str) -> str:
        """The `obfuscation` beside a text delta: fills it up to a multiple of 16 characters."""
        return _draw(self._random, -len(delta) % _OBFUSCATED_LENGTH)

    def jittered(self, value: float, share: float) -> float:
        """`value`, moved by at most `share` of itself either way."""
        return value * (1 + share * self._random.uniform(-1, 1))


def _random(seed: str) -> Random:
    return Random(seed)  # noqa: S311 - repeatable ids are the point; nothing here is a secret


def _draw(random: Random, count: int) -> str:
    return "".join(random.choices(_ALPHABET, k=count))
