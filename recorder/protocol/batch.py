"""Many records at once: the same events as one by one, several times as fast."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Final

from recorder.protocol.append_runs import MIN_ROWS, AppendReader, AppendRun, Matches
from recorder.protocol.builder import EventBuilder
from recorder.protocol.decode import SessionDecoder
from recorder.protocol.envelope import Record, RecordedEvent, RecordKind

_BATCH: Final = 1_024
_BATCH_BYTES: Final = 4 << 20
_FIRST: Final = 32
"""So many records show what a client's appends look like."""

_Decoded = list[RecordedEvent | AppendRun]
_SERVER_BYTES: Final = int(RecordKind.SERVER_BYTES)


def batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records in batches that are worth feeding at once, and bounded in memory."""
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.data)
        if len(batch) == _BATCH or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


class BatchDecoder:
    """Feeds a session's decoder with batches of records.

    Args:
        decoder: may be fed with single records in between.
    """

    def __init__(self, decoder: SessionDecoder) -> None:
        self._decoder = decoder
        self._appends = AppendReader()

    def feed(self, records: Sequence[Record]) -> list[RecordedEvent | AppendRun]:
        """What the decoder gives for these records: events by position, but a run comes after those in its midst."""
        if len(records) > _FIRST and not self._appends.knows_any:
            return [*self.feed(records[:_FIRST]), *self._feed(records[_FIRST:])]
        return self._feed(records)

    def _feed(self, records: Sequence[Record]) -> list[RecordedEvent | AppendRun]:
        decoded: list[RecordedEvent | AppendRun] = []
        run: _OpenRun | None = None
        index = 0
        for stretch in self._appends.read(records):
            while index < stretch.stop:
                if index >= stretch.start and (run or self._decoder.expects_a_message):
                    run = self._append(decoded, run, stretch.matches, stretch.row + index - stretch.start)
                    run.add([record.at_ns for record in records[index : stretch.stop]])
                    index = stretch.stop
                else:
                    run = self._other(decoded, run, records[index])
                    index += 1
        for record in records[index:]:
            run = self._other(decoded, run, record)
        return decoded + (run.close() if run else [])

    def _append(self, decoded: _Decoded, run: _OpenRun | None, matches: Matches, row: int) -> _OpenRun:
        """The run in which appends go that are rows of a match from this one on."""
        if run and run.goes_on_with(matches, row):
            return run
        decoded += run.close() if run else ()
        return _OpenRun(self._decoder.builder, matches, row)

    def _other(self, decoded: _Decoded, run: _OpenRun | None, record: Record) -> _OpenRun | None:
        """Feed a record that is no known append, and give the run if it may go on."""
        if run and record.kind != _SERVER_BYTES:  # these change nothing for the client's messages but formats
            decoded += run.close()
            run = None
        decoded += self._feed_one(record)
        if run and run.is_outdated:
            decoded += run.close()
            run = None
        return run

    def _feed_one(self, record: Record) -> list[RecordedEvent]:
        expected = record.kind == RecordKind.CLIENT_BYTES and self._decoder.expects_a_message
        events = self._decoder.feed(record)
        if expected and len(events) == 1 and self._decoder.expects_a_message:
            self._appends.learn(record.data, events[0])
        return events


class _OpenRun:
    """Appends that follow on each other, but for what the server says in between."""

    def __init__(self, builder: EventBuilder, matches: Matches, row: int) -> None:
        self._builder = builder
        self._bytes_per_ms = builder.formats.input
        self._matches = matches
        self._first_row = self._next_row = row
        self._positions: list[int] = []
        self._at_ns: list[int] = []

    def goes_on_with(self, matches: Matches, row: int) -> bool:
        return matches is self._matches and row == self._next_row

    @property
    def is_outdated(self) -> bool:
        """Whether the server has changed what audio lasts."""
        return self._builder.formats.input != self._bytes_per_ms

    def add(self, at_ns: Sequence[int]) -> None:
        self._next_row += len(at_ns)
        self._positions += self._builder.claim(len(at_ns))
        self._at_ns += at_ns

    def close(self) -> list[RecordedEvent | AppendRun]:
        rows = range(self._first_row, self._next_row)
        run = self._builder.appends(self._matches, rows, self._positions, self._at_ns, self._bytes_per_ms)
        return [run] if len(run) >= MIN_ROWS else [*run.events()]


def one_by_one(decoded: Iterable[RecordedEvent | AppendRun]) -> list[RecordedEvent]:
    """All events of one batch, those of runs too, in the order of their positions."""
    items = ([item] if isinstance(item, RecordedEvent) else item.events() for item in decoded)
    return sorted(chain.from_iterable(items), key=attrgetter("position"))
