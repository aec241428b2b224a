"""A decode that stops anywhere, is written down and goes on elsewhere gives the events of one that never stopped."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from recorder.errors import NewerFormatError, StoreError
from recorder.protocol import checkpoint
from recorder.protocol.checkpoint import Checkpoint
from recorder.protocol.decode import SessionDecoder
from recorder.protocol.deflate import Inflater
from recorder.protocol.envelope import Record, RecordedEvent, RecordKind
from recorder.protocol.frames import Side

DEFLATES = (
    None,
    "permessage-deflate",
    "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
    "permessage-deflate; server_no_context_takeover",
)
POLICIES: tuple[dict[str, Any], ...] = ({}, {"policy": {"drop_audio": "client", "hash_text": True}})
MESSAGES: tuple[dict[str, Any], ...] = (
    {"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}},
    {"type": "session.updated", "session": {"output_audio_format": "g711_alaw"}},
    {"type": "session.updated", "session": {}},
    {"type": "response.created", "response": {"id": "r1", "output_audio_format": "pcm16_16000hz"}},
    {"type": "response.output_audio.delta", "response_id": "r1", "delta": "AAECAwQFBgcICQ=="},
    {"type": "response.output_audio_transcript.delta", "response_id": "r1", "delta": "hello " * 40},
    {"type": "input_audio_buffer.append", "audio": "AAECAwQFBgcICQ=="},
)


class Sender:
    """One side's frames: compressed with one context, split into fragments, in any chunks."""

    def __init__(self, side: Side, extensions: str | None) -> None:
        self.kind = RecordKind.CLIENT_BYTES if side == "client" else RecordKind.SERVER_BYTES
        self.masks = side == "client"
        bits = {"client": 10, "server": 9}[side] if "window_bits" in (extensions or "") else 15
        self.fresh = f"{side}_no_context_takeover" in (extensions or "")
        self.new: Callable[[], Any] = lambda: zlib.compressobj(wbits=-bits)
        self.stream = self.new() if extensions else None

    def frames(self, message: bytes, fragments: int) -> bytes:
        if self.stream is not None:
            if self.fresh:
                self.stream = self.new()
            message = (self.stream.compress(message) + self.stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
        size = max(1, -(-len(message) // fragments))
        pieces = [message[at : at + size] for at in range(0, len(message), size)] or [b""]
        wire = bytearray()
        for number, piece in enumerate(pieces):
            opcode = Opcode.CONT if number else Opcode.TEXT
            wire += Frame(opcode, piece, fin=number == len(pieces) - 1).serialize(mask=self.masks)
        wire[0] |= 0x40 if self.stream is not None else 0
        return bytes(wire)


@st.composite
def sessions(draw: st.DrawFn) -> list[Record]:
    extensions = draw(st.sampled_from(DEFLATES))
    opened = {"session_id": "s1", "opened_at_ns": 5, "monotonic_ns": 7, "recording": draw(st.sampled_from(POLICIES))}
    headers = [["Sec-WebSocket-Extensions", extensions]] if extensions else []
    records = [
        Record(RecordKind.OPENED, 7, json.dumps(opened).encode()),
        Record(RecordKind.ACCEPTED, 8, json.dumps({"headers": headers}).encode()),
    ]
    sides: dict[Side, Sender] = {"client": Sender("client", extensions), "server": Sender("server", extensions)}
    for _ in range(draw(st.integers(0, 12))):
        side = sides[draw(st.sampled_from(("client", "server")))]
        what = draw(st.integers(0, 19))
        if what == 0:
            gap = {"direction": draw(st.sampled_from(["client", "server", None])), "bytes": 3}
            records.append(Record(RecordKind.GAP, 9, json.dumps(gap).encode()))
            continue
        if what == 1:
            wire = draw(st.binary(max_size=30))
        elif what == 2:
            wire = Frame(Opcode.CLOSE, b"\x03\xe8bye").serialize(mask=side.masks)
        else:
            text = json.dumps(draw(st.sampled_from(MESSAGES))).encode()
            wire = side.frames(text, draw(st.integers(1, 3)))
        size = draw(st.integers(1, len(wire) + 1))
        records += [Record(side.kind, 10 + at, wire[at : at + size]) for at in range(0, len(wire), size)]
    if draw(st.booleans()):
        records.append(Record(RecordKind.CLOSED, 99, b'{"closed_by": null}'))
    return records


def reborn(decoder: SessionDecoder) -> SessionDecoder:
    data = checkpoint.encode(Checkpoint(4, decoder.state()))
    back = checkpoint.decode(data, "here")
    assert back.ring_position == 4
    return SessionDecoder.of(back.decoder)


def decode(records: list[Record], cuts: set[int]) -> list[RecordedEvent]:
    decoder = SessionDecoder()
    events = []
    for number, record in enumerate(records):
        if number in cuts:
            decoder = reborn(decoder)
        events += decoder.feed(record)
    return events


@settings(deadline=None)
@given(sessions(), st.data())
def test_cuts_anywhere_change_nothing(records: list[Record], data: st.DataObject) -> None:
    uncut = decode(records, set())

    cuts = data.draw(st.sets(st.integers(0, len(records))))

    assert decode(records, cuts) == uncut
    assert decode(records, set(range(len(records)))) == uncut


def test_the_next_position_can_be_read_off() -> None:
    decoder = SessionDecoder()
    assert Checkpoint(0, decoder.state()).events == 0
    decoder.feed(Record(RecordKind.OPENED, 7, b'{"session_id": "s1"}'))
    assert Checkpoint(0, decoder.state()).events == 1
    assert reborn(decoder).session_id == "s1"


def test_a_long_compressed_session_is_remembered_by_its_window_alone() -> None:
    """And what was inflated before the window plays no part in what comes after."""
    stream = zlib.compressobj(wbits=-15)
    inflater = Inflater.negotiated("permessage-deflate", "client")
    assert inflater is not None

    def message(number: int) -> tuple[bytes, bytes]:
        text = f"message {number} ".encode() * 50 + bytes(range(256)) * (number % 3)
        return text, (stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]

    for number in range(3000):
        text, compressed = message(number)
        assert inflater.inflate(compressed, 1 << 20) == text
        if number % 700 == 0:
            state = inflater.state()
            assert state.messages == ()
            assert len(state.history) <= 1 << 15
            inflater = Inflater()
            inflater.resume(state)


def test_a_sender_that_ends_messages_within_a_block_is_followed_all_the_same() -> None:
    """Such a message is wrong (RFC 7692 section 7.2.1), but zlib takes it, and so would a client."""
    stream = zlib.compressobj(wbits=-15)
    whole = stream.compress(b"abc" * 2000) + stream.flush(zlib.Z_SYNC_FLUSH)
    stored = b"\x00\x0c\x00\xf3\xff" + b"12345678"  # a block of 12 bytes: the tail that is added becomes its last four
    in_block = b"\x00\x10\x00\xef\xff" + b"12345678"  # a block of 16 bytes: four more are to come
    for messages in ([whole[:-4], stored, whole[:-4]], [whole[:-4], in_block, b"1234" + whole[:-4]]):
        uncut, cut = Inflater(), Inflater()
        for data in messages:
            expected = uncut.inflate(data, 1 << 20)
            assert cut.inflate(data, 1 << 20) == expected
            state = cut.state()
            cut = Inflater()
            cut.resume(state)


def test_a_damaged_or_newer_checkpoint_is_refused() -> None:
    good = checkpoint.encode(Checkpoint(1, SessionDecoder().state()))
    with pytest.raises(StoreError, match="somewhere: its checkpoint is damaged"):
        checkpoint.decode(good[:-3], "somewhere")
    with pytest.raises(StoreError, match="damaged"):
        checkpoint.decode(zlib.compress(b"nonsense"), "somewhere")
    newer = msgspec.msgpack.decode(zlib.decompress(good))
    newer["version"] = 99
    with pytest.raises(NewerFormatError, match="99"):
        checkpoint.decode(zlib.compress(msgspec.msgpack.encode(newer)), "somewhere")
