"""Every packaged script through the real proxy: what was recorded and counted is what the simulator says happened.

Logical values are equal. Moments were taken by three parties on one clock, and each message reached them in a known
order, so they need no tolerance either: a server's message was stamped by the server before it was sent, then at the
tap, then by the client; a client's message the other way round. Audio is cut at whole milliseconds on the wire, samples
are not: voices are compared to the millisecond.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from recorder.pipeline.catalog import Catalog
from recorder.protocol.envelope import RecordedEvent
from recorder.simulator.client import ClientLog, Message, play
from recorder.simulator.script import packaged_names
from recorder.simulator.server import Simulator
from recorder.simulator.truth import ResponseTruth, Truth
from recorder.store.journal_files import list_journals
from tests.e2e.agreement import compare, fold
from tests.e2e.drawn_answers import TOKENS

SPEEDS: Final = (1.0, 4.0)
"""At 4 the wall clock, by which a recorder must go, is no longer that of the script: other turns are interrupted."""

REFUSED: Final = {"auth_error", "model_error"}
UNKNOWN: Final = {"session.capabilities.announced", "response.thinking.delta", "session.future_update"}


@dataclass
class Session:
    """One script's session, by everyone who was there."""

    script: str
    truth: Truth
    log: ClientLog
    events: list[RecordedEvent]
    opened_ns: int
    tables: dict[str, list[dict[str, Any]]]

    @property
    def row(self) -> dict[str, Any]:
        return self.tables["sessions"][0]

    def sent(self, direction: str) -> list[Message]:
        return [message for message in self.log.messages if message.direction == direction]

    def recorded(self, direction: str) -> list[RecordedEvent]:
        """Messages without control frames, in their order."""
        return [event for event in self.events if event.direction == direction and event.opcode in {1, 2}]

    def in_order(self, *moments: int | None) -> bool:
        """Whether moments that are all known follow each other; those at the tap count from the session's opening."""
        known = [moment for moment in moments if moment is not None]
        return len(known) == len(moments) and known == sorted(known)

    def tap(self, at_ns: int | None) -> int | None:
        return None if at_ns is None else self.opened_ns + at_ns

    def client_saw(self, position: int) -> int:
        """When the client sent or got the message that is recorded at `position`."""
        event = self.events[position]
        number = [one.position for one in self.recorded(event.direction)].index(position)
        return self.sent(event.direction)[number].at_ns


TABLES: Final = {
    "sessions": "session_id",
    "responses": "response_no",
    "items": "item_no",
    "turns": "turn_no",
    "interruptions": "interruption_no",
    "tool_calls": "tool_call_no",
    "speech": "speech_no",
}


def _play_all(start_recorder: Any, data: Path, speed: float) -> tuple[dict[str, ClientLog], dict[str, Truth]]:
    names = packaged_names()

    async def everything() -> tuple[dict[str, ClientLog], dict[str, Truth]]:
        async with Simulator(seed=7, speed=speed) as simulator:
            upstream = simulator.url.removesuffix("/v1/realtime")
            proxy = start_recorder("proxy", "--listen", "127.0.0.1:0", "--upstream", upstream, "--data", str(data))
            try:
                urls = [f"{proxy.url}/v1/realtime?script={name}" for name in names]
                logs = await asyncio.gather(*(play(*one, speed=speed) for one in zip(names, urls, strict=True)))
                await simulator.idle()
            finally:
                code = await asyncio.to_thread(proxy.stop)  # seals all
            assert code == 0
            return dict(zip(names, logs, strict=True)), {truth.script: truth for truth in simulator.truths}

    return asyncio.run(everything())


@pytest.fixture(scope="module", params=SPEEDS, ids=["speed1", "speed4"])
def sessions(
    request: pytest.FixtureRequest, start_recorder: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Session]]:
    """All scripts, played at once through one proxy, sealed."""
    data = tmp_path_factory.mktemp("simulated") / "data"
    logs, truths = _play_all(start_recorder, data, request.param)
    assert not list_journals(data), "all sessions are sealed"
    with Catalog(data) as catalog:
        yield {name: _session(catalog, name, truths[name], logs[name]) for name in packaged_names()}


def _session(catalog: Catalog, name: str, truth: Truth, log: ClientLog) -> Session:
    asked = "SELECT session_id FROM events WHERE type = 'recorder.session_opened' AND contains(payload, ?)"
    session_id = catalog.query(asked, [f'script={name}"']).item()
    tables = {
        table: catalog.query(
            f"SELECT * FROM {table} WHERE session_id = ? ORDER BY {key}",  # names are ours
            [session_id],
        ).to_dicts()
        for table, key in TABLES.items()
    }
    events = catalog.recorded_events(session_id)
    opened = json.loads(events[0].payload or "")
    return Session(name, truth, log, events, opened["monotonic_ns"], tables)


@pytest.fixture(params=packaged_names())
def session(request: pytest.FixtureRequest, sessions: dict[str, Session]) -> Session:
    return sessions[request.param]


def test_every_message_is_recorded_byte_for_byte_in_order(session: Session) -> None:
    assert [event.position for event in session.events] == list(range(len(session.events)))
    for direction in ("client", "server"):
        wire = [one.data.encode() if isinstance(one.data, str) else one.data for one in session.sent(direction)]
        assert [event.message() for event in session.recorded(direction)] == wire
    assert len(session.sent("client")) == session.truth.client_event_count
    assert len(session.sent("server")) == session.truth.server_event_count


def test_messages_are_stamped_on_their_way(session: Session) -> None:
    for event, message in zip(session.recorded("client"), session.sent("client"), strict=True):
        assert session.in_order(message.at_ns, session.tap(event.monotonic_ns))
    for event, message in zip(session.recorded("server"), session.sent("server"), strict=True):
        assert session.in_order(session.tap(event.monotonic_ns), message.at_ns)


def test_the_session_is_as_it_was(session: Session) -> None:
    truth, row = session.truth, session.row
    refused = session.script in REFUSED  # an error and a close: the server told neither an id nor a model
    assert row["server_session_id"] == (None if refused else truth.session_id)
    assert row["model"] == (None if refused else truth.model)
    assert truth.close is not None
    lost = truth.close.code is None  # the truth says who vanished; on the wire nobody can tell
    assert row["closed_by"] == ("lost" if lost else {"server": "upstream"}.get(truth.close.by, truth.close.by))
    assert row["status"] == ("lost" if lost else "closed")
    assert (row["close_code"], row["close_reason"]) == (truth.close.code, truth.close.reason)
    assert session.log.close_code == (1006 if lost else truth.close.code)


def test_the_session_counts_are_those_of_the_truth(session: Session) -> None:
    truth, row = session.truth, session.row
    assert row["client_event_count"] == truth.client_event_count
    assert row["server_event_count"] == truth.server_event_count
    assert row["audio_in_seconds"] * 1000 == pytest.approx(truth.audio_in_ms)
    assert row["audio_out_seconds"] * 1000 == pytest.approx(truth.audio_out_ms)
    assert row["response_count"] == sum(not one.out_of_band for one in truth.responses)
    assert row["out_of_band_response_count"] == sum(one.out_of_band for one in truth.responses)
    assert row["interruption_count"] == len(truth.interruptions_by("wall"))
    assert row["tool_call_count"] == len(truth.tool_calls)
    assert row["turn_count"] == len(_spoken(truth))
    assert row["error_count"] == len(truth.errors)
    assert row["unknown_event_count"] == sum(kind in UNKNOWN for kind in truth.client_events + truth.server_events)
    for total in ("input_tokens", "output_tokens", "total_tokens"):
        assert (row[total] or 0) == truth.total(total)


def test_responses_are_those_of_the_truth(session: Session) -> None:
    rows = session.tables["responses"]
    assert [_response(row) for row in rows] == [_true_response(one) for one in session.truth.responses]
    for row, truth in zip(rows, session.truth.responses, strict=True):
        assert _tokens(row) == _true_tokens(truth.usage)
        assert (row["audio_ms"] or 0) == pytest.approx(truth.audio_ms)


def _response(row: dict[str, Any]) -> tuple[Any, ...]:
    names = ("response_id", "out_of_band", "trigger", "status", "status_reason")
    return (*(row[name] for name in names), row["transcript"] or "")


def _true_response(truth: ResponseTruth) -> tuple[Any, ...]:
    return (truth.id, truth.out_of_band, truth.trigger, truth.status, truth.status_reason, truth.transcript)


def _tokens(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in TOKENS}


def _true_tokens(usage: dict[str, Any] | None) -> dict[str, Any]:
    def at(path: tuple[str, ...]) -> Any:
        value: Any = usage or {}
        for key in path:
            value = (value or {}).get(key)
        return value

    return {name: at(path) for name, path in TOKENS.items()}


def test_moments_of_responses_lie_between_those_of_server_and_client(session: Session) -> None:
    for row, truth in zip(session.tables["responses"], session.truth.responses, strict=True):
        trigger, position = session.tap(row["trigger_at_ns"]), row["trigger_position"]
        if truth.trigger == "client":
            assert session.in_order(session.client_saw(position), trigger, truth.trigger_ns)
        else:
            assert session.in_order(truth.trigger_ns, trigger, session.client_saw(position))
        for name in ("created", "first_token", "first_audio", "last_audio", "done"):
            true = getattr(truth, f"{name}_ns")
            assert (row[f"{name}_position"] is None) == (true is None), name
            if true is not None:
                seen = session.client_saw(row[f"{name}_position"])
                assert session.in_order(true, session.tap(row[f"{name}_at_ns"]), seen), name


def test_latencies_are_differences_of_those_moments(session: Session) -> None:
    for row in session.tables["responses"]:
        for name, (start, end) in {
            "queue_seconds": ("trigger", "created"),
            "time_to_first_token_seconds": ("trigger", "first_token"),
            "time_to_first_audio_seconds": ("trigger", "first_audio"),
            "model_first_audio_seconds": ("created", "first_audio"),
            "duration_seconds": ("created", "done"),
        }.items():
            known = row[f"{end}_at_ns"] is not None
            assert (row[name] is not None) == known, name
            if known:
                assert row[name] == pytest.approx((row[f"{end}_at_ns"] - row[f"{start}_at_ns"]) / 1e9), name


def test_items_are_those_of_the_truth_in_order(session: Session) -> None:
    rows = [row for row in session.tables["items"] if not row["out_of_band"]]
    truths = session.truth.items
    assert [(row["item_id"], row["type"], row["role"]) for row in rows] == [
        (one.id, one.type, one.role) for one in truths
    ]
    for row, truth in zip(rows, truths, strict=True):
        assert (row["deleted_position"] is not None) == truth.deleted
        assert row["audio_end_ms"] == truth.truncated_ms
        if truth.type == "message":
            assert (row["text"] or "") == truth.text
        if truth.role == "assistant":
            assert (row["generated_ms"] or 0) == pytest.approx(truth.audio_ms)
            if truth.truncated_ms is not None:
                assert (row["heard_ms"], row["heard_estimated"]) == (truth.truncated_ms, False)
            elif row["generated_ms"] is not None:
                assert 0 <= row["heard_ms"] <= row["generated_ms"] + 1e-3
                assert row["heard_estimated"]


def _spoken(truth: Truth) -> list[str]:
    """Items that are turns: what somebody said. The answer that failed before it began is none."""
    return [one.id for one in truth.items if one.type == "message"]


def test_turns_are_the_messages_of_the_conversation(session: Session) -> None:
    truth, rows = session.truth, session.tables["turns"]
    assert sorted(row["item_id"] for row in rows) == sorted(_spoken(truth))
    texts = {one.id: one.text for one in truth.items}
    interrupted = {one.item_id for one in truth.interruptions_by("wall")}
    for row in rows:
        assert (row["text"] or "") == texts[row["item_id"]]
        assert row["interrupted"] == (row["item_id"] in interrupted)


def test_interruptions_are_those_of_the_truth(session: Session) -> None:
    rows, truths = session.tables["interruptions"], session.truth.interruptions_by("wall")
    names = ("response_id", "item_id", "source", "truncate_status")
    assert [[row[name] for name in names] for row in rows] == [[getattr(one, name) for name in names] for one in truths]
    for row, truth in zip(rows, truths, strict=True):
        seen = session.client_saw(row["position"])
        assert row["generated_ms"] == pytest.approx(truth.generated_ms)
        if truth.source == "server_vad":
            assert session.in_order(truth.at_ns, session.tap(row["at_ns"]), seen)
            assert row["delivered_ms"] == pytest.approx(truth.delivered_ms)
        else:  # what the server sent while the client's message was on its way was not delivered by then
            assert session.in_order(seen, session.tap(row["at_ns"]), truth.at_ns)
            assert row["delivered_ms"] <= truth.delivered_ms + 1e-3
        if truth.heard_ms is not None:
            assert (row["heard_ms"], row["heard_estimated"]) == (truth.heard_ms, False)
            assert row["unheard_ms"] == pytest.approx(truth.generated_ms - truth.heard_ms)


def test_tool_calls_are_those_of_the_truth(session: Session) -> None:
    names = ("call_id", "name", "arguments", "response_id", "output")
    rows, truths = session.tables["tool_calls"], session.truth.tool_calls
    assert [[row[name] for name in names] for row in rows] == [[getattr(one, name) for name in names] for one in truths]
    assert [row["unanswered"] for row in rows] == [not one.answered for one in truths]
    assert all(row["arguments_valid"] for row in rows)


def test_voices_are_where_the_samples_have_them(session: Session) -> None:
    rows, truths = session.tables["speech"], session.truth.speech
    names = ("item_id", "audio_start_ms", "audio_end_ms")
    assert [[row[name] for name in names] for row in rows] == [[getattr(one, name) for name in names] for one in truths]
    for row, truth in zip(rows, truths, strict=True):
        assert row["voice_start_ms"] == pytest.approx(truth.voice_start_ms, abs=1)
        assert row["voice_end_ms"] == pytest.approx(truth.voice_end_ms, abs=1)


def test_the_fold_of_the_projection_says_the_same(session: Session) -> None:
    compare(fold(session.events), session.tables)


def test_the_scripts_show_what_they_are_for(sessions: dict[str, Session]) -> None:
    """Equal to a truth that says nothing would be equal too."""
    truths = {name: session.truth for name, session in sessions.items()}
    assert len(truths["barge_in"].interruptions_by("wall")) == 2
    assert len(truths["push_to_talk"].interruptions_by("wall")) == 2
    assert [one.name for one in truths["tool_call"].tool_calls] == ["get_weather"]
    assert len(truths["voice_turn"].speech) == 2
    assert set(truths["unknown_events"].server_events + truths["unknown_events"].client_events) >= UNKNOWN
    assert "response.audio.delta" in truths["beta_names"].server_events
    assert [one.status for one in truths["dangling_response"].responses] == ["dangling", "completed"]
    assert any(one.out_of_band for one in truths["push_to_talk"].responses)
    cached = [(one.usage or {})["input_token_details"]["cached_tokens"] for one in truths["text_turn"].responses]
    assert cached[1] > 0
