"""The values that travel through the rooms: records (journal side) and events (store side).

    bytes on a socket → Record → SessionDecoder → RecordedEvent → Arrow → Parquet

Both are plain data. A `Record` is what the tap wrote down: a chunk of a direction's bytes, or a fact about the
session, with the monotonic time of the tap. A `RecordedEvent` is one row of the `events` data set.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Literal

import msgspec
import pybase64

Direction = Literal["client", "server", "recorder"]

SESSION_OPENED: Final = "recorder.session_opened"
HANDSHAKE_COMPLETED: Final = "recorder.handshake_completed"
SESSION_CLOSED: Final = "recorder.session_closed"
GAP: Final = "recorder.gap"


class RecordKind(IntEnum):
    """What a record holds. Values are stored in rings and journals: never renumber."""

    OPENED = 1
    """JSON object: the session's facts as its request was read; the first record of every session."""
    ACCEPTED = 2
    """JSON object: the upstream's answer to the handshake, sent on to the client."""
    CLIENT_BYTES = 3
    """Bytes the client sent after the handshake, as read from its socket."""
    SERVER_BYTES = 4
    """Bytes the upstream sent after the handshake, as read from its socket."""
    GAP = 5
    """JSON object `{"direction", "bytes", "reason"}`: bytes that were forwarded and not recorded."""
    CLOSED = 6
    """JSON object: how the session ended; the last record of every session."""


SPEAKERS: Final = {RecordKind.CLIENT_BYTES: "client", RecordKind.SERVER_BYTES: "server"}
"""Whose bytes a record holds."""


def gap_facts(direction: str, count: int, reason: str) -> bytes:
    """The data of a GAP record.

    Args:
        direction: client, server, or recorder where that is not known.
        count: how many bytes are missing.
        reason: why, in a few words.
    """
    return msgspec.json.encode({"direction": direction, "bytes": count, "reason": reason})


class Record(msgspec.Struct, frozen=True, gc=False):
    """One entry of a session's journal.

    Attributes:
        kind: what `data` holds.
        at_ns: the tap's monotonic clock, nanoseconds.
        data: bytes of the wire, or UTF-8 JSON.
    """

    kind: int
    at_ns: int
    data: bytes


class Part(msgspec.Struct, frozen=True, gc=False):
    """A big binary value cut out of a message's text.

    Attributes:
        part_no: 0, 1, … in the order of `json_offset`.
        json_offset: offset in bytes into the UTF-8 payload at which the value's text goes back in.
        kind: "audio", "image" or "binary" (a message that is no text at all).
        encoding: "base64" (the wire had it so), or "raw" (the wire had these very bytes).
        data: the decoded bytes.
    """

    part_no: int
    json_offset: int
    kind: str
    encoding: str
    data: bytes


class RecordedEvent(msgspec.Struct, gc=False):
    """One event of a session: a row of `events` plus its parts.

    Attributes:
        session_id: UUID text; version 7 for recorded sessions, a digest of the content for imported ones.
        position: 0, 1, 2 … gapless per session, both directions in one order.
        direction: who sent it; "recorder" for our own events.
        recorded_at_ns: UTC wall time in Unix nanoseconds, when its last byte was read; None where unknown.
        monotonic_ns: nanoseconds since the session opened, from a clock that never steps; None where unknown.
        type: the wire's `type` verbatim; `recorder.*` for our own; `websocket.ping`, `websocket.pong` and
            `websocket.close` for control frames; None for a message that is no JSON object with a text `type`.
        event_id: the message's own id, as sent. Likewise the ids and indexes that follow.
        payload: the message's text with big base64 values cut out into `parts`; None for binary messages.
        audio_ms: duration of the audio that the message carries, in the session format in force; None without.
        opcode: the WebSocket opcode (1 text, 2 binary, 8 close, 9 ping, 10 pong); None for our own events.
        wire_bytes: bytes of the message's frames on the wire, headers included (compressed, where they were).
            0 for our own events; for imports, the length of the text.
        redacted: whether secrets or content were removed from `payload`.
        problem: why the message could not be decoded, so that only its bytes are kept; None for a good message.
    """

    session_id: str
    position: int
    direction: Direction
    recorded_at_ns: int | None
    monotonic_ns: int | None
    type: str | None
    event_id: str | None = None
    response_id: str | None = None
    item_id: str | None = None
    call_id: str | None = None
    previous_item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    payload: str | None = None
    audio_ms: float | None = None
    opcode: int | None = None
    wire_bytes: int = 0
    redacted: bool = False
    problem: str | None = None
    parts: tuple[Part, ...] = ()

    def message(self) -> bytes:
        """The message as it was on the wire (unmasked, uncompressed, reassembled), byte for byte."""
        return rebuild(self.payload, self.parts)


def rebuild(payload: str | None, parts: tuple[Part, ...]) -> bytes:
    """Put `parts` back into `payload`.

    Args:
        payload: a row's payload, or None for a binary message.
        parts: its parts in the order of `part_no`.

    Returns:
        The message's bytes. Redacted rows give back what was kept.
    """
    text = (payload or "").encode("utf-8", "surrogatepass")
    pieces: list[bytes] = []
    done = 0
    for part in parts:
        pieces.append(text[done : part.json_offset])
        pieces.append(pybase64.b64encode(part.data) if part.encoding == "base64" else part.data)
        done = part.json_offset
    pieces.append(text[done:])
    return b"".join(pieces)
