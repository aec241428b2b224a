"""The catalog: everything that reads a store goes through it. Sealed and running sessions look the same.

A session is sealed when a manifest holds it whole; else it is live, if it has sealed parts or journals. The journals
are listed before the manifests: a journal goes only after its manifest came, so what is being sealed while we look is
found in one of the two lists at least, and the manifest decides where it is in both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

import polars as pl

from recorder.analytics.prices import known_prices
from recorder.analytics.rules import Rule, built_in_rules
from recorder.errors import (
    AmbiguousSessionError,
    EventNotFoundError,
    SessionNotFoundError,
    StoreError,
    UnreadableFileError,
)
from recorder.pipeline.fetched import Fetched
from recorder.pipeline.live import LiveSession, LiveSessions, Unsealed
from recorder.pipeline.shown import Shown
from recorder.protocol.envelope import RecordedEvent
from recorder.store import layout, segments
from recorder.store.journal_files import JournalFile, by_session, list_journals
from recorder.store.manifests import Manifest, ManifestCache
from recorder.store.schema import PARTS
from recorder.store.segments import SegmentFile
from recorder.store.workspace import remote_of

LAST: Final = "last"
MOST_ROWS: Final = 10_000
_ATTEMPTS: Final = 100
_FEW_ATTEMPTS: Final = 3

_Answer = TypeVar("_Answer")


class _Name(NamedTuple):
    """What a session can be called by."""

    session_id: str
    server_session_id: str | None
    newness: tuple[int, str]
    """Orders sessions: Unix nanoseconds of the opening, or, for imports without dates, of the import; then the id."""

    def starts_with(self, prefix: str) -> bool:
        return self.session_id.startswith(prefix.lower()) or (self.server_session_id or "").startswith(prefix)


class Catalog:
    """A store, for reading. Safe for use from several threads.

    Opening one looks at the store once; `refresh` looks again. In between it shows the store as it was.

    Args:
        data_dir: the store.
        prices: the user's own prices, as docs/cost.md describes; they go before the built-in ones.
        keep: whether to keep the models' rows in memory, as is worth it for one that stays open.

    Raises:
        UsageError: the prices cannot be used.
        StoreError: there is no such directory, or a manifest is damaged.
        EncryptionKeyError: the key of an encrypted file is not held.
        NewerFormatError: a newer version wrote something in it.
    """

    def __init__(self, data_dir: Path, *, prices: Path | None = None, keep: bool = False) -> None:
        layout.require(data_dir)
        self.data_dir = data_dir
        self._lock = threading.RLock()
        self._manifests = ManifestCache(data_dir)
        self._live = LiveSessions(data_dir)
        self._shown = Shown(data_dir, prices=known_prices(prices), keep=keep)
        remote = remote_of(data_dir)
        self._fetched = None if remote is None else Fetched(remote)
        self._names: list[_Name] = []
        self._files_changed = self._rows_changed = True  # since they were last shown to the engine
        try:
            if remote is not None:
                remote.pull()
            self.refresh()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of files and memory."""
        with self._lock:
            self._live.close()
            self._shown.engine.close()

    def refresh(self) -> None:
        """Take in what was recorded, sealed and imported since the last look. Cheap when nothing was.

        Raises:
            StoreError: a manifest is damaged, or of a newer version.
        """
        if self._fetched is not None:
            self._fetched.remote.pull_soon()
        with self._lock:
            unreadable = 0
            for _ in range(_ATTEMPTS):
                journals = list_journals(self.data_dir)
                self._files_changed |= self._manifests.refresh()
                try:
                    self._rows_changed |= self._live.refresh(self._unsealed(journals))
                    self._show()
                except FileNotFoundError:
                    self._rows_changed = True  # renamed or sealed since it was listed
                except UnreadableFileError as error:
                    unreadable += 1  # replaced and gone since it was listed, or damaged
                    if unreadable >= _FEW_ATTEMPTS and not self._shown.keep_nothing(error.message):
                        raise
                    self._files_changed = self._rows_changed = True
                else:
                    return
        raise StoreError(f"the journals of {self.data_dir} come and go faster than they can be listed")

    def _unsealed(self, journals: Iterable[JournalFile]) -> dict[str, Unsealed]:
        """Where sessions lie that are not closed, without the journals of parts that are sealed."""
        parts, listed = self._manifests.parts, by_session(journals)
        places = {}
        for session_id in sorted((parts.keys() | listed.keys()) - self._manifests.sessions.keys()):
            own = parts.get(session_id, [])
            left = [journal for journal in listed.get(session_id, ()) if journal.part >= len(own)]
            places[session_id] = Unsealed(own, left)
        return places

    def _show(self) -> None:
        """Hand what changed to the engine: all of it at once, so that no query sees a session twice or not at all."""
        self._files_changed |= self._shown.is_of_yesterday
        if not (self._files_changed or self._rows_changed):
            return
        parts = (part for session in self._live.sessions.values() for part in session.parts)
        shown = list(chain(self._manifests.counting, parts))
        if self._fetched is not None and self._files_changed:
            shown = self._fetched.show(shown)
        live = self._live.data_sets() if self._rows_changed else None
        if not self._shown.update(shown if self._files_changed else None, live):
            self._shown.update(shown, self._live.data_sets())
        self._names = [_name_of(key, manifest.sessions[key]) for key, manifest in self._manifests.sessions.items()]
        self._names += [_name_of_live(session) for session in self._live.sessions.values()]
        self._files_changed = self._rows_changed = False

    def query(self, sql: str, parameters: list[Any] | None = None) -> pl.DataFrame:
        """Rows of trusted SQL over the views `events`, `parts`, `audio`, `event_types`, and one for each model.

        Args:
            sql: one SELECT; `?` stands for parameters.
            parameters: their values.

        Raises:
            QueryError: the SQL fails.
        """
        self._fetch_for(sql)
        return self._retried(lambda: self._shown.engine.query(sql, parameters))

    def query_user(self, sql: str, *, max_rows: int = MOST_ROWS) -> pl.DataFrame:
        """Rows of SQL of unknown origin, which can read the views and nothing else.

        Args:
            sql: one statement.
            max_rows: further rows are left out.

        Raises:
            QueryError: the SQL fails, or asks for more than reading.
        """
        self._fetch_for(sql)
        return self._retried(lambda: self._shown.engine.query_user(sql, max_rows=max_rows))

    def findings(self, session_ids: Sequence[str] | None = None, rules: Sequence[Rule] | None = None) -> pl.DataFrame:
        """What rules find in sessions: known mistakes, with their evidence and what to do.

        Args:
            session_ids: whole ids; all sessions if None.
            rules: the built-in ones if None.

        Returns:
            `session_id`, `rule`, `severity`, `title`, `positions`, `message`, `advice`; the worst first.

        Raises:
            RuleError: a rule's query fails.
        """
        chosen = built_in_rules() if rules is None else rules
        self._fetch_for(*(rule.query for rule in chosen))
        return self._retried(lambda: self._shown.engine.run_rules(chosen, session_ids))

    def _retried(self, ask: Callable[[], _Answer]) -> _Answer:
        """An answer; where files that were listed are gone by now, erased or put together, that of another look."""
        for _ in range(_FEW_ATTEMPTS):
            try:
                return ask()
            except (UnreadableFileError, StoreError) as error:
                if isinstance(error, StoreError) and not isinstance(error.__cause__, FileNotFoundError):
                    raise
                self.refresh()
        return ask()

    def _fetch_for(self, *queries: str) -> None:
        """Have the files here that queries read, and in the views: not all of an object store's are."""
        if self._fetched is None:
            return
        names = {name for sql in queries for name in self._shown.engine.relations(sql)}
        with self._lock:
            if self._fetched.want(names):
                self._files_changed = True
                self._show()

    def resolve(self, reference: str) -> str:
        """The id of the session that is meant.

        Args:
            reference: a prefix of its id; the server's `sess_…` id, or a prefix of that; or `last`: the session that
                opened last, where imports without dates count as opened when they were imported.

        Raises:
            SessionNotFoundError: there is none.
            AmbiguousSessionError: a prefix fits several.
        """
        wanted = reference.strip()
        names = self._names
        if wanted == LAST and names:
            return max(names, key=lambda name: name.newness).session_id
        exact = {name.session_id for name in names if wanted in {name.session_id, name.server_session_id}}
        prefixed = {name.session_id for name in names if wanted and name.starts_with(wanted)}
        for matches in (exact, prefixed):
            if len(matches) == 1:
                return matches.pop()
            if matches:
                raise AmbiguousSessionError(reference, sorted(matches))
        raise SessionNotFoundError(reference)

    def events(
        self, session_id: str, *, after: int = -1, limit: int | None = None, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """A session's events in order, without their parts.

        Args:
            session_id: the whole id.
            after: only positions greater than this.
            limit: at most so many.
            columns: only these, with `position` and without `recorded_at`, which is faster; None for all.

        Returns:
            The columns of `recorder.store.schema.EVENTS`.

        Raises:
            SessionNotFoundError: there is no such session.
        """
        until = None if limit is None else after + limit  # positions have no gaps
        return self._retried(lambda: self._events(session_id, after, until, columns))

    def _events(self, session_id: str, after: int, until: int | None, columns: Sequence[str] | None) -> pl.DataFrame:
        with self._lock:
            place = self._find(session_id)
            if isinstance(place, LiveSession):
                rows = place.between(after, until)
                return _frame(rows if columns is None else rows.select(list(columns)))
        whose = _only(place, session_id)
        if self._fetched is not None:
            self._fetched.have(place.files, parts=False)
        return _frame(
            segments.read_events(
                self.data_dir, place.files, session_id=whose, after=after, until=until, columns=columns
            )
        )

    def version(self, session_id: str) -> tuple[str, ...] | None:
        """Digests of a sealed session's files; None while it is not sealed. Raises SessionNotFoundError."""
        place = self._find(session_id)
        return None if isinstance(place, LiveSession) else tuple(file.sha256 for file in place.files)

    def recorded_events(self, session_id: str) -> list[RecordedEvent]:
        """A session's events with their parts: what replay, export and projections work on.

        Raises:
            SessionNotFoundError: there is no such session.
        """
        return self._retried(lambda: list(self._recorded_events(session_id, -1, None)))

    def stream(self, session_id: str, *, parts: bool = True) -> Iterator[RecordedEvent]:
        """A session's events one by one, with no more of its audio in memory than is being read.

        Args:
            session_id: the whole id.
            parts: whether they are wanted with their parts.

        Raises:
            SessionNotFoundError: there is no such session.
        """
        return self._retried(lambda: self._recorded_events(session_id, -1, None, parts=parts))

    def message(self, session_id: str, position: int) -> bytes:
        """One message as it was on the wire, byte for byte; of our own events, their JSON.

        Raises:
            SessionNotFoundError: there is no such session.
            EventNotFoundError: it has no event at that position.
            AudioRemovedError: its audio was removed from the store.
        """
        found = self._retried(
            lambda: (
                next(self._recorded_events(session_id, position - 1, position, whole=True), None)
                if position >= 0
                else None
            )
        )
        if found is not None:
            return found.message()
        self._find(session_id)
        raise EventNotFoundError(session_id, position)

    def _find(self, session_id: str) -> Manifest | LiveSession:
        with self._lock:
            place = self._manifests.sessions.get(session_id) or self._live.sessions.get(session_id)
        if place is None:
            raise SessionNotFoundError(session_id)
        return place

    def _recorded_events(
        self, session_id: str, after: int, until: int | None, *, parts: bool = True, whole: bool = False
    ) -> Iterator[RecordedEvent]:
        """Events with positions after `after` up to `until`. What is not sealed yet comes from the journals."""
        for _ in range(_ATTEMPTS):
            place = self._find(session_id)
            if isinstance(place, Manifest):
                whose = _only(place, session_id)
                return self._stored_events(place.files, whose, after, until, parts=parts, whole=whole)
            try:
                running = place.recorded(after, until)
            except FileNotFoundError:
                self.refresh()
                continue
            if after >= place.base - 1:
                return running
            return chain(self._stored_events(place.files, None, after, until, parts=parts, whole=whole), running)
        raise SessionNotFoundError(session_id)

    def _stored_events(
        self,
        files: Sequence[SegmentFile],
        session_id: str | None,
        after: int,
        until: int | None,
        *,
        parts: bool,
        whole: bool,
    ) -> Iterator[RecordedEvent]:
        if self._fetched is not None:
            self._fetched.have(files, parts=parts)
        rows = segments.read_events(self.data_dir, files, session_id=session_id, after=after, until=until)
        if not parts:
            return segments.recorded_events(rows, PARTS.empty_table())
        cut = segments.read_parts(self.data_dir, files, session_id=session_id, after=after, until=until)
        audio = segments.read_audio(self.data_dir, files, session_id=session_id, after=after, until=until)
        return segments.recorded_events(rows, cut, audio, whole=whole)


def _frame(table: Any) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _only(manifest: Manifest, session_id: str) -> str | None:
    """The session whose rows are to be told from others in the manifest's files; None where there are no others."""
    return None if manifest.only == session_id else session_id


def _name_of(session_id: str, facts: dict[str, Any]) -> _Name:
    opened_at_ns = facts.get("opened_at_ns")
    newness = facts.get("sealed_at_ns", 0) if opened_at_ns is None else opened_at_ns
    return _Name(session_id, facts.get("server_session_id"), (newness, session_id))


def _name_of_live(session: LiveSession) -> _Name:
    facts = session.facts()
    return _Name(
        session.tables.session_id, facts.server_session_id, (facts.opened_at_ns or 0, session.tables.session_id)
    )
