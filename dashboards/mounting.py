"""The pages' addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request
from starlette.responses import RedirectResponse, Response

from dashboards import queries, rendering, views
from dashboards.figures.base import as_json
from dashboards.found import Finder
from dashboards.theme import Scheme
from recorder.analytics.rules import Rule
from recorder.analytics.slo import Slo
from recorder.pipeline.catalog import Catalog

Period = Literal["1h", "24h", "7d", "30d", "all"]
Status = Literal["", "running", "closed", "refused", "lost"]


def mount(
    app: FastAPI,
    catalog: Callable[[], Catalog],
    data_dir: Path,
    rules: Sequence[Rule],
    slos: Sequence[Slo] = (),
) -> None:
    """Add the dashboards to `app`: `/`, `/sessions`, `/sessions/{reference}`, their findings, figures, static files.

    Args:
        app: where to; its `state.error_page` becomes our page for failures.
        catalog: gives a fresh catalog for each request.
        data_dir: named in the advice on how to begin.
        rules: what findings are looked for with.
        slos: the objectives that the overview shows.
    """
    app.state.error_page = rendering.error_page
    app.include_router(_pages(catalog, data_dir, slos), include_in_schema=False)
    app.include_router(_findings(catalog, Finder(rules)), include_in_schema=False)
    app.include_router(_figures(catalog), include_in_schema=False)
    app.include_router(_static(), include_in_schema=False)


def _pages(catalog: Callable[[], Catalog], data_dir: Path, slos: Sequence[Slo]) -> APIRouter:
    router = APIRouter()

    @router.get("/")
    def overview(request: Request, period: Period | None = None) -> Response:
        context = views.overview(catalog(), period, datetime.now(UTC))
        return rendering.page(request, "overview.html", data_dir=data_dir, slos=slos, **context)

    @router.get("/slo")
    def objectives(request: Request) -> Response:
        return rendering.page(request, "slo.html", **views.objectives(catalog(), slos, datetime.now(UTC)))

    @router.get("/sessions")
    def sessions(
        request: Request,
        *,
        q: Annotated[str, Query(max_length=200)] = "",
        model: str = "",
        status: Status = "",
        period: Period = "all",
        sort: queries.Sort = "-opened_at",
        page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    ) -> Response:
        asked = views.Asked(q=q, model=model, status=status, period=period, sort=sort, page=page)
        context = views.session_list(catalog(), asked, datetime.now(UTC))
        return rendering.page(request, "sessions.html", data_dir=data_dir, **context)

    @router.get("/sessions/{reference}")
    def session(request: Request, reference: str) -> Response:
        store = catalog()
        session_id = store.resolve(reference)
        if session_id != reference:
            query = "?" + urlencode(request.query_params.multi_items()) if request.query_params else ""
            return RedirectResponse(f"/sessions/{session_id}{query}", 307)
        return rendering.page(request, "session.html", **views.session(store, session_id))

    return router


def _findings(catalog: Callable[[], Catalog], finder: Finder) -> APIRouter:
    router = APIRouter()

    @router.get("/findings")
    def recent(request: Request, period: Period = "all") -> Response:
        context = views.recent_findings(catalog(), finder, period, datetime.now(UTC))
        return rendering.page(request, "findings.html", **context)

    @router.get("/sessions/{reference}/findings")
    def of_session(request: Request, reference: str) -> Response:
        store = catalog()
        context = views.session_findings(store, finder, store.resolve(reference))
        return rendering.page(request, "session_findings.html", **context)

    return router


def _figures(catalog: Callable[[], Catalog]) -> APIRouter:
    router = APIRouter()

    @router.get("/figures/{name}")
    def over_time(name: views.ChartName, period: Period = "all", scheme: Scheme = "light") -> Response:
        figure = views.chart(catalog(), name, period, scheme, datetime.now(UTC))
        return Response(as_json(figure), media_type="application/json")

    @router.get("/sessions/{reference}/timeline")
    def timeline(reference: str, scheme: Scheme = "light") -> Response:
        store = catalog()
        figure = views.timeline_figure(store, store.resolve(reference), scheme)
        return Response(as_json(figure), media_type="application/json")

    return router


def _static() -> APIRouter:
    router = APIRouter()

    @router.get("/static/{version}/{name}")
    def static(request: Request, version: str, name: str) -> Response:
        del version  # only there to change the address when a file changes
        answer = rendering.asset_response(request, name)
        if answer is None:
            raise HTTPException(404)
        return answer

    return router
