"""A WebRTC call on record: joined by `recorder proxy --sideband`, and what the models make of it."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Close, Opcode

from recorder.pipeline.catalog import Catalog
from tests.e2e.conftest import RecorderProcess, eventually
from tests.proxy.conftest import Scripted, read_exactly, read_to_end
from tests.proxy.telephony import CREATED, KEY, Telephony, accepted, frame, offer

Run = Callable[..., RecorderProcess]

RESPONSE = {"id": "r1", "status": "in_progress", "conversation_id": "conv_1"}
ANSWER = {"id": "a1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
BEFORE: tuple[dict[str, Any], ...] = (
    {"type": "session.created", "session": {"id": "sess_1", "type": "realtime", "model": "gpt-realtime"}},
    {"type": "response.created", "response": RESPONSE},
    {"type": "response.output_item.added", "response_id": "r1", "output_index": 0, "item": ANSWER},
    {"type": "output_audio_buffer.started", "response_id": "r1"},
    {
        "type": "response.output_audio_transcript.done",
        "response_id": "r1",
        "item_id": "a1",
        "transcript": "Hello there",
    },
    {"type": "response.done", "response": {**RESPONSE, "status": "completed"}},
)
AFTER: tuple[dict[str, Any], ...] = (
    {"type": "input_audio_buffer.speech_started", "audio_start_ms": 500, "item_id": "u1"},
    {"type": "output_audio_buffer.cleared", "response_id": "r1"},
)
PLAYED_SECONDS = 0.4


def barge_in(connection: socket.socket, head: bytes) -> None:
    """The assistant speaks, and is cut off."""
    connection.sendall(accepted(head))
    for event in BEFORE:
        connection.sendall(frame(Opcode.TEXT, json.dumps(event).encode()))
    time.sleep(PLAYED_SECONDS)  # what is measured: how long it played
    for event in AFTER:
        connection.sendall(frame(Opcode.TEXT, json.dumps(event).encode()))
    connection.sendall(frame(Opcode.CLOSE, Close(1000, "call ended").serialize()))
    assert read_exactly(connection, 8)[:2] == b"\x88\x82"
    assert read_to_end(connection) == b""


@pytest.fixture
def telephony() -> Iterator[tuple[Telephony, Scripted]]:
    calls = Telephony(barge_in)
    server = Scripted(calls)
    yield calls, server
    server.stop()
    assert server.failures == []


def test_a_barge_in_of_a_call_that_goes_past_the_proxy_is_seen(
    run: Run, data: Path, telephony: tuple[Telephony, Scripted]
) -> None:
    calls, server = telephony
    proxy = run("proxy", "--listen", "127.0.0.1:0", "--upstream", server.url, "--data", str(data), "--sideband")
    with socket.create_connection(proxy.address, 20) as client:
        client.sendall(offer())
        assert read_to_end(client) == CREATED
    calls.wait()
    eventually(lambda: bool(list((data / "manifests").rglob("*.json"))), "sealed while the proxy runs")
    assert proxy.stop() == 0
    with Catalog(data) as catalog:
        (session,) = catalog.query("SELECT * FROM sessions").to_dicts()
        types = [row[0] for row in catalog.query("SELECT type FROM events ORDER BY position").rows()]
        (interruption,) = catalog.query("SELECT * FROM interruptions").to_dicts()
        (played,) = catalog.query(
            "SELECT (max(monotonic_ns) - min(monotonic_ns)) / 1e6 FROM events"
            " WHERE type IN ('output_audio_buffer.started', 'output_audio_buffer.cleared')"
        ).rows()
    assert types == [
        "recorder.session_opened",
        "recorder.handshake_completed",
        *(event["type"] for event in (*BEFORE, *AFTER)),
        "websocket.close",
        "websocket.close",
        "recorder.session_closed",
    ]
    assert json.loads(session["labels"]) == {"connection": "sideband"}
    assert (session["source"], session["model"], session["server_session_id"]) == ("proxy", "gpt-realtime", "sess_1")
    assert (session["status"], session["closed_by"], session["close_code"]) == ("closed", "upstream", 1000)
    assert (interruption["item_id"], interruption["source"]) == ("a1", "server_vad")
    assert interruption["heard_ms"] == pytest.approx(played[0], abs=1)
    assert played[0] > 0
    kept = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    assert KEY.encode() not in kept
    assert b"v=0" not in kept
