"""A session's sound, as a file that a browser plays and seeks in.

It is made for each request, in a temporary file that goes with the answer: what is erased from the store must not live
on in a cache. The same session gives the same bytes, and so the same ETag, so that a player can ask for ranges.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from api.routes.sessions import Reference
from api.store import Store
from recorder import __version__
from recorder.pipeline.audio_export import export_audio


class _Passing(FileResponse):
    """A file that is gone when it has been sent, or when nobody waits for it any more."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            Path(self.path).unlink()  # noqa: ASYNC240  one entry of a directory


def router(store: Store) -> APIRouter:
    """`/api/v1/sessions/{reference}/audio`."""
    routes = APIRouter(prefix="/api/v1/sessions", tags=["sessions"])

    @routes.get(
        "/{reference}/audio",
        response_class=FileResponse,
        responses={200: {"content": {"audio/wav": {}, "audio/flac": {}}, "description": "The file; ranges too."}},
    )
    def audio(
        reference: Reference,
        format: Annotated[Literal["wav", "flac"], Query()] = "wav",  # noqa: A002  the parameter's name in the address
        *,
        as_sent: Annotated[bool, Query(description="All that the assistant sent, not only what was heard.")] = False,
    ) -> FileResponse:
        """The session's sound in stereo: caller left, assistant right, placed in time."""
        catalog = store.catalog()
        session_id = catalog.resolve(reference)
        fd, path = tempfile.mkstemp(suffix=f".{format}")
        try:
            with os.fdopen(fd, "w+b") as file:
                done = export_audio(catalog, session_id, file, format, as_sent=as_sent)
        except BaseException:
            Path(path).unlink()
            raise
        state = f"{session_id} {format} {as_sent} {done} {__version__}"
        headers = {"ETag": f'"{hashlib.sha256(state.encode()).hexdigest()[:32]}"'}
        name = f"{session_id}.{format}"
        kind = f"audio/{format}"
        return _Passing(path, headers=headers, media_type=kind, filename=name, content_disposition_type="inline")

    return routes
