import contextlib
import zlib

import pytest

from recorder.protocol.deflate import InflateError, Inflater

TAIL = b"\x00\x00\xff\xff"


def deflate(stream: "zlib._Compress", data: bytes) -> bytes:
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


@pytest.mark.parametrize("header", [None, "", "x-webkit-deflate-frame"])
def test_without_the_extension_there_is_no_inflater(header: str | None) -> None:
    assert Inflater.negotiated(header, "client") is None


@pytest.mark.parametrize("bits", [9, 12, 15])
def test_window_bits_of_the_own_side_are_read(bits: int) -> None:
    header = f'Permessage-Deflate; server_max_window_bits="{bits}"; client_max_window_bits=9'
    inflater = Inflater.negotiated(header, "server")
    assert inflater is not None
    stream = zlib.compressobj(wbits=-bits)
    texts = [bytes(range(256)) * 40, b"again " * 3000, bytes(range(256)) * 40]
    assert [inflater.inflate(deflate(stream, text), 1 << 20) for text in texts] == texts


def test_a_window_of_8_reads_what_zlib_writes_for_it() -> None:
    inflater = Inflater.negotiated("permessage-deflate; client_max_window_bits=8", "client")
    assert inflater is not None
    text = bytes(range(256)) * 4
    assert inflater.inflate(deflate(zlib.compressobj(wbits=-9), text), 5000) == text


def test_the_example_of_the_rfc_with_a_final_block() -> None:
    inflater = Inflater()
    hello = bytes.fromhex("f348cdc9c90700")
    assert [inflater.inflate(hello, 100) for _ in range(2)] == [b"Hello", b"Hello"]
    assert inflater.inflate(bytes.fromhex("f248cdc9c90700"), 100) == b"Hello"


def test_a_final_block_without_the_byte_after_it_does_not_spoil_the_next_message() -> None:
    inflater = Inflater()
    final = zlib.compressobj(wbits=-15)
    assert inflater.inflate(final.compress(b"one") + final.flush(), 100) == b"one"
    assert inflater.inflate(deflate(zlib.compressobj(wbits=-15), b"two"), 100) == b"two"


def test_an_empty_message() -> None:
    assert Inflater().inflate(b"\x00", 0) == b""


def test_a_message_that_needs_forgotten_context_fails_and_the_next_is_tried_afresh() -> None:
    stream = zlib.compressobj(wbits=-15)
    first, second = (deflate(stream, b"the same long sentence, said twice") for _ in range(2))
    inflater = Inflater()
    assert inflater.inflate(first, 100) == b"the same long sentence, said twice"
    inflater.forget()
    with pytest.raises(InflateError, match="cannot be inflated"):
        inflater.inflate(second, 100)
    assert inflater.inflate(deflate(zlib.compressobj(wbits=-15), b"fresh"), 100) == b"fresh"


def test_no_context_takeover_starts_each_message_afresh() -> None:
    inflater = Inflater.negotiated("permessage-deflate; client_no_context_takeover", "client")
    assert inflater is not None
    texts = [b"alone", b"alone"]
    assert [inflater.inflate(deflate(zlib.compressobj(wbits=-15), text), 100) for text in texts] == texts


def test_the_limit_is_the_last_size_that_passes() -> None:
    squeezed = deflate(zlib.compressobj(wbits=-15), b"x" * 5000)
    assert len(Inflater().inflate(squeezed, 5000)) == 5000
    with pytest.raises(InflateError, match="more than 4999 bytes"):
        Inflater().inflate(squeezed, 4999)


@pytest.mark.parametrize("first", [b"", b"\0" * (1 << 20)])
def test_a_message_of_nothing_but_final_blocks_is_given_up(first: bytes) -> None:
    """Each two bytes of it would cost a new stream, and a copy of all that was inflated before."""
    message = _final(first) + b"\x03\x00" * 100_000
    with pytest.raises(InflateError, match="final blocks"):
        Inflater().inflate(message, 64 << 20)


def test_some_final_blocks_within_a_message_are_read() -> None:
    pieces = [b"one ", b"two ", b"three " * 20_000, b"four"]
    inflater = Inflater()
    assert inflater.inflate(b"".join(map(_final, pieces)), 1 << 20) == b"".join(pieces)


def test_a_sender_that_never_ends_a_block_with_a_message_is_not_remembered_for_ever() -> None:
    """Each message here ends within a stored block: its rest, and another one's start."""
    block, begun, tail = b"\x00\xff\xff\x00\x00", b"a" * 1000, 4
    rest = b"b" * (0xFFFF - len(begun) - tail)
    inflater = Inflater()
    inflater.inflate(block + begun, 1 << 20)
    remembered = 0
    for _ in range(40):
        with contextlib.suppress(InflateError):  # once that is too much, nothing to refer to is left
            inflater.inflate(rest + block + begun, 1 << 20)
        remembered = max(remembered, sum(map(len, inflater.state().messages)))
    assert 1 << 18 < remembered < (1 << 20) + 70_000
    assert inflater.inflate(deflate(zlib.compressobj(wbits=-15), b"fresh"), 100) == b"fresh"


def _final(data: bytes) -> bytes:
    """A stream with a final block."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush(zlib.Z_FINISH)
