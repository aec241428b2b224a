"""Decoding a session's journals: from its first record, or from where a sealed part ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from recorder.protocol import checkpoint
from recorder.protocol.append_runs import AppendRun
from recorder.protocol.batch import BatchDecoder, batches, one_by_one
from recorder.protocol.checkpoint import Checkpoint
from recorder.protocol.decode import SessionDecoder
from recorder.protocol.envelope import RecordedEvent
from recorder.store import encrypted
from recorder.store.journal import JournalTail, read_journal
from recorder.store.journal_files import JournalFile
from recorder.store.manifests import Manifest

_BEFORE_ANY_OTHER: Final = 0
"""The ring position of a session's first record: what comes next in a journal does not go on from there."""


def decode_journal(path: Path) -> Iterator[RecordedEvent]:
    """The events of a journal that holds a whole session, or all that there is of it so far."""
    decoder = BatchDecoder(SessionDecoder())
    for batch in batches(read_journal(path)):
        yield from one_by_one(decoder.feed(batch))


def resume_of(part: Manifest | None) -> Checkpoint | None:
    """Where decoding goes on after a sealed part; None for a session's start.

    Raises:
        StoreError: the manifest's checkpoint is damaged.
        EncryptionKeyError: it is encrypted with a key that is not held.
        NewerFormatError: a newer version wrote it.
    """
    return None if part is None else checkpoint.decode(encrypted.unseal(part.resume, part.name), part.name)


def resume_after(events: Iterable[RecordedEvent]) -> Checkpoint:
    """Where decoding goes on after events whose checkpoint is lost: with a gap, for what of a message had come is, too.

    Args:
        events: all of the session so far, in order; their audio is not needed.
    """
    return Checkpoint(_BEFORE_ANY_OTHER, SessionDecoder.after(events).state())


class JournalDecoder:
    """Decodes a session's journals, part after part, while the last one may still grow.

    Args:
        start: where to go on; None for the session's start.
    """

    def __init__(self, start: Checkpoint | None = None) -> None:
        self._decoder = SessionDecoder() if start is None else SessionDecoder.of(start.decoder)
        self._batches = BatchDecoder(self._decoder)
        self._ring_position = -1 if start is None else start.ring_position
        self._part = -1
        self._offset = 0

    @property
    def session_id(self) -> str | None:
        """Whose journals these are; None before the first record."""
        return self._decoder.session_id

    @property
    def closed(self) -> bool:
        """Whether the session's last record was read."""
        return self._decoder.closed

    def read(self, journal: JournalFile, *, finished: bool = False) -> Iterator[list[RecordedEvent | AppendRun]]:
        """The events that were added to a journal since the last call, in batches as `BatchDecoder.feed` gives them.

        To be read to the end.

        Args:
            journal: the same as in the last call, or the part after it.
            finished: nothing more will be written to it: what is no whole record is damage, and is said to be.

        Raises:
            FileNotFoundError: the journal was renamed or dropped.
            StoreError: it is no journal.
            NewerFormatError: a newer version wrote it.
        """
        if journal.part != self._part:
            self._part, self._offset = journal.part, 0
        tail = JournalTail(journal.path, salvage=finished, offset=self._offset, last_position=self._ring_position)
        try:
            for batch in tail.batches():
                yield self._batches.feed(batch)
        finally:
            self._offset, self._ring_position = tail.offset, tail.last_position
            tail.close()

    def read_all(self, journals: Sequence[JournalFile]) -> Iterator[list[RecordedEvent | AppendRun]]:
        """Likewise of a session's journals that are not sealed yet, in order; those read before are passed over."""
        for journal in journals:
            if journal.part >= self._part:
                yield from self.read(journal)

    def checkpoint(self) -> Checkpoint:
        """Where the part after the one that was read goes on."""
        return Checkpoint(self._ring_position, self._decoder.state())
