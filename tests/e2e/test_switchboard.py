"""WebRTC calls begun by the openai SDK through `recorder proxy --sideband`: many at once, late ones, refused ones."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recorder.pipeline.catalog import Catalog
from tests.e2e.conftest import RecorderProcess
from tests.e2e.switchboard import SDP, Switchboard

Run = Callable[..., RecorderProcess]

openai = pytest.importorskip("openai")

KEY = "sk-proj-0123456789abcdefghijklmnop"
CALLS = 12
LATE, NOT_ALLOWED = 3, 5
REFUSALS = {LATE: ["404 Not Found", "404 Not Found", "503 Service Unavailable"], NOT_ALLOWED: ["401 Unauthorized"]}


async def begin(client: Any, number: int) -> str:
    """A call by the SDK; gives where it is said to be."""
    answer = await client.realtime.calls.create(
        sdp="v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n",
        session={"type": "realtime", "model": "gpt-realtime"},
        extra_headers={"X-Recorder-Label-Number": str(number)},
    )
    assert answer.content == SDP
    return str(answer.response.headers["location"])


def test_many_calls_are_each_on_record_as_the_server_told_them(run: Run, data: Path, tmp_path: Path) -> None:
    config = tmp_path / "routes.toml"

    async def calls(switchboard: Switchboard, proxy: RecorderProcess) -> list[str]:
        host, port = proxy.address
        async with openai.AsyncOpenAI(api_key=KEY, base_url=f"http://{host}:{port}/v1", max_retries=0) as client:
            places = [await begin(client, number) for number in range(CALLS)]
        others = [call for number, call in enumerate(switchboard.calls.values()) if number != NOT_ALLOWED]
        async with asyncio.timeout(60):
            await asyncio.gather(*(call.log for call in others))
        return places

    async def everything() -> tuple[list[str], Switchboard, RecorderProcess]:
        async with Switchboard(REFUSALS) as switchboard:
            config.write_text(
                f'[[route]]\nname = "calls"\nupstream = "{switchboard.url}"\nsideband = true\n'
                'label_headers = ["X-Recorder-Label-Number"]\n'
            )
            proxy = await asyncio.to_thread(
                run, "proxy", "--listen", "127.0.0.1:0", "--config", str(config), "--data", str(data)
            )
            places = await calls(switchboard, proxy)
            assert await asyncio.to_thread(proxy.stop) == 0
            return places, switchboard, proxy

    places, switchboard, _ = asyncio.run(everything())
    assert places == [f"/v1/realtime/calls/{call_id}" for call_id in switchboard.calls]
    assert {call.authorization for call in switchboard.calls.values()} == {f"Bearer {KEY}"}
    with Catalog(data) as catalog:
        sessions = catalog.query(
            "SELECT session_id, labels ->> '$.number' AS number, labels ->> '$.connection' AS connection, status,"
            " closed_by, close_code, model FROM sessions"
        ).to_dicts()
        told = catalog.query(
            "SELECT session_id, list(payload ORDER BY position) FROM events"
            " WHERE direction = 'server' AND opcode = 1 GROUP BY 1"
        ).rows()
    recorded = {session_id: [json.loads(payload)["type"] for payload in payloads] for session_id, payloads in told}
    assert sorted(int(session["number"]) for session in sessions) == list(range(CALLS))
    assert {session["connection"] for session in sessions} == {"sideband"}
    for session in sessions:
        number = int(session["number"])
        call = list(switchboard.calls.values())[number]
        if number == NOT_ALLOWED:
            assert (session["status"], session["closed_by"], call.asked) == ("refused", "upstream", 1)
            continue
        assert call.asked == 1 + len(REFUSALS.get(number, ()))
        assert (session["status"], session["closed_by"], session["close_code"]) == ("closed", "upstream", 1000)
        heard = call.log.result().types("server")
        assert "response.done" in heard
        assert recorded[session["session_id"]] == heard
    kept = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    assert KEY.encode() not in kept
    assert b"v=0" not in kept
