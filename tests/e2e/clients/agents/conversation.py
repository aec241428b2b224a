"""A conversation of the OpenAI Agents SDK. Writes what its session told the app to stdout, an object a line.

python conversation.py wss://localhost:8765/v1/realtime?model=gpt-realtime
"""

import asyncio
import json
import sys
from typing import Any

from agents import function_tool  # type: ignore[import-not-found]  # it has an environment of its own
from agents.realtime import RealtimeAgent, RealtimeRunner, RealtimeSession  # type: ignore[import-not-found]

LIMIT_SECONDS = 60


@function_tool  # type: ignore[untyped-decorator]  # likewise
def get_weather(city: str) -> str:
    """Look up the weather for a city."""
    return json.dumps({"city": city, "sky": "foggy"})


def show(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")


async def until_silent(session: RealtimeSession, answers: int) -> None:
    """Follow the session until that many of the assistant's messages are complete."""
    done = 0
    async for event in session:
        if event.type == "raw_model_event" and event.data.type == "raw_server_event":
            show(received=event.data.data)
            done += event.data.data["type"] == "response.done"
        elif event.type == "tool_end":
            show(tool=event.tool.name, output=event.output)
        elif event.type == "error":
            show(error=str(event.error))
        if done == answers:
            return


async def main(url: str) -> None:
    agent: RealtimeAgent[Any] = RealtimeAgent(
        name="Guide", instructions="Use the get_weather tool for any weather question.", tools=[get_weather]
    )
    runner = RealtimeRunner(agent)
    async with asyncio.timeout(LIMIT_SECONDS):
        config: Any = {"url": url, "api_key": "sk-test-of-the-agents-sdk"}
        async with await runner.run(model_config=config) as session:
            await session.send_message("What is the weather in London?")
            await until_silent(session, answers=2)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
