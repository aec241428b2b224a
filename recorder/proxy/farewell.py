"""Ending a session from the proxy's side: a WebSocket Close to both, in between frames, then the sockets.

A splice does not know where frames begin. For the time of a drain a session's chunks are followed, so that the Close
goes where one may stand: after a chunk that ended with a frame, or into a stream that stays silent. Where that is
not known, none is sent, and the end is a plain FIN, as it is when a server goes away without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Final

from websockets.frames import Close, Frame, Opcode

from recorder.protocol.envelope import RecordKind
from recorder.protocol.frames import FrameDecoder
from recorder.proxy.sockets import end_sending, receive, send_all
from recorder.proxy.splice import Splice
from recorder.proxy.streams import Buffer
from recorder.proxy.tap import Tap, receive_and_tell
from recorder.store.carry import Carrier
from recorder.store.ring import Receive

GOING_AWAY: Final = 1001  # RFC 6455 section 7.4.1
REASON: Final = "the proxy is shutting down"
_PATIENCE_SECONDS: Final = 2.0
_SETTLE_SECONDS: Final = 1.0
_MAX_FRAME_BYTES: Final = 1 << 20
"""Larger frames are counted as they pass, and messages are not inflated beyond that: this is a process with callers."""


class FrameWatch:
    """Stands in for a session's tap during a drain and follows where its frames end.

    Args:
        tap: the session's own, or None where it is not recorded.
        extensions: what the handshake negotiated (`Sec-WebSocket-Extensions`), or None.
    """

    __slots__ = ("_decoders", "_inner", "_settled_at", "_silent")

    def __init__(self, tap: Tap | None, extensions: str | None) -> None:
        self._inner = tap
        self._decoders: dict[int, FrameDecoder] = {
            RecordKind.CLIENT_BYTES: FrameDecoder("client", extensions, max_message_bytes=_MAX_FRAME_BYTES),
            RecordKind.SERVER_BYTES: FrameDecoder("server", extensions, max_message_bytes=_MAX_FRAME_BYTES),
        }
        self._silent = set(self._decoders)
        self._settled_at = time.monotonic() + _SETTLE_SECONDS
        for decoder in self._decoders.values():
            decoder.gap()  # they come in in the middle of a stream

    def receiver(self, kind: int, receive: Receive, scratch: memoryview) -> Callable[[], memoryview]:
        """What receives bytes of one direction, and has recorded and followed them when it gives them."""
        return receive_and_tell(self.chunk, kind, receive, scratch)

    def chunk(self, kind: int, data: Buffer) -> None:
        """Record and follow."""
        if self._inner is not None:
            self._inner.chunk(kind, data)
        self._silent.discard(kind)
        self._decoders[kind].feed(bytes(data))

    def carrier(self, kind: int, source: int, sink: int, sample_every: int) -> Carrier | None:  # noqa: ARG002
        """None: each chunk has to be followed."""
        return None

    def may_speak(self, kind: int, *, held_back: bool) -> bool:
        """Whether a frame may be put into this direction now. One that is held back by its reader is not silent."""
        silent = kind in self._silent and not held_back and time.monotonic() >= self._settled_at
        return silent or self._decoders[kind].between_frames

    async def settle(self) -> None:
        """Wait until silence means something: a stream that was watched for a moment only may be inside a frame."""
        await asyncio.sleep(max(0.0, self._settled_at - time.monotonic()))


async def say_farewell(splice: Splice, watch: FrameWatch) -> int | None:
    """Take a splice's sockets over, send each side a Close where one may stand, wait briefly for answers, close.

    Returns:
        The close code that was sent, or None if neither side could be told.
    """
    client, upstream, (for_upstream, for_client) = splice.detach()
    payload = Close(GOING_AWAY, REASON).serialize()
    sides = []
    told = None
    for sock, rest, kind, came, masked in (
        (client, for_client, RecordKind.SERVER_BYTES, RecordKind.CLIENT_BYTES, False),
        (upstream, for_upstream, RecordKind.CLIENT_BYTES, RecordKind.SERVER_BYTES, True),
    ):
        last = rest
        if watch.may_speak(kind, held_back=bool(rest)):
            last += Frame(Opcode.CLOSE, payload).serialize(mask=masked)
            told = GOING_AWAY
        sides.append(_end(sock, last, watch, came))
    await asyncio.gather(*sides)
    return told


async def _end(sock: socket.socket, last: bytes, watch: FrameWatch, kind: int) -> None:
    """Send what is left, then FIN, then listen for the other's end: what it still says is recorded."""
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await send_all(sock, last)
            end_sending(sock)
            while data := await receive(sock):
                watch.chunk(kind, data)
    sock.close()
