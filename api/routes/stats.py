"""Totals over many sessions."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter

from api.schemas import Latency, Overview
from api.store import Store
from dashboards import queries


def router(store: Store) -> APIRouter:
    """`/api/v1/stats/…`."""
    routes = APIRouter(prefix="/api/v1/stats", tags=["stats"])

    @routes.get("/overview")
    def overview(since: datetime | None = None) -> Overview:
        """Totals of the sessions opened since then, or of all; latencies with their n."""
        totals = queries.overview(store.catalog(), since)
        latencies = {
            name: Latency(**{figure: totals[f"{name}_{figure}"] for figure in Latency.model_fields})
            for name in ("first_audio", "voice_to_voice")
        }
        return Overview(**(totals | latencies))

    return routes
