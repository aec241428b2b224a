"""The HTTP service over a store: the API and the dashboards, behind one door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from fastapi import FastAPI

import dashboards
from api import errors
from api.access import AccessControl
from api.alerts import Alerts
from api.gauges import Gauges
from api.routes import aggregates, audio, findings, health, metrics, sessions, stats
from api.schemas import ErrorBody
from api.store import Store
from recorder import __version__
from recorder.analytics.slo import load_slos
from recorder.errors import UsageError

METRICS_WINDOW: Final = timedelta(hours=1)
DESCRIPTION: Final = "Recorded Realtime sessions: what crossed the wire, and what it means. Read only."
FAILURES: Final[dict[int | str, dict[str, object]]] = {
    "4XX": {"model": ErrorBody, "description": "The request cannot be answered."},
    "5XX": {"model": ErrorBody, "description": "The recorder cannot answer."},
}


def create_app(
    data_dir: Path,
    *,
    token: str | None = None,
    prices: Path | None = None,
    rules: Path | None = None,
    slo: Path | None = None,
    alert_webhook: str | None = None,
    metrics_window: timedelta = METRICS_WINDOW,
) -> FastAPI:
    """The service over `data_dir`.

    Args:
        data_dir: the data directory; running sessions show up as they are recorded.
        token: what callers must show. None: no token, and only requests to a loopback name are answered.
        prices: the user's own prices.
        rules: a folder with the user's own rules.
        slo: a file of objectives, for the pages and for alerts.
        alert_webhook: where to post when an objective's alert begins and ends.
        metrics_window: how far `/metrics` looks back.

    Raises:
        StoreError: `data_dir` cannot be read.
        UsageError: `alert_webhook` without `slo`, or it is no address.
        SloFileError: `slo` is not what it should be.
        RuleError: a rule's file is not what it should be.
    """
    if slo is None and alert_webhook is not None:
        raise UsageError("--alert-webhook needs --slo")
    slos = () if slo is None else load_slos(slo)
    store = Store(data_dir, prices=prices, rules=rules)
    alerts = None if alert_webhook is None else Alerts(store, slos, alert_webhook)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if alerts is not None:
            alerts.start()
        yield
        if alerts is not None:
            alerts.stop()
        store.close()

    app = FastAPI(
        title="Realtime Recorder",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # the stock pages fetch their script from elsewhere
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        responses=FAILURES,
        lifespan=lifespan,
    )
    errors.install(app)
    app.add_middleware(AccessControl, token=token)
    for routes in (sessions, audio, findings, stats, aggregates):
        app.include_router(routes.router(store))
    app.include_router(health.router())
    app.include_router(metrics.router(Gauges(store, metrics_window)))
    dashboards.mount(app, store.catalog, data_dir, store.rules, slos)
    return app
