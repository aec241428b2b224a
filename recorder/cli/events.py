"""A session's events as the commands want them, and the moments that users name in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from recorder.errors import EventNotFoundError, UsageError
from recorder.projection import payload as json
from recorder.projection.summary import summarize
from recorder.protocol.envelope import RecordedEvent
from recorder.protocol.event_types import is_drift

if TYPE_CHECKING:
    from recorder.pipeline.catalog import Catalog


def load_events(catalog: Catalog, session_id: str) -> list[RecordedEvent]:
    """A session's events without their audio, which a terminal has no use for."""
    frame = catalog.events(session_id)
    frame = frame.with_columns(recorded_at_ns=frame["recorded_at"].dt.epoch("ns")).drop("recorded_at")
    return [RecordedEvent(**row) for row in frame.iter_rows(named=True)]


def is_timed(events: list[RecordedEvent]) -> bool:
    """Whether any event carries a time."""
    return any(event.monotonic_ns is not None for event in events)


def event_object(event: RecordedEvent) -> dict[str, object]:
    """An event for `--json`: its columns, a summary, and the payload as an object where it is one.

    Large audio and images are left out of the payload; `recorder export` gives them.
    """
    at_ns = event.monotonic_ns
    return {
        "session_id": event.session_id,
        "position": event.position,
        "direction": event.direction,
        "recorded_at": None if event.recorded_at_ns is None else iso_time(event.recorded_at_ns),
        "offset_seconds": None if at_ns is None else at_ns / 1e9,
        "type": event.type,
        "unknown": is_drift(event.type, event.direction, event.opcode),
        "event_id": event.event_id,
        "response_id": event.response_id,
        "item_id": event.item_id,
        "call_id": event.call_id,
        "audio_ms": event.audio_ms,
        "wire_bytes": event.wire_bytes,
        "redacted": event.redacted,
        "problem": event.problem,
        "summary": summarize(event),
        "payload": json.read(event.payload) or event.payload,
    }


def iso_time(unix_ns: int) -> str:
    """ISO 8601 in UTC with all nine digits."""
    seconds, rest = divmod(unix_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


class Moment(msgspec.Struct, frozen=True):
    """A moment of a session that a user named: by position, by seconds since it opened, or by the time on the clock."""

    position: int | None = None
    seconds: float = 0.0
    at_ns: int | None = None


def parse_moment(text: str) -> Moment:
    """Read what `--at` and `--from` take: `42` is a position, `+3.5` seconds, `2026-01-31T12:00:05.5` a time.

    Raises:
        UsageError: it is none of these.
    """
    if re.fullmatch(r"[0-9]{1,18}", text):
        return Moment(position=int(text))
    if re.fullmatch(r"\+[0-9]{1,9}(\.[0-9]*)?s?", text):
        return Moment(seconds=float(text.strip("+s")))
    try:
        if re.match(r"\d{4}-\d\d-\d\d[T ]\d", text):
            time = datetime.fromisoformat(text)
            since_1970 = (time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
            return Moment(at_ns=since_1970 // timedelta(microseconds=1) * 1000)
    except (ValueError, OverflowError):
        pass
    raise UsageError(
        f"{text!r} is no moment of a session",
        hint="Give a position (42), seconds since its start (+3.5), or a time (2026-01-31T12:00:05.5, UTC if it names "
        "no zone).",
    )


def position_at(moment: Moment, events: Sequence[RecordedEvent]) -> int:
    """The last position at or before a moment.

    Args:
        moment: what the user named.
        events: the session's events, at least one.

    Raises:
        EventNotFoundError: the session has no such position.
        UsageError: a time was asked of a session without times.
    """
    if moment.position is not None:
        if moment.position > events[-1].position:
            raise EventNotFoundError(events[-1].session_id, moment.position)
        return moment.position
    if moment.at_ns is not None:
        limit, times = float(moment.at_ns), [(event.position, event.recorded_at_ns) for event in events]
    else:
        limit, times = moment.seconds * 1e9, [(event.position, event.monotonic_ns) for event in events]
    if all(time is None for _, time in times):
        raise UsageError("this session carries no times", hint="Give a position, as `recorder show` lists them.")
    return max((position for position, time in times if time is not None and time <= limit), default=times[0][0])
