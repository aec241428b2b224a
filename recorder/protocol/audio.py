r"""Audio on the wire: formats and durations, and the base64 of audio and images out of the JSON, byte for byte.

One rule decides what is cut: a base64 value in a known place, of any length but none, that gives the very same text
when encoded again. What would not (`\/` escapes, odd padding, white space) stays in the payload; its duration counts
all the same. `envelope.rebuild` puts the values back.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec
import pybase64

from recorder.protocol.envelope import Part
from recorder.protocol.json_scan import Scalar, string_value, strings_of

DEFAULT_PCM_RATE: Final = 24_000
_G711_RATE: Final = 8_000
_SAMPLE_BYTES: Final = {
    "audio/pcm": (2, DEFAULT_PCM_RATE),
    "pcm16": (2, DEFAULT_PCM_RATE),
    "pcm16_16000hz": (2, 16_000),
    "pcm16_8000hz": (2, 8_000),
    "audio/pcmu": (1, _G711_RATE),
    "g711_ulaw": (1, _G711_RATE),
    "audio/pcma": (1, _G711_RATE),
    "g711_alaw": (1, _G711_RATE),
}
"""Format name, GA and beta → bytes a sample, samples a second where the message gives no rate."""

DEFAULT_BYTES_PER_MS: Final = 2 * DEFAULT_PCM_RATE / 1000

_MEDIA_KEY: Final = re.compile(r'"(?:audio|image_url)"\s*:\s*"')
_NESTED: Final = frozenset({"audio", "image_url"})
_DATA_URL: Final = b"base64,"
_DEEPEST_PLACE: Final = 6  # response.output[].content[].audio
_SPACE: Final = b" \t\r\n"


def bytes_per_ms(audio_format: object, rate: object = None, channels: object = None) -> float | None:
    """Bytes of decoded audio that make a millisecond.

    Args:
        audio_format: GA `{"type": "audio/pcm", "rate": 24000}`, or a name (GA or beta).
        rate: samples a second, where it is not in the format.
        channels: interleaved channels; 1 where absent.

    Returns:
        None for a format that is not known.
    """
    if isinstance(audio_format, Mapping):
        rate = audio_format.get("rate", rate)
        audio_format = audio_format.get("type")
    known = _SAMPLE_BYTES.get(audio_format.lower().replace("-", "_")) if isinstance(audio_format, str) else None
    if known is None:
        return None
    width, default_rate = known
    return width * (_count(rate) or default_rate) * (_count(channels) or 1) / 1000


def _count(value: object) -> float | None:
    """A number that can be a rate or a count of channels; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        return None
    return value


class FormatsState(msgspec.Struct, frozen=True):
    """All that `Formats` knows, as plain data."""

    input: float | None
    output: float | None
    asked: dict[str, float | None]
    responses: dict[str, float | None]


class Formats:
    """The audio formats of a session, as the server confirmed them. Starts with the protocol's default, PCM 24 kHz."""

    _MAX_OVERRIDES: Final = 64

    @classmethod
    def of(cls, state: FormatsState) -> Formats:
        """Go on from a state."""
        formats = cls()
        formats._input, formats._output = state.input, state.output
        formats._asked, formats._responses = dict(state.asked), dict(state.responses)
        return formats

    def state(self) -> FormatsState:
        """What `of` goes on from."""
        return FormatsState(self._input, self._output, dict(self._asked), dict(self._responses))

    def __init__(self) -> None:
        self._input: float | None = DEFAULT_BYTES_PER_MS
        self._output: float | None = DEFAULT_BYTES_PER_MS
        self._asked: dict[str, float | None] = {}
        self._responses: dict[str, float | None] = {}

    @property
    def input(self) -> float | None:
        """Bytes a millisecond of what the client sends; None where the format is not known."""
        return self._input

    def output(self, response_id: str | None = None) -> float | None:
        """Bytes a millisecond of what the server sends, in this response."""
        return self._responses.get(response_id, self._output) if response_id else self._output

    def client_asks(self, session: object) -> None:
        """A `session.update` went out: holds where the server's answer does not repeat the formats."""
        for side in ("input", "output"):
            asked = session_format(session, side)
            if asked is not None:
                self._asked[side] = bytes_per_ms(asked)

    def server_confirms(self, session: object) -> None:
        """`session.created` or `session.updated` came in."""
        confirmed = {side: session_format(session, side) for side in ("input", "output")}
        rates = self._asked | {side: bytes_per_ms(found) for side, found in confirmed.items() if found is not None}
        self._asked = {}
        self._input = rates.get("input", self._input)
        self._output = rates.get("output", self._output)

    def response_created(self, response_id: str, response: object) -> None:
        """`response.created` came in; it may have an output format of its own."""
        own = session_format(response, "output")
        if own is None:
            return
        while len(self._responses) >= self._MAX_OVERRIDES:
            del self._responses[next(iter(self._responses))]
        self._responses[response_id] = bytes_per_ms(own)


def session_format(holder: object, side: str) -> object:
    """The format that a session or response states for one side; None without.

    GA has `audio.<side>.format`, Live sessions one `audio.format` for both, the beta `<side>_audio_format`; Voice Live
    puts the rate of PCM beside that.
    """
    if not isinstance(holder, Mapping):
        return None
    audio = holder.get("audio")
    if isinstance(audio, Mapping):
        own = audio.get(side)
        stated = own.get("format") if isinstance(own, Mapping) else None
        stated = audio.get("format") if stated is None else stated
        if stated is not None:
            return stated
    name, rate = holder.get(f"{side}_audio_format"), holder.get(f"{side}_audio_sampling_rate")
    return {"type": "pcm16", "rate": rate} if rate is not None and name in {None, "pcm16"} else name


class Cut(msgspec.Struct, frozen=True, gc=False):
    """A message's text without its media.

    Attributes:
        text: what is left.
        parts: what was cut out.
        audio_bytes: decoded bytes of all its audio, cut out or not; None without audio, or when some is no base64.
    """

    text: str
    parts: tuple[Part, ...]
    audio_bytes: int | None


@lru_cache(maxsize=1024)
def audio_key(event_type: str | None) -> str:
    """The top-level key that holds audio in messages of this type: `delta` of audio deltas, else `audio`."""
    name = event_type or ""
    return "delta" if name.endswith(".delta") and "audio" in name and "transcript" not in name else "audio"


def may_hold_media(text: str) -> bool:
    """Cheap: whether `cut_media` could find anything besides a top-level `delta`."""
    return ('"audio"' in text or '"image_url"' in text) and _MEDIA_KEY.search(text) is not None


def cut_verbatim(text: bytes, key: bytes, value: bytes) -> Cut | None:
    """Cut one top-level audio value: the quick way for appends and audio deltas.

    Args:
        text: the message.
        key: the value's key, in quotes.
        value: the value's token as it stands in `text`, in quotes.

    Returns:
        None where only `cut_media` can tell: no exact base64, or its place is not plain to see.

    Raises:
        UnicodeDecodeError: the rest is no UTF-8.
    """
    at = text.find(key)
    start = text.find(b'"', at + len(key)) + 1
    if at < 0 or text.count(b"{", 0, at) != 1 or text[at + len(key) : start - 1].strip(_SPACE) != b":":
        return None
    encoded = value[1:-1]
    decoded = _decode_exact(encoded)
    if not decoded or not text.startswith(value, start - 1):
        return None
    rest = text[:start] + text[start + len(encoded) :]
    return Cut(rest.decode(), (Part(0, start, "audio", "base64", decoded),), len(decoded))


def cut_media(text: bytes, event_type: str | None) -> Cut:
    """Cut all audio and images from the known places of a message: exact, at the price of a scan.

    Raises:
        UnicodeDecodeError: the rest is no UTF-8.
    """
    key = audio_key(event_type)
    pieces: list[bytes] = []
    parts: list[Part] = []
    audio: dict[tuple[str | int, ...], int | None] = {}  # by place, since of a key said twice the last one holds
    done = removed = 0
    for scalar in strings_of(text, _NESTED | {key}):
        kind = _media_kind(scalar.path, key)
        if kind is None:
            continue
        start, end = _encoded_span(text, scalar, kind)
        if start == end:
            continue
        decoded = _decode_exact(text[start:end])
        if kind == "audio":
            audio[tuple(scalar.path)] = (
                _decoded_length(text[scalar.start : scalar.end]) if decoded is None else len(decoded)
            )
        if decoded:
            parts.append(Part(len(parts), start - removed, kind, "base64", decoded))
            pieces.append(text[done:start])
            done = end
            removed += end - start
    pieces.append(text[done:])
    lengths = [length for length in audio.values() if length is not None]
    return Cut(
        b"".join(pieces).decode(), tuple(parts), sum(lengths) if lengths and len(lengths) == len(audio) else None
    )


def _media_kind(path: list[str | int], top_key: str) -> str | None:
    """What a place holds: "audio", "image", or None for places that hold neither."""
    if not path or len(path) > _DEEPEST_PLACE:
        return None
    key = path[-1]
    if len(path) == 1:
        return "audio" if key == top_key else None
    if key not in _NESTED:
        return None
    in_content = len(path) > 2 and path[-3] in {"content", "output"} and isinstance(path[-2], int)
    if not in_content and path[-2] != "part":
        return None
    return "audio" if key == "audio" else "image"


def _encoded_span(text: bytes, scalar: Scalar, kind: str) -> tuple[int, int]:
    """Where the base64 of a string token stands; an image's begins after its data URL's head."""
    start, end = scalar.start + 1, scalar.end - 1
    if kind == "image":
        head = text.find(_DATA_URL, start, min(end, start + 128))
        start = head + len(_DATA_URL) if head >= 0 and text.startswith(b"data:", start) else end
    return start, max(start, end)


def _decode_exact(encoded: bytes) -> bytes | None:
    """The bytes, if they encode to this very text again."""
    try:
        decoded = pybase64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if pybase64.b64encode(decoded) == encoded else None


def _decoded_length(token: bytes) -> int | None:
    """Bytes that a client or server makes of a string that is base64 but for its form; None if it is none."""
    encoded = "".join(string_value(token).split()).rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    try:
        return len(pybase64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
    except (binascii.Error, ValueError):
        return None
