"""The client side of a script, spoken by the official `openai` SDK: its connection, its encoding, its typed events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, cast

from openai import AsyncOpenAI
from websockets.asyncio.client import ClientConnection

from recorder.simulator.client import ClientLog, Player
from recorder.simulator.script import Script

if TYPE_CHECKING:
    from openai.resources.realtime.realtime import AsyncRealtimeConnection


async def call(
    script: Script, base_url: str, model: str, watch: Callable[[ClientLog], None] | None = None
) -> ClientLog:
    """Have one conversation.

    Args:
        script: whose client part is played; a script with `raw`, `binary` or `abort` steps is none for an SDK.
        base_url: as the SDK takes it, `ws://HOST:PORT/v1`. The server is asked for the script by its name.
        model: the model to ask for.
        watch: gets the log when the connection stands; it grows while the conversation goes on.

    Returns:
        What was sent and received, as the SDK understood it.

    Raises:
        TimeoutError: the server did not do what a step waits for.
        openai.OpenAIError, OSError, websockets.exceptions.WebSocketException: there was no connection.
    """
    client = AsyncOpenAI(api_key="demo", websocket_base_url=base_url)
    async with client, client.realtime.connect(model=model, extra_query={"script": script.name}) as connection:
        # What `Player` asks of a connection as long as no step wants to abort it.
        player = Player(cast("ClientConnection", _Socket(connection)), script.client, speed=1.0)
        if watch is not None:
            watch(player.log)
        await player.run()
    return player.log


class _Socket:
    """The SDK's connection as a script's client uses one."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self._connection = connection

    async def send(self, message: str) -> None:
        await self._connection.send(json.loads(message))

    async def __aiter__(self) -> AsyncIterator[str]:
        async for event in self._connection:
            yield event.to_json(indent=None)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._connection.close(code=code, reason=reason)
