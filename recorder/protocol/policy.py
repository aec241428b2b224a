"""Content policies: what is taken out of a session's messages before they leave its journal.

A policy travels in the session's first record, so that live view, sealing and rebuilding take out the same. It can ask
for no audio (of one speaker, or of both), and for hashes in place of texts. What cannot be looked into is kept out
whole: binary messages, the data of pings, text that is no JSON object or says a key twice. Rows and times stay.

**No audio.** Strings at a key `audio`, and the `delta` of audio deltas, become empty. Whose voice it is, is read from
the item's `role` and the content's `type`, else from who sent it; what could be either's goes under any such policy.
So do, at whatever place, strings with 128 characters of base64 in a row (images aside), and lists of more than 8
numbers.

**Hashes for texts.** Every string becomes `hashed:sha256:` and 16 hex digits, so equal texts stay comparable. What
stays: audio; and ids, types, enumerated words and names of functions, if they look like such (`_WORD`) and stand at
their places (`_WORDS`) in the protocol's own objects (`_OBJECTS`). Below any other key neither values nor keys stay.
Fragments (deltas, `logprobs`, transcripts that grow, keys pressed) are emptied, since the hash of one word is easily
looked up.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final, Literal

import msgspec

from recorder.protocol.audio import audio_key
from recorder.protocol.frames import Side

Speaker = Literal["client", "server"]

_HASHED: Final = re.compile(r"hashed:sha256:[0-9a-f]{16}")
_WORD: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==|[A-Za-z0-9+/]=))?")
_ENCODED: Final = re.compile(r"(?:[A-Za-z0-9+/_=-][\r\n]*){128}")
_IMAGE: Final = re.compile(r"data:image/[a-z0-9.+-]+;base64,[A-Za-z0-9+/=]*")
_MOST_NUMBERS: Final = 8
_LONGEST_INTEGER: Final = 32

_SPEAKERS: Final[dict[object, Speaker]] = {
    "user": "client",
    "input_audio": "client",
    "assistant": "server",
    "output_audio": "server",
}
_OBJECTS: Final = frozenset(
    {"session", "item", "response", "conversation", "content", "part", "output", "input", "tools", "error", "usage"}
    | {"audio", "format", "turn_detection", "transcription", "noise_reduction", "reasoning", "truncation", "voice"}
    | {"input_audio_transcription", "input_audio_noise_reduction", "status_details", "rate_limits", "tool_choice"}
    | {"input_token_details", "output_token_details", "input_tokens_details", "output_tokens_details"}
    | {"cached_tokens_details", "modalities", "output_modalities", "include"}
)
"""Keys of objects and lists that are the protocol's own; what lies below others is of anyone's making."""

_WORDS: Final = frozenset(
    {"type", "object", "role", "status", "id", "event_id", "item_id", "response_id", "previous_item_id", "call_id"}
    | {"session_id", "conversation_id", "model", "voice", "format", "input_audio_format", "output_audio_format"}
    | {"modalities", "output_modalities", "include", "tool_choice", "truncation", "tracing", "status_details"}
    | {"max_output_tokens", "max_response_output_tokens", "eagerness", "language", "phase", "detail"}
)
_WORDS_IN: Final = frozenset(
    {("status_details", "reason"), ("error", "code"), ("error", "param"), ("reasoning", "effort")}
    | {("rate_limits", "name")}
)
"""Values that stay where they look like words: by key anywhere in the protocol's objects, or by object and key."""

_FINAL_TRANSCRIPTS: Final = (".completed", ".done", ".segment")


def hash_text(text: str) -> str:
    """What stands in the place of a text. A hash stays as it is, and an empty text."""
    if not text or _HASHED.fullmatch(text):
        return text
    return "hashed:sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class LeftOut(msgspec.Struct):
    """What a policy took out of a session, so far.

    Attributes:
        client_bytes: bytes of JSON strings and of messages that the client sent and that are not kept.
        server_bytes: likewise, of the server.
        audio_count: audio values emptied.
        text_count: texts hashed or emptied.
        message_count: messages kept out whole.
    """

    client_bytes: int = 0
    server_bytes: int = 0
    audio_count: int = 0
    text_count: int = 0
    message_count: int = 0

    def add(self, other: LeftOut) -> None:
        """Count what `other` counted."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def add_bytes(self, direction: Side, count: int) -> None:
        """Count bytes of one direction."""
        if direction == "client":
            self.client_bytes += count
        else:
            self.server_bytes += count


class ContentPolicy(msgspec.Struct, frozen=True):
    """What is not kept of a session that is recorded.

    Attributes:
        drop_audio: whose audio; None keeps it.
        hash_text: whether hashes take the place of texts.
    """

    drop_audio: Literal["client", "server", "both"] | None = None
    hash_text: bool = False

    @property
    def keeps_all(self) -> bool:
        """Whether there is nothing to do."""
        return self.drop_audio is None and not self.hash_text

    def drops_audio_of(self, speakers: set[Speaker]) -> bool:
        """Whether audio goes that is, as far as is known, of these speakers; of none, where nothing is known."""
        return self.drop_audio is not None and (
            self.drop_audio == "both" or self.drop_audio in speakers or not speakers
        )

    def facts(self) -> dict[str, Any]:
        """The object `policy` of a session's facts."""
        return {"drop_audio": self.drop_audio, "hash_text": self.hash_text}

    @classmethod
    def of(cls, facts: dict[str, Any]) -> ContentPolicy:
        """The policy in a session's first record. What is not understood counts as the strictest."""
        recording = facts.get("recording", {})
        policy = recording.get("policy", {}) if isinstance(recording, dict) else None
        if not isinstance(policy, dict):
            return cls("both", hash_text=True)
        drop: Any = policy.get("drop_audio")
        hashes = policy.get("hash_text")
        if recording.get("mode") == "no-audio" or drop not in (None, "client", "server"):
            drop = "both"
        return cls(drop, hash_text=not (hashes is None or hashes is False))

    def apply(self, text: bytes, direction: Side, left_out: LeftOut) -> bytes | None:
        """Take out of a text message what is not to be kept.

        Args:
            text: the message, audio included.
            direction: who sent it.
            left_out: is added to.

        Returns:
            What is kept: the message as it was, or rewritten as JSON; None if it cannot be looked into.
        """
        try:
            message = json.loads(
                text.decode().removeprefix("\ufeff"), object_pairs_hook=_object, parse_int=_integer, strict=False
            )
            if not isinstance(message, dict):
                return None
            redaction = _Redaction(self, message, direction)
            kept = redaction.walk(message, [], set(), plain=True)
        except (ValueError, RecursionError):
            return None
        left_out.add(redaction.left_out)
        return _to_json(kept) if redaction.changed else text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise ValueError("no number that means anything")
    return int(digits)


def _to_json(value: dict[str, Any]) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # lone surrogates
        return json.dumps(value, separators=(",", ":")).encode()


class _Redaction:
    """One message on its way through a policy."""

    def __init__(self, policy: ContentPolicy, message: dict[str, Any], direction: Side) -> None:
        kind = message.get("type")
        self._type = kind if isinstance(kind, str) else ""
        self._policy = policy
        self._direction = direction
        self.left_out = LeftOut()
        self._has_audio_delta = audio_key(self._type) == "delta"
        self._is_fragment = (
            self._type.endswith(".delta")
            or "dtmf" in self._type
            or ("transcri" in self._type and not self._type.endswith(_FINAL_TRANSCRIPTS))
        )
        self.changed = False

    def walk(self, value: Any, path: list[str], speakers: set[Speaker], *, plain: bool) -> Any:
        """A copy without what is not to be kept.

        Args:
            value: of the message, or of a place in it.
            path: the keys that lead there, without indexes.
            speakers: whose item and content it lies in, as far as that was said.
            plain: whether it lies in the protocol's own objects only.
        """
        if isinstance(value, str):
            return self._string(value, path, speakers, plain=plain)
        if isinstance(value, list):
            if len(value) > _MOST_NUMBERS and all(type(one) in {int, float} for one in value):
                return self._taken(json.dumps(value), [], is_audio=not self._policy.hash_text)
            return [self.walk(one, path, speakers, plain=plain) for one in value]
        if isinstance(value, dict):
            return self._members(value, path, speakers, plain=plain)
        return value

    def _members(self, value: dict[str, Any], path: list[str], speakers: set[Speaker], *, plain: bool) -> Any:
        said = {value[key] for key in ("role", "type") if isinstance(value.get(key), str)} & _SPEAKERS.keys()
        speakers = speakers | {_SPEAKERS[word] for word in said}
        plain = plain and (not path or path[-1] in _OBJECTS)
        kept = {}
        for key, one in value.items():
            if self._policy.hash_text and key == "logprobs" and one:
                kept[key] = self._taken(json.dumps(one), None)
                continue
            names_function = plain and key == "name" and "function" in str(value.get("type"))
            stays = names_function and isinstance(one, str) and _WORD.fullmatch(one)
            kept[self._key(key, plain=plain)] = one if stays else self.walk(one, [*path, key], speakers, plain=plain)
        return kept

    def _key(self, key: str, *, plain: bool) -> str:
        if not self._policy.hash_text or (plain and _KEY.fullmatch(key)):
            return key
        return str(self._taken(key, hash_text(key)))

    def _string(self, value: str, path: list[str], speakers: set[Speaker], *, plain: bool) -> str:
        key = path[-1]
        if key == "audio" or (self._has_audio_delta and path == ["delta"]):
            if self._policy.drops_audio_of(speakers or self._sender(path)):
                return str(self._taken(value, "", is_audio=True))
            if _BASE64.fullmatch(value):
                return value
        elif self._policy.drop_audio and _ENCODED.search(value) and not _IMAGE.fullmatch(value):
            return str(self._taken(value, "", is_audio=True))
        if not self._policy.hash_text or (plain and self._is_word(value, path)):
            return value
        return str(self._taken(value, "" if self._is_fragment else hash_text(value)))

    def _sender(self, path: list[str]) -> set[Speaker]:
        """Whose audio a message carries that does not say so; nobody's for what a server repeats out of an item."""
        if self._direction == "client" or "input" in self._type:
            return {"client"}
        return {"server"} if len(path) == 1 or self._type.startswith("response.") else set()

    def _is_word(self, value: str, path: list[str]) -> bool:
        listed = path[-1] in _WORDS or (len(path) > 1 and (path[-2], path[-1]) in _WORDS_IN)
        return listed and _WORD.fullmatch(value) is not None

    def _taken(self, what: str, instead: Any, *, is_audio: bool = False) -> Any:
        """Count what is taken out; returns what stands there now."""
        if what == instead:
            return instead
        self.changed = True
        self.left_out.add_bytes(self._direction, len(what.encode("utf-8", "surrogatepass")))
        if is_audio:
            self.left_out.audio_count += 1
        else:
            self.left_out.text_count += 1
        return instead
