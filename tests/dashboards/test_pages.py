import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from dashboards import rendering, words

LOCAL = "http://127.0.0.1"


@pytest.fixture(scope="module")
def client(sample_store: Any) -> Iterator[TestClient]:
    with TestClient(create_app(sample_store.data_dir), base_url=LOCAL) as client:
        yield client


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with TestClient(create_app(tmp_path_factory.mktemp("empty_store")), base_url=LOCAL) as client:
        yield client


def page(client: TestClient, path: str) -> str:
    answer = client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_an_empty_store_says_how_to_begin(empty: TestClient) -> None:
    for path in ("/", "/sessions"):
        text = page(empty, path)
        assert words.EMPTY_STORE in text
        assert "recorder proxy --listen 127.0.0.1:8765 --upstream wss://api.openai.com --data " in text
        assert "ws://127.0.0.1:8765/v1/realtime" in text


def test_the_overview_shows_the_numbers(client: TestClient) -> None:
    text = page(client, "/?period=all")
    tiles = dict(re.findall(r'<h2>([^<]+)</h2>\s*<p class="value[^>]*>([^<]*)', text))
    assert tiles["Sessions"].strip() == "3"
    assert tiles["Interruptions"] == "2"
    assert tiles["Tokens"] == "600"
    assert tiles["Errors"] == "1"
    assert tiles["Cost"] == "$0.009613"
    notes = re.findall(r'<p class="note"[^>]*>([^<]*)', text)
    assert "100\u202f% · n\u00a0=\u00a02" in notes
    assert tiles["First audio"].strip() == "323 ms"
    assert tiles[words.TILE_PACE] == "1.00\u202f×"  # 19 appends of 100 ms in 1.901 s
    assert words.NOTE_PACE.format(off=0, n=1) in notes


def test_the_overview_begins_with_the_last_day_where_there_is_something_in_it(client: TestClient) -> None:
    assert '<a href="/?period=24h" aria-current="true">' in page(client, "/")


def test_the_overview_begins_with_the_last_hour_where_that_is_all(running_session: Any) -> None:
    data_dir, _ = running_session
    with TestClient(create_app(data_dir), base_url=LOCAL) as client:
        text = page(client, "/")
    assert '<a href="/?period=1h" aria-current="true">' in text
    assert "1 live now" in text


def test_a_session_lies_in_the_step_it_was_opened_in(client: TestClient, sample_store: Any) -> None:
    figure = client.get("/figures/sessions?period=24h").json()
    width = 3_600_000
    opened = [
        datetime.fromisoformat(client.get(f"/api/v1/sessions/{session_id}").json()["opened_at"]).timestamp() * 1000
        for session_id in (sample_store.typed, sample_store.voice)
    ]
    assert figure["data"][0]["x"] == [at // width * width for at in opened]


def test_a_store_of_imports_without_times_is_no_blank_page(untimed: TestClient) -> None:
    text = page(untimed, "/")
    assert '<a href="/?period=all" aria-current="true">' in text
    assert words.CHARTS_NO_TIMES in text
    assert words.EMPTY_PERIOD in page(untimed, "/?period=1h")


@pytest.fixture(scope="module")
def untimed(only_untimed: Path) -> Iterator[TestClient]:
    with TestClient(create_app(only_untimed), base_url=LOCAL) as client:
        yield client


def test_the_list_is_filtered_sorted_and_linked(client: TestClient, sample_store: Any) -> None:
    text = page(client, "/sessions?q=parcel&sort=-tokens")
    assert f"/sessions/{sample_store.voice}" in text
    assert f"/sessions/{sample_store.typed}" not in text
    assert 'aria-sort="descending"' in text
    assert "/sessions?q=parcel&amp;sort=tokens" in text
    assert words.EMPTY_FILTER in page(client, "/sessions?q=nobody-said-this")


def test_a_page_beyond_the_last_leads_back(client: TestClient) -> None:
    assert 'rel="prev"' in page(client, "/sessions?page=7")


def test_a_session_is_found_by_any_of_its_names(client: TestClient, sample_store: Any) -> None:
    answer = client.get("/sessions/sess_voice?x=1", follow_redirects=False)
    assert answer.status_code == 307
    assert answer.headers["location"] == f"/sessions/{sample_store.voice}?x=1"


def test_the_transcript_parts_what_was_heard_from_what_was_not(client: TestClient, sample_store: Any) -> None:
    text = page(client, f"/sessions/{sample_store.voice}")
    said = re.findall(r'<p dir="auto"><bdi>([^<]*)</bdi>(?:<bdi class="unheard"[^>]*>([^<]*)</bdi>)?', text)
    assert said[0] == ("Where is my parcel?", "")
    heard, unheard = said[1]
    assert heard + unheard == "Your parcel arrives on Friday before noon at home."
    assert unheard
    assert len(heard) > len(unheard)
    assert "heard 600 ms of 1.00 s" in text


def test_tool_calls_show_arguments_and_output(client: TestClient, sample_store: Any) -> None:
    text = page(client, f"/sessions/{sample_store.typed}")
    assert "&lt;u&gt;weather&lt;/u&gt;" in text
    assert "&lt;i&gt;Oslo&lt;/i&gt;" in text
    assert "&lt;s&gt;rain&lt;/s&gt;" in text
    assert "201 ms" in text


@pytest.mark.parametrize(
    "path", ["/", "/sessions", "/sessions/sess_typed", "/findings", "/sessions/sess_typed/findings"]
)
def test_recorded_text_is_never_markup(client: TestClient, path: str) -> None:
    text = page(client, path)
    for tag in ("<img src=x", "<script>alert", "<b>", "<u>", "<i>", "<s>", "<h1>no", "<a href='java"):
        assert tag not in text
    assert 'href="javascript' not in text
    assert not re.search(r"<script(?![^>]* src=)", text)
    assert not re.search(r"<[^>]+\son\w+=", re.sub(r"&[a-z#0-9]+;", "", text))
    assert " style=" not in text


def test_an_unchanged_page_is_not_sent_again(client: TestClient, sample_store: Any) -> None:
    first = client.get(f"/sessions/{sample_store.voice}")
    again = client.get(f"/sessions/{sample_store.voice}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["sessions", "latency", "tokens", "interruptions", "cost", "cost_per_minute"])
@pytest.mark.parametrize("period", ["1h", "24h", "7d", "30d", "all"])
def test_every_chart_of_every_period_is_a_figure(client: TestClient, empty: TestClient, name: str, period: str) -> None:
    for store in (client, empty):
        figure = store.get(f"/figures/{name}", params={"period": period, "scheme": "dark"}).json()
        assert figure.keys() == {"data", "layout"}
        assert figure["layout"]["xaxis"]["range"][0] < figure["layout"]["xaxis"]["range"][1]


def test_the_timeline_of_a_session_with_and_without_times(client: TestClient, sample_store: Any) -> None:
    def drawn(session_id: str) -> dict[str, Any]:
        figure = client.get(f"/sessions/{session_id}/timeline").json()
        return {trace["name"]: trace for trace in figure["data"]}

    timed, untimed = drawn(sample_store.voice), drawn(sample_store.untimed)
    for name in (words.SPAN_SPEECH, words.SPAN_HEARD, words.SPAN_UNHEARD, words.SPAN_CUT):
        assert name in timed
        assert name in untimed
    assert timed[words.SPAN_HEARD]["x"][0] == pytest.approx(0.6)
    assert timed[words.SPAN_UNHEARD]["x"][0] == pytest.approx(0.4)


def test_a_timeline_is_safe_to_put_anywhere(client: TestClient) -> None:
    text = client.get("/sessions/sess_typed/timeline").text
    assert "<" not in json.dumps([trace.get("customdata") for trace in json.loads(text)["data"]])


def test_static_files_are_versioned_compressed_and_kept(client: TestClient) -> None:
    address = f"/static/{rendering.version()}/plotly.js"
    answer = client.get(address, headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/javascript")
    plain = client.get(address, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == answer.content
    assert client.get(f"/static/{rendering.version()}/../mounting.py").status_code == 404


def test_pages_name_only_files_that_exist(client: TestClient) -> None:
    for path in ("/", "/sessions", "/sessions/sess_voice"):
        for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page(client, path)):
            assert client.get(address).status_code == 200, address


@pytest.fixture(scope="module")
def troubled(troubled_store: Path) -> Iterator[TestClient]:
    with TestClient(create_app(troubled_store), base_url=LOCAL) as client:
        yield client


def findings(text: str) -> dict[str, str]:
    """Each group of findings by its title."""
    return {
        title: group
        for group in re.findall(r'<li class="finding [a-z]+">.*?</p>\s*</li>', text, re.DOTALL)
        for title in re.findall(r"<strong><bdi>([^<]*)</bdi></strong>", group)
    }


def test_findings_name_the_mistake_where_it_is_and_what_to_do(troubled: TestClient) -> None:
    groups = findings(page(troubled, "/sessions/sess_troubled/findings"))
    assert next(iter(groups)) in {"An MCP server failed", "A tool call that was never answered"}  # errors first
    dropped = groups["The server dropped old turns"]
    assert "about 3150 tokens of the conversation were dropped" in dropped
    assert re.findall(r'#event-(\d+)" data-position="\1" aria-label="Event \1"', dropped) == ["9", "20"]
    assert "<code>truncation</code>" in dropped
    assert groups["A tool call that was never answered"].count("the call of book was never answered") == 2
    assert "MCP server &lt;b&gt;docs&lt;/b&gt; failed" in groups["An MCP server failed"]


def test_nothing_found_is_said(client: TestClient) -> None:
    assert words.FINDINGS_NONE in page(client, "/findings?period=1h")


def test_the_overview_finds_by_rule_and_leads_to_a_session(troubled: TestClient) -> None:
    session_id = troubled.get("/api/v1/sessions/sess_troubled").json()["session_id"]
    stalls = findings(page(troubled, "/findings?period=24h"))["The caller heard a gap in an answer"]
    assert f'href="/sessions/{session_id}#event-' in stalls
    assert "1 of 1 sessions" in stalls


def test_the_panel_asks_again_when_there_are_more_events(troubled: TestClient) -> None:
    session = troubled.get("/api/v1/sessions/sess_troubled").json()
    panel = re.search(r'data-panel="([^"]+)" data-version="([^"]+)"', page(troubled, "/sessions/sess_troubled"))
    assert panel is not None
    assert panel.groups() == (f"/sessions/{session['session_id']}/findings", f"closed{session['event_count']}")


def test_the_session_page_tells_what_it_cost(client: TestClient, troubled: TestClient) -> None:
    def facts(client: TestClient, path: str) -> dict[str, str]:
        return dict(re.findall(r"<dt>([^<]+)</dt><dd><bdi>([^<]*)", page(client, path)))

    priced = facts(troubled, "/sessions/sess_troubled")
    assert (priced["Cost"], priced["Cost per minute"]) == ("$0.0123", "$0.2624")
    unpriced = facts(client, "/sessions/sess_typed")
    assert (unpriced["Cost"], unpriced["Cost per minute"]) == ("–", "–")


def test_the_session_page_tells_what_the_proxy_added(client: TestClient, running_session: Any) -> None:
    data_dir, session = running_session
    up = {"sum_ns": 90_000, "max_ns": 48_400, "upper_ns": [43_008, 49_152], "counts": [1, 1]}
    session.end(added_latency={"every": 64, "client": up})
    with TestClient(create_app(data_dir), base_url=LOCAL) as pages:
        text = page(pages, f"/sessions/{session.SESSION_ID}")
    assert re.findall(rf"<dt>{words.FACT_OVERHEAD}</dt><dd>(.*)</dd>", text) == [
        "<bdi>43 µs / –</bdi> <small><bdi>longest 48 µs</bdi></small>"
    ]
    assert words.FACT_OVERHEAD not in page(client, "/sessions/sess_voice")


def test_the_overview_shows_how_objectives_stand(client: TestClient, troubled_store: Path, tmp_path: Path) -> None:
    file = tmp_path / "slo.toml"
    file.write_text(
        '[[slo]]\nname = "quick <b>"\nindicator = "first_audio_seconds"\nat_most = 60\nobjective = 0.95\n'
        '[[slo]]\nname = "no errors"\nindicator = "errors"\nat_most = 0\nobjective = 0.99\n'
    )
    with TestClient(create_app(troubled_store, slo=file), base_url=LOCAL) as pages:
        assert 'data-panel="/slo"' in page(pages, "/?period=all")
        text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page(pages, "/slo")))
    assert (
        "missed burning too fast no errors 0.00 % good of 99 % wanted; the error budget is spent 100.0 times over"
        in text
    )
    assert "7d: 1 bad of 1, burn rate 100.0" in text
    assert "met quick &lt;b&gt; 100.00 % good of 95 % wanted; 100 % of the error budget left" in text
    assert 'data-panel="/slo"' not in page(client, "/?period=all")
    assert words.SLO_NONE in page(client, "/slo")


def test_the_session_page_tells_the_pace_of_the_audio(client: TestClient) -> None:
    facts = dict(re.findall(r"<dt>([^<]+)</dt><dd><bdi>([^<]*)", page(client, "/sessions/sess_voice")))
    assert facts[words.FACT_PACE] == "1.00 ×"


def test_what_there_is_of_errors_tools_and_contexts_has_a_table(client: TestClient, troubled: TestClient) -> None:
    text = page(troubled, "/sessions/sess_troubled")
    tables = {
        name: re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))
        for name, body in re.findall(
            r'aria-labelledby="(\w+)-title">\s*<table>.*?<tbody>(.*?)</tbody>', text, re.DOTALL
        )
    }
    assert "item_not_found &lt;h1&gt;no such item&lt;/h1&gt; item_id conversation.item.delete #30" in tables["errors"]
    assert tables["tools"].count("never answered") == 2
    assert "&lt;b&gt;docs&lt;/b&gt; list of tools – failed 40 ms" in tables["mcp"]
    assert "Turns dropped Cache lost after truncation 900 3 150 3 200 64 $0.0113" in tables["context"]
    assert "unintelligible &lt;i&gt;no words&lt;/i&gt;" in tables["transcriptions"]
    assert "tokens 40 1 000 4 % 1 min 00 s" in tables["limits"]
    assert "80 %" in tables["responses"]
    for name in ("errors", "mcp", "context", "transcriptions", "limits"):
        assert f'id="{name}-title"' not in page(client, "/sessions/sess_voice")


def test_sessions_are_sorted_by_cost_and_unknown_costs_come_last(client: TestClient) -> None:
    text = page(client, "/sessions?sort=-cost")
    costs = re.findall(r'<td class="n" data-label="Cost">(\$[\d.]+|–)</td>', text)
    assert costs == ["$0.007410", "$0.002203", "–"]


def test_what_is_wrong_is_one_click_away_from_every_page(client: TestClient) -> None:
    assert '<a href="/findings">Findings</a>' in page(client, "/")
    assert '<a href="/findings" aria-current="page">Findings</a>' in page(client, "/findings")


def test_cells_of_a_session_name_themselves_where_the_heading_is_hidden(client: TestClient) -> None:
    row = re.search(r"<tr data-key=.*?</tr>", page(client, "/sessions"), re.DOTALL)
    assert row is not None
    labels = re.findall(r'data-label="([^"]+)"', row[0])
    assert labels == ["Duration", "Turns", "Interruptions", "First audio p50", "Tokens", "Cost", "Errors"]
