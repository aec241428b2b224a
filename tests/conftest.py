"""A small store, made by hand: what the API's, the dashboards' and the browser's tests look at."""

import base64
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from recorder.pipeline.imports import import_files
from recorder.protocol.envelope import RecordKind
from recorder.store.journal import JournalWriter, encode_frame

# Drawn tests are the same in every run, so that a run says something of the change and not of luck. `make soak` draws
# anew, and many times as much (`--hypothesis-profile soak`, tests/drawing.py).
settings.register_profile(
    "ci", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "soak", max_examples=2000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")

HOSTILE_USER = '<img src=x onerror="alert(1)"> \u202egnirts lived'
HOSTILE_ASSISTANT = "</script><script>alert(2)</script>\u2028<b>bold</b> %{y} <a href='javascript:alert(3)'>link</a>"
HOSTILE_ID = "javascript:alert(4)//'\"><img src=x onerror=alert(5)>"
TOOL_ARGUMENTS = '{"city": "<i>Oslo</i>"}'
PCM_100_MS = base64.b64encode(bytes(4800)).decode()


class Recording:
    """Messages with their times, one a line."""

    def __init__(self, opened: datetime | None) -> None:
        self.opened = opened
        self.ms = 0
        self.lines: list[str] = []

    def server(self, after_ms: int, kind: str, **fields: Any) -> None:
        self._add("server", after_ms, {"type": kind, "event_id": f"event_{len(self.lines)}", **fields})

    def client(self, after_ms: int, kind: str, **fields: Any) -> None:
        self._add("client", after_ms, {"type": kind, **fields})

    def close(self, after_ms: int) -> None:
        self._add("client", after_ms, {"code": 1000, "reason": "done"}, key="close")

    def _add(self, direction: str, after_ms: int, value: dict[str, Any], key: str = "event") -> None:
        self.ms += after_ms
        line: dict[str, Any] = {"dir": direction, key: value}
        if self.opened is not None:
            line["ts"] = (self.opened + timedelta(milliseconds=self.ms)).isoformat()
        self.lines.append(json.dumps(line))


def voice(opened: datetime | None, server_id: str, model: str = "gpt-realtime") -> Recording:
    """One spoken turn; its answer of 1 s is cut off after 600 ms, and says so."""
    talk = Recording(opened)
    session = {"id": server_id, "object": "realtime.session", "type": "realtime", "model": model}
    talk.server(0, "session.created", session=session)
    talk.client(10, "session.update", session={"instructions": "Be brief.", "type": "realtime"})
    talk.server(20, "session.updated", session={**session, "instructions": "Be brief."})
    for _ in range(10):
        talk.client(100, "input_audio_buffer.append", audio=PCM_100_MS)
    talk.server(1, "input_audio_buffer.speech_started", audio_start_ms=200, item_id="item_u")
    for _ in range(10):
        talk.client(100, "input_audio_buffer.append", audio=PCM_100_MS)
    talk.server(1, "input_audio_buffer.speech_stopped", audio_end_ms=1900, item_id="item_u")
    talk.server(1, "input_audio_buffer.committed", item_id="item_u", previous_item_id=None)
    user = {"id": "item_u", "type": "message", "role": "user", "status": "completed"}
    talk.server(1, "conversation.item.added", item={**user, "content": [{"type": "input_audio", "transcript": None}]})
    talk.server(10, "response.created", response={"id": "resp_1", "status": "in_progress", "output": []})
    talk.server(
        5,
        "conversation.item.input_audio_transcription.completed",
        item_id="item_u",
        content_index=0,
        transcript="Where is my parcel?",
    )
    answer = {"id": "item_a", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    talk.server(5, "response.output_item.added", response_id="resp_1", output_index=0, item=answer)
    talk.server(1, "conversation.item.added", item=answer, previous_item_id="item_u")
    where = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0, "content_index": 0}
    talk.server(300, "response.output_audio.delta", **where, delta=PCM_100_MS)
    for word in ("Your ", "parcel ", "arrives ", "on ", "Friday ", "before ", "noon ", "at ", "home."):
        talk.server(5, "response.output_audio_transcript.delta", **where, delta=word)
        talk.server(15, "response.output_audio.delta", **where, delta=PCM_100_MS)
    talk.server(420, "input_audio_buffer.speech_started", audio_start_ms=2000, item_id="item_x")
    talk.client(30, "conversation.item.truncate", item_id="item_a", content_index=0, audio_end_ms=600)
    talk.server(20, "conversation.item.truncated", item_id="item_a", content_index=0, audio_end_ms=600)
    usage = {
        "total_tokens": 300, "input_tokens": 200, "output_tokens": 100,
        "input_token_details": {"cached_tokens": 64, "text_tokens": 150, "audio_tokens": 50},
        "output_token_details": {"text_tokens": 20, "audio_tokens": 80},
    }  # fmt: skip
    reason = {"type": "cancelled", "reason": "turn_detected"}
    done = {"id": "resp_1", "status": "cancelled", "status_details": reason, "output": [], "usage": usage}
    talk.server(10, "response.done", response=done)
    talk.close(100)
    return talk


def typed(opened: datetime | None, server_id: str) -> Recording:
    """Typed and spoken by someone who wishes the reader ill; with a tool call, and an error."""
    talk = Recording(opened)
    talk.server(0, "session.created", session={"id": server_id, "type": "realtime", "model": "<b>model</b>"})
    content = [{"type": "input_text", "text": HOSTILE_USER}]
    said = {"id": HOSTILE_ID, "type": "message", "role": "user", "content": content}
    talk.client(10, "conversation.item.create", item=said)
    talk.server(10, "conversation.item.added", item={**said, "status": "completed"})
    talk.client(10, "response.create")
    talk.server(10, "response.created", response={"id": "resp_h", "status": "in_progress"})
    call = {"id": "item_f", "type": "function_call", "name": "<u>weather</u>", "call_id": "call_1"}
    where = {"response_id": "resp_h", "output_index": 0, "item_id": "item_f"}
    talk.server(50, "response.output_item.added", response_id="resp_h", output_index=0, item={**call, "arguments": ""})
    talk.server(1, "conversation.item.added", item={**call, "arguments": ""}, previous_item_id=HOSTILE_ID)
    talk.server(20, "response.function_call_arguments.delta", **where, call_id="call_1", delta=TOOL_ARGUMENTS)
    talk.server(10, "response.function_call_arguments.done", **where, call_id="call_1", arguments=TOOL_ARGUMENTS)
    talk.server(1, "response.done", response={"id": "resp_h", "status": "completed", "output": [], "usage": {}})
    output = {"id": "item_o", "type": "function_call_output", "call_id": "call_1", "output": "<s>rain</s>"}
    talk.client(200, "conversation.item.create", item=output)
    talk.server(5, "conversation.item.added", item=output, previous_item_id="item_f")
    answer = {"id": "item_t", "type": "message", "role": "assistant", "status": "completed"}
    part = [{"type": "output_text", "text": HOSTILE_ASSISTANT}]
    talk.client(10, "response.create")
    talk.server(10, "response.created", response={"id": "resp_t", "status": "in_progress"})
    talk.server(1, "conversation.item.added", item={**answer, "content": []}, previous_item_id="item_o")
    where = {"response_id": "resp_t", "output_index": 0, "item_id": "item_t", "content_index": 0}
    talk.server(80, "response.output_text.delta", **where, delta=HOSTILE_ASSISTANT)
    talk.server(1, "response.output_text.done", **where, text=HOSTILE_ASSISTANT)
    talk.server(1, "conversation.item.done", item={**answer, "content": part}, previous_item_id="item_o")
    talk.server(1, "response.done", response={"id": "resp_t", "status": "completed", "output": [], "usage": {}})
    talk.server(1, "error", error={"type": "invalid_request_error", "message": "<h1>no</h1>", "code": "bad"})
    talk.close(10)
    return talk


def troubled(opened: datetime | None) -> Recording:
    """Two answers and much that goes wrong: stalls, a lost cache, dropped turns, an error, tools, a transcription."""
    talk = Recording(opened)
    talk.server(0, "session.created", session={"id": "sess_troubled", "type": "realtime", "model": "gpt-realtime"})
    tools = {"id": "item_m", "type": "mcp_list_tools", "server_label": "<b>docs</b>"}
    talk.server(5, "conversation.item.added", item=tools)
    talk.server(5, "mcp_list_tools.in_progress", item_id="item_m")
    talk.server(40, "mcp_list_tools.failed", item_id="item_m")
    said = {"id": "item_u", "type": "message", "role": "user"}
    talk.client(10, "conversation.item.create", item={**said, "content": [{"type": "input_text", "text": "Hello"}]})
    talk.server(5, "conversation.item.added", item={**said, "status": "completed", "content": []})
    unheard = {"type": "transcription_error", "code": "unintelligible", "message": "<i>no words</i>"}
    failed = "conversation.item.input_audio_transcription.failed"
    talk.server(5, failed, item_id="item_u", content_index=0, error=unheard)
    for number, (read, cached) in enumerate(((4000, 3200), (900, 64)), 1):
        answer(talk, number, read, cached)
    talk.client(20, "conversation.item.delete", event_id="evt_mine", item_id="item_nowhere")
    error = {"type": "invalid_request_error", "code": "item_not_found", "message": "<h1>no such item</h1>"}
    talk.server(10, "error", error={**error, "event_id": "evt_mine", "param": "item_id"})
    limit = {"name": "tokens", "limit": 1000, "remaining": 40, "reset_seconds": 60}
    talk.server(5, "rate_limits.updated", rate_limits=[limit])
    talk.close(100)
    return talk


def answer(talk: Recording, number: int, read: int, cached: int) -> None:
    """A response that stalls for 0.9 s, asks for a tool that is never run, and tells what it read."""
    response, item = f"resp_{number}", f"item_{number}"
    talk.client(20, "response.create")
    talk.server(10, "response.created", response={"id": response, "status": "in_progress", "output": []})
    message = {"id": item, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    talk.server(10, "response.output_item.added", response_id=response, output_index=0, item=message)
    talk.server(1, "conversation.item.added", item=message)
    where = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
    for wait in (200, 1000, 50):
        talk.server(wait, "response.output_audio.delta", **where, delta=PCM_100_MS)
    call = {"id": f"item_f{number}", "type": "function_call", "name": "book", "call_id": f"call_{number}"}
    asked = {"response_id": response, "output_index": 1}
    talk.server(5, "response.output_item.added", **asked, item={**call, "arguments": ""})
    talk.server(1, "conversation.item.added", item={**call, "arguments": ""})
    asked |= {"item_id": call["id"], "call_id": call["call_id"]}
    talk.server(5, "response.function_call_arguments.done", **asked, arguments='{"day": ')
    usage = {
        "total_tokens": read + 50, "input_tokens": read, "output_tokens": 50,
        "input_token_details": {
            "cached_tokens": cached, "text_tokens": read, "audio_tokens": 0,
            "cached_tokens_details": {"text_tokens": cached, "audio_tokens": 0},
        },
        "output_token_details": {"text_tokens": 20, "audio_tokens": 30},
    }  # fmt: skip
    talk.server(5, "response.done", response={"id": response, "status": "completed", "output": [], "usage": usage})


@dataclass(frozen=True, slots=True)
class SampleStore:
    """A store and the sessions in it, by what they are for."""

    data_dir: Path
    voice: str
    typed: str
    untimed: str


class RunningSession:
    """A session that the recorder process would be writing; `server` adds what the server says next."""

    SESSION_ID = "019abcde-0000-7000-8000-000000000001"

    def __init__(self, data_dir: Path, opened: datetime) -> None:
        self._writer = JournalWriter(data_dir, self.SESSION_ID)
        self._at_ns = 0
        self._position = 0
        facts: dict[str, Any] = {
            "session_id": self.SESSION_ID,
            "source": "proxy",
            "opened_at": opened.isoformat(),
            "labels": {},
        }
        facts |= {"opened_at_ns": int(opened.timestamp() * 1e9), "monotonic_ns": 0, "upstream": "wss://upstream.test"}
        facts |= {"request": {"method": "GET", "target": "/v1/realtime?model=gpt-realtime", "headers": []}}
        self._write(RecordKind.OPENED, json.dumps(facts).encode())
        accepted: dict[str, Any] = {"status": 101, "headers": [], "connect_seconds": 0.01, "handshake_seconds": 0.02}
        self._write(RecordKind.ACCEPTED, json.dumps({**accepted, "monotonic_ns": 20_000_000}).encode())

    def server(self, kind: str, **fields: Any) -> None:
        text = json.dumps({"type": kind, **fields}).encode()
        head = struct.pack("!BB", 0x81, len(text)) if len(text) < 126 else struct.pack("!BBH", 0x81, 126, len(text))
        self._write(RecordKind.SERVER_BYTES, head + text)

    def end(self, **facts: Any) -> None:
        """The last record of a session that is over, and not sealed yet."""
        self._write(RecordKind.CLOSED, json.dumps({"closed_by": "client", "error": None, **facts}).encode())

    def close(self) -> None:
        self._writer.close(finished=False)

    def _write(self, kind: RecordKind, data: bytes) -> None:
        self._writer.write(encode_frame(self._position, self._at_ns, kind, data))
        self._position += 1
        self._at_ns += 50_000_000


def import_recordings(data_dir: Path, folder: Path, recordings: dict[str, Recording]) -> dict[str, str]:
    """Write and import recordings; their session ids by name."""
    files = [folder / f"{name}.jsonl" for name in recordings]
    for file, recording in zip(files, recordings.values(), strict=True):
        file.write_text("\n".join(recording.lines), encoding="utf-8")
    results = import_files(data_dir, files)
    ids = {name: result.session_id for name, result in zip(recordings, results, strict=True)}
    assert all(ids.values()), results
    return {name: str(session_id) for name, session_id in ids.items()}


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    folder = tmp_path_factory.mktemp("sample_store")
    now = datetime.now(UTC)
    recordings = {
        "voice": voice(now - timedelta(hours=1), "sess_voice"),
        "typed": typed(now - timedelta(hours=2), "sess_typed"),
        "untimed": voice(None, "sess_untimed", "gpt-realtime-mini"),
    }
    return SampleStore(folder / "data", **import_recordings(folder / "data", folder, recordings))


@pytest.fixture(scope="session")
def troubled_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one session with much to find in it."""
    folder = tmp_path_factory.mktemp("troubled_store")
    import_recordings(folder / "data", folder, {"troubled": troubled(datetime.now(UTC) - timedelta(minutes=5))})
    return folder / "data"


@pytest.fixture
def running_session(tmp_path: Path) -> Iterator[tuple[Path, RunningSession]]:
    """A data directory of its own with one running session."""
    data_dir = tmp_path / "data"
    import_recordings(data_dir, tmp_path, {"old": voice(datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "sess_old")})
    session = RunningSession(data_dir, datetime.now(UTC))
    session.server("session.created", session={"id": "sess_live", "model": "gpt-realtime"})
    yield data_dir, session
    session.close()


@pytest.fixture(scope="session")
def only_untimed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one recording without times."""
    folder = tmp_path_factory.mktemp("untimed_store")
    import_recordings(folder / "data", folder, {"untimed": voice(None, "sess_untimed")})
    return folder / "data"
