"""`recorder simulate`: run the scripted Realtime server."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recorder.cli import completing
from recorder.errors import UsageError

if TYPE_CHECKING:
    from recorder.simulator.server import Simulator

EXAMPLES = (
    ("recorder simulate", "listen on 127.0.0.1:9000 and react to whatever clients do"),
    ("recorder simulate --list", "show the scripts that come with it"),
    ("recorder simulate --script barge_in --seed 7 --truth truth/", "one script, repeatable, with its truth"),
    ("recorder simulate --listen 127.0.0.1:0 --script my_call.yaml --speed 10", "your own script, ten times as fast"),
)


def simulate(
    listen: Annotated[
        str,
        typer.Option(envvar="RECORDER_SIMULATE_LISTEN", metavar="HOST:PORT", help="Address to listen on; port 0: any."),
    ] = "127.0.0.1:9000",
    script: Annotated[
        list[str] | None,
        typer.Option(
            envvar="RECORDER_SIMULATE_SCRIPT",
            metavar="NAME|FILE",
            autocompletion=completing.scripts,
            help="Script for connections that name none by ?script=NAME or ?model=sim-NAME; several take turns.",
        ),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(envvar="RECORDER_SIMULATE_SEED", metavar="N", help="Make ids, audio and delays repeat."),
    ] = None,
    speed: Annotated[
        float,
        typer.Option(envvar="RECORDER_SIMULATE_SPEED", metavar="X", min=0.01, help="Divide all delays by X."),
    ] = 1.0,
    truth: Annotated[
        Path | None,
        typer.Option(
            envvar="RECORDER_SIMULATE_TRUTH",
            metavar="DIR",
            file_okay=False,
            help="Write what really happened on each connection to DIR/<session id>.json.",
        ),
    ] = None,
    compression: Annotated[
        bool,
        typer.Option(envvar="RECORDER_SIMULATE_COMPRESSION", help="Accept permessage-deflate when a client offers it."),
    ] = True,
    ping_interval: Annotated[
        float,
        typer.Option(
            envvar="RECORDER_SIMULATE_PING_INTERVAL",
            metavar="SECONDS",
            min=0,
            help="Ping clients this often; 0 never.",
        ),
    ] = 20.0,
    list_scripts: Annotated[
        bool,
        typer.Option("--list", envvar="RECORDER_SIMULATE_LIST", help="List the packaged scripts, and end."),
    ] = False,
) -> None:
    """Run a scripted Realtime server that speaks the OpenAI Realtime protocol and knows the truth."""
    from recorder.simulator.server import Simulator

    if list_scripts:
        _list()
        return
    host, port = _address(listen)
    simulator = Simulator(
        script or "default",
        seed=seed,
        host=host,
        port=port,
        speed=speed,
        truth_dir=truth,
        keep_truths=False,
        compression=compression,
        ping_interval=ping_interval or None,
    )
    asyncio.run(_serve(simulator))


def _list() -> None:
    from recorder.simulator.script import load_script, packaged_names

    for name in packaged_names():
        typer.echo(f"{name:<20} {load_script(name).description.strip()}")


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--listen {listen!r} is no address", hint="Give HOST:PORT, such as 127.0.0.1:9000.")
    return host.removeprefix("[").removesuffix("]"), int(port)


async def _serve(simulator: Simulator) -> None:
    """Serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    async with simulator:
        typer.echo(f"simulator ready at {simulator.url}")
        await stop.wait()
