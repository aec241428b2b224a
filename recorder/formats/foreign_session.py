"""A foreign recording as a session: its id, its clock, its events. See docs/formats.md for the rules.

Its messages are read twice: once to check every line, to learn what its times mean and to name the session after its
content; once more to make events. So nothing of a file that is wrong anywhere is ever stored.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from recorder import __version__
from recorder.errors import ImportFormatError
from recorder.formats.foreign_jsonl import CLOSE, ForeignMessage, read_messages
from recorder.formats.times import Time, format_iso_ns
from recorder.protocol.builder import EventBuilder
from recorder.protocol.control_frames import parse_close
from recorder.protocol.envelope import SESSION_CLOSED, SESSION_OPENED, RecordedEvent

_SECOND: Final = 10**9
_MILLISECOND: Final = 10**6
_OWN_START_NS: Final = 3600 * _SECOND
"""A first time above this does not count from the session's start: it is some machine's uptime, say."""

_CLOSED_BY: Final = {"client": "client", "server": "upstream", None: None}


class Place(Protocol):
    """Where in a file something stands."""

    def error(self, problem: str) -> ImportFormatError:
        """The error that says what is wrong there."""


Messages = Callable[[], Iterable[tuple[Place, ForeignMessage]]]
"""Gives a session's messages in order, as often as it is called."""


class ForeignSession:
    """One session of somebody else's recording.

    Args:
        path: the file.
        messages: what of it is the session; its lines if None.
        facts: what else is known of it, for `recorder.session_opened`; free of secrets.

    Attributes:
        session_id: a UUID version 8: the digest of who said what, and when. Names, line ends and blank lines of the
            file do not count.

    Raises:
        ImportFormatError: a line is wrong, or there is none, or nothing of it is known.
    """

    def __init__(self, path: Path, messages: Messages | None = None, facts: dict[str, Any] | None = None) -> None:
        self._path = path
        self._messages: Messages = messages or (lambda: read_messages(path))
        self._facts = facts or {}
        self._clock = _Clock()
        self.session_id = self._scan()

    def _scan(self) -> str:
        digest, count = hashlib.sha256(b"recorder import 1"), 0
        guessed: Place | None = None
        told = False
        for place, message in self._messages():
            told = told or (message.direction is not None and not message.guessed)
            guessed = guessed or (place if message.guessed else None)
            self._clock.note(place, message.time)
            head = (
                message.direction,
                message.opcode,
                message.time,
                None if message.data is None else len(message.data),
            )
            digest.update(repr(head).encode())
            digest.update(message.data or b"")
            count += 1
        if not count:
            raise ImportFormatError(str(self._path), None, "no messages in it")
        if guessed and not told:
            raise guessed.error("no direction, and no type in this file tells one: is it a recording?")
        return str(uuid.UUID(int=_as_version_8(int.from_bytes(digest.digest()[:16]))))

    def events(self) -> Iterator[RecordedEvent]:
        """The session's events, from `recorder.session_opened` to `recorder.session_closed`."""
        clock = self._clock
        clock.start()
        builder = EventBuilder(self.session_id, clock.opened_at_ns, 0)
        yield builder.own(SESSION_OPENED, _json(self._opened()), 0 if clock.is_timed else None)
        end = _End()
        for _, message in self._messages():
            at_ns = clock.since_opening_ns(message.time)
            end.note(message)
            if message.direction is not None and message.data is not None:
                event = builder.message(message.direction, message.data, opcode=message.opcode, at_ns=at_ns)
                event.recorded_at_ns = message.time.absolute_ns if message.time else None
                yield event
        closed = builder.own(SESSION_CLOSED, _json(end.facts()), clock.last_ns)
        yield closed

    def _opened(self) -> dict[str, Any]:
        opened_at_ns = self._clock.opened_at_ns
        return {
            "session_id": self.session_id,
            "source": "import",
            "opened_at": None if opened_at_ns is None else format_iso_ns(opened_at_ns),
            "opened_at_ns": opened_at_ns,
            "monotonic_ns": 0,
            "labels": {},
            "recorder_version": __version__,
            "file": self._path.name.encode(errors="replace").decode(),
            **self._facts,
        }


def _as_version_8(number: int) -> int:
    """Set the version and variant bits of RFC 9562 section 5.8."""
    return number & ~(0xF << 76) & ~(0x3 << 62) | (0x8 << 76) | (0x2 << 62)


def _json(facts: dict[str, Any]) -> str:
    return msgspec.json.encode(facts).decode()


class _Clock:
    """Learns from all times of a file what they mean, then turns them into nanoseconds since the opening.

    Attributes:
        opened_at_ns: the first absolute time; None where there are none.
        is_timed: whether any line has a time.
        last_ns: the last one since the opening, or None.
    """

    def __init__(self) -> None:
        self.opened_at_ns: int | None = None
        self.is_timed = False
        self.last_ns: int | None = None
        self._first: Time | None = None
        self._unit = _MILLISECOND
        self._zero_ns = 0

    def note(self, place: Place, time: Time | None) -> None:
        """First reading: take note of a message's time."""
        if time is None:
            return
        if self._first is None:
            self._first, self.opened_at_ns, self.is_timed = time, time.absolute_ns, True
        if (time.absolute_ns is None) != (self.opened_at_ns is None):
            raise place.error("some times of this file are dates and others count from its start")
        if time.is_fraction:
            self._unit = _SECOND

    def start(self) -> None:
        """Second reading: from here on, in order."""
        self.last_ns = None
        if self._first is not None and self.opened_at_ns is None:
            first_ns = self._first.since_start_ns(self._unit)
            self._zero_ns = first_ns if first_ns > _OWN_START_NS else 0

    def since_opening_ns(self, time: Time | None) -> int | None:
        """Nanoseconds since the opening; never less than the last one, since wall clocks step."""
        if time is None:
            return None
        if time.absolute_ns is not None and self.opened_at_ns is not None:
            now_ns = time.absolute_ns - self.opened_at_ns
        else:
            now_ns = time.since_start_ns(self._unit) - self._zero_ns
        self.last_ns = max(now_ns, self.last_ns or 0)
        return self.last_ns


class _End:
    """What a file tells about its session's end: nothing, unless it has a close line."""

    def __init__(self) -> None:
        self._bytes = {"client": 0, "server": 0}
        self._close: dict[str, Any] = {"closed_by": None, "close_code": None, "close_reason": None}
        self._is_closed = False

    def note(self, message: ForeignMessage) -> None:
        """Take in one message."""
        if message.opcode != CLOSE:
            self._bytes[message.direction or "client"] += len(message.data or b"")
        elif not self._is_closed:
            self._is_closed = True
            if message.data is None:
                self._close["closed_by"] = "lost"
            else:
                code, reason = parse_close(message.data)
                by = _CLOSED_BY[message.direction]
                self._close = {"closed_by": by, "close_code": code, "close_reason": reason}

    def facts(self) -> dict[str, Any]:
        """The payload of `recorder.session_closed`."""
        sizes = {"client_bytes": self._bytes["client"], "server_bytes": self._bytes["server"]}
        return {**self._close, "status": None, "error": None, **sizes}
