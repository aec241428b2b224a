"""Templates and static files: everything a page is made of, escaped, versioned, and from here alone."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from dashboards import theme, words
from dashboards.figures.base import plotly_script
from dashboards.format import FILTERS

MEDIA_TYPES: Final = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
FOR_A_YEAR: Final = "public, max-age=31536000, immutable"
GZIP_LEVEL: Final = 6


@dataclass(frozen=True, slots=True)
class Asset:
    """A static file: its bytes, and the same compressed."""

    content: bytes
    compressed: bytes
    media_type: str


@cache
def assets() -> dict[str, Asset]:
    """Every static file by name, Plotly's script and the generated style sheet among them."""
    files = {entry.name: entry.read_bytes() for entry in resources.files("dashboards").joinpath("static").iterdir()} | {
        "theme.css": theme.css().encode(),
        "plotly.js": plotly_script(),
    }
    return {
        name: Asset(content, gzip.compress(content, GZIP_LEVEL, mtime=0), MEDIA_TYPES[name.rpartition(".")[2]])
        for name, content in files.items()
    }


@cache
def version() -> str:
    """A digest of all static files: part of their address, so that browsers may keep them for good."""
    digest = hashlib.sha256()
    for name, asset in sorted(assets().items()):
        digest.update(name.encode() + asset.content)
    return digest.hexdigest()[:12]


def asset_response(request: Request, name: str) -> Response | None:
    """A static file, compressed where the browser takes it; None if there is none of that name."""
    asset = assets().get(name)
    if asset is None:
        return None
    headers = {"Cache-Control": FOR_A_YEAR, "Vary": "Accept-Encoding"}
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(asset.content, media_type=asset.media_type, headers=headers)
    return Response(asset.compressed, media_type=asset.media_type, headers=headers | {"Content-Encoding": "gzip"})


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("dashboards"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    environment.globals |= {"w": words, "static": f"/static/{version()}"}
    return environment


def render(template: str, **context: Any) -> str:
    """A page as HTML. Every value is escaped."""
    return _templates().get_template(template).render(context)


def page(request: Request, template: str, **context: Any) -> Response:
    """A page as an answer; 304 without a body where the reader's is the same, so that polling costs little."""
    html = render(template, **context)
    tag = f'"{hashlib.sha256(html.encode()).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-store"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(html, media_type="text/html", headers=headers)


def error_page(status: int, kind: str, message: str, hint: str) -> str:
    """The page for a failure: the same words as the API's error body."""
    title = words.ERROR_TITLES.get(status, words.ERROR_TITLE)
    return render("error.html", title=title, status=status, kind=kind, message=message, hint=hint)
