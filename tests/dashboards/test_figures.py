import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import words
from dashboards.figures import over_time
from dashboards.figures.base import as_json, plain, plotly_script, styled
from dashboards.figures.rows import TimelineRows
from dashboards.figures.timeline import LANES, timeline
from dashboards.queries import Steps

STEPS = Steps(1_000_000.0, 1_007_200.0, 3600)


def traces(figure: Any) -> dict[str, Any]:
    return {trace["name"]: trace for trace in json.loads(as_json(figure))["data"]}


def test_plain_text_has_no_markup_left() -> None:
    assert plain("<a href='x'>&amp;</a>") == "&lt;a href='x'&gt;&amp;amp;&lt;/a&gt;"
    assert plain("a\u202eb\x00\u2066c\nd") == "a\ufffdb\ufffd\ufffdc\ufffdd"
    assert plain("x" * 200) == "x" * 89 + "…"


@given(st.text())
def test_plain_text_never_opens_a_tag(text: str) -> None:
    assert "<" not in plain(text)
    assert ">" not in plain(text)


def test_the_script_comes_with_the_installed_package() -> None:
    assert b"Plotly" in plotly_script()[:100_000]


def test_sessions_are_bars_at_their_bucket() -> None:
    rows = pl.DataFrame({"bucket": [1_000_000, 1_003_600], "sessions": [3, 5]})
    figure = over_time.sessions(rows, STEPS, "light")
    bars = traces(figure)["Sessions"]
    assert bars["x"] == [1_000_000_000, 1_003_600_000]
    assert bars["y"] == [3, 5]
    assert json.loads(as_json(figure))["layout"]["xaxis"]["range"] == [1_000_000_000, 1_007_200_000]


@pytest.mark.parametrize(("counts", "whole"), [([], True), ([0], True), ([2, 1], True), ([5], True), ([3, 6], False)])
def test_few_things_are_counted_in_whole_numbers(counts: list[int], whole: bool) -> None:
    columns = ("bucket", "interruptions", "interrupted", "spoken")
    numbers = [(step, n, n, 2 * n) for step, n in enumerate(counts)]
    rows = pl.DataFrame(numbers, schema=dict.fromkeys(columns, pl.Int64), orient="row")
    axis = json.loads(as_json(over_time.interruptions(rows, STEPS, "light")))["layout"]["yaxis"]
    assert (axis.get("dtick") == 1) == whole
    assert not whole or axis["range"][1] >= max([1, *counts])


def test_tokens_stack_and_unknown_ones_count_as_none() -> None:
    rows = pl.DataFrame(
        {"bucket": [1], "uncached_input_tokens": [10], "cached_input_tokens": [None], "output_tokens": [7]},
        schema_overrides={"cached_input_tokens": pl.Int64},
    )
    drawn = traces(over_time.tokens(rows, STEPS, "dark"))
    assert [drawn[name]["y"] for name in ("Input, cached", "Input", "Output")] == [[0], [10], [7]]


def test_percentiles_without_enough_samples_are_gaps_not_zeros() -> None:
    rows = pl.DataFrame(
        {
            "bucket": [0, 3600],
            "first_audio_n": [3, 25],
            "first_audio_p50": [0.4, 0.5],
            "first_audio_p95": [None, 0.9],
            "first_audio_p99": [None, None],
        },
        schema_overrides={"first_audio_p99": pl.Float64},
    )
    points = pl.DataFrame(
        {"at_seconds": [12.5], "seconds": [0.4], "session_id": ["s"], "response_no": [1], "position": [7]}
    )
    drawn = traces(over_time.latency(rows, points, STEPS, "light"))
    assert drawn["p95"]["y"] == [None, 0.9]
    assert drawn["p99"]["visible"] == "legendonly"
    assert drawn[words.CHART_RESPONSE]["x"] == [12_500]
    assert drawn[words.CHART_RESPONSE]["customdata"] == [[1, "s", 7]]


def test_charts_of_nothing_are_empty_axes() -> None:
    columns = ("bucket", "sessions", "interruptions", "interrupted", "spoken", "priced", "unpriced")
    rows = pl.DataFrame(schema=dict.fromkeys((*columns, "cost_usd", "cost_per_minute_usd"), pl.Int64))
    assert traces(over_time.sessions(rows, STEPS, "light"))["Sessions"]["x"] == []
    assert traces(over_time.interruptions(rows, STEPS, "light"))["Interruptions"]["y"] == []
    assert traces(over_time.cost(rows, STEPS, "light"))[words.CHART_COST]["y"] == []
    assert traces(over_time.cost_per_minute(rows, STEPS, "light"))[words.CHART_COST_PER_MINUTE]["y"] == []


def test_interruptions_say_of_how_many_responses() -> None:
    rows = pl.DataFrame({"bucket": [0, 3600], "interruptions": [3, 0], "interrupted": [2, 0], "spoken": [16, 0]})
    bars = traces(over_time.interruptions(rows, STEPS, "light"))["Interruptions"]
    assert bars["customdata"] == [["12\u202f%", 16], ["–", 0]]


def test_an_unknown_cost_is_a_gap_and_never_nothing() -> None:
    columns = {"cost_usd": [1.5, None], "cost_per_minute_usd": [0.25, None], "priced": [2, 0], "unpriced": [1, 3]}
    rows = pl.DataFrame({"bucket": [0, 3600], **columns})
    bars = traces(over_time.cost(rows, STEPS, "light"))[words.CHART_COST]
    assert bars["y"] == [1.5, None]
    assert bars["customdata"] == [["$1.50", 2, ", 1 unpriced"], ["–", 0, ", 3 unpriced"]]
    line = traces(over_time.cost_per_minute(rows, STEPS, "dark"))[words.CHART_COST_PER_MINUTE]
    assert line["y"] == [0.25, None]
    assert line["customdata"][0] == ["$0.2500", 2]


MARKS = {
    "position": [0, 2, 5],
    "monotonic_ns": [0, 1_000_000_000, 2_000_000_000],
    "direction": ["recorder", "client", "server"],
    "type": ["recorder.session_opened", "session.update", "error"],
    "item_id": [None, None, None],
    "response_id": [None, None, None],
    "total": [3, 3, 3],
}
RUNS = {
    "direction": ["server"], "type": ["response.output_audio.delta"], "response_id": ["r"], "first_position": [7],
    "last_position": [9], "start_ns": [1_500_000_000], "end_ns": [1_700_000_000], "n": [3], "audio_ms": [300.0],
}  # fmt: skip
ASSISTANT = {
    "speaker": "assistant", "item_id": "a", "text": "<b>Hello</b>", "started_at_ns": 1_500_000_000,
    "ended_at_ns": 2_100_000_000, "position": 7, "last_position": 17, "audio_ms": 1000.0, "heard_ms": 600.0,
}  # fmt: skip
RESPONSE = {
    "response_no": 1, "status": "cancelled", "status_reason": "turn_detected", "audio_ms": 1000.0,
    "trigger_at_ns": 1_000_000_000, "created_at_ns": 1_200_000_000, "done_at_ns": 2_200_000_000,
    "first_audio_at_ns": 1_500_000_000, "last_audio_at_ns": 1_700_000_000, "first_audio_position": 6,
    "stall_count": 2, "stall_ms": 350.0,
    "trigger_position": 3, "created_position": 4, "done_position": 20,
}  # fmt: skip
CUT = {"at_ns": 2_100_000_000, "position": 18, "source": "server_vad", "unheard_ms": 400.0, "wasted_cost_usd": None}
ERROR = {"position": 5, "code": None, "type": "server_error", "message": "<b>no</b>"}
CONTEXT = {
    "position": 4, "at_ns": 1_200_000_000, "context_truncated": True, "dropped_tokens": 1200, "cache_bust": True,
    "cache_bust_cause": "truncation", "previous_cached_tokens": 640, "cached_tokens": 64,
}  # fmt: skip
CALL = {
    "name": "weather", "position": 8, "output_position": 12, "started_at_ns": 1_000_000_000,
    "arguments_done_at_ns": 1_250_000_000, "output_at_ns": 1_750_000_000,
}  # fmt: skip
SPEECH = {
    "item_id": "u",
    "started_at_ns": 200_000_000,
    "stopped_at_ns": 900_000_000,
    "start_position": 1,
    "stop_position": 3,
}
TYPED = {
    "speaker": "user", "item_id": "t", "text": "typed", "started_at_ns": 950_000_000, "ended_at_ns": None,
    "position": 3, "last_position": None, "modality": "text", "audio_ms": None, "heard_ms": None,
}  # fmt: skip


def rows(*, timed: bool, **changes: Any) -> TimelineRows:
    made: dict[str, Any] = {
        "speech": [SPEECH], "turns": [ASSISTANT, TYPED], "responses": [RESPONSE], "tool_calls": [CALL],
        "interruptions": [CUT], "errors": [ERROR], "contexts": [CONTEXT],
        "marks": pl.DataFrame(MARKS), "runs": pl.DataFrame(RUNS),
    }  # fmt: skip
    return TimelineRows(timed=timed, **(made | changes))


def span(trace: dict[str, Any]) -> tuple[float, float]:
    return trace["base"][0], trace["x"][0]


def test_heard_and_unheard_audio_meet_where_the_caller_cut_in() -> None:
    drawn = traces(timeline(rows(timed=True), "light"))
    assert span(drawn[words.SPAN_HEARD]) == pytest.approx((1.5, 0.6))
    assert span(drawn[words.SPAN_UNHEARD]) == pytest.approx((2.1, 0.4))
    assert span(drawn[words.SPAN_RECEIVED]) == pytest.approx((1.5, 0.2))
    assert drawn[words.MARK_INTERRUPTION]["x"] == [2.1]
    assert drawn[words.MARK_INTERRUPTION]["customdata"][0][0] == 18


def test_every_lane_holds_what_it_is_named_for() -> None:
    drawn = traces(timeline(rows(timed=True), "light"))
    assert span(drawn[words.SPAN_SPEECH]) == pytest.approx((0.2, 0.7))
    assert span(drawn[words.SPAN_TYPED]) == pytest.approx((0.95, 2.0 / 400))  # short, but there
    assert span(drawn[words.SPAN_QUEUED]) == pytest.approx((1.0, 0.2))
    assert span(drawn[words.SPAN_CUT]) == pytest.approx((1.2, 1.0))
    assert span(drawn[words.SPAN_ARGUMENTS]) == pytest.approx((1.0, 0.25))
    assert span(drawn[words.SPAN_EXECUTION]) == pytest.approx((1.25, 0.5))
    assert span(drawn[words.SPAN_STREAM]) == pytest.approx((1.5, 0.2))
    assert drawn[words.MARK_ERROR]["customdata"] == [[5, "server_error: &lt;b&gt;no&lt;/b&gt;"]]


def test_what_went_wrong_is_marked_and_told() -> None:
    drawn = traces(timeline(rows(timed=True), "light"))
    assert drawn[words.MARK_STALL]["x"] == [1.5]
    assert drawn[words.MARK_STALL]["customdata"] == [[6, "2 × silence within the answer, 350 ms"]]
    assert drawn[words.MARK_DROPPED]["x"] == [1.2]
    assert drawn[words.MARK_DROPPED]["customdata"] == [[4, "about 1\u202f200 tokens of the conversation"]]
    assert drawn[words.MARK_CACHE_LOST]["customdata"] == [[4, "after truncation: 640 → 64"]]
    calm = rows(
        timed=True, contexts=[CONTEXT | {"context_truncated": None, "cache_bust": False}],
        responses=[RESPONSE | {"stall_count": 0}],
    )  # fmt: skip
    assert not {words.MARK_STALL, words.MARK_DROPPED, words.MARK_CACHE_LOST} & traces(timeline(calm, "light")).keys()


def test_an_interruption_tells_what_was_paid_for_nothing() -> None:
    paid = rows(timed=True, interruptions=[CUT | {"wasted_cost_usd": 0.0123}])
    text = traces(timeline(paid, "light"))[words.MARK_INTERRUPTION]["customdata"][0][1]
    assert text == "server_vad 0.40 s not heard ($0.0123)"


def test_without_times_positions_are_the_axis_and_audio_is_cut_pro_rata() -> None:
    untimed_marks = pl.DataFrame(MARKS).with_columns(monotonic_ns=pl.lit(None, pl.Int64))
    figure = timeline(rows(timed=False, marks=untimed_marks), "light")
    drawn = traces(figure)
    assert span(drawn[words.SPAN_HEARD]) == pytest.approx((7.0, 6.0))
    assert span(drawn[words.SPAN_UNHEARD]) == pytest.approx((13.0, 4.0))
    assert span(drawn[words.SPAN_CUT]) == (4.0, 16.0)
    assert drawn[words.MARK_ERROR]["x"] == [5.0]
    assert words.SPAN_RECEIVED not in drawn
    assert figure.layout.xaxis.title.text == words.AXIS_POSITION


def test_audio_of_which_nobody_knows_what_was_heard_is_not_called_heard() -> None:
    drawn = traces(timeline(rows(timed=False, turns=[ASSISTANT | {"heard_ms": None}]), "light"))
    assert span(drawn[words.SPAN_GENERATED]) == (7.0, 10.0)
    assert words.SPAN_HEARD not in drawn


def test_recorded_text_reaches_plotly_only_as_plain_text() -> None:
    hostile = [ASSISTANT | {"text": "<a href='javascript:alert(1)'>x</a>"}]
    calls = [CALL | {"name": "<b>%{x}</b>"}]
    text = as_json(timeline(rows(timed=True, turns=hostile, tool_calls=calls), "light"))
    drawn = json.loads(text)
    assert "<a" not in text
    assert "<b>" not in text
    assert not any("%{x}" in trace["hovertemplate"] for trace in drawn["data"])


def test_the_recorder_has_a_lane_only_where_something_was_lost() -> None:
    assert len(timeline(rows(timed=True), "light").layout.yaxis.tickvals) == len(LANES) - 1
    gap = pl.DataFrame(MARKS | {"type": ["recorder.gap", "session.update", "error"]})
    assert len(timeline(rows(timed=True, marks=gap), "light").layout.yaxis.tickvals) == len(LANES)


def test_a_thinned_timeline_says_so() -> None:
    thinned = pl.DataFrame(MARKS | {"total": [9000, 9000, 9000]})
    assert timeline(rows(timed=True, marks=thinned), "light").layout.xaxis.title.text.endswith("3 of 9000 events drawn")


def test_zoom_survives_an_update() -> None:
    one, other = timeline(rows(timed=True), "light"), timeline(rows(timed=True, turns=[]), "light")
    assert one.layout.uirevision == other.layout.uirevision == "timeline"


def test_a_session_of_which_nothing_is_known_is_drawn() -> None:
    nothing = rows(
        timed=True, speech=[], turns=[], responses=[], tool_calls=[], interruptions=[], errors=[], contexts=[],
        marks=pl.DataFrame(MARKS).clear(), runs=pl.DataFrame(RUNS).clear(),
    )  # fmt: skip
    assert traces(timeline(nothing, "dark")) == {}


def test_schemes_differ_in_colour_alone() -> None:
    light, dark = (json.loads(as_json(timeline(rows(timed=True), scheme))) for scheme in ("light", "dark"))
    assert [trace["name"] for trace in light["data"]] == [trace["name"] for trace in dark["data"]]
    assert light["layout"]["font"]["color"] != dark["layout"]["font"]["color"]
    assert styled(timeline(rows(timed=True), "dark"), "dark", height=10, revision="x").layout.height == 10
