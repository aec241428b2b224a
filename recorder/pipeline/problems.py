"""What can be wrong with a store, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from recorder.errors import NewerFormatError, StoreError
from recorder.store import layout

Kind = Literal[
    "manifest_damaged",
    "manifest_missing",
    "file_missing",
    "file_damaged",
    "session_doubled",
    "events_wrong",
    "message_damaged",
    "derived_stale",
    "check_failed",
    "journal_damaged",
    "journal_unsealed",
    "spool_damaged",
    "spool_unsorted",
    "audit_damaged",
    "orphan",
    "stranger",
    "quarantined",
    "quarantine_damaged",
    "newer",
]

ADVICE: Final[dict[Kind, str]] = {
    "manifest_damaged": "`recorder repair` writes it anew from its data files.",
    "manifest_missing": "`recorder repair` writes one anew. Until then nothing removes the file.",
    "file_missing": "`recorder repair` makes derived files anew; of others, it sets the session aside.",
    "file_damaged": "`recorder repair` makes derived files anew; of others, it sets the session aside.",
    "session_doubled": "`recorder repair` keeps one of the two.",
    "events_wrong": "`recorder repair` sets the session aside.",
    "message_damaged": "`recorder repair` sets the session aside.",
    "derived_stale": "`recorder rebuild` makes them anew.",
    "check_failed": "A model is wrong, or the recording is strange: please report it.",
    "journal_damaged": "It is sealed with a gap where it is damaged; nothing else is lost.",
    "journal_unsealed": "`recorder seal` seals it, if no recorder does.",
    "spool_damaged": "It is sorted but for its damaged blocks; sessions that may lack something have a gap.",
    "spool_unsorted": "`recorder seal` sorts it into journals, if no recorder does.",
    "audit_damaged": "What it says there cannot be trusted. `recorder repair` puts back what a bucket lost.",
    "orphan": "Read by nobody. `recorder repair` removes what a crash left, and names again what is nowhere else.",
    "stranger": "No file of the recorder's, or it could not be read as one; nobody reads it. Move it elsewhere.",
    "quarantined": "It could not be sealed; why stands in the text beside it.",
    "quarantine_damaged": "If the copy in the workspace is sound, move it elsewhere and back under another name.",
    "newer": "A newer version wrote it, and can read it: upgrade realtime-recorder.",
}
HARMLESS: Final[frozenset[Kind]] = frozenset(
    {"journal_unsealed", "spool_unsorted", "orphan", "stranger", "quarantined"}
)
"""Worth knowing, but nothing is wrong with what is stored."""


class Problem(msgspec.Struct, frozen=True):
    """One thing that is not as it should be.

    Attributes:
        kind: which.
        file: where, relative to the data directory.
        sessions: ids of the sessions concerned, as far as they are known.
        problem: what.
    """

    kind: Kind
    file: str
    sessions: tuple[str, ...]
    problem: str


def kind_of(error: StoreError, otherwise: Kind) -> Kind:
    """What it is that something cannot be read: of a newer version, or else `otherwise`."""
    return "newer" if isinstance(error, NewerFormatError) else otherwise


def named_after(path: Path) -> tuple[str, ...]:
    """The id of the session that a file is named after, if it is."""
    stem = path.name.partition(".")[0]
    return (stem,) if layout.is_session_id(stem) else ()
