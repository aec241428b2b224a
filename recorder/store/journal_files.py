"""Which journals a store has: their names, and whose they are. What is in one: `recorder.store.journal`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

RUNNING: Final = ".journal"
CLOSED: Final = ".closed.journal"
_NAME: Final = re.compile(r"(?P<session>[^.].*?)(?:\.(?P<part>\d{5,}))?(?P<closed>\.closed)?\.journal")


class JournalFile(NamedTuple):
    """A journal on disk: a session's, or a part of it.

    Attributes:
        session_id: whose, by the file's name.
        path: where.
        closed: whether the session has ended; of an earlier part, False.
        part: its number, from 0.
    """

    session_id: str
    path: Path
    closed: bool
    part: int = 0


def journal_directory(data_dir: Path) -> Path:
    """Where a store's journals lie."""
    return data_dir / "journal"


def journal_name(session_id: str, part: int, *, closed: bool = False) -> str:
    """The name of a part's file."""
    return session_id + (f".{part:05d}" if part else "") + (CLOSED if closed else RUNNING)


def list_journals(data_dir: Path) -> list[JournalFile]:
    """A store's journals by session id and part; a part that is there in both states counts as closed."""
    found: dict[tuple[str, int], JournalFile] = {}
    try:
        paths = list(journal_directory(data_dir).iterdir())
    except FileNotFoundError:
        return []
    for path in sorted(paths, key=lambda path: path.name.endswith(CLOSED)):
        name = _NAME.fullmatch(path.name)
        if name is not None:
            session_id, part = name["session"], int(name["part"] or 0)
            found[session_id, part] = JournalFile(session_id, path, name["closed"] is not None, part)
    return [found[key] for key in sorted(found)]


def by_session(journals: Iterable[JournalFile]) -> dict[str, list[JournalFile]]:
    """Each session's journals, in the order of their parts."""
    found: dict[str, list[JournalFile]] = {}
    for journal in journals:
        found.setdefault(journal.session_id, []).append(journal)
    return found
