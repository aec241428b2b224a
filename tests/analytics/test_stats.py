"""Aggregates, worked by hand from a handful of rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from recorder.analytics.engine import Engine
from recorder.analytics.prices import Price
from recorder.analytics.stats import aggregates, measure, sessions_to_rebuild, unpriced_models
from recorder.errors import UsageError

FIRST, SECOND = date(2026, 9, 1), date(2026, 9, 2)
MONEY = pytest.approx

# One model with a price of round numbers: a dollar a million of text, ten of audio, a tenth of that from the cache.
PRICES = (
    Price(
        model="m",
        rank=0,
        provider="",
        source="here",
        input_text_usd=Decimal(1),
        input_audio_usd=Decimal(10),
        cached_text_usd=Decimal("0.1"),
        cached_audio_usd=Decimal(1),
        output_text_usd=Decimal(2),
        output_audio_usd=Decimal(20),
        hour_usd=Decimal("3.6"),
    ),
)


def session(name: str, day: date | None, **more: Any) -> dict[str, Any]:
    opened = None if day is None else datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    facts = {"model": "m", "status": "closed", "labels": "{}", "upstream": "wss://one", "source": "proxy"}
    return {"session_id": name, "date": day, "opened_at": opened, **facts, **more}


SESSIONS = [
    session("a", FIRST, duration_seconds=60.0, labels='{"team": "blue"}', turn_count=4, talk_ratio=0.25),
    session("b", FIRST, duration_seconds=180.0, labels='{"team": "red"}', turn_count=6, talk_ratio=0.75),
    session("c", SECOND, model="n", status="refused", upstream="wss://two", turn_count=0),
    session("d", None, model="n", status="lost", turn_count=1),
]


def response(name: str, number: int, **more: Any) -> dict[str, Any]:
    facts = {"response_id": f"{name}{number}", "out_of_band": False, "model": "m", "trigger": "vad"}
    return {"session_id": name, "response_no": number, "status": "completed", **facts, **more}


def billed(name: str, number: int, **more: Any) -> dict[str, Any]:
    kinds = ("uncached_text", "uncached_audio", "uncached_image", "cached_text", "cached_audio", "cached_image")
    zero = dict.fromkeys([f"{kind}_tokens" for kind in (*kinds, "output_text", "output_audio")], 0)
    flags = dict.fromkeys(("split_estimated", "cached_split_estimated", "seconds_estimated"), False)
    facts = {"kind": "response", "model": "m", "billed_by": "tokens", "position": number, "response_no": number}
    return {"session_id": name, "usage_no": number, **facts, **zero, **flags, **more}


RESPONSES = [
    # Twenty waits of 0.1 … 2.0 s in session a, on the first day; two in b; one out of band, one that fell silent.
    *(response("a", n, time_to_first_audio_seconds=n / 10, audio_ms=1000.0, stall_count=0) for n in range(1, 21)),
    response("b", 1, time_to_first_audio_seconds=0.2, audio_ms=500.0, stall_count=2, stall_ms=700.0),
    response("b", 2, time_to_first_audio_seconds=0.4, status="cancelled", trigger="client"),
    response("b", 3, time_to_first_audio_seconds=9.0, out_of_band=True, status="failed"),
    response("d", 1, model="n", status="dangling"),
]
USAGE = [
    billed("a", 1, input_tokens=1000, cached_tokens=400, output_tokens=50, total_tokens=1050)
    | {"uncached_text_tokens": 600, "cached_text_tokens": 400, "output_text_tokens": 50},
    billed("b", 1, input_tokens=100, output_tokens=10, total_tokens=110, split_estimated=True)
    | {"uncached_audio_tokens": 100, "output_audio_tokens": 10, "response_id": "b1"},
    billed("b", 2, kind="transcription", model="whisper", billed_by="seconds", audio_seconds=5.0),
    billed("d", 1, kind="session", billed_by="seconds", audio_seconds=2.0),
]
CUTS = [
    {"interruption_no": 1, "response_id": "a1", "item_id": "i1", "position": 5, "source": "server_vad"}
    | {"unheard_ms": 400.0, "false_barge_in": True, "truncate_status": "ok", "reaction_seconds": 0.1},
    {"interruption_no": 2, "response_id": "a1", "item_id": "i1", "position": 9, "source": "server_vad"}
    | {"unheard_ms": 400.0, "false_barge_in": False, "truncate_status": "missing", "reaction_seconds": 0.3},
    {"interruption_no": 3, "response_id": "a2", "item_id": "i2", "position": 12, "source": "client"}
    | {"unheard_ms": 100.0, "truncate_status": "late"},
]
TABLES: dict[str, list[dict[str, Any]]] = {
    "sessions": SESSIONS,
    "responses": RESPONSES,
    "usage": USAGE,
    "interruptions": [
        *({"session_id": "a", "out_of_band": False, **cut} for cut in CUTS),
        {"session_id": "b", "interruption_no": 1, "response_id": "b1", "item_id": "i3", "position": 3}
        | {"out_of_band": False, "source": "server_vad", "unheard_ms": 250.0, "truncate_status": "not_needed"},
        {"session_id": "b", "interruption_no": 2, "out_of_band": True, "unheard_ms": 9000.0},
    ],
    "contexts": [
        {"session_id": "a", "response_no": 2, "input_tokens": 900, "context_truncated": True, "dropped_tokens": 100}
        | {"cache_bust": False},
        {"session_id": "a", "response_no": 1, "input_tokens": 800, "context_truncated": False, "cache_bust": True}
        | {"lost_cached_text_tokens": 1000, "lost_cached_audio_tokens": 0, "lost_cached_image_tokens": 0}
        | {"cache_bust_cause": "idle_expiry"},
        {"session_id": "b", "response_no": 1, "input_tokens": 50},
    ],
    "tool_calls": [
        {"session_id": "a", "tool_call_no": 1, "name": "weather", "unanswered": False, "arguments_valid": True}
        | {"execution_seconds": 0.2, "resume_seconds": 1.0, "output_bytes": 10},
        {"session_id": "a", "tool_call_no": 2, "name": "weather", "unanswered": False, "arguments_valid": True}
        | {"execution_seconds": 0.6, "output_bytes": 30},
        {"session_id": "b", "tool_call_no": 1, "name": "order", "unanswered": True, "arguments_valid": False},
    ],
    "mcp_calls": [
        {"session_id": "a", "mcp_call_no": 1, "kind": "call", "server_label": "docs", "status": "completed"}
        | {"duration_seconds": 2.0, "approval_request_id": "r", "approved": True, "approval_wait_seconds": 5.0},
        {"session_id": "a", "mcp_call_no": 2, "kind": "call", "server_label": "docs", "status": "failed"}
        | {"duration_seconds": 4.0},
        {"session_id": "b", "mcp_call_no": 1, "kind": "approval", "server_label": "docs", "status": "denied"}
        | {"approval_request_id": "q", "approved": False},
    ],
    "transcriptions": [
        {"session_id": "a", "transcription_no": 1, "model": "whisper", "status": "completed"}
        | {"transcription_seconds": 0.5, "first_delta_seconds": 0.2, "mean_logprob": -0.1},
        {"session_id": "b", "transcription_no": 1, "model": "whisper", "status": "failed", "error_code": "silence"},
    ],
    "errors": [
        {"session_id": "a", "error_no": 1, "type": "bad", "code": "x", "cause_confidence": "exact"},
        {"session_id": "a", "error_no": 2, "type": "bad", "code": "x", "cause_confidence": "inferred"},
        {"session_id": "b", "error_no": 1, "type": "bad", "code": "y", "cause_confidence": "none"},
        {"session_id": "b", "error_no": 2, "type": "bad", "code": "x", "cause_confidence": "none"},
    ],
    "rate_limits": [
        {"session_id": "a", "rate_limit_no": 1, "name": "tokens", "limit_value": 100.0}
        | {"remaining_value": 80.0, "remaining_ratio": 0.8},
        {"session_id": "a", "rate_limit_no": 2, "name": "tokens", "limit_value": 100.0}
        | {"remaining_value": 5.0, "remaining_ratio": 0.05},
        {"session_id": "b", "rate_limit_no": 1, "name": "requests", "limit_value": 10.0}
        | {"remaining_value": 9.0, "remaining_ratio": 0.9},
    ],
    "pacing": [
        {"session_id": "a", "audio_seconds": 30.0, "pace": 1.0, "pace_without_gaps": 1.0, "gap_count": 0}
        | {"gap_seconds": 0.0},
        {"session_id": "b", "audio_seconds": 90.0, "pace": 0.8, "pace_without_gaps": 1.2, "gap_count": 3}
        | {"gap_seconds": 6.0, "longest_gap_seconds": 4.0},
    ],
    "proxy_overhead": [
        {"session_id": "a", "direction": "client", "n": 300, "mean_seconds": 2e-5, "p50_seconds": 1e-5}
        | {"p99_seconds": 1e-4, "max_seconds": 2e-4},
        {"session_id": "a", "direction": "server", "n": 10, "mean_seconds": 3e-5, "p50_seconds": 3e-5}
        | {"max_seconds": 5e-5},
        {"session_id": "b", "direction": "client", "n": 100, "mean_seconds": 6e-5, "p50_seconds": 5e-5}
        | {"p99_seconds": 7e-5, "max_seconds": 1e-3},
    ],
}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(prices=PRICES) as opened:
        names = {table: list(dict.fromkeys(key for row in rows for key in row)) for table, rows in TABLES.items()}
        opened.update(
            live={
                table: pa.table({name: [row.get(name) for row in rows] for name in names[table]})
                for table, rows in TABLES.items()
            }
        )
        yield opened


@pytest.fixture(scope="module")
def nothing() -> Iterator[Engine]:
    with Engine() as opened:
        yield opened


def ask(engine: Engine, name: str, *by: str, **period: datetime) -> list[dict[str, Any]]:
    return measure(engine, name, by=by, **period).to_dicts()


def of(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def test_sessions(engine: Engine) -> None:
    (row,) = ask(engine, "sessions")
    assert (row["n"], row["running"], row["refused"], row["lost"], row["turns"]) == (4, 0, 1, 1, 11)
    assert (row["minutes"], row["duration_n"], row["duration_p50_seconds"]) == (4.0, 2, 120.0)
    assert row["duration_p95_seconds"] is None
    assert row["mean_talk_ratio"] == 0.5
    assert of(ask(engine, "sessions", "day"), "day", "n") == [(FIRST, 2), (SECOND, 1), (None, 1)]
    assert of(ask(engine, "sessions", "upstream"), "upstream", "n") == [("wss://one", 3), ("wss://two", 1)]


def test_labels_and_several_dimensions(engine: Engine) -> None:
    rows = ask(engine, "sessions", "label:team", "model")
    assert list(rows[0])[:3] == ["label:team", "model", "n"]
    assert of(rows, "label:team", "model", "n") == [("blue", "m", 1), ("red", "m", 1), (None, "n", 2)]


def test_periods(engine: Engine) -> None:
    noon = datetime(2026, 9, 2, 12, tzinfo=UTC)
    assert ask(engine, "sessions", since=noon)[0]["n"] == 1
    assert ask(engine, "sessions", until=noon)[0]["n"] == 2
    assert ask(engine, "sessions", "label:team", since=noon, until=noon) == []
    assert ask(engine, "sessions", since=noon, until=noon)[0]["n"] == 0


def test_percentiles_need_enough_values(engine: Engine) -> None:
    """Twenty values of 0.1 … 2.0: between the 10th and 11th, and 0.05 below the step from the 19th to the 20th."""
    rows = ask(engine, "latency", "session")
    assert of(rows, "session", "metric", "n", "p99_seconds", "worst_seconds") == [
        ("a", "first_audio", 20, None, 2.0),
        ("b", "first_audio", 2, None, 0.4),
    ]
    assert [row["p50_seconds"] for row in rows] == pytest.approx([1.05, 0.3])
    assert rows[0]["p95_seconds"] == pytest.approx(1.9 + 0.05 * 0.1)
    assert rows[1]["p95_seconds"] is None
    assert of(ask(engine, "latency", "trigger"), "trigger", "n") == [("client", 1), ("vad", 21)]


def test_responses(engine: Engine) -> None:
    everything, other = ask(engine, "responses", "model")
    assert (everything["n"], everything["completed"], everything["cancelled"], everything["failed"]) == (23, 21, 1, 1)
    assert everything["failure_ratio"] == pytest.approx(1 / 23)
    assert (everything["spoken"], everything["stalled"], everything["stall_seconds"]) == (21, 1, 0.7)
    assert everything["stall_ratio"] == pytest.approx(1 / 21)
    assert (other["model"], other["dangling"], other["failure_ratio"], other["stall_ratio"]) == ("n", 1, 1.0, None)


def test_usage(engine: Engine) -> None:
    (row,) = ask(engine, "usage")
    assert (row["n"], row["input_tokens"], row["cached_tokens"], row["total_tokens"]) == (4, 1100, 400, 1160)
    assert (row["input_text_tokens"], row["input_audio_tokens"], row["output_audio_tokens"]) == (1000, 100, 10)
    assert (row["cache_hit_ratio"], row["audio_seconds"], row["estimated"]) == (0.4, 7.0, 1)
    rows = ask(engine, "usage", "kind")
    assert of(rows, "kind", "n", "audio_seconds") == [
        ("response", 2, None),
        ("session", 1, 2.0),
        ("transcription", 1, 5.0),
    ]


def test_cost(engine: Engine) -> None:
    """a: 600 × 1 + 400 × 0.1 + 50 × 2 = 740 millionths; b: 100 × 10 + 10 × 20 = 1200; d: 2 s at a tenth of a cent."""
    (row,) = ask(engine, "cost")
    assert (row["n"], row["sessions"], row["unpriced"]) == (4, 3, 1)
    assert row["cost_usd"] == Decimal("0.00394")
    assert row["cache_saving_usd"] == Decimal("0.00036")
    assert row["audio_time_cost_usd"] == Decimal("0.002")
    assert row["minutes"] == 1.0  # b has a part without a price, d no length
    assert row["cost_per_minute_usd"] == MONEY(0.00074)
    assert row["cost_per_session_usd"] == MONEY((0.00074 + 0.002) / 2)
    rows = ask(engine, "cost", "model", "day")
    assert of(rows, "model", "day", "cost_usd") == [
        ("m", FIRST, Decimal("0.00194")),
        ("m", None, Decimal("0.002")),
        ("whisper", FIRST, None),
    ]
    assert rows[0]["cost_per_minute_usd"] == MONEY(0.00194 / 4)
    assert unpriced_models(engine) == ["whisper"]
    assert unpriced_models(engine, since=datetime(2026, 9, 2, tzinfo=UTC)) == []


def test_sessions_from_before_there_was_usage() -> None:
    rows = [session("old", FIRST, total_tokens=9), session("new", FIRST, total_tokens=9), session("mute", FIRST)]
    names = list(dict.fromkeys(key for row in rows for key in row))
    tables = {"sessions": rows, "usage": [billed("new", 1, total_tokens=9)]}
    with Engine() as opened:
        for table, all_rows in tables.items():
            columns = names if table == "sessions" else list(all_rows[0])
            opened.set_live(table, pa.table({name: [row.get(name) for row in all_rows] for name in columns}))
        assert sessions_to_rebuild(opened) == 1
        assert sessions_to_rebuild(opened, since=datetime(2026, 9, 2, tzinfo=UTC)) == 0


def test_interruptions(engine: Engine) -> None:
    """An item that was cut twice was wasted once; nobody heard half of b's 10 × 20 millionths of audio."""
    (row,) = ask(engine, "interruptions")
    assert (row["spoken"], row["n"], row["interrupted"]) == (21, 4, 3)
    assert row["interruption_ratio"] == pytest.approx(3 / 21)
    assert (row["false_barge_ins"], row["false_barge_in_ratio"]) == (1, 0.5)
    assert (row["reaction_n"], row["reaction_p50_seconds"], row["stop_p50_seconds"]) == (2, 0.2, None)
    assert row["unheard_seconds"] == pytest.approx(0.75)
    assert (row["truncates_missing"], row["truncates_wrong"], row["truncate_fault_ratio"]) == (1, 1, 0.5)
    assert row["wasted_cost_usd"] == Decimal("0.0001")
    assert of(ask(engine, "interruptions", "source"), "source", "n") == [("client", 1), ("server_vad", 3), (None, 0)]


def test_context(engine: Engine) -> None:
    """1000 tokens of text lost their cache: 0.9 millionths each."""
    (row,) = ask(engine, "context")
    assert (row["n"], row["truncated"], row["truncation_ratio"], row["dropped_tokens"]) == (2, 1, 0.5, 100)
    assert (row["cache_n"], row["cache_busts"], row["cache_bust_ratio"]) == (2, 1, 0.5)
    assert (row["extra_cost_usd"], row["largest_input_tokens"]) == (Decimal("0.0009"), 900)


def test_tools(engine: Engine) -> None:
    rows = ask(engine, "tools", "name")
    assert of(rows, "name", "n", "unanswered", "invalid_arguments") == [("weather", 2, 0, 0), ("order", 1, 1, 1)]
    assert (rows[0]["execution_n"], rows[0]["execution_p50_seconds"]) == (2, pytest.approx(0.4))
    assert (rows[0]["resume_n"], rows[0]["resume_p50_seconds"], rows[0]["mean_output_bytes"]) == (1, 1.0, 20.0)
    assert rows[1]["execution_p50_seconds"] is None


def test_mcp(engine: Engine) -> None:
    rows = ask(engine, "mcp", "server", "kind")
    assert of(rows, "server", "kind", "n", "failed", "duration_p50_seconds") == [
        ("docs", "call", 2, 1, 3.0),
        ("docs", "approval", 1, 0, None),
    ]
    assert of(rows, "approvals_asked", "approvals_denied", "approval_p50_seconds") == [(1, 0, 5.0), (1, 1, None)]


def test_transcription(engine: Engine) -> None:
    (row,) = ask(engine, "transcription", "model")
    assert (row["n"], row["failed"], row["failure_ratio"], row["transcription_n"]) == (2, 1, 0.5, 1)
    assert (row["transcription_p50_seconds"], row["first_delta_p50_seconds"], row["mean_logprob"]) == (0.5, 0.2, -0.1)


def test_errors(engine: Engine) -> None:
    rows = ask(engine, "errors", "type", "code")
    assert of(rows, "code", "n", "sessions", "cause_exact", "cause_inferred") == [("x", 3, 2, 1, 1), ("y", 1, 1, 0, 0)]


def test_limits(engine: Engine) -> None:
    rows = ask(engine, "limits")
    assert of(rows, "limit", "n", "lowest_ratio", "below_tenth") == [("requests", 1, 0.9, 0), ("tokens", 2, 0.05, 1)]
    assert of(rows, "largest_limit", "least_remaining") == [(10.0, 9.0), (100.0, 5.0)]


def test_pacing(engine: Engine) -> None:
    (row,) = ask(engine, "pacing")
    assert (row["n"], row["pace_p50"], row["off_pace"], row["off_pace_ratio"]) == (2, 0.9, 1, 0.5)
    assert (row["gaps"], row["gap_seconds"], row["longest_gap_seconds"], row["audio_minutes"]) == (3, 6.0, 4.0, 2.0)


def test_proxy(engine: Engine) -> None:
    """Means weigh by what was measured: (300 × 20 + 100 × 60) ÷ 400 µs."""
    client, server = ask(engine, "proxy", "direction")
    assert (client["n"], client["measured"], client["mean_seconds"]) == (2, 400, pytest.approx(3e-5))
    assert (client["p50_seconds"], client["p99_n"], client["worst_p99_seconds"]) == (pytest.approx(3e-5), 2, 1e-4)
    assert client["worst_seconds"] == 1e-3
    assert (server["n"], server["worst_p99_seconds"], server["worst_seconds"]) == (1, None, 5e-5)


@pytest.mark.parametrize("name", aggregates())
def test_every_aggregate_in_every_dimension(engine: Engine, nothing: Engine, name: str) -> None:
    one = aggregates()[name]
    figures = [column.name for column in one.columns]
    for dimension in (*one.dimensions, "label:it's $.odd"):
        frame = measure(engine, name, by=[dimension])
        assert frame.columns == [*dict.fromkeys([dimension, *([one.always] if one.always else [])]), *figures]
    assert set(one.by) <= set(one.dimensions)
    assert {one.trend, *one.brief} <= set(figures)
    assert one.order in {None, *figures}
    assert measure(nothing, name, by=[]).height == (0 if one.always else 1)
    assert measure(nothing, name).height == 0


@pytest.mark.parametrize("name", aggregates())
def test_the_sql_is_portable(name: str) -> None:
    """Words that one engine knows and others do not."""
    query = aggregates()[name].query.lower()
    for word in (
        "::",
        "median(",
        "quantile",
        "filter",
        "ilike",
        "any_value",
        "arg_m",
        "struct",
        "list",
        "exclude",
        "try_cast",
    ):
        assert word not in query, word


@pytest.mark.parametrize(
    ("name", "by", "problem"),
    [
        ("nope", None, "there are no statistics called 'nope'"),
        ("cost", ["trigger"], "cost cannot be grouped by 'trigger'"),
        ("cost", ["label:"], "cost cannot be grouped by 'label:'"),
        ("cost", ['label:a"b'], "cost cannot be grouped by"),
        ("cost", ["day; DROP TABLE x"], "cost cannot be grouped by"),
    ],
)
def test_what_there_is_not(engine: Engine, name: str, by: list[str] | None, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        measure(engine, name, by=by)
    assert caught.value.hint
