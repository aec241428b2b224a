"""Many records at once: the same events as one by one, several times as fast."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from recorder.protocol.append_runs import MIN_ROWS, AppendReader, AppendRun, Matches
from recorder.protocol.decode import SessionDecoder
from recorder.protocol.envelope import Record, RecordedEvent, RecordKind

_BATCH: Final = 1_024
_BATCH_BYTES: Final = 4 << 20
_FIRST: Final = 32
"""So many records show what a client's appends look like."""

_Place = tuple[Matches, int] | None


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
        """What the decoder gives for each of these records, with like appends in runs."""
        if len(records) > _FIRST and not self._appends.knows_any:
            return [*self.feed(records[:_FIRST]), *self._feed(records[_FIRST:])]
        return self._feed(records)

    def _feed(self, records: Sequence[Record]) -> list[RecordedEvent | AppendRun]:
        decoded: list[RecordedEvent | AppendRun] = []
        places = self._appends.read(records)
        index = 0
        while index < len(records):
            place = places[index]
            if place is not None and self._decoder.expects_a_message:
                end = _end_of_run(places, index)
                decoded += self._run(*place, records[index:end])
                index = end
            else:
                decoded += self._feed_one(records[index])
                index += 1
        return decoded

    def _run(self, matches: Matches, row: int, records: Sequence[Record]) -> Sequence[RecordedEvent | AppendRun]:
        run = self._decoder.appends(matches, range(row, row + len(records)), [record.at_ns for record in records])
        return (run,) if len(run) >= MIN_ROWS else tuple(run.events())

    def _feed_one(self, record: Record) -> list[RecordedEvent]:
        expected = record.kind == RecordKind.CLIENT_BYTES and self._decoder.expects_a_message
        events = self._decoder.feed(record)
        if expected and len(events) == 1 and self._decoder.expects_a_message:
            self._appends.learn(record.data, events[0])
        return events


def one_by_one(decoded: Iterable[RecordedEvent | AppendRun]) -> Iterator[RecordedEvent]:
    """The events, those of runs too."""
    for item in decoded:
        if isinstance(item, AppendRun):
            yield from item.events()
        else:
            yield item


def _end_of_run(places: Sequence[_Place], start: int) -> int:
    """Up to where places follow on each other as rows of one match."""
    first, end = places[start], start + 1
    assert first is not None
    matches, next_row = first[0], first[1] + 1
    while end < len(places) and (place := places[end]) is not None and place[0] is matches and place[1] == next_row:
        end, next_row = end + 1, next_row + 1
    return end
