# ruff: noqa: S608 - what is put into SQL are names and conditions of our own; what callers say are parameters
"""Which sessions there are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from dashboards.queries.base import Queryable, records

SORTS: Final = {
    "opened_at": "opened_at",
    "duration": "duration_seconds",
    "events": "event_count",
    "responses": "response_count",
    "turns": "turn_count",
    "interruptions": "interruption_count",
    "tokens": "total_tokens",
    "cost": "cost_usd",
    "errors": "error_count",
    "first_audio": "time_to_first_audio_p50_seconds",
    "model": "model",
    "status": "status",
}
"""Names that sessions are sorted by, and the columns behind them."""

Sort = Literal[
    "opened_at", "-opened_at", "duration", "-duration", "events", "-events", "responses", "-responses", "turns",
    "-turns", "interruptions", "-interruptions", "tokens", "-tokens", "cost", "-cost", "errors", "-errors",
    "first_audio", "-first_audio", "model", "-model", "status", "-status",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions. Every field that is None, or "", lets all through.

    Attributes:
        q: a piece of an id, of the model, of a label, or of what was said.
        model: the model, exactly.
        status: `running`, `closed`, `refused` or `lost`.
        since: opened then or later; sessions without times fall out. Likewise `until`, exclusive.
    """

    q: str | None = None
    model: str | None = None
    status: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def where(self) -> tuple[str, list[Any]]:
        """A condition over `sessions s`, and its parameters."""
        text = (
            "(starts_with(s.session_id, ?)"
            " OR concat_ws(' ', s.server_session_id, s.model, s.labels) ILIKE ? ESCAPE '\\'"
            " OR s.session_id IN (SELECT t.session_id FROM turns t WHERE t.text ILIKE ? ESCAPE '\\'))"
        )
        terms: list[tuple[str, list[Any]]] = []
        if self.q:
            pattern = "%" + "".join("\\" + c if c in "\\%_" else c for c in self.q) + "%"
            terms.append((text, [self.q.lower(), pattern, pattern]))
        if self.model:
            terms.append(("s.model = ?", [self.model]))
        if self.status:
            terms.append(("s.status = ?", [self.status]))
        if self.since:
            terms.append(("s.opened_at >= ?", [self.since]))
        if self.until:
            terms.append(("s.opened_at < ?", [self.until]))
        return " AND ".join(term for term, _ in terms) or "true", [value for _, values in terms for value in values]


def list_sessions(
    catalog: Queryable, chosen: SessionFilter, *, sort: str = "-opened_at", limit: int = 50, offset: int = 0
) -> tuple[list[dict[str, Any]], int]:
    """One page of sessions, and how many there are on all pages.

    Args:
        catalog: where to look.
        chosen: which sessions.
        sort: a key of `SORTS`, with "-" in front for the largest first. Rows without the value come last.
        limit: rows at most.
        offset: rows to skip.
    """
    condition, parameters = chosen.where()
    column = SORTS[sort.removeprefix("-")]
    order = "DESC" if sort.startswith("-") else "ASC"
    total = catalog.query(f"SELECT count(*) FROM stored.sessions s WHERE {condition}", parameters).item()
    frame = catalog.query(
        f"SELECT s.* FROM sessions s WHERE {condition} ORDER BY s.{column} {order} NULLS LAST, s.session_id DESC "
        "LIMIT ? OFFSET ?",
        [*parameters, limit, offset],
    )
    return records(frame), int(total)


def models(catalog: Queryable) -> list[str]:
    """The models that sessions used, in alphabetical order."""
    frame = catalog.query("SELECT DISTINCT model FROM stored.sessions WHERE model IS NOT NULL ORDER BY model")
    return [str(name) for name in frame["model"]]
