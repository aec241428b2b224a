"""Texts out of recorded messages: a fixed word in the place of whatever a pattern finds.

It is looked for in JSON strings wherever they stand; names of keys, ids and types stay.

What is said comes in fragments (deltas), and a name may be cut between two: fragments of one text are searched as the
text that they make. Where anything of a message is taken out, so are its log probabilities, which spell the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from recorder.protocol.audio import audio_key
from recorder.protocol.envelope import RecordedEvent
from recorder.protocol.json_scan import scalars, string_value

REPLACEMENT: Final = "[redacted]"
"""Of the same length whatever it replaces, so that it tells nothing of that."""

_KEPT: Final = frozenset(
    {"type", "object", "id", "event_id", "session_id", "conversation_id", "response_id", "item_id", "call_id"}
    | {"previous_item_id"}
)
_LOGPROBS: Final = "logprobs"


class Redacted(NamedTuple):
    """An event's text after redaction.

    Attributes:
        payload: what takes the place of its payload.
        edits: where in the old payload, in bytes of UTF-8, how many bytes gave way to how many.
    """

    payload: str
    edits: tuple[tuple[int, int, int], ...]

    def moved(self, offset: int) -> int:
        """Where in the new payload a place of the old one is."""
        return offset + sum(new - (end - start) for start, end, new in self.edits if end <= offset)


class _Edit(NamedTuple):
    start: int
    end: int
    token: bytes


class _Fragment(NamedTuple):
    number: int
    start: int
    end: int
    value: str


class Redaction(NamedTuple):
    """What is to be taken out of a session's events.

    Attributes:
        events: by position, the texts of those that change.
        matches: how often the pattern was found.
    """

    events: Mapping[int, Redacted]
    matches: int


def redact_pattern(
    events: Sequence[RecordedEvent], pattern: re.Pattern[str], offsets: Mapping[int, Iterable[int]]
) -> Redaction:
    """Take all that a pattern finds out of a session's events.

    Args:
        events: in order of position; their parts are not needed.
        pattern: is searched in each string, as its reader would see it.
        offsets: by position, where in the payload its parts go: strings that hold one are audio or images.
    """
    search = _Search(pattern)
    for number, event in enumerate(events):
        if event.payload:
            search.read(number, event, frozenset(offsets.get(event.position, ())))
    search.read_fragments()
    found = {}
    for number, edits in search.edits.items():
        event = events[number]
        found[event.position] = _apply(event.payload or "", edits)
    return Redaction(found, search.matches)


class _Search:
    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.matches = 0
        self.edits: dict[int, list[_Edit]] = {}
        self._pattern = pattern
        self._fragments: dict[tuple[object, ...], list[_Fragment]] = {}

    def read(self, number: int, event: RecordedEvent, offsets: frozenset[int]) -> None:
        text = (event.payload or "").encode("utf-8", "surrogatepass")
        if not _is_json(text):
            found = self._replaced(event.payload or "")
            if found is not None:
                self.edits[number] = [_Edit(0, len(text), found.encode("utf-8", "surrogatepass"))]
            return
        is_delta = (event.type or "").endswith(".delta") and audio_key(event.type) != "delta"
        for path, start, end in scalars(text):
            if text[start] != ord('"') or any(start < offset < end for offset in offsets):
                continue
            if is_delta and path == ["delta"]:
                key = (event.type, event.response_id, event.item_id, event.output_index, event.content_index)
                fragment = _Fragment(number, start, end, string_value(text[start:end]))
                self._fragments.setdefault(key, []).append(fragment)
            elif not path or path[-1] not in _KEPT:
                new = self._replaced(string_value(text[start:end]))
                if new is not None:
                    self.edits.setdefault(number, []).append(_Edit(start, end, _token(new)))

    def read_fragments(self) -> None:
        for fragments in self._fragments.values():
            whole = "".join(fragment.value for fragment in fragments)
            spans = [match.span() for match in self._pattern.finditer(whole) if match.group()]
            self.matches += len(spans)
            begin = 0
            for fragment in fragments if spans else ():
                new = _cut(fragment.value, begin, spans)
                if new != fragment.value:
                    self.edits.setdefault(fragment.number, []).append(_Edit(fragment.start, fragment.end, _token(new)))
                begin += len(fragment.value)

    def _replaced(self, value: str) -> str | None:
        """The string without what the pattern finds, also in JSON that it may be; None where there is nothing."""
        new, count = self._pattern.subn(lambda match: REPLACEMENT if match.group() else "", value)
        self.matches += count if new != value else 0
        inner = self._replaced_inside(new)
        return inner if inner is not None else (new if new != value else None)

    def _replaced_inside(self, value: str) -> str | None:
        """Arguments of functions, say, are JSON in a string: escapes may hide what is looked for."""
        if not value.lstrip().startswith(("{", "[")) or "\\" not in value:
            return None
        text = value.encode("utf-8", "surrogatepass")
        edits = []
        for path, start, end in scalars(text):
            if text[start] == ord('"') and (not path or path[-1] not in _KEPT):
                inner = string_value(text[start:end])
                new, count = self._pattern.subn(lambda match: REPLACEMENT if match.group() else "", inner)
                if new != inner:
                    self.matches += count
                    edits.append(_Edit(start, end, _token(new)))
        return _apply(value, edits).payload if edits else None


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return True


def _cut(value: str, begin: int, spans: Sequence[tuple[int, int]]) -> str:
    """A fragment that begins at a place of the whole text, without what lies in the spans of that."""
    pieces, done = [], 0
    for start, end in spans:
        first, last = max(start - begin, 0), min(end - begin, len(value))
        if first < last:
            pieces += [value[done:first], REPLACEMENT if start >= begin else ""]
            done = last
    return "".join([*pieces, value[done:]])


def _apply(payload: str, edits: Sequence[_Edit]) -> Redacted:
    text = payload.encode("utf-8", "surrogatepass")
    every = {edit.start: edit for edit in (*_without_logprobs(text), *edits)}
    pieces, done, made = [], 0, []
    for start, end, token in sorted(every.values()):
        pieces += [text[done:start], token]
        made.append((start, end, len(token)))
        done = end
    new = b"".join([*pieces, text[done:]])
    return Redacted(new.decode("utf-8", "surrogatepass"), tuple(made))


def _without_logprobs(text: bytes) -> list[_Edit]:
    if _LOGPROBS.encode() not in text:
        return []
    found = []
    for path, start, end in scalars(text):
        if _LOGPROBS in path[:-1]:
            found.append(_Edit(start, end, b'""' if text[start] == ord('"') else b"0"))
    return found


def _token(value: str) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # lone surrogates
        return json.dumps(value).encode()
