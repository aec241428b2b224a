"""Whether what is not sealed yet can be read: journals, those that were set aside, and spools."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from recorder.errors import StoreError
from recorder.pipeline.locks import is_recorded
from recorder.pipeline.problems import Kind, Problem, kind_of, named_after
from recorder.store import layout
from recorder.store.journal import JournalTail, finished
from recorder.store.journal_files import RUNNING, by_session, journal_directory, list_journals
from recorder.store.spool import SpoolTail, list_spools, spool_directory


def journal_problems(data_dir: Path, sealed: set[str]) -> Iterator[Problem]:
    """What is to be said of journals and of the quarantine.

    Args:
        data_dir: the store.
        sealed: ids of the sessions that are sealed.
    """
    journals = list_journals(data_dir)
    ended = {journal.path for several in by_session(journals).values() for journal in finished(several)}
    for journal in journals:
        where = journal.path.relative_to(data_dir).as_posix()
        try:
            damage = _journal_damage(journal.path, ended=journal.path in ended)
        except FileNotFoundError:
            continue
        if damage:
            yield Problem(damage[0], where, (journal.session_id,), damage[1])
        elif journal.closed and journal.session_id not in sealed:
            yield Problem("journal_unsealed", where, (journal.session_id,), "the session has ended, and is not sealed")
    for path in sorted(layout.quarantine(data_dir).rglob("*")):
        if path.is_file() and path.suffix != ".txt":
            damage = _journal_damage(path, ended=True) if path.suffix == RUNNING else None
            said = f"set aside; {damage[1]}" if damage else "set aside"
            yield Problem("quarantined", path.relative_to(data_dir).as_posix(), named_after(path), said)
    known = {journal.path for journal in list_journals(data_dir)}
    for path in sorted(journal_directory(data_dir).glob("*")):
        if path not in known and path.is_file() and not path.name.startswith("."):
            yield Problem("stranger", path.relative_to(data_dir).as_posix(), named_after(path), "no journal's name")


def _journal_damage(path: Path, *, ended: bool) -> tuple[Kind, str] | None:
    """What of a journal cannot be read, or None. The last record of one that is still written may be on its way."""
    try:
        tail = JournalTail(path, salvage=True)
    except StoreError as error:
        return kind_of(error, "journal_damaged"), error.message
    try:
        gaps = sum(_is_damage(record.data) for _, record in tail.frames())
        rest = path.stat().st_size - tail.offset
    finally:
        tail.close()
    if gaps:
        return "journal_damaged", f"{gaps} stretches cannot be read"
    return ("journal_damaged", f"its last {rest:,} bytes cannot be read") if ended and rest else None


def spool_problems(data_dir: Path) -> Iterator[Problem]:
    """What is to be said of spools; of what a recorder at work has yet to sort, nothing."""
    spools = list_spools(data_dir)
    for spool in spools:
        where = spool.path.relative_to(data_dir).as_posix()
        try:
            with contextlib.closing(SpoolTail(spool.path)) as tail:
                # Of one that is still written, too: only of its last block it cannot be told whether it is damaged.
                blocks = [block.position for block in tail.blocks(finished=True)]
        except FileNotFoundError:
            continue  # sorted meanwhile
        except StoreError as error:
            yield Problem(kind_of(error, "spool_damaged"), where, (), error.message)
            continue
        if damaged := sum(position < 0 for position in blocks):
            yield Problem("spool_damaged", where, (), f"{damaged} stretches cannot be read")
        elif blocks and not is_recorded(data_dir):
            yield Problem("spool_unsorted", where, (), "what was said is not in journals yet")
    known = {spool.path for spool in spools}
    for path in sorted(spool_directory(data_dir).glob("*")):
        if path not in known and path.is_file() and not path.name.startswith("."):
            yield Problem("stranger", path.relative_to(data_dir).as_posix(), (), "no spool's name")


def _is_damage(data: bytes) -> bool:
    return b"journal damaged" in data[:200]
