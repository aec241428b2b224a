"""Checkpoints: where the decode of a running session stands, as plain data that outlives the process.

    records → SessionDecoder → checkpoint → bytes → checkpoint → SessionDecoder → the events that follow, as if uncut

A sealed part's manifest carries one, so that the next part can be decoded without those before it.
"""

from __future__ import annotations

import zlib
from typing import Final

import msgspec

from recorder.errors import NewerFormatError, StoreError
from recorder.protocol.audio import FormatsState
from recorder.protocol.frames import FrameState, Side
from recorder.protocol.policy import ContentPolicy, LeftOut

VERSION: Final = 1


class BuilderState(msgspec.Struct, frozen=True):
    """All that an `EventBuilder` knows."""

    session_id: str
    position: int
    opened_at_ns: int | None
    opened_monotonic_ns: int
    policy: ContentPolicy
    left_out: LeftOut
    formats: FormatsState


class DecoderState(msgspec.Struct, frozen=True):
    """All that a `SessionDecoder` knows."""

    builder: BuilderState | None
    frames: dict[Side, FrameState]
    accepted: bool
    close: tuple[Side, int, str] | None
    closed: bool


class Checkpoint(msgspec.Struct, frozen=True):
    """Where the decode of a session stands.

    Attributes:
        ring_position: of the last record that was fed; those up to it are not to be fed again.
        decoder: what is known after it.
    """

    ring_position: int
    decoder: DecoderState

    @property
    def events(self) -> int:
        """How many events there were so far: the next one's position."""
        return 0 if self.decoder.builder is None else self.decoder.builder.position


class _Versioned(msgspec.Struct):
    version: int
    checkpoint: msgspec.Raw


def encode(checkpoint: Checkpoint) -> bytes:
    """A checkpoint as bytes, compressed."""
    body = msgspec.Raw(msgspec.msgpack.encode(checkpoint))
    return zlib.compress(msgspec.msgpack.encode(_Versioned(VERSION, body)), 1)


def decode(data: bytes, source: str) -> Checkpoint:
    """The checkpoint that `encode` made these bytes of.

    Args:
        data: the bytes.
        source: where they stood, for errors.

    Raises:
        NewerFormatError: a newer version made them.
        StoreError: they are damaged.
    """
    try:
        versioned = msgspec.msgpack.decode(zlib.decompress(data), type=_Versioned)
        if versioned.version > VERSION:
            raise NewerFormatError(source, versioned.version, VERSION)
        return msgspec.msgpack.decode(versioned.checkpoint, type=Checkpoint)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreError(f"{source}: its checkpoint is damaged: {error}") from error
