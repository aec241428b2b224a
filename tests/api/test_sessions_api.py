import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.schemas import Conversation
from recorder.analytics.registry import shown_models

SESSIONS = "/api/v1/sessions"


@pytest.fixture(scope="module")
def client(sample_store: Any) -> Iterator[TestClient]:
    with TestClient(create_app(sample_store.data_dir), base_url="http://127.0.0.1") as client:
        yield client


def get(client: TestClient, path: str, **parameters: Any) -> Any:
    answer = client.get(SESSIONS + path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(page: Any) -> list[str]:
    return [row["session_id"] for row in page["data"]]


def test_the_newest_session_comes_first_and_untimed_ones_last(client: TestClient, sample_store: Any) -> None:
    page = get(client, "")
    assert ids(page) == [sample_store.voice, sample_store.typed, sample_store.untimed]
    assert (page["total"], page["limit"], page["offset"]) == (3, 50, 0)


def test_facts_of_a_session(client: TestClient, sample_store: Any) -> None:
    row = get(client, f"/{sample_store.voice}")
    assert row["server_session_id"] == "sess_voice"
    assert row["status"] == "closed"
    assert row["close_code"] == 1000
    assert row["turn_count"] == 2
    assert row["interruption_count"] == 1
    assert (row["input_tokens"], row["cached_tokens"], row["output_tokens"]) == (200, 64, 100)
    assert row["audio_in_seconds"] == pytest.approx(2.0)
    assert row["audio_out_seconds"] == pytest.approx(1.0)
    assert row["labels"] == {}


def test_pages_do_not_overlap(client: TestClient) -> None:
    pages = [get(client, "", limit=1, offset=offset) for offset in range(4)]
    assert len({session_id for page in pages for session_id in ids(page)}) == 3
    assert [len(page["data"]) for page in pages] == [1, 1, 1, 0]
    assert {page["total"] for page in pages} == {3}


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"q": "PARCEL"}, {"voice", "untimed"}),
        ({"q": "sess_typed"}, {"typed"}),
        ({"q": "realtime-mini"}, {"untimed"}),
        ({"q": "%"}, {"typed"}),  # no wildcard: one transcript has the sign
        ({"q": "_"}, {"voice", "typed", "untimed"}),
        ({"q": "\\"}, set()),
        ({"q": "' OR 1=1 --"}, set()),
        ({"model": "gpt-realtime"}, {"voice"}),
        ({"model": "gpt"}, set()),
        ({"status": "running"}, set()),
        ({"status": "closed", "q": "home"}, {"voice", "untimed"}),
    ],
)
def test_filters(client: TestClient, sample_store: Any, parameters: dict[str, str], found: set[str]) -> None:
    page = get(client, "", **parameters)
    assert set(ids(page)) == {getattr(sample_store, name) for name in found}
    assert page["total"] == len(found)


def test_a_session_is_searched_by_the_beginning_of_its_id(client: TestClient, sample_store: Any) -> None:
    assert ids(get(client, "", q=sample_store.typed[:13])) == [sample_store.typed]


def test_since_and_until_leave_out_what_has_no_times(client: TestClient, sample_store: Any) -> None:
    edge = (datetime.now(UTC) - timedelta(minutes=90)).isoformat()
    assert ids(get(client, "", since=edge)) == [sample_store.voice]
    assert ids(get(client, "", until=edge)) == [sample_store.typed]


def test_sorting_puts_unknown_values_last_both_ways(client: TestClient, sample_store: Any) -> None:
    assert ids(get(client, "", sort="duration"))[-1] == sample_store.untimed
    assert ids(get(client, "", sort="-duration"))[-1] == sample_store.untimed
    assert ids(get(client, "", sort="-model"))[0] == sample_store.untimed


def test_a_session_is_named_by_prefix_server_id_or_last(client: TestClient, sample_store: Any) -> None:
    for reference in (sample_store.voice[:12], "sess_voice"):
        assert get(client, f"/{reference}")["session_id"] == sample_store.voice
    assert get(client, "/last")["session_id"] == sample_store.untimed  # imported last


def test_events_come_in_order_and_page_on(client: TestClient, sample_store: Any) -> None:
    whole = get(client, f"/{sample_store.voice}/events", limit=1000)
    assert not whole["more"]
    positions = [event["position"] for event in whole["data"]]
    assert positions == list(range(len(positions)))
    seen: list[int] = []
    while True:
        page = get(client, f"/{sample_store.voice}/events", limit=20, after=seen[-1] if seen else -1)
        seen += [event["position"] for event in page["data"]]
        if not page["more"]:
            break
    assert seen == positions


def test_events_page_back(client: TestClient, sample_store: Any) -> None:
    page = get(client, f"/{sample_store.voice}/events", before=30, limit=5)
    assert [event["position"] for event in page["data"]] == [25, 26, 27, 28, 29]
    assert page["more"]
    assert not get(client, f"/{sample_store.voice}/events", before=3, limit=5)["more"]


def test_events_by_direction_and_type(client: TestClient, sample_store: Any) -> None:
    def types(**parameters: Any) -> list[str]:
        return [event["type"] for event in get(client, f"/{sample_store.voice}/events", **parameters)["data"]]

    assert set(types(direction="client", exclude="*.append")) >= {"session.update", "conversation.item.truncate"}
    assert types(type="session.*") == ["session.created", "session.update", "session.updated"]
    assert len(types(type=["response.output_audio.delta", "response.created"])) == 11
    assert types(type="session?created") == []
    assert "response.output_audio.delta" not in types(exclude=["*.delta", "*.append"])


def test_payloads_are_json_without_the_audio(client: TestClient, sample_store: Any) -> None:
    page = get(client, f"/{sample_store.voice}/events", type="input_audio_buffer.append", limit=1)
    assert page["data"][0]["payload"] == {"type": "input_audio_buffer.append", "audio": ""}
    assert page["data"][0]["audio_ms"] == 100.0


def test_audio_comes_when_it_is_asked_for(client: TestClient, sample_store: Any) -> None:
    page = get(client, f"/{sample_store.voice}/events", type="input_audio_buffer.append", limit=1, audio=True)
    assert base64.b64decode(page["data"][0]["payload"]["audio"]) == bytes(4800)


def test_long_payloads_are_left_out_of_lists_and_whole_by_themselves(client: TestClient, sample_store: Any) -> None:
    event = get(client, f"/{sample_store.voice}/events", type="session.created", max_payload_bytes=10)["data"][0]
    assert event["payload"] is None
    assert event["payload_bytes"] > 10
    whole = get(client, f"/{sample_store.voice}/events/{event['position']}")
    assert whole["payload"]["session"]["id"] == "sess_voice"


def test_an_event_that_is_not_there(client: TestClient, sample_store: Any) -> None:
    for position in (9999, 2**63):
        answer = client.get(f"{SESSIONS}/{sample_store.voice}/events/{position}")
        assert answer.status_code in {404, 422}
    assert client.get(f"{SESSIONS}/{sample_store.voice}/events/9999").json()["error"]["type"] == "event_not_found"


def test_the_conversation_and_how_it_stood_before(client: TestClient, sample_store: Any) -> None:
    end = get(client, f"/{sample_store.voice}/conversation")
    user, assistant = end["items"][:2]
    assert user["content"][0]["transcript"] == "Where is my parcel?"
    assert assistant["heard_ms"] == 600.0
    assert assistant["truncated"]
    assert end["session"]["instructions"] == "Be brief."
    assert get(client, f"/{sample_store.voice}/conversation", at=2)["items"] == []


def test_a_conversation_is_of_the_shape_that_is_told_of_it(client: TestClient, sample_store: Any) -> None:
    whole = len(get(client, f"/{sample_store.voice}/events", limit=500)["data"])
    found = [get(client, f"/{sample_store.voice}/conversation", at=at) for at in range(-1, whole)]
    assert any(one["items"] for one in found)
    assert any(one["active_responses"] for one in found)
    for one in found:
        assert Conversation.model_validate(one, strict=True).model_dump() == one


def test_what_each_model_knows_of_a_session(client: TestClient, sample_store: Any) -> None:
    for name, model in shown_models().items():
        if name == "sessions":
            continue
        rows = get(client, f"/{sample_store.voice}/{name}")["data"]
        assert all(list(row) == [column.name for column in model.shown_columns] for row in rows), name
    cut = get(client, f"/{sample_store.voice}/interruptions")["data"][0]
    assert (cut["heard_ms"], cut["generated_ms"], cut["truncate_status"]) == (600.0, 1000.0, "ok")
    assert get(client, f"/{sample_store.typed}/tool_calls")["data"][0]["output"] == "<s>rain</s>"


def test_totals(client: TestClient) -> None:
    totals = client.get("/api/v1/stats/overview").json()
    assert (totals["sessions"], totals["live"], totals["untimed"]) == (3, 0, 1)
    assert totals["interruptions"] == 2
    assert totals["errors"] == 1
    assert totals["first_audio"]["n"] == 1
    assert totals["first_audio"]["p50"] == pytest.approx(0.323, abs=0.001)
    assert totals["first_audio"]["p95"] is None
    recent = client.get("/api/v1/stats/overview", params={"since": datetime.now(UTC).isoformat()}).json()
    assert recent["sessions"] == 0
    assert recent["first_audio"] == {"n": 0, "p50": None, "p95": None, "p99": None}


def test_a_running_session_is_there_without_a_restart(running_session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.store.REFRESH_SECONDS", 0.0)
    data_dir, running = running_session
    with TestClient(create_app(data_dir), base_url="http://127.0.0.1") as client:
        assert get(client, "/sess_live")["status"] == "running"
        before = get(client, "/sess_live")["event_count"]
        running.server("response.created", response={"id": "resp_1"})
        assert get(client, "/sess_live")["event_count"] == before + 1
        assert get(client, "/sess_live/responses")["data"][0]["response_id"] == "resp_1"
        assert get(client, "/sess_live/events", after=before - 1)["data"][0]["type"] == "response.created"
        assert get(client, "", status="running")["total"] == 1


def test_polls_share_a_look_at_the_store(running_session: Any) -> None:
    data_dir, running = running_session
    with TestClient(create_app(data_dir), base_url="http://127.0.0.1") as client:
        before = get(client, "/sess_live")["event_count"]
        running.server("response.created", response={"id": "resp_1"})
        assert get(client, "/sess_live")["event_count"] in {before, before + 1}


def test_openapi_says_what_is_answered(client: TestClient, sample_store: Any) -> None:
    description = client.get("/api/v1/openapi.json").json()
    assert "HTTPValidationError" not in json.dumps(description)
    for path, methods in description["paths"].items():
        assert methods.keys() == {"get"}, path
        answers = methods["get"]["responses"]
        assert answers["4XX"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorBody")
        content = answers["200"]["content"]
        if path.endswith("/audio"):
            assert content.keys() == {"audio/wav", "audio/flac"}
        elif path == "/metrics":
            assert content.keys() == {"text/plain"}
        else:
            assert "$ref" in content["application/json"]["schema"], path
    shape = description["components"]["schemas"]["SessionsRow"]["properties"]
    assert shape.keys() == get(client, f"/{sample_store.voice}").keys()
    assert shape["event_count"]["description"]


def test_what_a_session_cost(client: TestClient, sample_store: Any) -> None:
    rows = get(client, f"/{sample_store.voice}/costs")["data"]
    assert all(isinstance(row["cost_usd"], float | None) for row in rows)
    assert "cost_usd" in get(client, f"/{sample_store.voice}")
