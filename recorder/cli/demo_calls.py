"""The demo's conversations: scripts of a museum's hotline, held through the proxy by the official SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from importlib import resources
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from recorder.cli import output
from recorder.cli.demo_parts import Part
from recorder.errors import DemoError

if TYPE_CHECKING:
    from recorder.simulator.client import ClientLog

CALLS: Final = ("guided_tour", "lost_visitor", "lost_property", "busy_line", "boat_trip", "opening_hours")
"""In `recorder/simulator/demo_calls/`, the longest first."""
MODELS: Final = ("gpt-realtime", "gpt-realtime-mini")
STAGGER_SECONDS: Final = 0.5
PAUSE_SECONDS: Final = 12
"""Between the conversations that go on while somebody looks."""


async def first_to_end(*works: Awaitable[Any]) -> None:
    """Wait until one of them ends, end the others, and raise what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def script_file(name: str) -> Path:
    """Where a conversation's script is."""
    return Path(str(resources.files("recorder.simulator") / "demo_calls" / f"{name}.yaml"))


async def hold_conversations(proxy: Part) -> None:
    """All of them, each with each model, beginning one after the other and overlapping."""
    calls = [(name, model) for model in MODELS for name in CALLS]
    typer.echo(f"{len(calls)} conversations, through {proxy.url} …")
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"), TextColumn("{task.fields[count]}"))
    out = output.console()
    try:
        with Progress(*columns, TimeElapsedColumn(), console=out, transient=True, disable=not out.is_terminal) as bar:
            async with asyncio.TaskGroup() as group:
                for number, (name, model) in enumerate(calls):
                    group.create_task(_converse(proxy, name, model, bar, delay=number * STAGGER_SECONDS))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _converse(proxy: Part, name: str, model: str, bar: Progress | None = None, *, delay: float = 0) -> None:
    """One conversation; the bar follows it.

    Raises:
        DemoError: it failed.
    """
    from openai import OpenAIError
    from websockets.exceptions import WebSocketException

    from recorder.simulator.script import load_script
    from recorder.simulator.sdk_caller import call

    await asyncio.sleep(delay)
    logs: list[ClientLog] = []
    work = call(load_script(script_file(name)), f"{proxy.url}/v1", model, logs.append)
    try:
        await (work if bar is None else first_to_end(work, _follow(bar, f"{name:<14} {model:<18}", logs)))
    except (OpenAIError, OSError, WebSocketException) as error:
        raise DemoError(f"conversation {name} failed: {error}") from error


async def _follow(bar: Progress, description: str, logs: list[ClientLog]) -> None:
    """Show how many messages there are, until cancelled: then the conversation is over."""
    line = bar.add_task(description, total=1, count="")
    try:
        while True:
            bar.update(line, count=f"{sum(len(log.messages) for log in logs):>4} messages")
            await asyncio.sleep(0.2)
    finally:
        bar.update(line, completed=1)


async def go_on(proxy: Part) -> None:
    """One conversation after the other, until cancelled."""
    for name, model in cycle((name, model) for model in MODELS for name in CALLS):
        await asyncio.sleep(PAUSE_SECONDS)
        try:
            await _converse(proxy, name, model)
        except DemoError as error:
            output.note(f"{error.message}; the demo goes on")
