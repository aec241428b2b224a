"""Sessions of a store as OpenTelemetry spans, to any collector of OTLP over HTTP: in bulk, or as they close."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from recorder import __version__
from recorder.errors import CollectorError, UsageError
from recorder.formats.otel import session_spans
from recorder.pipeline.catalog import Catalog

Progress = Callable[[int, int], None]

_TABLES: Final = {
    "responses": "response_no",
    "tool_calls": "tool_call_no",
    "speech": "speech_no",
    "interruptions": "interruption_no",
}
"""The models that are sent, with what orders their rows."""
_BATCH: Final = 100
_PATH: Final = "/v1/traces"
POLL_SECONDS: Final = 2.0


class Exporter(OTLPSpanExporter):
    """What sends spans, and knows why they were not taken.

    Attributes:
        wire: its HTTP.
    """

    def __init__(self, endpoint: str | None, headers: dict[str, str] | None) -> None:
        self.wire = _Wire()
        super().__init__(endpoint=endpoint, headers=headers, session=self.wire)


class _Wire(requests.Session):
    """HTTP that keeps in mind what went wrong last, and where."""

    address = "the collector"
    problem = "there was no time to send them"

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        self.address = str(request.url)
        try:
            answer = super().send(request, **options)
        except requests.RequestException as error:
            self.problem = _reason(error)
            raise
        self.problem = f"{answer.status_code} {answer.reason}"
        return answer


def _reason(error: BaseException) -> str:
    """What the system said first, without what libraries made of it."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error)


def exporter(endpoint: str | None, headers: dict[str, str]) -> Exporter:
    """What sends spans.

    Args:
        endpoint: the collector's address, with or without `/v1/traces`. None: as the variables of OpenTelemetry say
            (`OTEL_EXPORTER_OTLP_ENDPOINT`, …), else `http://localhost:4318`.
        headers: for each request, beside those that `OTEL_EXPORTER_OTLP_HEADERS` names.

    Raises:
        UsageError: the address is none.
    """
    if endpoint is not None:
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(f"{endpoint!r} is no address of a collector", hint="http://localhost:4318, say.")
        endpoint = endpoint if parts.path.endswith(_PATH) else endpoint.rstrip("/") + _PATH
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)  # it tells of attempts; we, of the outcome
    return Exporter(endpoint, headers or None)


def closed_sessions(catalog: Catalog, since: datetime | None = None) -> list[str]:
    """Ids of sessions that run no more, the oldest first; those that opened since then, or all."""
    rows = catalog.query(
        "SELECT session_id FROM sessions WHERE status <> 'running' AND (?::TIMESTAMPTZ IS NULL OR opened_at >= ?)"
        " ORDER BY opened_at NULLS FIRST, session_id",
        [since, since],
    )
    return rows["session_id"].to_list()


def send(
    catalog: Catalog,
    session_ids: Sequence[str],
    target: Exporter,
    *,
    service: str,
    content: bool = False,
    progress: Progress | None = None,
) -> int:
    """Send sessions' spans.

    Args:
        catalog: where they are.
        session_ids: whose; closed ones.
        target: where to.
        service: `service.name` of the telemetry.
        content: whether what was said may leave.
        progress: told after each batch.

    Returns:
        How many spans were taken. Recordings without times have none.

    Raises:
        CollectorError: the collector cannot be reached, or does not take them.
    """
    resource = Resource({"service.name": service, "service.version": __version__})
    sent = done = 0
    rest = iter(session_ids)
    while ids := list(islice(rest, _BATCH)):
        spans = [span for session in _spans(catalog, ids, resource, content=content) for span in session]
        if spans and target.export(spans) is not SpanExportResult.SUCCESS:
            raise CollectorError(target.wire.address, target.wire.problem)
        sent += len(spans)
        done += len(ids)
        if progress:
            progress(done, len(session_ids))
    return sent


def follow(
    catalog: Catalog, target: Exporter, stop: threading.Event, *, seen: set[str], **how: Any
) -> Iterator[tuple[list[str], int]]:
    """Send sessions as they close, until `stop` is set.

    Args:
        catalog: refreshed here.
        target: where to.
        stop: ends it.
        seen: ids that were sent before, or shall not be; those that are sent join them.
        how: as for `send`.

    Yields:
        Which sessions were sent, and with how many spans.

    Raises:
        CollectorError: as `send`; `seen` lacks what was not taken, so that calling again tries it again.
    """
    while True:
        catalog.refresh()
        fresh = [session_id for session_id in closed_sessions(catalog) if session_id not in seen]
        if fresh:
            count = send(catalog, fresh, target, **how)
            seen.update(fresh)
            yield fresh, count
        if stop.wait(POLL_SECONDS):
            return


def _spans(catalog: Catalog, ids: Sequence[str], resource: Resource, *, content: bool) -> Iterator[list[ReadableSpan]]:
    chosen: list[Any] = [list(ids)]
    tables: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, order in _TABLES.items():
        sql = f"SELECT * FROM {name} WHERE list_contains(?, session_id) ORDER BY session_id, {order}"  # noqa: S608 (our own names)
        by_session: dict[str, list[dict[str, Any]]] = {}
        for row in catalog.query(sql, chosen).iter_rows(named=True):
            by_session.setdefault(row["session_id"], []).append(row)
        tables[name] = by_session
    sessions = catalog.query(
        "SELECT *, epoch_ns(opened_at) AS opened_at_ns FROM sessions WHERE list_contains(?, session_id)"
        " ORDER BY opened_at, session_id",
        chosen,
    )
    for row in sessions.iter_rows(named=True):
        own = {name: by_session.get(row["session_id"], []) for name, by_session in tables.items()}
        yield session_spans(row, own, resource=resource, content=content)
