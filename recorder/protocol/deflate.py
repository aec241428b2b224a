"""permessage-deflate (RFC 7692), the receiving half, message by message and with a ceiling.

A tap must survive what an endpoint may answer with a close: bombs, broken streams, lost bytes. So a message that does
not inflate costs that message alone; those that follow are tried afresh, and as inflating never reaches back beyond the
bytes it has seen without an error, what it gives back is right or is not given back at all.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

import msgspec

_TAIL: Final = b"\x00\x00\xff\xff"
"""The empty block that senders leave off (RFC 7692 section 7.2.1)."""

_MAX_WINDOW_BITS: Final = 15
_MOST: Final = 1 << 40
_MIN_WINDOW_BITS: Final = 9
"""zlib's compressor makes 9 of 8, so that a window of 8 bits could not read what it writes."""


_LAST_BLOCK: Final = b"\x01\x00\x00\xff\xff"
_SETTLED_BYTES: Final = 1 << 18
"""After so many compressed bytes the stream's place is looked at, so that no more of them need to be remembered."""

_MOST_UNSETTLED_BYTES: Final = 1 << 20
"""A sender that ends its messages in mid-block, which none may, could have us remember all that it ever sent."""

_MOST_FINAL_BLOCKS: Final = 64
"""Senders that flush with final blocks make one a message. Each costs a new stream, and may be two bytes long."""


class InflaterState(msgspec.Struct, frozen=True):
    """What messages to come may refer to.

    Attributes:
        history: the last bytes that were inflated up to a place between two blocks: the window.
        messages: the compressed messages since that place. None, unless a sender ends messages in mid-block.
    """

    history: bytes = b""
    messages: tuple[bytes, ...] = ()


class InflateError(Exception):
    """A message's compressed bytes cannot be inflated; `str()` says why."""


class Inflater:
    """Inflates the messages of one direction, in order.

    Args:
        window_bits: the sender's LZ77 window, 8 to 15.
        keeps_context: whether messages may refer back to earlier ones.
    """

    def __init__(self, *, window_bits: int = _MAX_WINDOW_BITS, keeps_context: bool = True) -> None:
        self._window_bits = max(_MIN_WINDOW_BITS, min(window_bits, _MAX_WINDOW_BITS))
        self._keeps_context = keeps_context
        self._stream = self._new_stream()
        self._history = bytearray()  # at `_settled` and since, at least a window of it
        self._settled = b""
        self._since: list[bytes] = []
        self._since_bytes = 0
        self._looked_at_bytes = 0

    @classmethod
    def negotiated(cls, extensions: str | None, side: str) -> Inflater | None:
        """The inflater for one side's messages, by the handshake's answer.

        Args:
            extensions: the `Sec-WebSocket-Extensions` value of the 101 response, or None without one.
            side: "client" or "server", the sender.

        Returns:
            None where permessage-deflate was not agreed on.
        """
        if extensions is None or "permessage-deflate" not in extensions.lower():
            return None
        bits = re.search(rf'{side}_max_window_bits\s*=\s*"?(\d{{1,2}})', extensions, re.IGNORECASE)
        return cls(
            window_bits=int(bits[1]) if bits else _MAX_WINDOW_BITS,
            keeps_context=f"{side}_no_context_takeover" not in extensions.lower(),
        )

    def forget(self) -> None:
        """Drop the context: bytes were lost, nothing that follows may refer to what came before."""
        self._stream = self._new_stream()
        self._remember_from(b"")

    def state(self) -> InflaterState:
        """What `resume` goes on from."""
        self._settle()
        return InflaterState(self._settled, tuple(self._since))

    def resume(self, state: InflaterState) -> None:
        """Go on where another inflater of the same agreement was."""
        self._stream = self._new_stream(state.history)
        self._remember_from(state.history)
        for message in state.messages:
            self.inflate(message, _MOST)

    def _remember_from(self, history: bytes) -> None:
        self._history[:], self._settled = history, history
        self._since.clear()
        self._since_bytes = self._looked_at_bytes = 0

    def _remember(self, data: bytes, inflated: bytes) -> None:
        self._history += inflated
        if len(self._history) > 8 << self._window_bits:
            del self._history[: -1 << self._window_bits]
        self._since.append(data)
        self._since_bytes += len(data)
        if self._since_bytes - self._looked_at_bytes > _SETTLED_BYTES:
            self._looked_at_bytes = self._since_bytes
            self._settle()
        if self._since_bytes > _MOST_UNSETTLED_BYTES:
            self.forget()

    def _settle(self) -> None:
        """Forget compressed messages if the stream stands between two blocks, as after every message it should.

        Only a stream that does ends at once, with nothing more, when it is given an empty last block.
        """
        ahead = self._stream.copy()
        try:
            between = not ahead.decompress(_LAST_BLOCK) and ahead.eof and not ahead.unused_data
        except zlib.error:
            between = False
        if between:
            self._remember_from(bytes(self._history[-1 << self._window_bits :]))

    def inflate(self, data: bytes, limit: int) -> bytes:
        """Inflate one whole message.

        Args:
            data: the payloads of its frames, joined.
            limit: bytes at which inflating stops.

        Raises:
            InflateError: the bytes are no valid stream, refer to context that was lost, or inflate beyond `limit`.
        """
        stream, self._stream = self._stream, self._new_stream()
        try:
            inflated, stream = self._run(stream, data + _TAIL, limit)
        except zlib.error as error:
            self._remember_from(b"")
            raise InflateError(f"cannot be inflated: {error}") from None
        except InflateError:
            self._remember_from(b"")
            raise
        if self._keeps_context:
            self._stream = stream
            self._remember(data, inflated)
        return inflated

    def _run(self, stream: zlib._Decompress, pending: bytes, limit: int) -> tuple[bytes, zlib._Decompress]:
        inflated = bytearray()
        for _ in range(_MOST_FINAL_BLOCKS):
            inflated += stream.decompress(pending, limit + 1 - len(inflated))
            if len(inflated) > limit:
                raise InflateError(f"inflates to more than {limit} bytes")
            if not stream.eof:
                return bytes(inflated), stream
            # A final block may end a message or stand within it (section 7.2.3.4): go on with the same history.
            pending = stream.unused_data
            stream = self._new_stream(self._window_after(inflated))
            if pending in {b"", _TAIL}:
                return bytes(inflated), stream
        raise InflateError(f"has more than {_MOST_FINAL_BLOCKS} final blocks")

    def _window_after(self, inflated: bytearray) -> bytes:
        """The last bytes of what came before and of this."""
        window = 1 << self._window_bits
        last = bytes(inflated[-window:])
        missing = window - len(last)
        return (bytes(self._history[-missing:]) if missing else b"") + last

    def _new_stream(self, history: bytes = b"") -> zlib._Decompress:
        if history:
            return zlib.decompressobj(wbits=-self._window_bits, zdict=history)
        return zlib.decompressobj(wbits=-self._window_bits)
