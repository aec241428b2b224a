"""`recorder demo`: the whole path at once, on this machine alone, with a simulated server and the real `openai` SDK."""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from recorder.cli import output
from recorder.cli.demo_calls import CALLS, MODELS, first_to_end, go_on, hold_conversations, script_file
from recorder.cli.demo_parts import Part, preferred, running
from recorder.cli.sessions import unique_prefixes
from recorder.errors import DemoError, UsageError

if TYPE_CHECKING:
    from recorder.pipeline.catalog import Catalog

EXAMPLES = (
    ("recorder demo", "twelve conversations, then a dashboard to look at until Ctrl-C"),
    ("recorder demo --once", "check what the dashboard shows, and end"),
    ("recorder demo --data ./data --listen 127.0.0.1:8081", "add the conversations to a store of yours"),
)

HOME: Final = Path(".demo")
HEADINGS: Final = (
    "SESSION",
    "CONVERSATION",
    "MODEL",
    "LENGTH",
    "TURNS",
    "RESP",
    "INTR",
    "TOOLS",
    "TOKENS",
    "1ST AUDIO",
)
NUMBERS: Final = frozenset(range(3, 10))
END_SECONDS: Final = 60


def demo(
    *,
    once: Annotated[
        bool, typer.Option("--once", envvar="RECORDER_DEMO_ONCE", help="Check what the dashboard shows, and end.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="RECORDER_DEMO_DATA",
            metavar="DIR",
            help="A store to add to. Without it .demo/data is used, and emptied first.",
            show_default=False,
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            envvar="RECORDER_DEMO_LISTEN",
            metavar="HOST:PORT",
            help="Where the dashboard listens; 127.0.0.1:8080, or a free port if that is taken.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Record a few simulated conversations and show them, with everything on this machine.

    Starts `recorder simulate`, `recorder proxy` in front of it and `recorder serve`, and lets the official openai SDK
    hold conversations through the proxy: typed, spoken, interrupted, with tools. Then it stays, with another
    conversation now and then, until Ctrl-C.

    Raises:
        UsageError: the openai package is missing, or another demo runs in `.demo`.
        DemoError: a part did not start, a conversation failed, or a page is wrong.
    """
    if importlib.util.find_spec("openai") is None:
        raise UsageError(
            "the demo holds its conversations with the `openai` package, which is not installed",
            hint="Install it: pip install 'openai>=3.54' (this project's dependency group `demo`).",
        )
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"  # all that is connected to is on this machine
    with _store(data) as store:
        asyncio.run(_until_stopped(_demo(store, listen or preferred(8080), once=once)))


@contextmanager
def _store(data: Path | None) -> Iterator[Path]:
    """The given store, or a fresh one for as long as no other demo uses it."""
    if data is not None:
        yield data
        return
    HOME.mkdir(exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "Stop it with Ctrl-C, or give this one a store of its own with --data."
            raise UsageError(f"another demo runs in {HOME}", hint=hint) from None
        store = HOME / "data"
        if store.exists():
            shutil.rmtree(store)
        yield store


async def _until_stopped(work: Awaitable[None]) -> None:
    """Do the work; SIGINT and SIGTERM end it early, which is no failure."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await first_to_end(work, stopped.wait())


async def _demo(store: Path, listen: str, *, once: bool) -> None:
    """The three processes, and what is done with them; should one of them end, so does the demo."""
    scripts = [word for name in CALLS for word in ("--script", str(script_file(name)))]
    keep = ("--data", str(store))
    async with (
        running("simulate", "--listen", preferred(9000), *scripts) as simulate,
        running(
            "proxy", "--listen", preferred(8765), "--upstream", _origin(simulate), "--drain-seconds", "2", *keep
        ) as proxy,
        running("serve", "--listen", listen, *keep) as serve,
    ):
        await first_to_end(_show(store, proxy, serve, once=once), simulate.ended(), proxy.ended(), serve.ended())


def _origin(simulate: Part) -> str:
    return simulate.url.removesuffix("/v1/realtime")


async def _show(store: Path, proxy: Part, serve: Part, *, once: bool) -> None:
    known = _session_ids(store)
    await hold_conversations(proxy)
    with await _ended_sessions(store, known, len(CALLS) * len(MODELS)) as catalog:
        _summarise(catalog, known)
        if once:
            from recorder.cli.demo_checks import check

            for line in await asyncio.to_thread(check, serve.url, catalog):
                typer.echo(f"✓ {line}")
            return
    _say_what_next(store, proxy, serve)
    await go_on(proxy)


def _session_ids(store: Path) -> set[str]:
    from recorder.pipeline.catalog import Catalog

    with Catalog(store) as catalog:
        return set(catalog.query("SELECT session_id FROM sessions")["session_id"])


async def _ended_sessions(store: Path, known: set[str], count: int) -> Catalog:
    """The store, as soon as it has all the new sessions, and they have ended.

    Raises:
        DemoError: they do not come.
    """
    from recorder.pipeline.catalog import Catalog

    catalog, deadline = Catalog(store), time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        ended = catalog.query("SELECT session_id FROM sessions WHERE status <> 'running'")["session_id"]
        if len(set(ended) - known) >= count:
            return catalog
        await asyncio.sleep(0.3)
        catalog.refresh()
    catalog.close()
    raise DemoError(f"{count} conversations were held, but only {len(set(ended) - known)} sessions are recorded")


def _summarise(catalog: Catalog, known: set[str]) -> None:
    """A table of the new sessions, oldest first."""
    targets = (
        "SELECT session_id, regexp_extract(payload, 'script=(\\w+)', 1) AS script FROM events "
        "WHERE type = 'recorder.session_opened'"
    )
    query = f"SELECT * FROM sessions JOIN ({targets}) USING (session_id) ORDER BY opened_at"  # noqa: S608  ours
    rows = catalog.query(query).to_dicts()
    prefixes = unique_prefixes(sorted(row["session_id"] for row in rows))
    cells = [_cells(row, prefixes[row["session_id"]]) for row in rows if row["session_id"] not in known]
    output.print_table(HEADINGS, cells, right=NUMBERS)


def _cells(row: dict[str, Any], prefix: str) -> list[str]:
    counts = ("turn_count", "response_count", "interruption_count", "tool_call_count", "total_tokens")
    return [
        prefix,
        row["script"].replace("_", " "),
        row["model"] or "–",
        output.seconds(row["duration_seconds"]),
        *(output.number(row[name]) for name in counts),
        output.seconds(row["time_to_first_audio_p50_seconds"]),
    ]


def _say_what_next(store: Path, proxy: Part, serve: Part) -> None:
    typer.echo(f"\nDashboard: {serve.url}\n\nIn another terminal:")
    for command, what in (
        (f"recorder show last --transcript --data {store}", "what was said"),
        (f"recorder replay last --data {store}", "once more, at its own pace"),
        (f'recorder query "FROM responses" --data {store}', "SQL over everything"),
    ):
        typer.echo(f"  {command}  # {what}")
    typer.echo(f"\nAn app of yours: AsyncOpenAI(api_key='demo', websocket_base_url='{proxy.url}/v1')")
    typer.echo("Another conversation is held now and then. Ctrl-C ends it all.")
