"""Erasing sessions: the right to be forgotten. What is not removed from anywhere here, docs/retention.md names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from recorder.errors import SessionNotFoundError, SessionRunningError
from recorder.pipeline import aside
from recorder.pipeline.adopt import sweep_all
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.labels import label_condition
from recorder.pipeline.recover import clear_spools
from recorder.pipeline.remove import remove, stored_sessions
from recorder.store import audit, layout


class EraseReport(msgspec.Struct):
    """What `erase` did.

    Attributes:
        sessions: ids of the sessions that are gone.
        events: how many sealed events they had.
        bundles: files of `recorder bundle` in the data directory that had one of them, and have not any more.
        strangers: files in the data directory that name one of them, are none of the recorder's, and stay.
        unread: files in quarantine that stay since nothing tells whose they are.
    """

    sessions: list[str]
    events: int
    bundles: list[str] = []
    strangers: list[str] = []
    unread: list[str] = []


def find(data_dir: Path, references: Sequence[str], labels: Sequence[str] = ()) -> list[str]:
    """The sessions that are meant.

    Args:
        data_dir: the store.
        references: as `Catalog.resolve` takes them; also whole ids of what nothing but a journal is left of.
        labels: `key=value` each; sessions that have all of them.

    Raises:
        SessionNotFoundError: there is no such session.
        AmbiguousSessionError: a prefix fits several.
        UsageError: a label is not of that form.
    """
    with layout.rewriting(data_dir):
        sweep_all(data_dir)  # what a removal that was broken off has left
    there = stored_sessions(data_dir)
    with Catalog(data_dir) as catalog:
        found = {each if each in there else catalog.resolve(each) for each in map(str.strip, references)}
        if labels:
            found |= _labelled(catalog, labels)
    return sorted(found)


def _labelled(catalog: Catalog, labels: Sequence[str]) -> set[str]:
    conditions = [label_condition(label) for label in labels]
    sql = f"SELECT session_id FROM sessions WHERE {' AND '.join(sql for sql, _ in conditions)}"  # noqa: S608 - values are parameters
    values = [value for _, pair in conditions for value in pair]
    return set(catalog.query(sql, values)["session_id"].to_list())


def erase(data_dir: Path, session_ids: Collection[str], *, reason: str = "") -> EraseReport:
    """Erase sessions, and put down that it was done.

    Args:
        data_dir: the store.
        session_ids: whole ids.
        reason: the operator's words, for the audit record.

    Raises:
        SessionNotFoundError: one of them is not there.
        SessionRunningError: one of them still runs; nothing was erased.
        StoreError: a file is missing or damaged.
    """
    clear_spools(data_dir)
    with layout.rewriting(data_dir):
        sweep_all(data_dir)
        there = stored_sessions(data_dir)
        for session_id in session_ids:
            if session_id not in there:
                raise SessionNotFoundError(session_id)
            if there[session_id].is_running:
                raise SessionRunningError(session_id)
        # First: as long as the store has them, whoever is killed can be told to do it again.
        bundles, strangers = aside.out_of_bundles(data_dir, session_ids)
        events = remove(data_dir, session_ids)
        entry = audit.Entry(audit.ERASE, len(session_ids), events, reason=reason)
        entry.session_digests = audit.digests(session_ids)
        audit.append(data_dir, entry)
    unread = [path.relative_to(data_dir).as_posix() for path in aside.quarantined(data_dir).unread]
    return EraseReport(sorted(session_ids), events, bundles, strangers, unread)
