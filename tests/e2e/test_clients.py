"""Conversations of real clients through the proxy: all of it is on record, and the numbers are the simulator's.

The Node client and the Agents SDK bring dependencies of their own. They are installed into the user's cache, from the
lock files beside the clients; where that is not possible, their tests are skipped.
"""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from recorder.pipeline.catalog import Catalog
from recorder.protocol.envelope import RecordedEvent
from recorder.simulator.client import ClientLog
from recorder.simulator.script import load_script
from recorder.simulator.sdk_caller import call
from recorder.simulator.truth import Truth
from recorder.store.journal_files import list_journals
from tests.e2e.conftest import RecorderProcess, eventually
from tests.e2e.installs import CLIENTS, INSTALL_SECONDS, cached, execute, python_with

TABLES = {"responses": "response_no", "tool_calls": "tool_call_no", "turns": "turn_no", "speech": "speech_no"}
Run = Callable[..., RecorderProcess]


class Recorded(NamedTuple):
    """One conversation, in the store and in the simulator's truth."""

    events: list[RecordedEvent]
    session: dict[str, Any]
    responses: list[dict[str, Any]]
    tool_calls: list[dict[str, Any]]
    turns: list[dict[str, Any]]
    speech: list[dict[str, Any]]
    truth: Truth

    def said(self, direction: str) -> list[Any]:
        """The messages of one direction as JSON."""
        return [
            json.loads(event.message()) for event in self.events if event.direction == direction and event.opcode == 1
        ]


class Setup:
    """A simulator, and a proxy in front of it."""

    def __init__(self, run: Run, data: Path, truths: Path, *, tls: bool) -> None:
        truths.mkdir()
        self._truths = truths
        self._data = data
        common = ("--listen", "127.0.0.1:0")
        simulator = run("simulate", *common, "--truth", str(truths), "--seed", "7")
        upstream = simulator.url.split()[-1].removesuffix("/v1/realtime")
        secure = ("--tls-self-signed",) if tls else ()
        self._proxy = run("proxy", *common, "--upstream", upstream, "--data", str(data), *secure)
        host, port = self._proxy.address
        self.address = f"{'localhost' if tls else host}:{port}"
        self.authority = data / "tls" / "authority.pem"

    def finish(self) -> dict[str, Recorded]:
        """Stop the proxy, which seals what was recorded; read it. By the script that the simulator played."""
        assert self._proxy.stop() == 0
        assert not list_journals(self._data)
        with Catalog(self._data) as catalog:
            sessions = catalog.query("SELECT * FROM sessions").to_dicts()
            eventually(lambda: len(list(self._truths.glob("*.json"))) == len(sessions), "all truths are told")
            recorded = [self._read(catalog, session) for session in sessions]
        return {one.truth.script: one for one in recorded}

    def _read(self, catalog: Catalog, session: dict[str, Any]) -> Recorded:
        told = (self._truths / f"{session['server_session_id']}.json").read_bytes()
        tables = {
            name: catalog.query(
                f"SELECT * FROM {name} WHERE session_id = ? ORDER BY {key}", [session["session_id"]]
            ).to_dicts()
            for name, key in TABLES.items()
        }
        events = catalog.recorded_events(session["session_id"])
        return Recorded(events, session, truth=msgspec.json.decode(told, type=Truth), **tables)


@pytest.fixture
def setup(run: Run, data: Path, tmp_path: Path) -> Callable[..., Setup]:
    return lambda *, tls: Setup(run, data, tmp_path / "truths", tls=tls)


def check(recorded: Recorded) -> None:
    """What every conversation's record has in common with the truth."""
    truth, session = recorded.truth, recorded.session
    assert [event["type"] for event in recorded.said("client")] == truth.client_events
    assert [event["type"] for event in recorded.said("server")] == truth.server_events
    assert session["server_session_id"] == truth.session_id
    assert (session["status"], session["closed_by"]) == ("closed", "client")
    assert truth.close is not None
    assert (session["close_code"], session["close_reason"]) == (truth.close.code, truth.close.reason)
    assert (session["error_count"], truth.errors) == (0, [])
    assert session["audio_in_seconds"] * 1000 == pytest.approx(truth.audio_in_ms)
    assert session["audio_out_seconds"] * 1000 == pytest.approx(truth.audio_out_ms)
    assert {row["item_id"]: row["text"] for row in recorded.turns} == {
        item.id: item.text for item in truth.items if item.type == "message"
    }
    columns = ("response_id", "trigger", "status")
    assert [(*(row[name] for name in columns), row["transcript"] or "") for row in recorded.responses] == [
        (one.id, one.trigger, one.status, one.transcript) for one in truth.responses
    ]
    for row, one in zip(recorded.responses, truth.responses, strict=True):
        assert one.usage is not None
        assert (row["input_tokens"], row["output_tokens"]) == (one.usage["input_tokens"], one.usage["output_tokens"])
    assert [(row["name"], row["arguments"], row["output"]) for row in recorded.tool_calls] == [
        (one.name, one.arguments, one.output) for one in truth.tool_calls
    ]
    assert [row["item_id"] for row in recorded.speech] == [one.item_id for one in truth.speech]


def agent_of(recorded: Recorded) -> str:
    return str(recorded.session["user_agent"])


# ── openai, Python ────────────────────────────────────────────────────────────────────────────────────────────────


def test_openai_python(setup: Callable[..., Setup]) -> None:
    """Four conversations at once."""
    proxied = setup(tls=False)
    scripts = ("text_turn", "voice_turn", "tool_call", "barge_in")

    async def hold() -> list[ClientLog]:
        url = f"ws://{proxied.address}/v1"
        return await asyncio.gather(*(call(load_script(script), url, "gpt-realtime") for script in scripts))

    logs = dict(zip(scripts, asyncio.run(hold()), strict=True))
    conversations = proxied.finish()
    assert set(conversations) == set(scripts)
    for script, recorded in conversations.items():
        check(recorded)
        assert agent_of(recorded).startswith("AsyncOpenAI/Python")
        assert recorded.said("client") == logs[script].events("client")
        assert [event["type"] for event in recorded.said("server")] == logs[script].types("server")
        assert len(recorded.truth.responses) >= 2
        assert bool(recorded.speech) == (script in {"voice_turn", "barge_in"})
        assert bool(recorded.tool_calls) == (script == "tool_call")
        assert recorded.session["interruption_count"] == len(recorded.truth.interruptions_by("wall"))
    assert conversations["barge_in"].session["interruption_count"] == 2


# ── openai, Node ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def node_client() -> Path:
    """Where the Node client can be run."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")

    def install(folder: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(CLIENTS / "node" / name, folder)
        flags = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1")
        execute(npm, "ci", *flags, cwd=folder, seconds=INSTALL_SECONDS)

    folder = cached("openai-node", CLIENTS / "node" / "package-lock.json", install)
    shutil.copy(CLIENTS / "node" / "conversation.mjs", folder)
    return folder


def lines_of(output: str, key: str) -> Iterator[Any]:
    for line in output.splitlines():
        found = json.loads(line)
        if key in found:
            yield found[key]


def test_openai_node_over_tls(setup: Callable[..., Setup], node_client: Path) -> None:
    """Three conversations at once."""
    proxied = setup(tls=True)
    scripts = {"text_turn": "text", "tool_call": "tool", "voice_turn": "voice"}

    def hold(script: str) -> str:
        return execute(
            "node",
            node_client / "conversation.mjs",
            scripts[script],
            f"sim-{script}",
            OPENAI_BASE_URL=f"https://{proxied.address}/v1",
            NODE_EXTRA_CA_CERTS=str(proxied.authority),
        )

    with ThreadPoolExecutor() as threads:
        outputs = dict(zip(scripts, threads.map(hold, scripts), strict=True))
    conversations = proxied.finish()
    assert set(conversations) == set(scripts)
    for script, recorded in conversations.items():
        check(recorded)
        assert recorded.said("client") == list(lines_of(outputs[script], "sent"))
        assert recorded.said("server") == list(lines_of(outputs[script], "received"))
        assert list(lines_of(outputs[script], "closed")) == [1000]
        assert recorded.session["close_reason"] == "that was all"
        assert len(recorded.truth.responses) == (1 if script == "voice_turn" else 2)
        assert len(recorded.tool_calls) == (script == "tool_call")
        assert len(recorded.speech) == (script == "voice_turn")


# ── OpenAI Agents SDK ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def agents_python() -> Path:
    """The Python of an environment that has the Agents SDK; it wants another version of websockets than we do."""
    return python_with("openai-agents", CLIENTS / "agents" / "requirements.lock")


def test_the_agents_sdk_over_tls(setup: Callable[..., Setup], agents_python: Path) -> None:
    proxied = setup(tls=True)
    output = execute(
        agents_python,
        CLIENTS / "agents" / "conversation.py",
        f"wss://{proxied.address}/v1/realtime?model=sim-tool_call",
        SSL_CERT_FILE=str(proxied.authority),
        OPENAI_AGENTS_DISABLE_TRACING="1",
    )
    recorded = proxied.finish()["tool_call"]
    check(recorded)
    assert agent_of(recorded).startswith("Agents/Python")
    received = list(lines_of(output, "received"))  # until the app had heard enough
    assert recorded.said("server")[: len(received)] == received
    assert received[-1]["type"] == "response.done"
    assert list(lines_of(output, "error")) == []
    assert list(lines_of(output, "tool")) == ["get_weather"]
    (row,) = recorded.tool_calls
    assert (row["output"], row["unanswered"]) == (next(lines_of(output, "output")), False)
