"""Sessions as traces, sent to a real HTTP server that reads them as a collector would."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from typer.testing import CliRunner

from recorder.cli.main import app
from recorder.errors import CollectorError, UsageError
from recorder.pipeline import traces
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.imports import import_files

SAMPLES = Path(__file__).parents[2] / "sample_logs" / "v1"


class Collector:
    """What arrived, in order."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.arrived = threading.Semaphore(0)
        handler = type("Handler", (_Handler,), {"collector": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    collector: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.collector.headers.append(
            {name.lower(): value for name, value in self.headers.items()} | {":path": self.path}
        )
        if self.collector.status == 200:
            for one in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.collector.resources.append(attributes(one.resource))
                self.collector.spans += [span for scope in one.scope_spans for span in scope.spans]
        self.send_response(self.collector.status)
        self.send_header("content-length", "0")
        self.end_headers()
        self.collector.arrived.release()

    def log_message(self, *args: object) -> None:
        pass


def attributes(holder: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in holder.attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, str(kind))


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    import_files(tmp_path / "data", [SAMPLES / "barge_in.jsonl", SAMPLES / "tool_call.jsonl"])
    with Catalog(tmp_path / "data") as opened:
        yield opened


def sent(catalog: Catalog, collector: Collector, **how: Any) -> list[Span]:
    exporter = traces.exporter(collector.endpoint, {})
    count = traces.send(catalog, traces.closed_sessions(catalog), exporter, service="calls", **how)
    assert count == len(collector.spans)
    return collector.spans


def test_a_session_is_a_trace_of_what_happened_in_it(catalog: Catalog, collector: Collector) -> None:
    spans = sent(catalog, collector)

    assert collector.headers[0][":path"] == "/v1/traces"
    assert collector.resources[0]["service.name"] == "calls"
    rows = catalog.query("SELECT *, epoch_ns(opened_at) AS ns FROM sessions ORDER BY opened_at").to_dicts()
    roots = [span for span in spans if not span.parent_span_id]
    assert [attributes(span)["recorder.session_id"] for span in roots] == [row["session_id"] for row in rows]
    for root, row in zip(roots, rows, strict=True):
        assert root.trace_id.hex() == row["session_id"].replace("-", "")
        assert root.name == f"realtime {row['model']}"
        assert root.start_time_unix_nano == row["ns"]
        assert attributes(root)["gen_ai.usage.input_tokens"] == row["input_tokens"]
        assert attributes(root)["gen_ai.conversation.id"] == row["server_session_id"]
        inside = [span for span in spans if span.trace_id == root.trace_id]
        assert all(root.start_time_unix_nano <= span.start_time_unix_nano for span in inside)
        assert all(span.end_time_unix_nano <= root.end_time_unix_nano for span in inside)
        assert len({span.span_id for span in inside}) == len(inside)


def test_responses_carry_their_latency_tokens_and_barge_ins(catalog: Catalog, collector: Collector) -> None:
    spans = [span for span in sent(catalog, collector) if span.name.startswith("chat ")]

    rows = catalog.query(
        "SELECT responses.*, epoch_ns(sessions.opened_at) AS ns FROM responses JOIN sessions USING (session_id)"
        " ORDER BY sessions.opened_at, response_no"
    ).to_dicts()
    assert [attributes(span)["gen_ai.response.id"] for span in spans] == [row["response_id"] for row in rows]
    for span, row in zip(spans, rows, strict=True):
        told = attributes(span)
        assert span.kind == Span.SPAN_KIND_CLIENT
        assert (told["gen_ai.operation.name"], told["gen_ai.provider.name"]) == ("chat", "127.0.0.1")
        assert told.get("gen_ai.usage.output_tokens") == row["output_tokens"]
        assert told.get("gen_ai.response.time_to_first_chunk") == row["time_to_first_token_seconds"]
        assert span.end_time_unix_nano - row["ns"] == row["done_at_ns"]
        first = [event.time_unix_nano - row["ns"] for event in span.events if event.name == "first audio"]
        assert first == [row["first_audio_at_ns"]] * (row["first_audio_at_ns"] is not None)
        assert "gen_ai.output.messages" not in told
    barge_ins = [event for span in spans for event in span.events if event.name == "interruption"]
    heard = catalog.query("SELECT heard_ms FROM interruptions")["heard_ms"].to_list()
    assert [attributes(event)["recorder.heard_ms"] for event in barge_ins] == heard != []


def test_a_tool_call_lies_in_its_response(catalog: Catalog, collector: Collector) -> None:
    spans = sent(catalog, collector)

    (tool,) = [span for span in spans if span.name.startswith("execute_tool")]
    (row,) = catalog.query("SELECT * FROM tool_calls").to_dicts()
    told = attributes(tool)
    assert (told["gen_ai.tool.name"], told["gen_ai.tool.call.id"]) == (row["name"], row["call_id"])
    assert "gen_ai.tool.call.arguments" not in told
    assert (tool.end_time_unix_nano - tool.start_time_unix_nano) / 1e9 == pytest.approx(row["execution_seconds"])
    (parent,) = [span for span in spans if span.span_id == tool.parent_span_id]
    assert attributes(parent)["gen_ai.response.id"] == row["response_id"]


def test_what_was_said_leaves_only_when_asked(catalog: Catalog, collector: Collector) -> None:
    spans = sent(catalog, collector, content=True)

    (tool,) = [span for span in spans if span.name.startswith("execute_tool")]
    (row,) = catalog.query("SELECT * FROM tool_calls").to_dicts()
    assert attributes(tool)["gen_ai.tool.call.result"] == row["output"]
    told = [attributes(span).get("gen_ai.output.messages") for span in spans]
    said = [json.loads(text)[0]["parts"][0]["content"] for text in told if text is not None]
    transcripts = catalog.query("SELECT transcript FROM responses WHERE transcript IS NOT NULL")["transcript"]
    assert sorted(said) == sorted(text for text in transcripts.to_list() if text)


def test_sending_again_sends_the_same_spans(catalog: Catalog, collector: Collector) -> None:
    once = [span.SerializeToString() for span in sent(catalog, collector)]
    collector.spans.clear()

    assert [span.SerializeToString() for span in sent(catalog, collector)] == once


def test_a_collector_that_refuses_is_an_error(catalog: Catalog, collector: Collector) -> None:
    collector.status = 400

    with pytest.raises(CollectorError, match=r"/v1/traces did not take the spans: 400 Bad Request$"):
        sent(catalog, collector)


def test_a_collector_that_is_not_there_is_an_error_that_says_so(
    catalog: Catalog, collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")  # of all attempts
    target = traces.exporter(collector.endpoint, {})
    collector.server.shutdown()  # before it is closed: the kernel listens on for as long as a thread waits for it
    collector.server.server_close()

    with pytest.raises(CollectorError, match=r"/v1/traces did not take the spans: Connection refused$"):
        traces.send(catalog, traces.closed_sessions(catalog), target, service="calls")
    assert caplog.messages == []


def test_an_address_that_is_none() -> None:
    with pytest.raises(UsageError, match="no address of a collector"):
        traces.exporter("collector:4318", {})


def test_sessions_are_sent_as_they_close(catalog: Catalog, collector: Collector) -> None:
    stop = threading.Event()
    seen = set(traces.closed_sessions(catalog))
    exporter = traces.exporter(collector.endpoint, {})
    import_files(catalog.data_dir, [SAMPLES / "voice_turn.jsonl"])

    for ids, count in traces.follow(catalog, exporter, stop, seen=seen, service="calls"):
        assert not seen.isdisjoint(ids)
        assert [span.name.split()[0] for span in collector.spans] == ["realtime", "chat", "user"]
        assert count == 3
        stop.set()

    assert len(seen) == 3


def test_the_command(catalog: Catalog, collector: Collector) -> None:
    where = ["--data", str(catalog.data_dir), "--endpoint", collector.endpoint]

    result = CliRunner().invoke(app, ["otel", *where, "--header", "X-Key=abc", "--json"])

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"sessions": 2, "spans": len(collector.spans)}
    assert collector.headers[0]["x-key"] == "abc"
    assert CliRunner().invoke(app, ["otel", *where, "--header", "secret"]).exit_code != 0
