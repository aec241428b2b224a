"""What tab completion offers for values: sessions, statistics, scripts.

A shell waits for it, and shows nothing of a failure: whatever goes wrong, nothing is offered.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Final

import typer

from recorder.errors import RecorderError

MOST: Final = 50
"""Sessions that are offered, the newest first."""


def sessions(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of sessions that begin so, each with a few words on it; and `last`."""
    from recorder.cli.options import DEFAULT_DATA, open_catalog, parse_data  # whose arguments name this function

    data = context.params.get("data") or parse_data(os.environ.get("RECORDER_DATA") or DEFAULT_DATA)
    found = [("last", "the session opened last")] if "last".startswith(incomplete) else []
    with suppress(RecorderError, OSError), open_catalog(Path(data)) as catalog:
        rows = catalog.query(
            "SELECT session_id, model, status, opened_at FROM sessions WHERE starts_with(session_id, ?) "
            "ORDER BY opened_at DESC NULLS LAST LIMIT ?",
            [incomplete, MOST],
        )
        for session_id, model, status, opened_at in rows.iter_rows():
            words = (f"{opened_at:%m-%d %H:%M}" if opened_at else None, model, status)
            found.append((session_id, " · ".join(word for word in words if word)))
    return found


def statistics(incomplete: str) -> list[str]:
    """Names for `recorder stats`."""
    folders = (files("recorder") / "analytics" / "aggregates").iterdir()
    return sorted(each.name for each in folders if each.is_dir() and each.name.startswith(incomplete))


def scripts(incomplete: str) -> list[str]:
    """Packaged scripts of `recorder simulate`."""
    names = (each.name.removesuffix(".yaml") for each in (files("recorder") / "simulator" / "scripts").iterdir())
    return sorted(name for name in names if name.startswith(incomplete))
