"""What Prometheus scrapes."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from api.gauges import Gauges
from recorder.store.exposition import CONTENT_TYPE


def router(gauges: Gauges) -> APIRouter:
    """`/metrics`."""
    routes = APIRouter(tags=["service"])

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "The samples."}},
    )
    def metrics() -> Response:
        """Figures of the last minutes in Prometheus' text format."""
        return Response(gauges.text(), media_type=CONTENT_TYPE)

    return routes
