"""The right to rewrite an object store, which one machine at a time has: an object that names it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from recorder.errors import ObjectGoneError, StoreError

if TYPE_CHECKING:
    from recorder.store.objects import Bucket  # obstore is optional

NAME: Final = "rewrite.lease"
LEASE_SECONDS: Final = 3600.0
"""For how long one machine keeps others from compacting and the like, if it is killed at that."""


class _Lease(msgspec.Struct):
    """Who rewrites the store, and until when: Unix time in seconds."""

    holder: str
    until: float


@contextmanager
def held(bucket: Bucket, holder: str) -> Iterator[None]:
    """Have the right meanwhile.

    Args:
        bucket: of the store.
        holder: who asks. What it left when it was killed, it takes over.

    Raises:
        StoreError: another one has it, or the bucket is away.
    """
    lease = msgspec.json.encode(_Lease(holder, time.time() + LEASE_SECONDS))
    if not bucket.create(NAME, lease):
        with contextlib.suppress(ObjectGoneError, msgspec.MsgspecError):
            there = msgspec.json.decode(bucket.get(NAME), type=_Lease)
            if there.holder != holder and there.until > time.time():
                raise StoreError(
                    f"{there.holder} is compacting, pruning or erasing in {bucket.url}",
                    hint=f"Try again when it has ended. If it was killed, remove the object {NAME}.",
                )
        bucket.overwrite(NAME, lease)
    try:
        yield
    finally:
        bucket.delete([NAME])
