"""`recorder otel`: sessions as traces, for whatever collects OpenTelemetry."""

from __future__ import annotations

import signal
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from recorder.cli import completing, output
from recorder.cli.options import DEFAULT_DATA, DataOption, JsonOption, SinceOption, open_catalog
from recorder.cli.options import since as parse_since
from recorder.cli.progress import progress
from recorder.errors import RecorderError, UsageError

if TYPE_CHECKING:
    from recorder.pipeline.catalog import Catalog
    from recorder.pipeline.traces import Exporter

EXAMPLES = (
    ("recorder otel last", "one session, to a collector on this machine"),
    ("recorder otel --since 7d --endpoint https://collector.example", "those of a week"),
    ("recorder otel --follow", "each as it closes"),
)
_RETRY_SECONDS: Final = 10.0


def otel(
    sessions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SESSIONS",
            autocompletion=completing.sessions,
            help="Prefixes of sessions' ids, the server's sess_… ids, or `last`; all closed ones if absent.",
            show_default=False,
        ),
    ] = None,
    *,
    data: DataOption = DEFAULT_DATA,
    endpoint: Annotated[
        str | None,
        typer.Option(
            envvar="RECORDER_OTLP_ENDPOINT",
            metavar="URL",
            help="The collector (OTLP over HTTP); else what OTEL_EXPORTER_OTLP_ENDPOINT says, or http://localhost:4318.",
            show_default=False,
        ),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            envvar="RECORDER_OTLP_HEADERS",
            metavar="NAME=VALUE",
            help="A header for each request; may be repeated.",
            show_default=False,
        ),
    ] = None,
    since: SinceOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", envvar="RECORDER_FOLLOW", help="Go on: send each session as it closes.")
    ] = False,
    content: Annotated[
        bool,
        typer.Option(
            "--content",
            envvar="RECORDER_OTLP_CONTENT",
            help="Send what was said, too: transcripts, tools' arguments and results.",
        ),
    ] = False,
    service: Annotated[
        str, typer.Option(envvar="OTEL_SERVICE_NAME", metavar="NAME", help="The telemetry's service.name.")
    ] = "realtime-recorder",
    as_json: JsonOption = False,
) -> None:
    """Send sessions as OpenTelemetry traces: a span for each session, response, tool call and stretch of user speech.

    With --follow, sessions that were there at the start are left out unless --since names them. Sending one again sends
    the same spans with the same ids.
    """
    try:
        from recorder.pipeline import traces
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error.name} is not installed",
            hint="pip install '.[otel]' in the recorder's folder brings what sends traces.",
        ) from error

    target = traces.exporter(endpoint, dict(_header(text) for text in header or ()))
    after = None if since is None else parse_since(since, datetime.now(UTC))
    with open_catalog(data) as catalog:
        ids = [catalog.resolve(name) for name in sessions or ()]
        if follow and ids:
            raise UsageError("--follow sends what closes from now on: name no sessions with it")
        if follow:
            seen = set(traces.closed_sessions(catalog))
            seen -= set(traces.closed_sessions(catalog, after)) if after else set()
            _follow(catalog, target, seen, service=service, content=content)
            return
        ids = ids or traces.closed_sessions(catalog, after)
        with progress("sending") as advance:
            spans = traces.send(catalog, ids, target, service=service, content=content, progress=advance)
    if as_json:
        output.print_object({"sessions": len(ids), "spans": spans})
    else:
        output.note(f"{spans:,} spans of {len(ids):,} sessions sent")


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError("--header wants NAME=VALUE")  # not the text itself: it may be a key
    return name.strip().lower(), value.strip()


def _follow(catalog: Catalog, target: Exporter, seen: set[str], **how: Any) -> None:
    from recorder.pipeline import traces

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    output.note("sending sessions as they close; Ctrl-C ends it")
    while not stop.is_set():
        try:
            for ids, spans in traces.follow(catalog, target, stop, seen=seen, **how):
                output.note(f"{spans:,} spans of {len(ids):,} sessions sent")
        except RecorderError as error:  # a collector that is away, a store in the middle of something
            output.note(f"{error.message}; trying again")
            stop.wait(_RETRY_SECONDS)
