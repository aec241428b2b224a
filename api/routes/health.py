"""Whether the service is up. Needs no token."""

from __future__ import annotations

from fastapi import APIRouter

from api.schemas import Health
from recorder import __version__


def router() -> APIRouter:
    """`/healthz`."""
    routes = APIRouter(tags=["service"])

    @routes.get("/healthz")
    def health() -> Health:
        """Answers as soon as requests are served."""
        return Health(version=__version__)

    return routes
