"""WebSocket bytes of one direction → messages (RFC 6455), sans-I/O.

The recorder reads along, it is no endpoint: whatever comes, it goes on. Masks are taken as each frame states them, and
what breaks the rules becomes an undecodable message that keeps the bytes. Header rules and unmasking are those of
`websockets` (`frames.Frame.check`, `speedups.apply_mask`); its parser itself stops for good at the first fault and
cannot tell how many bytes a frame took.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode

from recorder.protocol.deflate import InflateError, Inflater, InflaterState

try:
    from websockets.speedups import apply_mask
except ImportError:  # built without a C compiler
    from websockets.utils import apply_mask

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""Ceiling of a message, on the wire and inflated. Larger ones are kept as undecodable bytes."""

_FIN: Final = 0x80
_RSV1: Final = 0x40
_TEXT: Final = 0x01
_BINARY: Final = 0x02
_FIRST_CONTROL: Final = 0x08
_MAX_CONTROL_BYTES: Final = 125
_JSON_STARTS: Final = b"{[ \t\r\n"


Side = Literal["client", "server"]


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message, or bytes that are none.

    Attributes:
        opcode: 1 text, 2 binary, 8 close, 9 ping, 10 pong; 2 for bytes that belong to no readable frame.
        data: the message's payload, unmasked, reassembled and inflated. With a `problem`: of a message whose frames
            were readable, the payload as it came (compressed, where it was); likewise of a frame that was never
            finished, as far as it came; else the bytes of the wire.
        wire_bytes: bytes of its frames on the wire, headers included; control frames in between not counted.
        problem: why it is undecodable; None for a good message.
    """

    opcode: int
    data: bytes
    wire_bytes: int
    problem: str | None = None


def _header_faults(*, compressed: bool) -> tuple[str | None, ...]:
    """What is wrong with each possible first byte of a frame, by the rules of `websockets`; None for nothing."""
    faults: list[str | None] = []
    for head in range(256):
        opcode = head & 0x0F
        rsv1 = bool(head & _RSV1) and not (compressed and opcode in {_TEXT, _BINARY})
        try:
            Frame(Opcode(opcode), b"", bool(head & _FIN), rsv1, bool(head & 0x20), bool(head & 0x10)).check()
        except (ProtocolError, ValueError) as error:
            faults.append(str(error))
        else:
            faults.append(None)
    return tuple(faults)


_FAULTS: Final = {compressed: _header_faults(compressed=compressed) for compressed in (False, True)}


class FrameState(msgspec.Struct, frozen=True):
    """All that a `FrameDecoder` knows, as plain data.

    Attributes:
        deflate: the agreement on compression, as its constructor took it.
        inflater: what compressed messages may refer to; None without an agreement.
        buffer: the start of a frame that is not complete yet. The others likewise: see `FrameDecoder`.
    """

    deflate: str | None
    inflater: InflaterState | None
    buffer: bytes
    needed: int
    oversized_left: int
    fragments: tuple[bytes, ...]
    fragments_head: int
    fragments_wire: int
    lost: str | None
    resync: bool


class FrameDecoder:
    """Turns one direction's bytes, after the handshake, into messages.

    Feed every chunk in order. Nothing raises; a fault that leaves the next frame's place unknown makes everything that
    follows undecodable, chunk by chunk.

    Args:
        direction: who sends these bytes.
        deflate: the `Sec-WebSocket-Extensions` value of the 101 response, or None.
        max_message_bytes: ceiling of a message; also bounds what this object holds in memory.
    """

    def __init__(
        self,
        direction: Side,
        deflate: str | None = None,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._masks = direction == "client"
        self._deflate = deflate
        self._inflater = Inflater.negotiated(deflate, direction)
        self._faults = _FAULTS[self._inflater is not None]
        self._max_bytes = max_message_bytes
        self._buffer = bytearray()
        self._needed = 0  # length of `_buffer` at which the frame it starts with is complete
        self._oversized_left = 0  # bytes still to come of a frame above the ceiling
        self._fragments = bytearray()  # joined: a message of empty or one-byte fragments costs no more than its bytes
        self._fragments_head = 0  # first byte of the fragmented message's first frame
        self._fragments_wire = 0
        self._lost: str | None = None  # why frames can no longer be told apart
        self._resync = False

    @classmethod
    def of(cls, direction: Side, state: FrameState) -> FrameDecoder:
        """Go on from a state."""
        decoder = cls(direction, state.deflate)
        if decoder._inflater is not None and state.inflater is not None:
            decoder._inflater.resume(state.inflater)
        decoder._buffer[:], decoder._needed = state.buffer, state.needed
        decoder._oversized_left = state.oversized_left
        decoder._fragments, decoder._fragments_head = bytearray(b"".join(state.fragments)), state.fragments_head
        decoder._fragments_wire = state.fragments_wire
        decoder._lost, decoder._resync = state.lost, state.resync
        return decoder

    def state(self) -> FrameState:
        """What `of` goes on from."""
        return FrameState(
            deflate=self._deflate,
            inflater=None if self._inflater is None else self._inflater.state(),
            buffer=bytes(self._buffer),
            needed=self._needed,
            oversized_left=self._oversized_left,
            fragments=(bytes(self._fragments),) if self._fragments else (),
            fragments_head=self._fragments_head,
            fragments_wire=self._fragments_wire,
            lost=self._lost,
            resync=self._resync,
        )

    def feed(self, data: bytes) -> list[Message]:
        """Take the next chunk; give the messages that it completes."""
        if self._resync and self._starts_with_frames(data):
            self._resync, self._lost = False, None
        if self._lost is not None:
            return [_raw(data, self._lost)] if data else []
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        messages: list[Message] = []
        rest = self._parse(data, messages)
        if self._lost is None:
            self._buffer += data[rest:]
        return messages

    def gap(self) -> list[Message]:
        """Bytes were lost here. Gives what was left half-read; goes on at the next chunk that starts with frames."""
        left = self.eof()
        self._lost, self._resync, self._oversized_left = "bytes before it were not recorded", True, 0
        if self._inflater is not None:
            self._inflater.forget()
        return left

    def eof(self) -> list[Message]:
        """The stream ended. Gives what was left half-read, as undecodable messages."""
        left = self._abandon_fragments("the message was never finished")
        if self._buffer:
            left.append(_unfinished(bytes(self._buffer)))
            self._buffer.clear()
        return left

    @property
    def between_frames(self) -> bool:
        """Whether all that was fed ended with a frame, so that another could begin here."""
        return not self._buffer and not self._oversized_left and self._lost is None

    @property
    def between_messages(self) -> bool:
        """Whether all that was fed ended with a message, so that another could begin here."""
        return not self._fragments_wire and self.between_frames

    def _parse(self, data: bytes, messages: list[Message]) -> int:
        """Parse whole frames from `data` into `messages`; gives the offset of the first incomplete one."""
        at, end = self._skip_oversized(data, messages), len(data)
        faults, ceiling = self._faults, self._max_bytes
        while at + 2 <= end:
            head = data[at]
            start, length = _payload_place(data, at)
            if start == 0:
                self._needed = length
                break
            fault = faults[head] or (_length_fault(head, length) if length > _MAX_CONTROL_BYTES else None)
            if fault is not None:
                self._lost = fault
                messages += [*self._abandon_fragments(fault), _raw(data[at:], fault)]
                return end
            stop = start + length
            if length > ceiling:
                messages += self._abandon_fragments("larger than the recorder's ceiling")
                self._oversized_left = stop - at
                at += self._skip_oversized(data[at:], messages)
                continue
            if stop > end:
                self._needed = stop - at
                break
            payload = data[start:stop]
            if data[at + 1] & 0x80:
                payload = apply_mask(payload, data[start - 4 : start])
            if head == (_FIN | _TEXT) and not self._fragments_wire:
                messages.append(Message(_TEXT, payload, stop - at, text_problem(payload)))
            else:
                self._frame(head, payload, stop - at, messages)
            at = stop
        else:
            self._needed = 2
        return at

    def _frame(self, head: int, payload: bytes, wire_bytes: int, messages: list[Message]) -> None:
        opcode = head & 0x0F
        if opcode & _FIRST_CONTROL:
            messages.append(Message(opcode, payload, wire_bytes))
            return
        if opcode == 0:
            if not self._fragments_wire:
                messages.append(Message(_BINARY, payload, wire_bytes, "continuation of no message"))
                return
        else:
            messages += self._abandon_fragments("the message was never finished")
            self._fragments_head = head
        self._fragments += payload
        self._fragments_wire += wire_bytes
        if head & _FIN:
            messages.append(self._finish_message())
        elif self._fragments_wire > self._max_bytes:
            messages += self._abandon_fragments("larger than the recorder's ceiling")

    def _finish_message(self) -> Message:
        head, wire_bytes, data = self._fragments_head, self._fragments_wire, bytes(self._fragments)
        self._fragments, self._fragments_wire = bytearray(), 0
        opcode = head & 0x0F
        if head & _RSV1 and self._inflater is not None:
            try:
                data = self._inflater.inflate(data, self._max_bytes)
            except InflateError as error:
                return Message(opcode, data, wire_bytes, str(error))
        elif len(data) > self._max_bytes:
            return Message(opcode, data, wire_bytes, "larger than the recorder's ceiling")
        return Message(opcode, data, wire_bytes, text_problem(data) if opcode == _TEXT else None)

    def _abandon_fragments(self, problem: str) -> list[Message]:
        if not self._fragments_wire:
            return []
        data, wire_bytes = bytes(self._fragments), self._fragments_wire
        self._fragments, self._fragments_wire = bytearray(), 0
        if self._fragments_head & _RSV1 and self._inflater is not None:
            self._inflater.forget()
        return [Message(self._fragments_head & 0x0F, data, wire_bytes, problem)]

    def _skip_oversized(self, data: bytes, messages: list[Message]) -> int:
        """Pass on the bytes of a frame above the ceiling as they come; gives how many of `data` they were."""
        if not self._oversized_left:
            return 0
        piece = data[: self._oversized_left]
        self._oversized_left -= len(piece)
        if piece:
            messages.append(_raw(piece, "larger than the recorder's ceiling"))
        return len(piece)

    def _starts_with_frames(self, data: bytes) -> bool:
        """Whether a chunk after a gap looks like the start of a frame, and of those that follow it in the chunk.

        Stricter than the protocol, since the middle of a message can look like anything: the mask bit must suit the
        direction, lengths be in their shortest form, no message go on from before, and texts look like JSON.
        """
        at, end = 0, len(data)
        while at < end:
            if at + 2 > end or self._faults[data[at]] is not None or bool(data[at + 1] & 0x80) != self._masks:
                return False
            start, length = _payload_place(data, at)
            if start == 0:
                return at > 0
            if length > self._max_bytes or not _shortest_form(data[at + 1] & 0x7F, length):
                return False
            if at == 0 and data[0] & 0x0F == 0:
                return False
            if data[at] == (_FIN | _TEXT) and length and start < end:
                first = data[start] ^ (data[start - 4] if self._masks else 0)
                if first not in _JSON_STARTS:
                    return False
            at = start + length
        return end > 0


def _payload_place(data: bytes, at: int) -> tuple[int, int]:
    """Where the payload of the frame at `at` starts and its length; `(0, bytes needed)` if the header is cut off."""
    length = data[at + 1] & 0x7F
    start = at + 2
    if length == 126:
        start += 2
    elif length == 127:
        start += 8
    if data[at + 1] & 0x80:
        start += 4
    if start > len(data):
        return 0, start - at
    if length == 126:
        length = int.from_bytes(data[at + 2 : at + 4])
    elif length == 127:
        length = int.from_bytes(data[at + 2 : at + 10])
    return start, length


def _length_fault(head: int, length: int) -> str | None:
    if head & _FIRST_CONTROL:
        return "control frame too long"
    return "invalid frame length" if length >> 63 else None


def _shortest_form(marker: int, length: int) -> bool:
    return {126: 126 <= length <= 0xFFFF, 127: length > 0xFFFF}.get(marker, True)


def text_problem(data: bytes) -> str | None:
    """Why these bytes are no text message; None if they are one."""
    if data.isascii():
        return None
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return f"invalid UTF-8 at byte {error.start}"
    return None


def _unfinished(data: bytes) -> Message:
    """A frame's start: what there is of its payload, readable, so that secrets in it are found like any."""
    problem = "the frame was never finished"
    start = _payload_place(data, 0)[0] if len(data) > 1 else 0
    if not start:
        return _raw(data, problem)
    payload = apply_mask(data[start:], data[start - 4 : start]) if data[1] & 0x80 else data[start:]
    return Message(_BINARY, payload, len(data), problem)


def _raw(data: bytes, problem: str) -> Message:
    return Message(_BINARY, data, len(data), problem)
