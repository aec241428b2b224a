"""How much drawn tests draw."""

import os
from typing import Final

FACTOR: Final = int(os.environ.get("DRAWN_FACTOR", "1"))
"""Times as many examples as in a test run; `make soak` sets it."""

JSON_MARKS: Final = (b"{", b"}", b"[", b"]", b",", b":")


def examples(count: int) -> int:
    """The number of examples of a test for which `count` are enough for every day."""
    return count * FACTOR
