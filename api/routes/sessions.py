"""Sessions, and all that belongs to one.

A session is named by a unique prefix of its id, by the server's `sess_…` id, or by `last`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel

from api.schemas import JSON_COLUMNS, ROWS, Conversation, Event, Events, Page, Rows
from api.store import Store
from dashboards import queries
from dashboards.queries import EventFilter, SessionFilter, parsed, records, rows_of
from recorder.analytics.registry import shown_models
from recorder.errors import AudioRemovedError, EventNotFoundError
from recorder.pipeline.catalog import Catalog
from recorder.protocol.event_types import is_drift

Reference = Annotated[str, Path(description="A prefix of the session's id, the server's sess_… id, or `last`.")]
Position = Annotated[int, Path(ge=0, description="The event's position in the session.")]
Status = Literal["running", "closed", "refused", "lost"]
TypeNames = Annotated[list[str], Query(description="Names, or patterns with `*`; may be repeated.")]

LARGEST = 2**62


def router(store: Store) -> APIRouter:
    """`/api/v1/sessions/…`."""
    routes = APIRouter(prefix="/api/v1/sessions", tags=["sessions"])
    _add_list(routes, store)
    _add_events(routes, store)
    _add_conversation(routes, store)
    for name in sorted(ROWS.keys() - {"sessions"}):
        _add_rows(routes, store, name)
    return routes


def _add_list(routes: APIRouter, store: Store) -> None:
    shape: type[BaseModel] = ROWS["sessions"]

    @routes.get("", response_model=Page[shape])  # type: ignore[valid-type]  # made from model.yaml
    def list_sessions(
        *,
        q: Annotated[str | None, Query(max_length=200, description="A piece of an id, model, label or turn.")] = None,
        model: str | None = None,
        status: Status | None = None,
        since: Annotated[datetime | None, Query(description="Opened then or later.")] = None,
        until: Annotated[datetime | None, Query(description="Opened before.")] = None,
        sort: Annotated[queries.Sort, Query(description="`-`: the largest first.")] = "-opened_at",
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        offset: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
    ) -> dict[str, Any]:
        """Sessions that fit all filters."""
        chosen = SessionFilter(q=q, model=model, status=status, since=since, until=until)
        rows, total = queries.list_sessions(store.catalog(), chosen, sort=sort, limit=limit, offset=offset)
        return {"data": [_plain(row) for row in rows], "total": total, "limit": limit, "offset": offset}

    @routes.get("/{reference}", response_model=shape)
    def session(reference: Reference) -> dict[str, Any]:
        """One session's facts and totals."""
        catalog = store.catalog()
        return _plain(records(rows_of(catalog, "sessions", catalog.resolve(reference), "session_id"))[0])


def _add_events(routes: APIRouter, store: Store) -> None:
    @routes.get("/{reference}/events")
    def events(
        reference: Reference,
        *,
        after: Annotated[int, Query(ge=-1, le=LARGEST, description="Only events above this position.")] = -1,
        before: Annotated[int | None, Query(ge=0, le=LARGEST, description="The last events below this.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
        direction: Literal["client", "server", "recorder"] | None = None,
        type: TypeNames = [],  # noqa: A002, B006 - the parameter's name is the wire's; FastAPI copies defaults
        exclude: TypeNames = [],  # noqa: B006
        max_payload_bytes: Annotated[int, Query(ge=0, le=2**30)] = 65_536,
        audio: Annotated[bool, Query(description="Put audio and images back into the payloads.")] = False,
    ) -> Events:
        """A session's events in order. Page on with `after` = the last position, or back with `before` = the first."""
        catalog = store.catalog()
        session_id = catalog.resolve(reference)
        rows = records(
            queries.list_events(
                catalog,
                session_id,
                EventFilter(direction, tuple(type), tuple(exclude)),
                after=after,
                before=before,
                limit=limit + 1,
                max_payload_bytes=max_payload_bytes,
            )
        )
        more = len(rows) > limit
        kept = rows[-limit:] if before is not None else rows[:limit]
        return Events(data=[_event(catalog, row, audio=audio) for row in kept], more=more)

    @routes.get("/{reference}/events/{position}")
    def event(reference: Reference, position: Position, *, audio: bool = False) -> Event:
        """One event with its whole payload."""
        catalog = store.catalog()
        session_id = catalog.resolve(reference)
        frame = queries.list_events(
            catalog, session_id, EventFilter(), after=position - 1, limit=1, max_payload_bytes=LARGEST
        )
        rows = records(frame)
        if not rows or rows[0]["position"] != position:
            raise EventNotFoundError(session_id, position)
        return _event(catalog, rows[0], audio=audio)


def _add_conversation(routes: APIRouter, store: Store) -> None:
    @routes.get("/{reference}/conversation", response_model=Conversation)
    def conversation(
        reference: Reference,
        at: Annotated[
            int | None, Query(ge=-1, le=LARGEST, description="The position to look at; the end if none.")
        ] = None,
    ) -> Response:
        """The conversation as it stood right after a position: items, configuration, what was in flight."""
        catalog = store.catalog()
        state = store.past.conversation(catalog.resolve(reference), at)
        # Of that shape as it is, as tests see; to build it once more takes as long as all before.
        return Response(msgspec.json.encode(state), media_type="application/json")


def _add_rows(routes: APIRouter, store: Store, name: str) -> None:
    model = shown_models()[name]
    shape: type[BaseModel] = ROWS[name]

    @routes.get(
        f"/{{reference}}/{name}",
        response_model=Rows[shape],  # type: ignore[valid-type]  # made from model.yaml
        operation_id=f"session_{name}",
        summary=name.replace("_", " ").capitalize(),
        description=f"{model.description} One row per {model.grain}.",
    )
    def rows(reference: Reference) -> dict[str, Any]:
        catalog = store.catalog()
        frame = rows_of(catalog, name, catalog.resolve(reference), ", ".join(model.key))
        return {"data": [_plain(row) for row in records(frame)]}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: parsed(value) if key in JSON_COLUMNS else value for key, value in row.items()}


def _event(catalog: Catalog, row: dict[str, Any], *, audio: bool) -> Event:
    text = row["payload"]
    if audio and text is not None:
        try:
            text = catalog.message(row["session_id"], row["position"]).decode("utf-8", "replace")
        except AudioRemovedError:
            row = row | {"redacted": True}
    unknown = is_drift(row["type"], row["direction"], row["opcode"])
    return Event(**(row | {"payload": parsed(text), "unknown": unknown}))
