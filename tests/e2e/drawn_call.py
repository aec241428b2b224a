"""A call of simulator and client, in one time: what each side says of it, and what the models make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Final

import pytest

from recorder.analytics.engine import Engine, run_models
from recorder.analytics.prices import Price
from recorder.analytics.registry import shown_models
from recorder.protocol.builder import EventBuilder
from recorder.protocol.envelope import RecordedEvent
from recorder.simulator.client import ClientLog, Message, play
from recorder.simulator.script import Script
from recorder.simulator.server import Simulator
from recorder.simulator.truth import Truth
from recorder.store.schema import events_table
from tests.e2e import virtual_time
from tests.e2e.agreement import Rows

OPENED_NS: Final = 1_800_000_000_000_000_000
FIRST_POSITION: Final = 2
"""Of the first message, after the records of the opening and the handshake."""

PRICES: Final = (
    Price(
        model="gpt-realtime",
        rank=0,
        provider="",
        source="drawn",
        input_text_usd=Decimal(4),
        input_audio_usd=Decimal(32),
        input_image_usd=Decimal(5),
        cached_text_usd=Decimal("0.4"),
        cached_audio_usd=Decimal("0.7"),
        cached_image_usd=Decimal("0.5"),
        output_text_usd=Decimal(16),
        output_audio_usd=Decimal(64),
    ),
    Price(
        model="gpt-4o-transcribe",
        rank=0,
        provider="",
        source="drawn",
        input_text_usd=Decimal("2.5"),
        input_audio_usd=Decimal(6),
        output_text_usd=Decimal(10),
    ),
    Price(model="whisper-1", rank=0, provider="", source="drawn", hour_usd=Decimal("0.36")),
)
"""USD per million tokens, and for an hour."""


@dataclass
class Call:
    """One call by both sides, and what the models make of it."""

    truth: Truth
    log: ClientLog
    tables: dict[str, Rows]

    def said(self, direction: str, *kinds: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Events of these types with their times, in order."""
        for message in self.log.messages:
            if message.direction == direction and message.event.get("type") in kinds:
                yield message.at_ns, message.event


async def _talk(script: Script) -> tuple[Truth, ClientLog]:
    async with Simulator(script, seed=5, ping_interval=None, compression=False) as simulator:
        log = await play(script, simulator.url)
        await simulator.idle()
        return simulator.truths[0], log


def _events(truth: Truth, messages: list[Message]) -> list[RecordedEvent]:
    builder = EventBuilder("drawn", OPENED_NS, truth.opened_ns)
    events = [builder.own("recorder.session_opened", '{"source": "proxy"}', truth.opened_ns)]
    events.append(builder.own("recorder.handshake_completed", '{"status": 101}', truth.opened_ns))
    for message in messages:
        data = message.data.encode() if isinstance(message.data, str) else message.data
        events.append(builder.message(message.direction, data, at_ns=message.at_ns))
    closed = json.dumps({"closed_by": "client", "close_code": 1000})
    return [*events, builder.own("recorder.session_closed", closed, truth.closed_ns)]


def call(script: Script) -> Call:
    truth, log = virtual_time.run(lambda: _talk(script))
    engine = _engine()
    engine.update(live=run_models(events_table(_events(truth, log.messages))))
    tables = {
        name: engine.query(f"SELECT * FROM {name} ORDER BY {', '.join(model.key)}").to_dicts()  # names are ours
        for name, model in shown_models().items()
    }
    return Call(truth, log, tables)


@cache
def _engine() -> Engine:
    return Engine(prices=PRICES)


def seconds(start_ns: int | None, end_ns: int | None) -> Any:
    """What a duration must be; None where one end is missing."""
    return None if start_ns is None or end_ns is None else pytest.approx((end_ns - start_ns) / 1e9, abs=2e-9)


def near(value: float | None) -> Any:
    """Milliseconds of audio, and of playing: exact but for how floats are added up."""
    return None if value is None else pytest.approx(value, abs=1e-3)
