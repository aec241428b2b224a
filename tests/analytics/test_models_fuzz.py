"""Whatever the wire brings, the models give rows: no payload may stop a seal, and no rule may break."""

from __future__ import annotations

import json
import random
from typing import Any

import pyarrow as pa
import pytest

from recorder.analytics.engine import run_checks, run_models
from recorder.protocol.event_types import VOCABULARY
from recorder.store import schema

SESSIONS = 200
IDS: list[Any] = [None, "", "a", "b", "c", 7, {}, "root"]
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1e300,
    12.5,
    1500,
    "",
    "text",
    "1500",
    [],
    {},
    [[]],
    {"type": 3},
    "none",
    "completed",
]
WIRE_TYPES = [kind for kind in VOCABULARY if kind.direction != "recorder"]
KEYS = (
    "event_id", "response_id", "item_id", "call_id", "previous_item_id", "delta", "transcript", "text", "arguments",
    "audio_start_ms", "audio_end_ms", "usage", "status", "status_details", "output", "conversation", "conversation_id",
    "id", "role", "type", "content", "name", "code", "message", "param", "voice", "model", "turn_detection",
)  # fmt: skip


def _value(rng: random.Random, depth: int = 0) -> Any:
    if depth < 3 and rng.random() < 0.5:
        return {key: _value(rng, depth + 1) for key in rng.sample(KEYS, 5)}
    return rng.choice(IDS if rng.random() < 0.5 else VALUES)


def _payload(rng: random.Random, event_type: str) -> str | None:
    if rng.random() < 0.1:
        return rng.choice([None, "", "no JSON", "[1]", '"text"', "{", "null", '{"a":' * 50])
    event = {key: _value(rng) for key in rng.sample(KEYS, 6)}
    about = rng.choice(["response", "item", "session", "error"])
    return json.dumps({"event_id": rng.choice(IDS), about: _value(rng), **event, "type": event_type})


def _events(seed: int) -> pa.Table:
    rng = random.Random(seed)
    sent_by = {"client": ["client"], "server": ["server"], "both": ["client", "server"]}
    rows: list[dict[str, Any]] = []
    for session in range(SESSIONS):
        at_ns: int | None = None if session % 4 == 0 else 0
        for position in range(rng.randrange(1, 60)):
            kind = rng.choice(WIRE_TYPES)
            at_ns = None if at_ns is None else at_ns + rng.randrange(300_000_000)
            text = [value if isinstance(value, str) else None for value in rng.choices(IDS, k=5)]
            names = ("event_id", "response_id", "item_id", "call_id", "previous_item_id")
            rows.append(
                dict.fromkeys(schema.EVENTS.names)
                | dict(zip(names, text, strict=True))
                | {
                    "session_id": f"session-{session}",
                    "position": position,
                    "direction": rng.choice(sent_by[kind.direction]),
                    "monotonic_ns": at_ns,
                    "type": None if rng.random() < 0.03 else kind.name,
                    "payload": _payload(rng, kind.name),
                    "audio_ms": rng.choice([None, 20.0, 333.3]) if "audio" in kind.name else None,
                    "wire_bytes": 0,
                    "redacted": False,
                }
            )
    return pa.Table.from_pylist(rows, schema=schema.EVENTS)


@pytest.mark.parametrize("seed", range(3))
def test_random_events_of_every_type_give_rows_that_keep_the_rules(seed: int) -> None:
    events = _events(seed)
    tables = run_models(events)
    assert tables["sessions"].num_rows == SESSIONS
    assert run_checks(tables) == {}
