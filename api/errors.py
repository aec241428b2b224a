"""One error body for every failure, and an HTML page with the same words for browsers.

{"error": {"type": "session_not_found", "message": "no session matches 'x'", "hint": "…"}}
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from api.schemas import Error, ErrorBody
from recorder.errors import RecorderError

ErrorPage = Callable[[int, str, str, str], str]
"""(status, type, message, hint) → an HTML page."""

logger = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Answer every failure of `app` with the one error body."""
    app.add_exception_handler(RecorderError, _expected)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def respond(request: Request, status: int, kind: str, message: str, hint: str = "") -> Response:
    """An error answer: HTML where a person asked for a page, JSON everywhere else."""
    page: ErrorPage | None = getattr(request.app.state, "error_page", None)
    if page is not None and wants_html(request):
        return Response(page(status, kind, message, hint), status, media_type="text/html")
    body = ErrorBody(error=Error(type=kind, message=message, hint=hint))
    return JSONResponse(body.model_dump(), status)


def wants_html(request: Request) -> bool:
    """Whether a browser is navigating to a page (and no program is calling the API)."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


def internal(request: Request, error: Exception) -> Response:
    """The answer to a defect of ours: details go to the log, never to the caller."""
    logger.error("%s %s failed: %s: %s", request.method, request.url.path, type(error).__name__, error)
    logger.debug("traceback", exc_info=error)
    return respond(request, 500, "internal_error", "the recorder failed to answer this", "Its log says more.")


def _expected(request: Request, error: Exception) -> Response:
    assert isinstance(error, RecorderError)
    kind = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__.removesuffix("Error")).lower()
    return respond(request, error.http_status, kind, error.message, error.hint)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [f"{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors()]
    return respond(request, 422, "invalid_request", "; ".join(problems), "See /api/v1/openapi.json for the parameters.")


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    hints = {404: "See /api/v1/openapi.json for what there is.", 405: "This service only reads: use GET."}
    message = f"{request.method} {request.url.path}: {str(error.detail).lower()}"
    answer = respond(request, error.status_code, kind, message, hints.get(error.status_code, ""))
    answer.headers.update(error.headers or {})
    return answer
