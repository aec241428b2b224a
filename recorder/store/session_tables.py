"""A session's rows while they are collected: Arrow tables of its events, before they are files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recorder.protocol.append_runs import AppendRun, joined
from recorder.protocol.envelope import RecordedEvent
from recorder.store.audio_blocks import BlockWriter
from recorder.store.schema import APPEND_TYPES, EVENTS, PARTS, events_table

_BATCH: Final = 8_192


class SessionTables:
    """Collects one session's events as Arrow tables, so that the Python objects can go.

    Args:
        session_id: whose.
        audio: whether to keep audio; without, `audio()` is not to be asked, and all else is the same.

    Attributes:
        session_id: whose.
        first: the first event added, without parts; None before.
        count: how many events there are.
        messages: of those, what client and server sent, by direction.
        parts_bytes: how much their parts hold, audio aside.
    """

    def __init__(self, session_id: str, *, audio: bool = True) -> None:
        self.session_id = session_id
        self.first: RecordedEvent | None = None
        self.count = 0
        self.messages: Counter[str] = Counter()
        self.parts_bytes = 0
        self._rows: dict[str, list[pa.Table]] = {"events": [], "appends": []}
        self._in_order: pa.Table | None = None
        self._parts: list[pa.Table] = []
        self._blocks = BlockWriter(session_id, keep=audio)

    def add(self, events: Sequence[RecordedEvent | AppendRun], *, parts: bool = True) -> None:
        """Add events; of each side in the order of their positions. `parts=False` leaves their binary values out."""
        if not events:
            return
        if self.first is None:
            first = events[0]
            self.first = msgspec.structs.replace(
                next(first.events()) if isinstance(first, AppendRun) else first, parts=()
            )
        for event in events:
            direction, count = (
                (event.pattern.direction, len(event)) if isinstance(event, AppendRun) else (event.direction, 1)
            )
            self.count += count
            if direction != "recorder":
                self.messages[direction] += count
        events = joined(events)  # a table of few long pieces is made, and written, in half the time
        for data_set, items in _of_data_set(events).items():
            self._rows[data_set].append(events_table(items))
        self._in_order = None
        if parts:
            self._parts.append(self._blocks.parts(events))
            self.parts_bytes += self._parts[-1].nbytes

    def events(self) -> pa.Table:
        """All events so far by position, audio appends included: the relation that models see."""
        if self._in_order is None:
            self._in_order = by_position(pa.concat_tables([self._of("events"), self._of("appends")]).combine_chunks())
        return self._in_order

    def _of(self, data_set: str) -> pa.Table:
        """The rows of `events` or `appends` so far, by position."""
        self._rows[data_set] = [by_position(pa.concat_tables([EVENTS.empty_table(), *self._rows[data_set]]))]
        return self._rows[data_set][0]

    def parts(self) -> pa.Table:
        """The parts of all events so far, by position."""
        return by_position(pa.concat_tables([PARTS.empty_table(), *self._parts]))

    def audio(self) -> pa.Table:
        """The audio of all events so far, in blocks."""
        return self._blocks.blocks()

    def drop_parts(self) -> None:
        """Forget the parts; `parts_bytes` still says how much they held."""
        self._parts.clear()

    def data_sets(self) -> dict[str, pa.Table]:
        """The tables as they are stored: `events`, `appends`, `parts`, `audio`."""
        events = {data_set: self._of(data_set) for data_set in self._rows}
        return events | {"parts": self.parts(), "audio": self.audio()}


def by_data_set(events: pa.Table) -> dict[str, pa.Table]:
    """Events as they are stored: `events` and `appends`."""
    is_append = pc.fill_null(pc.is_in(events["type"], value_set=pa.array(sorted(APPEND_TYPES))), fill_value=False)
    return {"events": events.filter(pc.invert(is_append)), "appends": events.filter(is_append)}


def by_position(rows: pa.Table) -> pa.Table:
    """Rows of one session in the order of their positions, and those of one position as they were."""
    positions = rows["position"].to_numpy()
    if bool((positions[1:] >= positions[:-1]).all()):
        return rows
    return rows.take(pa.array(np.argsort(positions, kind="stable")))


def _of_data_set(events: Sequence[RecordedEvent | AppendRun]) -> dict[str, list[RecordedEvent | AppendRun]]:
    """Events by the data set in which their rows go."""
    found: dict[str, list[RecordedEvent | AppendRun]] = {}
    for event in events:
        kind = event.pattern.type if isinstance(event, AppendRun) else event.type
        found.setdefault("appends" if kind in APPEND_TYPES else "events", []).append(event)
    return found


def collect(session_id: str, events: Iterable[RecordedEvent | AppendRun]) -> SessionTables:
    """A session's events as tables, in batches, so that memory holds their bytes once."""
    tables = SessionTables(session_id)
    batch: list[RecordedEvent | AppendRun] = []
    count = 0
    for event in events:
        batch.append(event)
        count += len(event) if isinstance(event, AppendRun) else 1
        if count >= _BATCH:
            tables.add(batch)
            batch, count = [], 0
    tables.add(batch)
    return tables
