"""Sessions that are not closed yet, as tables: their sealed parts, and the journals after them, each decoded once.

Everything about a running session is provisional: its derived rows are recomputed when there is news, and forgotten
when the session is sealed. In memory are the rows of the journals that are not sealed yet, and, for
the models, which see whole sessions, those of the sealed parts, as long as all of them together keep below
`SEALED_CEILING_BYTES`: beyond, the longest are read from their files again when the models run. Of audio nothing is
kept; images and binary messages are what else could fill memory: a session that has more than `PARTS_CEILING_BYTES` of
them in its journals loses these rows in the view `parts` until they are sealed. Its messages stay readable: they come
from the files. A journal is open only while it is read.

Events are shown as they come. The models run over whole sessions, so a long one gets its rows anew when it has grown by
`GROWTH` or after `PATIENCE_SECONDS`, whichever is sooner, and when it ends; a short one with every event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from recorder.analytics.engine import run_models
from recorder.errors import StoreError
from recorder.pipeline.commit import opened_at_ns
from recorder.pipeline.decoding import JournalDecoder, resume_of
from recorder.protocol.append_runs import AppendRun
from recorder.protocol.batch import one_by_one
from recorder.protocol.envelope import RecordedEvent
from recorder.store import segments
from recorder.store.journal_files import JournalFile
from recorder.store.manifests import Manifest
from recorder.store.schema import EVENTS, PARTS
from recorder.store.segments import SegmentFile
from recorder.store.session_tables import SessionTables

log = logging.getLogger(__name__)

PARTS_CEILING_BYTES: Final = 16 << 20
SEALED_CEILING_BYTES: Final = 256 << 20
"""Some 800,000 events of running sessions."""

GROWTH: Final = 0.005
PATIENCE_SECONDS: Final = 2.0


class Unsealed(NamedTuple):
    """Where a session lies that is not closed.

    Attributes:
        parts: the manifests of its sealed parts, in order.
        journals: those that are not sealed yet, in order.
    """

    parts: Sequence[Manifest]
    journals: Sequence[JournalFile]


class LiveFacts(NamedTuple):
    """What is known of a running session without asking SQL."""

    server_session_id: str | None
    opened_at_ns: int | None


class LiveSession:
    """A session as far as it has been written. One whose journal is none stays without events.

    Args:
        data_dir: the store.
        session_id: whose.
        place: where it lies.
        before: the same session, when it had fewer sealed parts.

    Attributes:
        parts: the manifests of its sealed parts.
        journals: those after them.
        base: how many events the sealed parts have.
        tables: its events after them.
        derived: rows of each model, as of its first `derived_count` events.
    """

    def __init__(self, data_dir: Path, session_id: str, place: Unsealed, before: LiveSession | None = None) -> None:
        self.parts, self.journals = place
        self.tables = SessionTables(session_id, audio=False)
        self.derived: dict[str, Any] = {}
        self.derived_count = 0
        self._derived_at = -PATIENCE_SECONDS
        self._data_dir = data_dir
        self._decoder: JournalDecoder | None = None
        self._sealed: Any = None  # a pyarrow table
        if before is not None:
            self._take_over(before)
        self.base: int = sum(part.sessions[session_id]["event_count"] for part in self.parts)
        try:
            self._decoder = JournalDecoder(resume_of(self.parts[-1] if self.parts else None))
        except StoreError as error:
            log.error("%s", error)  # noqa: TRY400 - the message says it all

    @property
    def count(self) -> int:
        """How many events there are."""
        return self.base + self.tables.count

    @property
    def files(self) -> list[SegmentFile]:
        """The data files of its sealed parts."""
        return [file for part in self.parts for file in part.files]

    @property
    def sealed_bytes(self) -> int:
        """What the rows of its sealed parts take in memory."""
        return 0 if self._sealed is None else int(self._sealed.nbytes)

    def advance(self, journals: Sequence[JournalFile]) -> bool:
        """Decode what was added to the journals; whether there was anything.

        What cannot be decoded ends the session's live view where it stands; the sealer reports it.

        Raises:
            FileNotFoundError: a journal was renamed or dropped since it was listed.
        """
        self.journals = journals
        if self._decoder is None:
            return False
        events: list[RecordedEvent | AppendRun] = []
        try:
            for batch in self._decoder.read_all(journals):
                events += batch
        except FileNotFoundError:
            raise
        except StoreError as error:
            log.error("%s", error)  # noqa: TRY400 - the message says it all
            self._decoder = None
        except Exception:
            log.exception("session %s cannot be followed any further", self.tables.session_id)
            self._decoder = None
        finally:
            self.tables.add(events, parts=self.tables.parts_bytes <= PARTS_CEILING_BYTES)
        if self.tables.parts_bytes > PARTS_CEILING_BYTES:
            self.tables.drop_parts()
        return bool(events)

    def events(self) -> Any:
        """All events so far: what the models see."""
        if not self.parts:
            return self.tables.events()
        if self._sealed is None:
            self._sealed = segments.read_events(self._data_dir, self.files)
        return segments.concat([self._sealed, self.tables.events()])

    def between(self, after: int, until: int | None) -> Any:
        """The events whose position is greater than `after` and not greater than `until`."""
        rows = segments.between(self.tables.events(), after, until)
        if after >= self.base - 1:
            return rows
        sealed = segments.read_events(self._data_dir, self.files, after=after, until=until)
        return segments.concat([sealed, rows])

    def recorded(self, after: int, until: int | None) -> Iterator[RecordedEvent]:
        """Of those events the ones that are not sealed yet, with their parts, decoded anew.

        Raises:
            FileNotFoundError: a journal was renamed or dropped.
        """
        start = max(0, after + 1 - self.base)
        end = (self.count if until is None else min(until + 1, self.count)) - self.base
        if end <= start:
            return iter(())
        decoder = JournalDecoder(resume_of(self.parts[-1] if self.parts else None))
        events = chain.from_iterable(map(one_by_one, decoder.read_all(self.journals)))
        return iter(list(islice(events, start, end)))

    def is_due(self) -> bool:
        """Whether the models shall run again."""
        new = self.count - self.derived_count
        waited = time.monotonic() - self._derived_at >= PATIENCE_SECONDS
        ended = self._decoder is not None and self._decoder.closed
        return new > 0 and (new >= GROWTH * self.count or waited or ended)

    def note_derived(self) -> None:
        """The models are about to run over all events so far."""
        self.derived_count, self._derived_at = self.count, time.monotonic()

    def facts(self) -> LiveFacts:
        """What it can be called by."""
        session: dict[str, Any] = next(segments.rows(self.derived["sessions"]), {}) if self.derived else {}
        session_id = self.tables.session_id
        opened = self.parts[0].sessions[session_id]["opened_at_ns"] if self.parts else opened_at_ns(self.tables)
        return LiveFacts(session.get("server_session_id"), opened)

    def forget_sealed(self) -> None:
        """Let the rows of the sealed parts go; they are read again when they are needed."""
        self._sealed = None

    def _take_over(self, before: LiveSession) -> None:
        self.derived, self.derived_count = before.derived, before.derived_count
        self._derived_at = before._derived_at
        if before._sealed is not None or not before.parts:
            new = [file for part in self.parts[len(before.parts) :] for file in part.files]
            known = [] if before._sealed is None else [before._sealed]
            self._sealed = segments.concat([*known, segments.read_events(self._data_dir, new)])


class LiveSessions:
    """All sessions of a store that are not closed. Not safe for use from several threads.

    Args:
        data_dir: the store.

    Attributes:
        sessions: by id; those that have no event yet are not among them.
    """

    def __init__(self, data_dir: Path) -> None:
        self.sessions: dict[str, LiveSession] = {}
        self._data_dir = data_dir
        self._followed: dict[str, LiveSession] = {}
        self._no_rows = {"events": EVENTS.empty_table(), "parts": PARTS.empty_table()}

    def refresh(self, places: Mapping[str, Unsealed]) -> bool:
        """Follow these sessions and no others; whether any row changed.

        Raises:
            FileNotFoundError: a journal was renamed or dropped since it was listed; list again.
        """
        changed = False
        for session_id in self._followed.keys() - places.keys():
            del self._followed[session_id]
        for session_id, place in places.items():
            known = self._followed.get(session_id)
            if known is None or len(known.parts) != len(place.parts):
                known = self._followed[session_id] = LiveSession(self._data_dir, session_id, place, known)
                changed = True
            changed |= known.advance(place.journals)
        due = [session for session in self._followed.values() if session.is_due()]
        _derive(due)
        self._keep_below_ceiling()
        was = self.sessions.keys()
        self.sessions = {key: session for key, session in self._followed.items() if session.count}
        return changed or bool(due) or was != self.sessions.keys()

    def _keep_below_ceiling(self) -> None:
        total = sum(session.sealed_bytes for session in self._followed.values())
        for session in sorted(self._followed.values(), key=lambda one: one.sealed_bytes, reverse=True):
            if total <= SEALED_CEILING_BYTES:
                return
            total -= session.sealed_bytes
            session.forget_sealed()

    def data_sets(self) -> dict[str, Any]:
        """Rows of all sessions by view, but for those of sealed parts, which lie in their files.

        `events`, `parts`, and each model that ever had any; empty without sessions.
        """
        sessions = list(self.sessions.values())
        tables = {
            "events": [session.tables.events() for session in sessions],
            "parts": [session.tables.parts() for session in sessions],
        }
        for session in sessions:
            for name, rows in session.derived.items():
                self._no_rows.setdefault(name, rows.slice(0, 0))
                tables.setdefault(name, []).append(rows)
        return {name: segments.concat([empty, *tables.get(name, ())]) for name, empty in self._no_rows.items()}

    def close(self) -> None:
        """Forget all sessions."""
        self._followed.clear()
        self.sessions = {}


def _derive(sessions: Sequence[LiveSession]) -> None:
    """Recompute the models' rows: all at once, or, where one session breaks a model, each for itself."""
    if not sessions:
        return
    ids = [session.tables.session_id for session in sessions]
    for session in sessions:
        session.note_derived()
    try:
        derived = run_models(segments.concat(session.events() for session in sessions))
    except Exception:
        if len(sessions) > 1:
            for session in sessions:
                _derive([session])
            return
        log.exception("no model rows for the running session %s", ids[0])
        return
    for name, table in derived.items():
        for session_id, rows in segments.split(table, ids).items():
            sessions[ids.index(session_id)].derived[name] = rows
