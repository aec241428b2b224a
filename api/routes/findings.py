"""What rules find: known mistakes, with their evidence and what to do."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query

from api.schemas import Finding, Findings
from api.store import Store
from recorder.analytics.rules import SEVERITIES, Severity

Reference = Annotated[str, Path(description="A prefix of the session's id, the server's sess_… id, or `last`.")]
Least = Annotated[Severity, Query(description="Findings of this severity and worse.")]


def router(store: Store) -> APIRouter:
    """`/api/v1/findings` and `/api/v1/sessions/{reference}/findings`."""
    routes = APIRouter(prefix="/api/v1", tags=["findings"])

    @routes.get("/findings")
    def findings(
        *,
        since: Annotated[datetime | None, Query(description="Of sessions opened then or later.")] = None,
        severity: Least = "info",
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> Findings:
        """Findings in all sessions, the worst first."""
        ids = None
        if since is not None:
            chosen = store.catalog().query("SELECT session_id FROM sessions WHERE opened_at >= ?", [since])
            ids = chosen["session_id"].to_list()
        return _answer(store, ids, severity, limit)

    @routes.get("/sessions/{reference}/findings")
    def of_session(reference: Reference, *, severity: Least = "info") -> Findings:
        """Findings in one session, the worst first."""
        return _answer(store, [store.catalog().resolve(reference)], severity, None)

    return routes


def _answer(store: Store, ids: list[str] | None, severity: Severity, limit: int | None) -> Findings:
    wanted = SEVERITIES[: SEVERITIES.index(severity) + 1]
    rows = store.catalog().findings(ids, store.rules).to_dicts()
    found = [Finding(**row) for row in rows if row["severity"] in wanted]
    return Findings(data=found[:limit], total=len(found))
