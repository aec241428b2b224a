"""Sessions written as transcripts: one line a message."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from recorder.protocol.builder import EventBuilder
from recorder.protocol.envelope import RecordedEvent

Session = Callable[..., list[RecordedEvent]]


@pytest.fixture(scope="session")
def session() -> Session:
    """Makes events of lines `(direction, message)` or `(direction, message, seconds)`; position 0 is the opening."""

    def build(*lines: tuple[Any, ...]) -> list[RecordedEvent]:
        timed = any(len(line) > 2 for line in lines)
        builder = EventBuilder("session-1", 1_700_000_000_000_000_000 if timed else None, 0)
        events = [builder.own("recorder.session_opened", "{}", 0 if timed else None)]
        for direction, message, *at in lines:
            at_ns = round(at[0] * 1e9) if at else None
            if direction == "recorder":
                events.append(builder.own(message["type"], json.dumps(message), at_ns))
            else:
                data = message if isinstance(message, bytes) else json.dumps(message).encode()
                events.append(builder.message(direction, data, at_ns=at_ns))
        return events

    return build
