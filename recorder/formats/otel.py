"""A session as OpenTelemetry spans: the call, and in it each response, tool call and stretch of user speech.

    realtime MODEL                  the session
      chat MODEL                    a response, from its trigger to its end; first audio and barge-ins are its events
        execute_tool NAME           from the finished arguments to the client's answer
      user speech                   as the server's voice detection saw it

Ids are digests of what they stand for: sending a session again sends the same spans.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from recorder import __version__
from recorder.formats import otel_names as names

Row = Mapping[str, Any]
Tables = Mapping[str, Iterable[Row]]
"""Rows of one session by model: `responses`, `tool_calls`, `speech`, `interruptions`."""

_SCOPE: Final = InstrumentationScope("realtime-recorder", __version__)
_PROVIDERS: Final = (("openai.com", "openai"), ("azure.com", "azure.ai.openai"), ("x.ai", "x_ai"))
_BAD_RESPONSES: Final = frozenset({"failed", "dangling"})
_BAD_SESSIONS: Final = frozenset({"refused", "lost"})


def session_spans(session: Row, tables: Tables, *, resource: Resource, content: bool = False) -> list[ReadableSpan]:
    """The spans of one closed session.

    Args:
        session: its row of `sessions`, with `opened_at_ns` in Unix nanoseconds.
        tables: its other rows.
        resource: whose telemetry it is.
        content: whether what was said may leave: transcripts, arguments and results of tools.

    Returns:
        The session's span first; none for a recording without times.
    """
    if session["opened_at_ns"] is None:
        return []
    maker = _Maker(session, resource, content=content)
    spans = [maker.session()]
    interruptions = list(tables["interruptions"])
    for row in tables["responses"]:
        spans += maker.response(row, [each for each in interruptions if each["response_id"] == row["response_id"]])
    for row in tables["tool_calls"]:
        spans += maker.tool_call(row)
    for row in tables["speech"]:
        spans += maker.speech(row)
    return spans


class _Maker:
    def __init__(self, session: Row, resource: Resource, *, content: bool) -> None:
        self._row = session
        self._resource = resource
        self._content = content
        self._trace_id = uuid.UUID(session["session_id"]).int
        self._origin_ns: int = session["opened_at_ns"]
        self._common = dict(_common(session))
        self._model = session["model"]

    def session(self) -> ReadableSpan:
        row = self._row
        begin_ns = self._origin_ns
        end_ns = begin_ns + round(((row["handshake_seconds"] or 0) + (row["duration_seconds"] or 0)) * 1e9)
        labels = json.loads(row["labels"] or "{}")
        attributes = self._common | _named(row, names.SESSION)
        attributes |= {names.LABEL + str(key): str(value) for key, value in labels.items()}
        wrong = row["status"] if row["status"] in _BAD_SESSIONS else None
        name = _spoken("realtime", self._model)
        return self._span(name, ("session",), None, begin_ns, end_ns, attributes, wrong=wrong)

    def response(self, row: Row, interruptions: list[Row]) -> Iterator[ReadableSpan]:
        begin = row["trigger_at_ns"] if row["trigger_at_ns"] is not None else row["created_at_ns"]
        end = next(
            (row[key] for key in ("done_at_ns", "last_audio_at_ns", "created_at_ns") if row[key] is not None), None
        )
        if begin is None or end is None:
            return
        model = row["model"] or self._model
        attributes = self._common | _named(row, names.RESPONSE)
        attributes |= {
            names.OPERATION: names.CHAT,
            "gen_ai.request.model": model,
            names.OUTPUT_TYPE: "text" if row["audio_ms"] is None else "speech",
            names.FINISH_REASONS: [row["status_reason"] or row["status"]],
        }
        if self._content and row["transcript"]:
            attributes[names.OUTPUT_MESSAGES] = json.dumps(
                [{"role": "assistant", "parts": [{"type": "text", "content": row["transcript"]}]}], ensure_ascii=False
            )
        events = [self._event("first audio", row["first_audio_at_ns"], {})] if row["first_audio_at_ns"] else []
        events += [
            self._event("interruption", each["at_ns"], _named(each, names.INTERRUPTION))
            for each in interruptions
            if each["at_ns"] is not None
        ]
        wrong = row["status_reason"] or row["status"] if row["status"] in _BAD_RESPONSES else None
        name, place = _spoken(names.CHAT, model), self._response_place(row["response_id"], row["response_no"])
        yield self._span(
            name,
            place,
            ("session",),
            self._origin_ns + begin,
            self._origin_ns + max(begin, end),
            attributes,
            kind=SpanKind.CLIENT,
            events=events,
            wrong=wrong,
        )

    def tool_call(self, row: Row) -> Iterator[ReadableSpan]:
        begin = row["arguments_done_at_ns"] if row["arguments_done_at_ns"] is not None else row["started_at_ns"]
        if begin is None:
            return
        end = row["output_at_ns"] if row["output_at_ns"] is not None else begin
        attributes = self._common | _named(row, names.TOOL_CALL)
        attributes |= {names.OPERATION: names.EXECUTE_TOOL, names.TOOL_TYPE: "function"}
        if self._content:
            attributes |= _named(row, names.TOOL_CONTENT)
        parent = ("session",) if row["response_id"] is None else self._response_place(row["response_id"], 0)
        yield self._span(
            _spoken(names.EXECUTE_TOOL, row["name"]),
            ("tool_call", str(row["tool_call_no"])),
            parent,
            self._origin_ns + begin,
            self._origin_ns + max(begin, end),
            attributes,
            wrong="unanswered" if row["unanswered"] else None,
        )

    def speech(self, row: Row) -> Iterator[ReadableSpan]:
        begin = row["voice_start_at_ns"] if row["voice_start_at_ns"] is not None else row["started_at_ns"]
        end = row["voice_end_at_ns"] if row["voice_end_at_ns"] is not None else row["stopped_at_ns"]
        if begin is None or end is None or end < begin:
            return
        place = ("speech", str(row["speech_no"]))
        attributes = self._common | _named(row, names.SPEECH)
        yield self._span("user speech", place, ("session",), self._origin_ns + begin, self._origin_ns + end, attributes)

    @staticmethod
    def _response_place(response_id: str | None, number: int) -> tuple[str, ...]:
        return ("response", response_id if response_id is not None else f"#{number}")

    def _context(self, place: tuple[str, ...]) -> SpanContext:
        digest = hashlib.sha256("\0".join((self._row["session_id"], *place)).encode()).digest()
        span_id = int.from_bytes(digest[:8]) or 1
        return SpanContext(self._trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    def _event(self, name: str, at_ns: int, attributes: Mapping[str, Any]) -> Event:
        return Event(name, attributes=dict(attributes), timestamp=self._origin_ns + at_ns)

    def _span(  # noqa: PLR0917 (what every span has, in its order)
        self,
        name: str,
        place: tuple[str, ...],
        parent: tuple[str, ...] | None,
        begin_ns: int,
        end_ns: int,
        attributes: Mapping[str, Any],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        events: Iterable[Event] = (),
        wrong: str | None = None,
    ) -> ReadableSpan:
        more = {} if wrong is None else {names.ERROR_TYPE: wrong}
        return ReadableSpan(
            name,
            context=self._context(place),
            parent=None if parent is None else self._context(parent),
            resource=self._resource,
            attributes={**attributes, **more},
            events=list(events),
            kind=kind,
            status=Status(StatusCode.UNSET if wrong is None else StatusCode.ERROR, wrong),
            start_time=begin_ns,
            end_time=end_ns,
            instrumentation_scope=_SCOPE,
        )


def _spoken(operation: str, what: str | None) -> str:
    return operation if what is None else f"{operation} {what}"


def _named(row: Row, table: Mapping[str, str]) -> dict[str, Any]:
    """The row's values under their OpenTelemetry names; what is NULL has none."""
    told = ((name, row.get(column)) for column, name in table.items())
    return {name: float(value) if isinstance(value, Decimal) else value for name, value in told if value is not None}


def _common(session: Row) -> Iterator[tuple[str, Any]]:
    upstream = urlsplit(session["upstream"] or "")
    host = upstream.hostname
    if host is not None:
        yield names.SERVER_ADDRESS, host
        yield names.SERVER_PORT, upstream.port or (443 if upstream.scheme == "wss" else 80)
    known = next((name for suffix, name in _PROVIDERS if host is not None and f".{host}".endswith(f".{suffix}")), None)
    yield names.PROVIDER, known or host or "openai"
