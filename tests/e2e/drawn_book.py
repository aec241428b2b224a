"""A drawn call's messages, ready to be asked: what a person would look up who works out a number by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pytest

from tests.e2e.drawn_call import FIRST_POSITION, OPENED_NS, Call, seconds

APPEND_MS: Final = 20
MILLION: Final = Decimal(1_000_000)

EPOCH: Final = datetime.fromtimestamp(OPENED_NS // 10**9, UTC)


@dataclass(frozen=True)
class Wire:
    """One message: where and when it was, and what it said, by its canonical name."""

    position: int
    at_ns: int
    direction: str
    kind: str
    event: dict[str, Any]


class Book:
    """A call's messages, ready to be asked."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.wires = [
            Wire(
                position,
                message.at_ns - call.truth.opened_ns,
                message.direction,
                canonical(message.event),
                message.event,
            )
            for position, message in enumerate(call.log.messages, FIRST_POSITION)
        ]
        session = next(self.of("session.created")).event["session"]
        listening = session.get("audio", {}).get("input", session)
        self.session = session
        self.detection = listening["turn_detection"]
        transcription = listening.get("transcription") or listening.get("input_audio_transcription")
        self.transcriber = (transcription or {}).get("model")
        output = session.get("output_audio_format") or session["audio"]["output"]["format"]["type"]
        self.bytes_a_ms = 48 if output in {"pcm16", "audio/pcm"} else 8
        self.appends: list[tuple[Wire, float, float]] = []
        """Each with where its audio begins and ends, in ms of all audio."""
        end = 0.0
        for wire in self.of("input_audio_buffer.append"):
            start, end = end, end + self.length(wire.event["audio"])
            self.appends.append((wire, start, end))

    def of(self, *kinds: str, **fields: Any) -> Iterator[Wire]:
        """Messages of these kinds whose fields are these, in order."""
        return (
            wire
            for wire in self.wires
            if wire.kind in kinds and all(wire.event.get(name) == value for name, value in fields.items())
        )

    def first(self, *kinds: str, after: int = -1, **fields: Any) -> Wire | None:
        """The first of them behind a position."""
        return next((wire for wire in self.of(*kinds, **fields) if wire.position > after), None)

    def about(self, item_id: str) -> list[Wire]:
        """All messages that name an item."""
        return [
            wire
            for wire in self.wires
            if item_id in {wire.event.get("item_id"), (wire.event.get("item") or {}).get("id")}
        ]

    def held(self, commit: Wire) -> list[tuple[Wire, float, float]]:
        """The appends since the buffer was emptied last."""
        emptied = self.of("input_audio_buffer.committed", "input_audio_buffer.cleared")
        since = max((one.position for one in emptied if one.position < commit.position), default=-1)
        return [append for append in self.appends if since < append[0].position < commit.position]

    def length(self, text: str) -> float:
        """Of audio in base64, in ms."""
        return (len(text) * 3 // 4 - text.count("=")) / self.bytes_a_ms

    def deltas(self, response_id: str) -> list[Wire]:
        """All deltas of a response."""
        return [
            wire for wire in self.wires if wire.kind.endswith(".delta") and wire.event.get("response_id") == response_id
        ]


def canonical(event: dict[str, Any]) -> str:
    """An event's GA name."""
    kind = str(event.get("type")).replace("response.audio", "response.output_audio")
    kind = kind.replace("response.text", "response.output_text")
    return kind.replace("conversation.item.created", "conversation.item.added")


def at(wire: Wire | None) -> int | None:
    return wire.at_ns if wire else None


def place(wire: Wire | None) -> int | None:
    return wire.position if wire else None


def took(start: Wire | None, end: Wire | None) -> Any:
    return seconds(at(start), at(end))


def clock(at_ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=round(at_ns / 1000))


def close(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)


def inner(value: Any, path: Iterable[str]) -> Any:
    for key in path:
        value = (value or {}).get(key)
    return value


def refused(book: Book) -> set[int]:
    """Positions of the client's messages that an error answered."""
    asked = [wire.position for wire in book.wires if wire.direction == "client"]
    return {asked[cause] for cause in book.call.truth.error_causes if cause is not None}


def cut_of(book: Book, item_id: str) -> tuple[int | None, int | None]:
    """When an item was interrupted, and when that stopped its playing; None: never."""
    for one in book.call.truth.interruptions:
        if one.item_id == item_id:
            at_ns = one.at_ns - book.call.truth.opened_ns
            stops = one.source == "client" or (book.detection or {}).get("interrupt_response", True) is not False
            return at_ns, at_ns if stops else None
    return None, None


def played(lengths: list[tuple[int, float]], end_ns: int) -> float:
    """How much was played up to a moment by a client that plays from the first delta on."""
    heard, free = 0.0, 0.0
    for at_ns, length in lengths:
        start = max(free, at_ns)
        heard += min(length, max(0.0, (end_ns - start) / 1e6))
        free = start + length * 1e6
    return heard
