import random
import struct
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

from recorder.protocol.frames import FrameDecoder, Message, Side

DEFLATE = "permessage-deflate"


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, mask: bool = False, rsv1: bool = False) -> bytes:
    wire = bytearray(Frame(Opcode(opcode), data, fin).serialize(mask=mask))
    wire[0] |= 0x40 if rsv1 else 0
    return bytes(wire)


def feed_all(decoder: FrameDecoder, chunks: Iterable[bytes]) -> list[Message]:
    return [message for chunk in chunks for message in decoder.feed(chunk)]


def outcome(messages: list[Message]) -> list[tuple[int, bytes, bool]]:
    return [(message.opcode, message.data, message.problem is None) for message in messages]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_text_of_any_size_comes_out_whole_with_its_wire_size(side: Side, size: int) -> None:
    wire = frame(1, b"a" * size, mask=side == "client")
    assert FrameDecoder(side).feed(wire) == [Message(1, b"a" * size, len(wire))]


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("masked", [True, False])
def test_the_mask_bit_is_believed_not_expected(side: Side, masked: bool) -> None:
    assert FrameDecoder(side).feed(frame(2, b"\x00\xff", mask=masked))[0].data == b"\x00\xff"


def test_control_frames_between_fragments_come_first_and_do_not_count() -> None:
    parts = [frame(1, b"ab", fin=False), frame(9, b"?"), frame(0, b"cd", fin=False), frame(10, b"!"), frame(0, b"ef")]
    messages = FrameDecoder("server").feed(b"".join(parts))
    assert outcome(messages) == [(9, b"?", True), (10, b"!", True), (1, b"abcdef", True)]
    assert messages[2].wire_bytes == 3 * (2 + 2)


def test_utf8_may_be_split_between_fragments() -> None:
    euro = "€".encode()
    messages = FrameDecoder("server").feed(frame(1, euro[:1], fin=False) + frame(0, euro[1:]))
    assert outcome(messages) == [(1, euro, True)]


def test_a_close_frame_keeps_code_and_reason() -> None:
    payload = Close(4000, "beta_api_shape_disabled").serialize()
    assert FrameDecoder("server").feed(frame(8, payload)) == [Message(8, payload, 2 + len(payload))]


def test_text_that_is_no_utf8_is_undecodable_and_kept() -> None:
    messages = FrameDecoder("server").feed(frame(1, b"ok\xff") + frame(1, b"next"))
    assert messages[0] == Message(1, b"ok\xff", 5, "invalid UTF-8 at byte 2")
    assert outcome(messages[1:]) == [(1, b"next", True)]


@pytest.mark.parametrize(
    ("wire", "problem"),
    [
        (b"\x83\x00", "3 is not a valid Opcode"),
        (b"\x8f\x00", "15 is not a valid Opcode"),
        (b"\xc1\x01a", "reserved bits must be 0"),
        (b"\xa1\x01a", "reserved bits must be 0"),
        (b"\x91\x01a", "reserved bits must be 0"),
        (b"\x09\x00", "fragmented control frame"),
        (b"\x89\x7e\x00\x7e" + b"p" * 126, "control frame too long"),
        (b"\x82\x7f\xff" + b"\x00" * 7, "invalid frame length"),
    ],
)
def test_a_broken_header_makes_all_that_follows_raw(wire: bytes, problem: str) -> None:
    decoder = FrameDecoder("server")
    good = frame(1, b"good")
    assert decoder.feed(good + wire + b"rest") == [
        Message(1, b"good", 6),
        Message(2, wire + b"rest", len(wire) + 4, problem),
    ]
    assert decoder.feed(good) == [Message(2, good, len(good), problem)]
    assert decoder.feed(b"") == []
    assert decoder.eof() == []


def test_http_where_frames_should_be_is_kept() -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    decoder = FrameDecoder("server")
    assert b"".join(m.data for m in [*feed_all(decoder, [answer[:9], answer[9:]]), *decoder.eof()]) == answer


def test_faults_of_order_cost_one_message_each() -> None:
    wire = frame(0, b"stray") + frame(1, b"begun", fin=False) + frame(1, b"whole") + frame(2, b"\x00")
    messages = FrameDecoder("server").feed(wire)
    assert outcome(messages) == [(2, b"stray", False), (1, b"begun", False), (1, b"whole", True), (2, b"\x00", True)]
    assert sum(message.wire_bytes for message in messages) == len(wire)


def test_the_end_gives_what_was_left() -> None:
    decoder = FrameDecoder("client")
    unfinished = frame(1, b"never whole", mask=True)[:-3]
    assert decoder.feed(frame(1, b"ab", fin=False, mask=True) + unfinished) == []
    assert decoder.eof() == [
        Message(1, b"ab", 8, "the message was never finished"),
        Message(2, b"never wh", len(unfinished), "the frame was never finished"),
    ]
    assert decoder.eof() == []


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_the_start_of_a_header_is_kept_as_it_came(cut: int) -> None:
    decoder = FrameDecoder("client")
    start = frame(1, b"x" * 200, mask=True)[:cut]
    assert decoder.feed(start) == []
    assert decoder.eof() == [Message(2, start, cut, "the frame was never finished")]


def test_fragments_cost_their_bytes_alone() -> None:
    """A list of them would take eight bytes for each that is empty, and fifty for one of two bytes."""
    decoder = FrameDecoder("server")
    decoder.feed(frame(1, b"", fin=False))
    tracemalloc.start()
    try:
        for _ in range(4):
            decoder.feed(frame(0, b"", fin=False) * 20_000 + frame(0, b"ab", fin=False) * 20_000)
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown < 400_000
    assert decoder.state().fragments == (b"ab" * 80_000,)
    assert decoder.feed(frame(0, b"!"))[0].data == b"ab" * 80_000 + b"!"


def test_a_frame_above_the_ceiling_passes_in_pieces_and_the_next_one_decodes() -> None:
    decoder = FrameDecoder("server", max_message_bytes=100)
    wire = frame(1, b"x" * 101) + frame(1, b"next")
    messages = feed_all(decoder, [wire[:50], wire[50:104], wire[104:]])
    assert b"".join(m.data for m in messages[:-1]) == frame(1, b"x" * 101)
    assert {m.problem for m in messages[:-1]} == {"larger than the recorder's ceiling"}
    assert messages[-1] == Message(1, b"next", 6)


def test_fragments_above_the_ceiling_are_given_up_and_the_next_message_decodes() -> None:
    decoder = FrameDecoder("server", max_message_bytes=100)
    wire = frame(1, b"x" * 60, fin=False) + frame(0, b"y" * 60, fin=False) + frame(0, b"z") + frame(1, b"next")
    messages = decoder.feed(wire)
    assert outcome(messages) == [(1, b"x" * 60 + b"y" * 60, False), (2, b"z", False), (1, b"next", True)]


def test_a_message_of_just_the_ceiling_is_good() -> None:
    decoder = FrameDecoder("server", DEFLATE, max_message_bytes=100)
    extension = PerMessageDeflate(False, False, 15, 15)
    squeezed = Frame(Opcode.TEXT, b"x" * 100).serialize(mask=False, extensions=[extension])
    assert outcome(decoder.feed(frame(1, b"x" * 100) + squeezed)) == [(1, b"x" * 100, True)] * 2


def test_a_bomb_costs_only_itself() -> None:
    decoder = FrameDecoder("client", DEFLATE, max_message_bytes=10_000)
    extension = PerMessageDeflate(False, False, 15, 15)
    texts = [b'{"type":"before"}', b"\x00" * 1_000_000, b'{"kind":"after"}', b'{"kind":"after"} again']
    wires = [Frame(Opcode.TEXT, text).serialize(mask=True, extensions=[extension]) for text in texts]
    messages = feed_all(decoder, wires)
    assert [message.problem for message in messages] == [None, "inflates to more than 10000 bytes", None, None]
    assert len(messages[1].data) == len(wires[1]) - 8  # header of 4, mask of 4: the payload as it came
    assert [messages[0].data, messages[2].data, messages[3].data] == [texts[0], texts[2], texts[3]]


def test_an_uncompressed_message_passes_where_compression_was_agreed_on() -> None:
    assert FrameDecoder("server", DEFLATE).feed(frame(1, b"plain")) == [Message(1, b"plain", 7)]


def test_garbage_that_claims_to_be_compressed_is_kept_as_it_came() -> None:
    messages = FrameDecoder("server", DEFLATE).feed(frame(1, b"\xff\xff\xff", rsv1=True) + frame(1, b"next"))
    assert messages[0].data == b"\xff\xff\xff"
    assert messages[0].problem is not None
    assert messages[0].problem.startswith("cannot be inflated")
    assert messages[1].data == b"next"


def test_rsv1_on_a_continuation_is_a_fault() -> None:
    messages = FrameDecoder("server", DEFLATE).feed(frame(0, b"x", rsv1=True))
    assert messages[0].problem == "reserved bits must be 0"


class TestGap:
    def test_it_gives_what_was_half_read_and_goes_on_at_the_next_frames(self) -> None:
        decoder = FrameDecoder("client")
        whole = frame(1, b'{"a":1}', mask=True)
        assert decoder.feed(whole + whole[:5]) == [Message(1, b'{"a":1}', len(whole))]
        assert outcome(decoder.gap()) == [(2, whole[:5], False)]
        lost_in_the_middle = whole[7:]
        assert outcome(decoder.feed(lost_in_the_middle)) == [(2, lost_in_the_middle, False)]
        assert decoder.feed(whole) == [Message(1, b'{"a":1}', len(whole))]

    def test_the_middle_of_base64_is_not_taken_for_frames(self) -> None:
        decoder = FrameDecoder("server", DEFLATE)
        decoder.gap()
        rng = random.Random(7)
        alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        chunks = [bytes(rng.choices(alphabet, k=1400)) for _ in range(200)]
        assert all(not ok for _, _, ok in outcome(feed_all(decoder, chunks)))
        assert outcome(decoder.feed(frame(1, b'{"type":"x"}'))) == [(1, b'{"type":"x"}', True)]

    def test_it_ends_the_state_after_a_fatal_fault(self) -> None:
        decoder = FrameDecoder("server")
        decoder.feed(b"\xff\xff")
        decoder.gap()
        assert outcome(decoder.feed(frame(1, b"{}"))) == [(1, b"{}", True)]

    def test_compressed_messages_that_need_what_was_lost_are_undecodable_not_wrong(self) -> None:
        extension = PerMessageDeflate(False, False, 15, 15)
        texts = [f'{{"type":"response.output_text.delta","delta":"word {n}"}}'.encode() for n in range(3)]
        wires = [Frame(Opcode.TEXT, text).serialize(mask=False, extensions=[extension]) for text in texts]
        decoder = FrameDecoder("server", DEFLATE)
        assert decoder.feed(wires[0])[0].data == texts[0]
        decoder.gap()
        after = decoder.feed(wires[2])
        assert outcome(after) != [(1, texts[2], True)]
        assert after[0].problem is not None

    def test_a_gap_within_an_oversized_frame_ends_it(self) -> None:
        decoder = FrameDecoder("server", max_message_bytes=10)
        decoder.feed(frame(1, b"x" * 100)[:20])
        decoder.gap()
        assert outcome(decoder.feed(frame(1, b"{}"))) == [(1, b"{}", True)]


def library_frames(wire: bytes, *, mask: bool, extension: PerMessageDeflate | None) -> list[tuple[int, bytes, bool]]:
    """What `websockets`' own parser makes of a whole stream: opcode, data, fin of every frame."""
    reader = StreamReader()
    reader.feed_data(wire)
    frames = []
    while reader.buffer:
        parser = Frame.parse(reader.read_exact, mask=mask, extensions=[extension] if extension else [])
        try:
            next(parser)
        except StopIteration as done:
            parsed: Frame = done.value
            frames.append((int(parsed.opcode), bytes(parsed.data), parsed.fin))
    return frames


def library_messages(wire: bytes, *, mask: bool, extension: PerMessageDeflate | None) -> list[tuple[int, bytes, bool]]:
    messages: list[tuple[int, bytes, bool]] = []
    opcode, pieces = 0, b""
    for frame_opcode, data, fin in library_frames(wire, mask=mask, extension=extension):
        if frame_opcode >= 8:
            messages.append((frame_opcode, data, True))
            continue
        opcode, pieces = frame_opcode or opcode, (pieces if frame_opcode == 0 else b"") + data
        if fin:
            messages.append((opcode, pieces, True))
    return messages


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, bool, bool, bool, list[int]]:
    """A valid stream: its bytes, whether masked, compressed, without context takeover, and where it is cut."""
    masked, compressed, forgets = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    extension = PerMessageDeflate(forgets, forgets, 15, draw(st.sampled_from([9, 12, 15]))) if compressed else None
    wire = b""
    for _ in range(draw(st.integers(0, 6))):
        text = draw(st.text(max_size=60) | st.just("abc" * 90) | st.just('{"type":"x"}')).encode()
        opcode = draw(st.sampled_from([Opcode.TEXT, Opcode.BINARY]))
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        squeeze = [extension] if extension is not None and draw(st.booleans()) else []
        for number, piece in enumerate(pieces):
            fragment = Frame(opcode if number == 0 else Opcode.CONT, piece, number == len(pieces) - 1)
            wire += fragment.serialize(mask=masked, extensions=squeeze)
            if draw(st.booleans()):
                wire += Frame(draw(st.sampled_from([Opcode.PING, Opcode.PONG])), b"c").serialize(mask=masked)
    cuts = sorted(draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    return wire, masked, compressed, forgets, cuts


@given(streams())
def test_any_stream_in_any_chunks_decodes_as_the_library_does(
    stream: tuple[bytes, bool, bool, bool, list[int]],
) -> None:
    wire, masked, compressed, forgets, cuts = stream
    side: Side = "client" if masked else "server"
    header = f"{DEFLATE}; {side}_no_context_takeover" if forgets else DEFLATE
    decoder = FrameDecoder(side, header if compressed else None)
    messages = feed_all(decoder, [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)])
    extension = PerMessageDeflate(forgets, forgets, 15, 15) if compressed else None
    assert outcome(messages) == library_messages(wire, mask=masked, extension=extension)
    assert sum(message.wire_bytes for message in messages) == len(wire)
    assert decoder.eof() == []


@given(st.lists(st.binary(max_size=40), max_size=8), st.sampled_from([None, DEFLATE]), st.integers(1, 50))
def test_garbage_never_raises_and_no_byte_count_is_lost(chunks: list[bytes], deflate: str | None, limit: int) -> None:
    decoder = FrameDecoder("server", deflate, max_message_bytes=limit)
    messages: list[Message] = []
    for number, chunk in enumerate(chunks):
        messages += decoder.feed(chunk)
        if number % 3 == 2:
            messages += decoder.gap()
    messages += decoder.eof()
    assert sum(message.wire_bytes for message in messages) == sum(map(len, chunks))


def test_a_large_message_in_many_chunks_is_put_together_once() -> None:
    text = b"x" * 3_000_000
    wire = b"\x81\x7f" + struct.pack("!Q", len(text)) + text
    decoder = FrameDecoder("server")
    messages = feed_all(decoder, [wire[at : at + 65536] for at in range(0, len(wire), 65536)])
    assert messages == [Message(1, text, len(wire))]
