"""Client events of every kind against the server, one socket at a time."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pybase64
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError
from websockets.typing import Subprotocol

from recorder.errors import ListenError
from recorder.simulator.audio import synthesize
from recorder.simulator.connection import UNTYPED
from recorder.simulator.script import Pacing, Script, Turn
from recorder.simulator.server import Simulator
from tests.drawing import examples

QUICK = Pacing(queue_ms=0, first_token_ms=0, first_audio_ms=0, pace=1000, token_ms=0, transcription_ms=0)
SLOW = {"pace": 0.2}


class Peer:
    """A bare client: sends what it is told, reads until it sees what it wants."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def until(self, kind: str) -> dict[str, Any]:
        while True:
            event: dict[str, Any] = json.loads(await self.socket.recv())
            if event["type"] == kind:
                return event

    async def ask(self, text: str) -> str:
        content = [{"type": "input_text", "text": text}]
        await self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        return str((await self.until("conversation.item.done"))["item"]["id"])

    async def append(self, samples: Any) -> None:
        audio = pybase64.b64encode_as_string(np.asarray(samples, dtype="<i2").tobytes())
        await self.send("input_audio_buffer.append", audio=audio)


def script(*turns: Turn, **session: Any) -> Script:
    return Script(name="test", pacing=QUICK, turns=list(turns), session=session)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    long = Turn(say="A very long answer indeed.", audio_seconds=60, pacing=SLOW)
    async with Simulator(script(long, Turn(say="Short."), Turn(say="Shorter.")), seed=1) as running:
        yield running


@pytest.fixture
async def peer(simulator: Simulator) -> AsyncIterator[Peer]:
    async with connect(simulator.url, proxy=None) as socket:
        yield Peer(socket)


async def test_client_ids_and_places_are_kept(peer: Peer) -> None:
    await peer.send("conversation.item.create", item={"id": "mine", "type": "message", "role": "user", "content": []})
    assert (await peer.until("conversation.item.added"))["item"]["id"] == "mine"
    root = {"id": "first", "type": "message", "role": "system", "content": []}
    await peer.send("conversation.item.create", previous_item_id="root", item=root)
    assert (await peer.until("conversation.item.added"))["previous_item_id"] is None
    after = {"id": "second", "type": "message", "role": "user", "content": []}
    await peer.send("conversation.item.create", previous_item_id="first", item=after)
    assert (await peer.until("conversation.item.added"))["previous_item_id"] == "first"


async def test_retrieve_and_delete(peer: Peer, simulator: Simulator) -> None:
    item_id = await peer.ask("hello")
    await peer.send("conversation.item.retrieve", item_id=item_id)
    assert (await peer.until("conversation.item.retrieved"))["item"]["content"][0]["text"] == "hello"
    await peer.send("conversation.item.delete", item_id=item_id)
    assert (await peer.until("conversation.item.deleted"))["item_id"] == item_id
    await peer.send("conversation.item.retrieve", item_id=item_id, event_id="event_x")
    error = (await peer.until("error"))["error"]
    assert (error["code"], error["event_id"]) == ("item_retrieve_invalid_item_id", "event_x")
    await peer.socket.close()
    await simulator.idle()
    assert [(item.id, item.deleted) for item in simulator.truths[0].items] == [(item_id, True)]


async def test_a_second_response_is_refused_while_one_is_active(peer: Peer) -> None:
    await peer.send("response.create")
    created = await peer.until("response.created")
    await peer.send("response.create", event_id="event_second")
    error = (await peer.until("error"))["error"]
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "event_second")
    assert created["response"]["id"] in error["message"]


async def test_cancel_ends_everything_that_was_opened(peer: Peer) -> None:
    await peer.send("response.create")
    await peer.until("response.output_audio.delta")
    await peer.send("response.cancel")
    assert (await peer.until("response.output_item.done"))["item"]["status"] == "incomplete"
    response = (await peer.until("response.done"))["response"]
    assert response["status"] == "cancelled"
    assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    await peer.send("response.cancel")
    assert (await peer.until("error"))["error"]["code"] == "response_cancel_not_active"


async def test_out_of_band_runs_beside_and_leaves_no_item(peer: Peer, simulator: Simulator) -> None:
    await peer.send("response.create")
    await peer.until("response.output_audio.delta")
    params = {"conversation": "none", "output_modalities": ["text"], "metadata": {"k": "v"}, "input": []}
    await peer.send("response.create", response=params)
    done = (await peer.until("response.done"))["response"]
    assert (done["conversation_id"], done["metadata"], done["status"]) == (None, {"k": "v"}, "completed")
    await peer.socket.close()
    await simulator.idle()
    truth = simulator.truths[0]
    assert [response.out_of_band for response in truth.responses] == [False, True]
    assert done["output"][0]["id"] not in [item.id for item in truth.items]


async def test_a_token_limit_cuts_the_answer(simulator: Simulator) -> None:
    async with (
        Simulator(script(Turn(say="word " * 100, modality="text"))) as own,
        connect(own.url, proxy=None) as socket,
    ):
        peer = Peer(socket)
        await peer.send("response.create", response={"max_output_tokens": 25})
        response = (await peer.until("response.done"))["response"]
    assert response["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
    assert response["usage"]["output_tokens"] == 25


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ("[]", "invalid_event"),
        ("{}", "invalid_event"),
        ('{"event_id": "e"}', "missing_required_parameter"),
        ('{"type": 5}', "invalid_value"),
        ('{"type": "nonsense"}', "invalid_value"),
        ('{"type": "input_audio_buffer.append", "audio": "%%%"}', "invalid_value"),
        ('{"type": "input_audio_buffer.append"}', "invalid_value"),
        ('{"type": "input_audio_buffer.commit"}', "input_audio_buffer_commit_empty"),
        ('{"type": "conversation.item.create"}', "missing_required_parameter"),
        ('{"type": "conversation.item.create", "item": {"type": "dream"}}', "invalid_value"),
        ('{"type": "conversation.item.create", "item": {"type": "message", "content": [1]}}', "invalid_type"),
        (
            '{"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c"}}',
            "invalid_tool_call_id",
        ),
        ('{"type": "conversation.item.truncate", "item_id": "x", "audio_end_ms": 1}', "item_truncate_invalid_item_id"),
        ('{"type": "session.update"}', "missing_required_parameter"),
        ('{"type": "session.update", "session": {"model": "m"}}', "missing_required_parameter"),
        (b"\x00\xff", "invalid_event"),
    ],
)
async def test_mistakes_are_answered_and_forgiven(peer: Peer, message: str | bytes, code: str) -> None:
    await peer.socket.send(message)
    assert (await peer.until("error"))["error"]["code"] == code
    assert await peer.ask("still there?")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["item", "item_id", "audio", "session", "response", "audio_end_ms", "previous_item_id", "event_id"]
TYPES = [
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "conversation.item.create",
    "conversation.item.truncate",
    "conversation.item.retrieve",
    "response.create",
    "response.cancel",
    "output_audio_buffer.clear",
]
SHAPES = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "function_call_output", "realtime"])},
    optional={"content": JSON, "role": JSON, "id": JSON, "audio": JSON, "tools": JSON, "call_id": JSON},
)


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(KEYS), JSON | SHAPES)), max_size=12))
async def test_no_event_breaks_the_session(events: list[tuple[str, dict[str, Any]]]) -> None:
    async with Simulator(script(), speed=100) as simulator, connect(simulator.url, proxy=None) as socket:
        peer = Peer(socket)
        for kind, fields in events:
            await peer.send(kind, **fields)
        await peer.send("are you there", event_id="last")
        while (await peer.until("error"))["error"]["event_id"] != "last":
            pass


async def test_an_untyped_event_is_counted(simulator: Simulator, peer: Peer) -> None:
    await peer.socket.send('{"event_id": "e"}')
    await peer.until("error")
    assert simulator.truths[0].client_events == [UNTYPED]


async def test_a_voice_interrupts_only_if_the_session_says_so() -> None:
    vad = {"type": "server_vad", "interrupt_response": False, "create_response": True, "silence_duration_ms": 100}
    turn = Turn(say="Long.", audio_seconds=30, pacing=SLOW)
    spoken = script(turn, audio={"input": {"turn_detection": vad}})
    async with Simulator(spoken) as simulator, connect(simulator.url, proxy=None) as socket:
        peer = Peer(socket)
        await peer.send("response.create")
        await peer.until("response.output_audio.delta")
        await peer.append(synthesize(0, 400, 24_000, pitch_hz=200))
        await peer.append(np.zeros(24_000 // 2))
        await peer.until("input_audio_buffer.speech_stopped")
        error = (await peer.until("error"))["error"]
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", None)


async def test_idle_timeout_makes_the_model_speak_up() -> None:
    vad = {"type": "server_vad", "idle_timeout_ms": 6000}
    spoken = script(
        Turn(say="Hi.", modality="text"),
        Turn(say="Still there?", modality="text"),
        audio={"input": {"turn_detection": vad}},
    )
    async with Simulator(spoken) as simulator, connect(simulator.url, proxy=None) as socket:
        peer = Peer(socket)
        await peer.append(np.zeros(24_000))
        await peer.send("response.create")
        await peer.until("rate_limits.updated")
        for _ in range(7):
            await peer.append(np.zeros(24_000))
        event = await peer.until("input_audio_buffer.timeout_triggered")
        await peer.until("response.done")
        await peer.socket.close()
        await simulator.idle()
    assert (event["audio_start_ms"], event["audio_end_ms"]) == (1000, 7000)
    assert [response.trigger for response in simulator.truths[0].responses] == ["client", "idle_timeout"]


async def test_a_commit_during_a_voice_keeps_its_item(peer: Peer) -> None:
    await peer.append(synthesize(0, 500, 24_000, pitch_hz=200))
    started = await peer.until("input_audio_buffer.speech_started")
    await peer.send("input_audio_buffer.commit")
    assert (await peer.until("input_audio_buffer.committed"))["item_id"] == started["item_id"]
    await peer.send("conversation.item.retrieve", item_id=started["item_id"])
    audio = (await peer.until("conversation.item.retrieved"))["item"]["content"][0]["audio"]
    assert len(pybase64.b64decode(audio)) == 24_000


async def test_the_axis_runs_on_through_a_clear(peer: Peer) -> None:
    await peer.append(np.zeros(48_000))
    await peer.send("input_audio_buffer.clear")
    await peer.until("input_audio_buffer.cleared")
    await peer.append(np.zeros(12_000))
    await peer.append(synthesize(0, 500, 24_000, pitch_hz=200))
    assert (await peer.until("input_audio_buffer.speech_started"))["audio_start_ms"] == 2200


async def test_scripts_are_chosen_by_query_and_by_model() -> None:
    async with Simulator("text_turn") as simulator:
        for query, name, model in [
            ("", "text_turn", "gpt-realtime"),
            ("?model=gpt-realtime-mini", "text_turn", "gpt-realtime-mini"),
            ("?script=tool_call", "tool_call", "gpt-realtime"),
            ("?model=sim-beta_names", "beta_names", "gpt-4o-realtime-preview"),
        ]:
            async with connect(simulator.url + query, proxy=None) as socket:
                session = (await Peer(socket).until("session.created"))["session"]
            await simulator.idle()
            assert (simulator.truths[-1].script, session["model"]) == (name, model)


async def test_several_scripts_take_turns_and_a_file_is_named_by_its_stem(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("model: my-model")
    async with Simulator(["text_turn", tmp_path / "mine.yaml"]) as simulator:
        for query in ["", "", "", "?script=mine"]:
            async with connect(simulator.url + query, proxy=None) as socket:
                await socket.recv()
        await simulator.idle()
    assert [truth.script for truth in simulator.truths] == ["text_turn", "mine", "text_turn", "mine"]


@pytest.mark.parametrize("name", ["nothing", "..%2F..%2Fsecrets", "%2Fetc%2Fpasswd"])
async def test_an_unknown_script_is_refused_like_an_unknown_model(simulator: Simulator, name: str) -> None:
    async with connect(f"{simulator.url}?script={name}", proxy=None) as socket:
        assert (await Peer(socket).until("error"))["error"]["code"] == "model_not_found"
        with pytest.raises(ConnectionClosedError):
            await socket.recv()
        assert (socket.close_code, socket.close_reason) == (4000, "invalid_request_error.model_not_found")


@pytest.mark.parametrize("compression", [True, False])
async def test_handshake(compression: bool) -> None:
    async with Simulator(compression=compression) as simulator:
        url = simulator.url.replace("/v1/realtime", "/openai/anything?deployment=x&api-version=1")
        offered = [Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.sk-none")]
        async with connect(url, subprotocols=offered, proxy=None) as socket:
            assert socket.subprotocol == "realtime"
            assert bool(socket.protocol.extensions) == compression
        async with connect(url, proxy=None) as socket:
            assert socket.subprotocol is None


async def test_stopping_closes_connections_and_completes_their_truth(tmp_path: Path) -> None:
    simulator = Simulator(seed=3, truth_dir=tmp_path / "truth")
    await simulator.start()
    async with connect(simulator.url, proxy=None) as socket:
        session = (await Peer(socket).until("session.created"))["session"]
        await simulator.stop()
    written = json.loads((tmp_path / "truth" / f"{session['id']}.json").read_text())
    assert written["server_events"] == ["session.created"]
    assert written["server_event_count"] == 1
    assert written["close"] == {"by": "server", "code": 1001, "reason": ""}


@pytest.mark.parametrize("modality", ["audio", "text"])
async def test_a_client_that_hangs_up_in_mid_answer_got_what_the_truth_says(modality: str) -> None:
    """Whenever it closes; both sides of a close may have something on its way."""
    talk = Turn(say="word " * 400, audio_seconds=60, pacing={"pace": 100, "delta_ms": 20, "token_ms": 0.5})

    async def call(simulator: Simulator, number: int) -> list[dict[str, Any]]:
        async with connect(simulator.url, proxy=None) as socket:
            await Peer(socket).send("response.create", response={"output_modalities": [modality]})
            got = []
            async for message in socket:
                got.append(json.loads(message))
                if len(got) == 20 + number:
                    closing = asyncio.create_task(socket.close())
            await closing
            return got

    async with Simulator(script(talk), seed=1) as simulator:
        calls = await asyncio.gather(*(call(simulator, number) for number in range(20)))
        await simulator.idle()
        truths = {truth.session_id: truth for truth in simulator.truths}
    for got in calls:
        truth = truths[got[0]["session"]["id"]]
        (response,), deltas = truth.responses, [event for event in got if event["type"].endswith(".delta")]
        audio = [event["delta"] for event in deltas if "output_audio.delta" in event["type"]]
        text = "".join(event["delta"] for event in deltas if "output_audio.delta" not in event["type"])
        assert truth.server_events == [event["type"] for event in got]
        assert (response.status, response.transcript, truth.items[-1].text) == ("dangling", text, text)
        assert truth.audio_out_ms == response.audio_ms == truth.items[-1].audio_ms
        assert response.audio_ms == sum(len(pybase64.b64decode(one)) for one in audio) / 48


async def test_truths_need_not_be_kept() -> None:
    async with Simulator(keep_truths=False) as simulator:
        async with connect(simulator.url, proxy=None) as socket:
            await Peer(socket).until("session.created")
            assert len(simulator.truths) == 1
        await simulator.idle()
        assert simulator.truths == []


async def test_an_address_in_use_is_said_so(simulator: Simulator) -> None:
    port = int(simulator.url.split(":")[2].split("/")[0])
    with pytest.raises(ListenError, match="address already in use"):
        await Simulator(port=port).start()


async def test_the_openai_client_holds_a_text_turn() -> None:
    async with Simulator(script(Turn(say="Hello from the other side.")), seed=2) as simulator:
        base = simulator.url.removesuffix("/realtime")
        client = AsyncOpenAI(api_key="sk-none", websocket_base_url=base)
        async with client.realtime.connect(model="gpt-realtime") as connection:
            await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
            await connection.conversation.item.create(
                item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi!"}]}
            )
            await connection.response.create()
            said = ""
            async for event in connection:
                if event.type == "response.output_text.delta":
                    said += event.delta
                elif event.type == "response.done":
                    assert event.response.status == "completed"
                    break
        await client.close()
    assert said == "Hello from the other side."
