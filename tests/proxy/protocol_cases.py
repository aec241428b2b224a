"""WebSocket streams, good and bad, as one side sends them after the handshake: the table of `test_protocol_cases`."""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from itertools import product
from typing import Final, Literal, NamedTuple

from websockets.utils import apply_mask

Side = Literal["client", "server"]

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MIB: Final = 1 << 20
MASK: Final = b"\x37\xfa\x21\x3d"
JSON: Final = b'{"type":"response.create"}'
SIDES: Final[tuple[Side, Side]] = ("client", "server")


class Deflate(NamedTuple):
    """What permessage-deflate was agreed on (RFC 7692 section 7.1)."""

    client_no_context_takeover: bool = False
    server_no_context_takeover: bool = False
    client_max_window_bits: int = 15
    server_max_window_bits: int = 15

    @property
    def header(self) -> str:
        words = ["permessage-deflate"]
        for side in SIDES:
            if self.forgets(side):
                words.append(f"{side}_no_context_takeover")
            if self.bits(side) != 15:
                words.append(f"{side}_max_window_bits={self.bits(side)}")
        return "; ".join(words)

    def forgets(self, side: Side) -> bool:
        return self.client_no_context_takeover if side == "client" else self.server_no_context_takeover

    def bits(self, side: Side) -> int:
        return self.client_max_window_bits if side == "client" else self.server_max_window_bits


class Case(NamedTuple):
    """One stream.

    Attributes:
        sender: who sends it.
        wire: its bytes; then the sender half-closes.
        fails: the close code with which an endpoint fails the connection (1006: the stream ends too early), or None.
        deflate: what was agreed on in the handshake.
        lenient: an endpoint fails here, a reader need not: it understands what was meant.
    """

    name: str
    sender: Side
    wire: bytes
    fails: int | None = None
    deflate: Deflate | None = None
    lenient: bool = False


def frame(
    sender: Side,
    opcode: int,
    data: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    form: int | None = None,
    mask: bytes | None = MASK,
    masked: bool | None = None,
    length: int | None = None,
) -> bytes:
    """Any frame, however wrong: `form` is the length's field (7, 16 or 64 bits), `length` what it says."""
    says = len(data) if length is None else length
    form = form or (7 if says < 126 else 16 if says < 1 << 16 else 64)
    marker = {7: says, 16: 126, 64: 127}[form]
    masked = sender == "client" if masked is None else masked
    head = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | marker])
    head += {7: b"", 16: struct.pack("!H", says & 0xFFFF), 64: struct.pack("!Q", says)}[form]
    if masked and mask is not None:
        return head + mask + apply_mask(data, mask)
    return head + data


def fragments(sender: Side, opcode: int, pieces: list[bytes], *, rsv: int = 0, between: bytes = b"") -> bytes:
    """One message in several frames, with `between` between them."""
    last = len(pieces) - 1
    return between.join(
        frame(sender, opcode if n == 0 else CONT, piece, fin=n == last, rsv=rsv if n == 0 else 0)
        for n, piece in enumerate(pieces)
    )


def goodbye(sender: Side) -> bytes:
    return frame(sender, CLOSE, b"\x03\xe8")


def all_cases() -> list[Case]:
    groups = (_opcodes, _reserved_bits, _fragments, _controls, _texts, _closes, _sizes, _masks, _lengths, _cut_off)
    cases = [case for group, sender in product(groups, SIDES) for case in group(sender)]
    return cases + [case for sender in SIDES for case in _compressed(sender)]


def _opcodes(sender: Side) -> Iterator[Case]:
    for opcode in range(16):
        good = opcode in {TEXT, BINARY, CLOSE, PING, PONG}
        after = b"" if opcode == CLOSE else frame(sender, TEXT, JSON) + goodbye(sender)
        wire = frame(sender, opcode) + after
        yield Case(f"opcode {opcode}", sender, wire, None if good else 1002)
    for opcode in (3, 7, 11, 15):
        wire = frame(sender, TEXT, JSON) + frame(sender, opcode, b"xyz", fin=False)
        yield Case(f"opcode {opcode}, more to come", sender, wire, 1002)


def _reserved_bits(sender: Side) -> Iterator[Case]:
    for opcode, rsv in product((TEXT, BINARY, CLOSE, PING), range(1, 8)):
        wire = frame(sender, TEXT, JSON) + frame(sender, opcode, b"", rsv=rsv) + goodbye(sender)
        yield Case(f"opcode {opcode} with reserved bits {rsv:03b}", sender, wire, 1002)
    wire = fragments(sender, TEXT, [b"{", b"}"]).replace(bytes([0x80]), bytes([0xC0]), 1)
    yield Case("reserved bit in a continuation", sender, wire, 1002)


def _fragments(sender: Side) -> Iterator[Case]:
    bye = goodbye(sender)
    splits = {
        "two": [b'{"a"', b":1}"],
        "three": [b"{", b'"a"', b":1}"],
        "bytes": [bytes([byte]) for byte in JSON],
        "one and nothing": [JSON, b""],
        "nothing and one": [b"", JSON],
        "nothing at all": [b"", b"", b""],
        "large": [b"x" * 70_000, b"y" * 70_000],
    }
    for (name, pieces), opcode in product(splits.items(), (TEXT, BINARY)):
        yield Case(f"fragments: {name}, opcode {opcode}", sender, fragments(sender, opcode, pieces) + bye)
    twice = fragments(sender, TEXT, [b"{", b"}"]) + fragments(sender, BINARY, [b"\0", b"\1"])
    yield Case("fragments: two messages", sender, twice + bye)
    begun = frame(sender, TEXT, b"{", fin=False)
    for name, then in {
        "another text": frame(sender, TEXT, JSON),
        "another text's first fragment": frame(sender, TEXT, b"[", fin=False),
        "a binary": frame(sender, BINARY, b"\0"),
        "a close": bye,
        "a reserved opcode": frame(sender, 5),
    }.items():
        yield Case(f"fragments: unfinished, then {name}", sender, begun + then, 1002)
    yield Case("fragments: unfinished at the end", sender, begun, 1006)
    yield Case("fragments: continuation of nothing", sender, frame(sender, CONT, JSON), 1002)
    first = frame(sender, CONT, JSON, fin=False)
    yield Case("fragments: continuation of nothing, more to come", sender, first, 1002)
    over = fragments(sender, TEXT, [b"{", b"}"]) + frame(sender, CONT, b"}")
    yield Case("fragments: one too many", sender, over, 1002)


def _controls(sender: Side) -> Iterator[Case]:
    bye = goodbye(sender)
    for opcode, size in product((PING, PONG), (0, 1, 124, 125)):
        control = frame(sender, opcode, b"p" * size)
        yield Case(f"control {opcode} of {size} bytes", sender, control + bye)
        within = fragments(sender, TEXT, [b"{", b'"a":1', b"}"], between=control)
        yield Case(f"control {opcode} of {size} bytes between fragments", sender, within + bye)
    for opcode, size in product((CLOSE, PING, PONG), (126, 127, 65_535, 65_536)):
        long = frame(sender, opcode, b"\x03\xe8" + b"p" * (size - 2))
        yield Case(f"control {opcode} of {size} bytes", sender, frame(sender, TEXT, JSON) + long + bye, 1002)
    for opcode in (CLOSE, PING, PONG):
        cut = frame(sender, opcode, b"", fin=False) + frame(sender, CONT, b"") + bye
        yield Case(f"control {opcode} in fragments", sender, cut, 1002)
    many = b"".join(frame(sender, PING, b"%d" % n) for n in range(50))
    yield Case("fifty pings at once", sender, many + bye)
    yield Case("pong that nobody asked for, not text", sender, frame(sender, PONG, b"\xff\xfe") + bye)


def _texts(sender: Side) -> Iterator[Case]:
    bye = goodbye(sender)
    good = ["", "a", "\0", "ü", "\u07ff", "€", "\ufffd", "\uffff", "\ufeffx", "𝄞", "\U0010ffff", "a\u0301", "\r\n\t"]
    for text in good:
        yield Case(f"text {text!a}", sender, frame(sender, TEXT, text.encode()) + bye)
    bad = (
        "80 bf c0af c080 c1bf e08080 e0809f eda080 edbfbf f0808080 f08fbfbf f4908080 f5808080 f888808080 fe ff c3 e282"
    )
    for text in [*bad.split(), "f09d84", "61c3", "c328", "e228a1", "7b22fe7d"]:
        wire = frame(sender, TEXT, bytes.fromhex(text)) + frame(sender, TEXT, JSON) + bye
        yield Case(f"text of bytes {text}", sender, wire, 1007)
        yield Case(f"binary of bytes {text}", sender, frame(sender, BINARY, bytes.fromhex(text)) + bye)
    for character in ("ü", "€", "𝄞"):
        data = character.encode()
        for cut in range(1, len(data)):
            yield Case(
                f"text {character!a} cut at {cut}", sender, fragments(sender, TEXT, [data[:cut], data[cut:]]) + bye
            )
            broken = fragments(sender, TEXT, [data[:cut], b"x"])
            yield Case(f"text {character!a} broken at {cut}", sender, broken + bye, 1007)


def _closes(sender: Side) -> Iterator[Case]:
    valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
    for code in valid:
        yield Case(f"close {code}", sender, frame(sender, CLOSE, struct.pack("!H", code)))
        wire = frame(sender, CLOSE, struct.pack("!H", code) + "schön".encode())
        yield Case(f"close {code} with a reason", sender, wire)
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield Case(f"close {code}", sender, frame(sender, CLOSE, struct.pack("!H", code)), 1002, lenient=True)
    reasons = {"none": b"", "one byte": b"\x03", "long": b"\x03\xe8" + b"r" * 123, "nul": b"\x03\xe8\0"}
    for name, data in reasons.items():
        fails = 1002 if len(data) == 1 else None
        yield Case(f"close, payload: {name}", sender, frame(sender, CLOSE, data), fails, lenient=True)
    for data in (b"\xff", b"\xc3", b"ok\xed\xa0\x80"):
        wire = frame(sender, CLOSE, b"\x03\xe8" + data)
        yield Case(f"close, reason of bytes {data.hex()}", sender, wire, 1007, lenient=True)
    yield Case("nothing at all", sender, b"", 1006, lenient=True)
    yield Case("messages and no close", sender, frame(sender, TEXT, JSON) * 3, 1006, lenient=True)


def _sizes(sender: Side) -> Iterator[Case]:
    bye = goodbye(sender)
    for opcode, size in product((TEXT, BINARY), (0, 1, 2, 125, 126, 127, 128, 65_535, 65_536, 65_537, MIB, 16 * MIB)):
        yield Case(f"opcode {opcode} of {size} bytes", sender, frame(sender, opcode, b"~" * size) + bye)
    for size in (125, 126, 65_535, 65_536):
        wire = fragments(sender, BINARY, [b"<" * size, b"-" * size, b">" * size])
        yield Case(f"three fragments of {size} bytes", sender, wire + bye)
    yield Case("a thousand small ones", sender, frame(sender, TEXT, JSON) * 1000 + bye)


def _masks(sender: Side) -> Iterator[Case]:
    bye = goodbye(sender)
    wrong = frame(sender, TEXT, JSON, masked=sender != "client") + bye
    yield Case("masked as the other side would", sender, wrong, 1002, lenient=True)
    if sender == "client":
        for mask in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"{\0\0\0", b"\1\2\3\4"):
            for size in (0, 1, 3, 4, 5, 7, 8, 9, 1001):
                wire = frame(sender, BINARY, (bytes(range(251)) * 4)[:size], mask=mask)
                yield Case(f"mask {mask.hex()}, {size} bytes", sender, wire + bye)


def _lengths(sender: Side) -> Iterator[Case]:
    bye = goodbye(sender)
    for form, size in [(16, 0), (16, 1), (16, 125), (64, 0), (64, 1), (64, 125), (64, 126), (64, 65_535)]:
        wire = frame(sender, BINARY, b"=" * size, form=form)
        yield Case(f"{size} bytes, length in {form} bits", sender, wire + bye)
    wire = frame(sender, PING, b"p", form=16)
    yield Case("ping, length in 16 bits", sender, wire + bye)
    for name, length in {"half of all": 1 << 63, "all": (1 << 64) - 1, "an exabyte": 1 << 60}.items():
        wire = frame(sender, BINARY, b"xyz", form=64, length=length)
        yield Case(f"length says {name}", sender, wire + bye, 1006)


def _cut_off(sender: Side) -> Iterator[Case]:
    whole = frame(sender, TEXT, b"t" * 300)
    for place in (1, 2, 3, 4, 6, 8, len(whole) // 2, len(whole) - 1):
        wire = frame(sender, TEXT, JSON) + whole[:place]
        yield Case(f"ends {place} bytes into a frame", sender, wire, 1006)
    for name, wire in {
        "HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "zeros": b"\0" * 100,
        "ones": b"\xff" * 100,
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    }.items():
        yield Case(f"no frames but {name}", sender, wire, 1002)


AGREED: Final = (
    Deflate(),
    Deflate(client_no_context_takeover=True),
    Deflate(server_no_context_takeover=True),
    Deflate(client_no_context_takeover=True, server_no_context_takeover=True),
    Deflate(client_max_window_bits=9, server_max_window_bits=9),
    Deflate(client_max_window_bits=12),
    Deflate(server_max_window_bits=10, server_no_context_takeover=True),
)


class Squeezer:
    """Compresses as one side may."""

    def __init__(self, side: Side, deflate: Deflate) -> None:
        self.side = side
        self._deflate = deflate
        self._stream = self._new()

    def _new(self) -> "zlib._Compress":
        return zlib.compressobj(wbits=-self._deflate.bits(self.side))

    def squeeze(self, *pieces: bytes) -> bytes:
        """One message; each piece ends a block of its own."""
        squeezed = b"".join(self._stream.compress(piece) + self._stream.flush(zlib.Z_SYNC_FLUSH) for piece in pieces)
        if self._deflate.forgets(self.side):
            self._stream = self._new()
        return squeezed.removesuffix(b"\0\0\xff\xff")

    def text(self, data: bytes) -> bytes:
        return frame(self.side, TEXT, self.squeeze(data), rsv=4)


def _compressed(sender: Side) -> Iterator[Case]:
    bye = goodbye(sender)
    for deflate in AGREED:
        for name, wire in _well_compressed(sender, deflate):
            yield Case(f"{deflate.header}: {name}", sender, wire + bye, None, deflate)
    deflate = Deflate()
    ping = frame(sender, PING, b"p")
    for name, wire in {
        "reserved bits 010": frame(sender, TEXT, b"", rsv=2),
        "reserved bits 001": frame(sender, TEXT, b"", rsv=1),
        "reserved bits 110": frame(sender, TEXT, b"", rsv=6),
        "ping": frame(sender, PING, Squeezer(sender, deflate).squeeze(b"p"), rsv=4),
        "close": frame(sender, CLOSE, b"", rsv=4),
        "continuation": frame(sender, TEXT, b"{", fin=False) + ping + frame(sender, CONT, b"}", rsv=4),
        "no deflate stream": frame(sender, TEXT, b"\xff\xff\xff\xff", rsv=4),
        "reserved block type": frame(sender, TEXT, b"\x07", rsv=4),
        "stored block with a wrong length": frame(sender, TEXT, b"\x00\x05\x00\x00\x00hello", rsv=4),
    }.items():
        yield Case(f"badly compressed: {name}", sender, ping + wire + bye, 1002, deflate)
    keeps = Squeezer(sender, Deflate())
    twice = keeps.text(JSON * 4) + keeps.text(JSON * 4)
    forgets = Deflate(client_no_context_takeover=True, server_no_context_takeover=True)
    yield Case("badly compressed: context kept that was to go", sender, twice + bye, 1002, forgets)
    broken = frame(sender, TEXT, Squeezer(sender, deflate).squeeze(b"\xff\xfe"), rsv=4)
    yield Case("badly compressed: no text inside", sender, broken + bye, 1007, deflate)


def _well_compressed(side: Side, deflate: Deflate) -> Iterator[tuple[str, bytes]]:
    def new() -> Squeezer:
        return Squeezer(side, deflate)

    yield "one message", new().text(JSON)
    sender = new()
    yield "three alike", sender.text(JSON) + sender.text(JSON) + sender.text(JSON)
    sender = new()
    yield "not compressed in between", sender.text(JSON) + frame(side, TEXT, JSON) + sender.text(JSON)
    sender = new()
    yield "empty", sender.text(b"") + sender.text(JSON)
    yield "empty as one zero byte", frame(side, TEXT, b"\0", rsv=4) + new().text(JSON)
    squeezed = new().squeeze(JSON * 20)
    cut = [squeezed[:1], b"", squeezed[1:9], squeezed[9:]]
    yield "in fragments", fragments(side, TEXT, cut, rsv=4, between=frame(side, PING, b"p"))
    sender = new()
    noise = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(5000))
    yield "incompressible", frame(side, BINARY, sender.squeeze(noise), rsv=4) + sender.text(JSON)
    yield "several blocks", frame(side, TEXT, new().squeeze(b'{"a":', b"1", b"}"), rsv=4)
    stored = b"\x00" + struct.pack("<HH", len(JSON), len(JSON) ^ 0xFFFF) + JSON + b"\0"
    yield "a stored block", frame(side, TEXT, stored, rsv=4)
    yield "megabytes out of little", frame(side, BINARY, new().squeeze(bytes(4 * MIB)), rsv=4)
