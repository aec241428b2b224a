"""Sessions that have a journal but no manifest yet, as tables: each journal's bytes are read and decoded once.

Everything about a running session is provisional: it is held in memory, recomputed when there is news, and forgotten
when the session is sealed. Memory grows with the session, by some 300 bytes an event plus its text. Binary values
(audio) are what would fill it: a session that has more than `PARTS_CEILING_BYTES` of them loses its rows in the view
`parts` until it is sealed. Its messages stay readable: they come from the journal.

Events are shown as they come. The models run over whole sessions, so a long one gets its rows anew when it has grown by
`GROWTH` or after `PATIENCE_SECONDS`, whichever is sooner, and when it ends; a short one with every event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from recorder.analytics.engine import run_models
from recorder.errors import StoreError
from recorder.pipeline.seal import opened_at_ns
from recorder.protocol.decode import SessionDecoder
from recorder.store import segments
from recorder.store.journal import JournalFile, JournalTail
from recorder.store.schema import EVENTS, PARTS
from recorder.store.segments import SessionTables

log = logging.getLogger(__name__)

PARTS_CEILING_BYTES: Final = 16 << 20
"""About three minutes of one speaker's 24 kHz PCM, for each running session."""

GROWTH: Final = 0.005
PATIENCE_SECONDS: Final = 2.0


class LiveFacts(NamedTuple):
    """What is known of a running session without asking SQL."""

    server_session_id: str | None
    opened_at_ns: int | None


class LiveSession:
    """One journal, read as far as it has been written. One that is no journal stays without events.

    Attributes:
        path: the journal.
        tables: its events so far.
        derived: rows of each model, as of its first `derived_count` events.

    Raises:
        FileNotFoundError: it is gone.
    """

    def __init__(self, journal: JournalFile) -> None:
        self.path: Path = journal.path
        self.tables = SessionTables(journal.session_id, audio=False)
        self.derived: dict[str, Any] = {}
        self.derived_count = 0
        self._derived_at = -PATIENCE_SECONDS
        self._decoder = SessionDecoder()
        self._tail: JournalTail | None = None
        try:
            self._tail = JournalTail(journal.path)
        except StoreError as error:
            log.error("%s", error)  # noqa: TRY400 - the message says it all

    def advance(self) -> bool:
        """Decode what was added to the journal; whether there was anything.

        What cannot be decoded ends the session's live view where it stands; the sealer reports it.
        """
        if self._tail is None:
            return False
        known = self.tables.count
        try:
            events = [event for record in self._tail.read() for event in self._decoder.feed(record)]
            self.tables.add(events, parts=self.tables.parts_bytes <= PARTS_CEILING_BYTES)
        except Exception:
            log.exception("%s cannot be followed any further", self.path)
            self.close()
        if self.tables.parts_bytes > PARTS_CEILING_BYTES:
            self.tables.drop_parts()
        return self.tables.count > known

    def is_due(self) -> bool:
        """Whether the models shall run again."""
        new = self.tables.count - self.derived_count
        waited = time.monotonic() - self._derived_at >= PATIENCE_SECONDS
        return new > 0 and (new >= GROWTH * self.tables.count or waited or self._decoder.closed)

    def note_derived(self) -> None:
        """The models are about to run over all events so far."""
        self.derived_count, self._derived_at = self.tables.count, time.monotonic()

    def facts(self) -> LiveFacts:
        """What it can be called by."""
        session: dict[str, Any] = next(segments.rows(self.derived["sessions"]), {}) if self.derived else {}
        return LiveFacts(session.get("server_session_id"), opened_at_ns(self.tables))

    def close(self) -> None:
        """Let go of the journal."""
        if self._tail is not None:
            self._tail.close()
            self._tail = None


class LiveSessions:
    """All unsealed sessions of a store. Not safe for use from several threads.

    Attributes:
        sessions: by id; those whose journal holds no event yet are not among them.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, LiveSession] = {}
        self._followed: dict[str, LiveSession] = {}
        self._no_rows = {"events": EVENTS.empty_table(), "parts": PARTS.empty_table()}

    def refresh(self, journals: Iterable[JournalFile]) -> bool:
        """Follow these journals and no others; whether any row changed.

        Raises:
            FileNotFoundError: a journal was renamed or dropped since it was listed; list again.
        """
        wanted = {journal.session_id: journal for journal in journals}
        gone = self._followed.keys() - wanted.keys()
        for session_id in gone:
            self._followed.pop(session_id).close()
        for session_id, journal in wanted.items():
            if session_id not in self._followed:
                self._followed[session_id] = LiveSession(journal)
            self._followed[session_id].path = journal.path
        news = [session for session in self._followed.values() if session.advance()]
        due = [session for session in self._followed.values() if session.is_due()]
        _derive(due)
        was = self.sessions.keys()
        self.sessions = {key: session for key, session in self._followed.items() if session.tables.count}
        return bool(news or due) or was != self.sessions.keys()

    def data_sets(self) -> dict[str, Any]:
        """Rows of all sessions by view: `events`, `parts`, and each model that ever had any; empty without sessions."""
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
        """Let go of all journals."""
        for session in self._followed.values():
            session.close()
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
        derived = run_models(segments.concat(session.tables.events() for session in sessions))
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
