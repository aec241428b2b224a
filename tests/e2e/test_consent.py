"""What is kept of real calls, and that nothing else is: live, sealed, in any file of the store."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow.parquet as pq
import pytest
from markupsafe import escape
from starlette.testclient import TestClient

from api.app import create_app
from recorder.analytics.registry import stored_models
from recorder.formats.own_jsonl import OwnSession, export_line
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.recover import recover
from recorder.pipeline.seal import seal_all
from recorder.projection.kept import kept_words
from recorder.protocol.envelope import RecordedEvent
from recorder.protocol.policy import hash_text
from recorder.proxy.consent import sample_point
from recorder.simulator.client import ClientLog, play
from recorder.simulator.server import Simulator
from recorder.simulator.truth import Truth
from recorder.store.audio_blocks import BlockReader
from recorder.store.journal_files import list_journals
from recorder.store.segments import rows as rows_of
from tests.e2e.conftest import COMMAND

SPEED: Final = 4.0
HEADER: Final = "X-Recorder-Consent"
SAMPLED: Final = 16
MODELS: Final = ("sessions", "responses", "items", "turns", "interruptions", "tool_calls", "speech")
KEYS: Final = {name: ", ".join(stored_models()[name].key) for name in MODELS}
LONG_ENOUGH: Final = 6
"""Shorter texts may stand in an id by accident."""


@dataclass(frozen=True)
class Way:
    """A route, what a client says on it, and what is to be kept."""

    name: str
    keys: str = ""
    consent: str | None = None
    recording: str = "on"
    drops: Literal["client", "server", "both"] | None = None
    hashes: bool = False
    script: str = "barge_in"
    compression: bool = False

    @property
    def route(self) -> str:
        return f"""
[[route]]
name = "{self.name}"
path_prefix = "/{self.name}"
strip_prefix = true
upstream = "UPSTREAM"
label_headers = ["X-Recorder-Label-Caller"]
labels = {{ way = "{self.name}" }}
{self.keys}
"""

    def gone(self, speaker: str) -> bool:
        """Whether nothing of what this side's voice said is to be found as audio."""
        return self.recording == "off" or self.drops in {speaker, "both"}


CONSENT: Final = f'consent_header = "{HEADER}"\n'
WAYS: Final = [
    Way("whole"),
    Way("off", 'recording = "off"', recording="off"),
    Way("no-audio", 'recording = "no-audio"', recording="no-audio", drops="both"),
    Way("no-client", 'drop_audio = "client"', drops="client"),
    Way("no-server", 'drop_audio = "server"', drops="server", compression=True),
    Way("hashed", "hash_text = true", hashes=True),
    Way("tools", "hash_text = true", hashes=True, script="tool_call"),
    Way("least", 'recording = "no-audio"\nhash_text = true', recording="no-audio", drops="both", hashes=True),
    Way("agrees", CONSENT, "on"),
    Way("declines", CONSENT, "off", recording="off"),
    Way("no-voice", CONSENT, "no-audio", recording="no-audio", drops="both", compression=True),
    Way("opts-in", CONSENT + 'recording = "off"\nconsent_may_loosen = true', "on"),
    Way("opts-not", CONSENT + 'recording = "off"\nconsent_may_loosen = true', recording="off"),
    Way("cannot", CONSENT + 'recording = "off"', "on", recording="off"),
]
SAMPLE: Final = Way("sample", "sample = 0.5", script="text_turn")


@dataclass
class Call:
    """One call: what the client saw, what the server knows, what is on record."""

    way: Way
    log: ClientLog
    truth: Truth
    live: list[RecordedEvent]
    events: list[RecordedEvent]
    tables: dict[str, list[dict[str, Any]]]
    files: str

    @property
    def row(self) -> dict[str, Any]:
        (row,) = self.tables["sessions"]
        return row

    def audio(self, speaker: Literal["client", "server"]) -> list[str]:
        """The audio that crossed the wire, as base64."""
        key = "audio" if speaker == "client" else "delta"
        return [event[key] for event in self.log.events(speaker) if "audio" in event["type"] and _is_audio(event, key)]

    def texts(self) -> set[str]:
        """All that was said, asked, called or answered, as it stood in some message."""
        return {text for message in self.log.messages for text in _texts(message.event) if len(text) >= LONG_ENOUGH}

    def closing(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.events[-1].payload or "")
        return facts


def _is_audio(event: dict[str, Any], key: str) -> bool:
    return event["type"] in {"input_audio_buffer.append", "response.output_audio.delta"} and bool(event.get(key))


def _texts(value: Any, key: str = "") -> Iterator[str]:
    said = {"text", "transcript", "instructions", "description", "arguments", "output", "message"}
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _texts(one, name)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, key)
    elif isinstance(value, str) and key in said:
        yield value


def _all_files(data: Path) -> dict[str, str]:
    """Everything in the Parquet files, by session: every value of every column, parts as base64."""
    found: dict[str, list[str]] = {}
    for path in (data / "segments").rglob("*.parquet"):
        rows = list(rows_of(pq.read_table(path, partitioning=None)))
        found.setdefault(path.stem, []).extend(str(value) for row in rows for value in row.values())
        if path.parts[-3] == "parts":
            audio = data / "segments" / "audio" / path.parent.name / path.name
            blocks = BlockReader(rows_of(pq.read_table(audio, partitioning=None)) if audio.exists() else ())
            found[path.stem] += [base64.b64encode(blocks.read(row) or b"").decode() for row in rows]
    return {session_id: "\n".join(values) for session_id, values in found.items()}


def _write_routes(config: Path, upstream: str) -> None:
    config.write_text("".join(way.route for way in [*WAYS, SAMPLE]).replace("UPSTREAM", upstream), encoding="utf-8")


async def _call_all(start_recorder: Any, data: Path, config: Path) -> tuple[list[ClientLog], dict[str, Truth]]:
    async with Simulator(seed=7, speed=SPEED) as simulator:
        upstream = simulator.url.removesuffix("/v1/realtime")
        _write_routes(config, upstream)
        options = ("--listen", "127.0.0.1:0", "--config", str(config), "--data", str(data), "--no-seal")
        proxy = start_recorder("proxy", *options)
        try:
            calls = []
            for way in [*WAYS, *[SAMPLE] * SAMPLED]:
                headers = {"X-Recorder-Label-Caller": "Mrs. Quibble"} | ({HEADER: way.consent} if way.consent else {})
                url = f"{proxy.url}/{way.name}/v1/realtime?script={way.script}"
                calls.append(play(way.script, url, speed=SPEED, headers=headers, compression=way.compression))
            logs = await asyncio.gather(*calls)
            await simulator.idle()
        finally:
            code = await asyncio.to_thread(proxy.stop)
        assert code == 0
        return logs, {truth.session_id: truth for truth in simulator.truths}


@pytest.fixture(scope="module")
def recorded(start_recorder: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Call], Path]:
    """All calls at once through one proxy; looked at as journals, then sealed."""
    data = tmp_path_factory.mktemp("consent") / "data"
    logs, truths = asyncio.run(_call_all(start_recorder, data, data.parent / "routes.toml"))
    recover(data)  # `--no-seal` leaves spools
    live = {}
    with Catalog(data) as catalog:
        for session_id in catalog.query("SELECT session_id FROM sessions")["session_id"]:
            live[session_id] = catalog.recorded_events(session_id)
    assert len(list_journals(data)) == len(live) == len(WAYS) + SAMPLED
    assert seal_all(data).quarantined == {}
    files = _all_files(data)
    calls = []
    with Catalog(data) as catalog:
        for way, log in zip(WAYS, logs, strict=False):
            find = "SELECT session_id FROM sessions WHERE labels ->> 'way' = ?"
            session_id = catalog.query(find, [way.name]).item()
            tables = {
                name: catalog.query(
                    f"SELECT * FROM {name} WHERE session_id = ? ORDER BY {KEYS[name]}", [session_id]
                ).to_dicts()
                for name in MODELS
            }
            truth = truths[log.events("server")[0]["session"]["id"]]
            events = catalog.recorded_events(session_id)
            calls.append(Call(way, log, truth, live[session_id], events, tables, files[session_id]))
    return calls, data


@pytest.fixture(params=WAYS, ids=[way.name for way in WAYS])
def call(request: pytest.FixtureRequest, recorded: tuple[list[Call], Path]) -> Call:
    return recorded[0][WAYS.index(request.param)]


def test_journals_are_gone(recorded: tuple[list[Call], Path]) -> None:
    _, data = recorded
    assert list_journals(data) == []
    assert list((data / "quarantine").glob("*")) == []
    assert {path.suffix for path in data.rglob("*") if path.is_file()} <= {".parquet", ".json", ".lock", ""}


def test_the_row_says_what_was_kept(call: Call) -> None:
    way = call.way
    assert call.row["recording"] == way.recording
    policy = {"drop_audio": way.drops, "hash_text": way.hashes} if way.drops or way.hashes else None
    assert (call.row["content_policy"] and json.loads(call.row["content_policy"])) == policy
    assert json.loads(call.row["labels"])["way"] == way.name


def test_no_audio_is_found_that_was_not_to_be_kept(call: Call) -> None:
    speakers: tuple[Literal["client", "server"], ...] = ("client", "server")
    for speaker in speakers:
        said = [audio for audio in call.audio(speaker) if len(set(base64.b64decode(audio))) > 2]  # not mere silence
        assert said or call.way.script != "barge_in"
        found = [audio in call.files for audio in said]
        assert found == [not call.way.gone(speaker)] * len(said)


def test_no_text_is_found_that_was_not_to_be_kept(call: Call) -> None:
    said = call.texts()
    assert len(said) > 3
    keeps = call.way.recording != "off" and not call.way.hashes
    raw = {text for text in said if text in call.files or json.dumps(text)[1:-1] in call.files}
    assert raw == (said if keeps else set())
    if call.way.hashes:
        final = {event["transcript"] for event in call.log.events("server") if event.get("transcript")}
        assert final or call.way.script == "tool_call"
        assert all(hash_text(text) in call.files for text in final)


def test_what_was_left_out_is_counted(call: Call) -> None:
    way, closing = call.way, call.closing()
    total = closing["client_bytes"] + closing["server_bytes"]
    audio = {"client": sum(map(len, call.audio("client"))), "server": sum(map(len, call.audio("server")))}
    gone = sum(count for speaker, count in audio.items() if way.gone(speaker))
    if way.recording == "off":
        assert call.row["left_out_bytes"] == total > 10_000
    elif way.hashes:
        assert gone < call.row["left_out_bytes"] < total + gone
        assert closing["left_out"]["text_count"] > 3
        assert closing["left_out"]["message_count"] == sum(event.payload is None for event in call.events)
    else:
        pings = sum(event.wire_bytes for event in call.events if event.redacted and event.payload is None)
        assert gone <= call.row["left_out_bytes"] <= gone + pings


def test_a_session_that_is_off_has_no_messages(call: Call) -> None:
    if call.way.recording != "off":
        return
    own = ["recorder.session_opened", "recorder.handshake_completed", "recorder.session_closed"]
    assert [event.type for event in call.events] == own
    assert {name for name in MODELS if call.tables[name]} == {"sessions"}
    assert (call.row["status"], call.row["closed_by"], call.row["model"]) == ("closed", None, None)
    assert call.row["duration_seconds"] > 0.5
    assert json.loads(call.row["labels"]) == {"way": call.way.name}
    assert "Quibble" not in call.files


def test_times_and_numbers_stay(call: Call) -> None:
    if call.way.recording == "off":
        return
    truth, row = call.truth, call.row
    assert row["server_session_id"] == truth.session_id
    assert row["audio_in_seconds"] * 1000 == pytest.approx(truth.audio_in_ms)
    assert row["audio_out_seconds"] * 1000 == pytest.approx(truth.audio_out_ms)
    assert row["client_event_count"] == truth.client_event_count
    assert row["server_event_count"] == truth.server_event_count
    assert row["interruption_count"] == len(truth.interruptions_by("wall"))
    assert row["tool_call_count"] == len(truth.tool_calls)
    assert row["turn_count"] == sum(one.type == "message" for one in truth.items)
    assert row["unknown_event_count"] == 0
    assert row["total_tokens"] == truth.total("total_tokens")
    assert (row["closed_by"], row["close_code"]) == ("client", 1000)
    assert [one["response_id"] for one in call.tables["responses"]] == [one.id for one in truth.responses]
    assert all(one["time_to_first_token_seconds"] > 0 for one in call.tables["responses"])
    assert [one["heard_ms"] is not None for one in call.tables["interruptions"]] == [True] * row["interruption_count"]


def test_hashes_pass_for_no_words(call: Call) -> None:
    if not call.way.hashes:
        return
    for one in call.tables["tool_calls"]:
        assert (one["name"], one["arguments_valid"], one["output_bytes"]) == ("get_weather", None, None)
        assert one["arguments"] == hash_text(call.truth.tool_calls[0].arguments)
    assert [one["unheard_text"] for one in call.tables["interruptions"]] == [None] * len(call.tables["interruptions"])


def test_rows_that_lost_something_are_flagged(call: Call) -> None:
    if call.way.recording == "off":
        return
    sent = {"client": iter(call.log.events("client")), "server": iter(call.log.events("server"))}
    for event in call.events:
        if event.direction == "recorder" or event.opcode != 1:
            continue
        assert event.redacted == (json.loads(event.message()) != next(sent[event.direction]))


def test_live_view_and_store_say_the_same(call: Call) -> None:
    assert call.live == call.events


def test_a_sample_is_decided_by_the_sessions_ids(recorded: tuple[list[Call], Path]) -> None:
    with Catalog(recorded[1]) as catalog:
        rows = catalog.query(
            "SELECT session_id, recording, event_count FROM sessions WHERE labels ->> 'way' = 'sample'"
        ).to_dicts()
    assert len(rows) == SAMPLED
    for row in rows:
        inside = sample_point(row["session_id"]) < 0.5
        assert row["recording"] == ("on" if inside else "off")
        assert (row["event_count"] > 3) == inside


@pytest.mark.parametrize("way", ["off", "no-audio", "tools", "least"])
def test_commands_cope_with_what_is_not_there(recorded: tuple[list[Call], Path], way: str) -> None:
    calls, data = recorded
    call = next(one for one in calls if one.way.name == way)
    session_id = call.row["session_id"]

    def recorder(*arguments: str) -> str:
        command = [sys.executable, *COMMAND[1:], *arguments, "--data", str(data)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "Traceback" not in done.stderr
        return done.stdout

    shown = recorder("show", session_id)
    head = shown.splitlines()[1]
    assert ("not recorded, by policy" in head) == (way == "off")
    assert f"{call.row['left_out_bytes']:,} bytes left out" in head
    assert f"{call.row['left_out_bytes']:,} bytes left out" in shown.splitlines()[-1]
    assert ("audio not kept" in head) == (way in {"no-audio", "least"})
    assert ("texts hashed" in head) == (way in {"tools", "least"})
    recorder("show", session_id, "--transcript")
    recorder("show", session_id, "--at", "+1")
    recorder("replay", session_id, "--speed", "1000")


def test_pages_and_api_say_what_is_missing(recorded: tuple[list[Call], Path]) -> None:
    calls, data = recorded
    with TestClient(create_app(data), base_url="http://127.0.0.1") as client:
        for call in calls:
            address = f"/sessions/{call.row['session_id']}"
            page = client.get(address, headers={"Accept": "text/html"})
            assert page.status_code == 200
            kept = kept_words(call.row)
            assert (kept != "") == (call.way.recording != "on" or call.way.drops is not None or call.way.hashes)
            assert str(escape(kept)) in page.text
            assert client.get(f"{address}/timeline").status_code == 200
            api = client.get(f"/api/v1{address}").json()
            assert (api["recording"], api["left_out_bytes"]) == (call.row["recording"], call.row["left_out_bytes"])


def test_an_export_comes_back_as_it_was(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    path.write_bytes(b"".join(map(export_line, call.events)))
    assert list(OwnSession(path).events()) == call.events
