"""`recorder serve`: dashboards and API over a data directory."""

from __future__ import annotations

import gc
import ipaddress
import secrets
import signal
import socket
from pathlib import Path
from typing import Annotated, Final

import typer

from recorder.cli import output
from recorder.cli.options import DEFAULT_DATA, DataOption, PricesOption, RulesOption, duration
from recorder.errors import ListenError, UsageError

EXAMPLES = (
    ("recorder serve", "dashboards on http://127.0.0.1:8080"),
    ("recorder serve --listen 127.0.0.1:0 --data /srv/calls", "a free port, another data directory"),
    ("RECORDER_TOKEN=$(cat token) recorder serve --listen 0.0.0.0:8080", "for others too; they need the token"),
)

SHUTDOWN_SECONDS: Final = 3
"""How long answers under way may take after Ctrl-C."""


def serve(
    *,
    listen: Annotated[
        str,
        typer.Option(
            envvar="RECORDER_SERVE_LISTEN", metavar="HOST:PORT", help="Where to listen; port 0 takes a free one."
        ),
    ] = "127.0.0.1:8080",
    data: DataOption = DEFAULT_DATA,
    prices: PricesOption = None,
    rules: RulesOption = None,
    slo: Annotated[
        Path | None,
        typer.Option(
            envvar="RECORDER_SLO", metavar="FILE", help="Objectives, for the pages and for alerts.", show_default=False
        ),
    ] = None,
    alert_webhook: Annotated[
        str | None,
        typer.Option(
            envvar="RECORDER_ALERT_WEBHOOK",
            metavar="URL",
            help="Where to post when an objective's alert begins and ends.",
            show_default=False,
        ),
    ] = None,
    metrics_window: Annotated[
        str,
        typer.Option(
            envvar="RECORDER_METRICS_WINDOW", metavar="SPAN", help="How far /metrics looks back: `15m`, `1h`, `7d`."
        ),
    ] = "1h",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="RECORDER_TOKEN",
            metavar="TOKEN",
            help="What readers must show. Made and printed if none is given and the address is not this machine's own.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show what has been recorded: dashboards in the browser and an HTTP API, current while sessions run.

    Reads only. Listens to this machine alone unless told otherwise; for any other address a token is needed. Stop it
    with Ctrl-C or SIGTERM.

    Raises:
        UsageError: `listen` is no address, or `metrics_window` no time span.
        ListenError: it cannot be listened on.
        StoreError: `data` cannot be read.
    """
    import uvicorn

    from api import create_app

    host, port = parse_address(listen)
    window = duration("--metrics-window", metrics_window)
    made = None if token or is_loopback(host) else secrets.token_urlsafe(32)
    with bind(host, port) as sock:
        app = create_app(
            data,
            token=token or made,
            prices=prices,
            rules=rules,
            slo=slo,
            alert_webhook=alert_webhook,
            metrics_window=window,
        )
        # uvicorn raises the signal that stopped it once more, for handlers like these: being stopped is no failure.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        settings = uvicorn.Config(
            app,
            access_log=False,  # its lines would hold ?token=
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            ws="none",
        )
        typer.echo(url(sock) + (f"/?token={made}" if made else ""))
        if made:
            output.note("The token was made for this run; --token or RECORDER_TOKEN sets one that stays.")
        gc.collect()
        gc.freeze()  # a collection in the middle of a request would look through all that was imported
        try:
            uvicorn.Server(settings).run(sockets=[sock])
        finally:
            gc.unfreeze()


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` as host and port.

    Raises:
        UsageError: it is not of that form.
    """
    host, _, port = text.rpartition(":")
    if not host.strip("[]") or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UsageError(f"--listen {text!r} is no address", hint="Give it as HOST:PORT, like 127.0.0.1:8080.")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`. A name that is not `localhost` may mean anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Not shared: a second `serve` on one port would answer every other request.

    Raises:
        ListenError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ListenError(f"{host}:{port}", reason.partition(" (while")[0]) from None  # the rest says it once more
    # Connections inherit it. asyncio, which sets it else, does not take these for TCP; and an answer's body would wait
    # for 40 ms until its headers are acknowledged.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def url(sock: socket.socket) -> str:
    """The address of a listening socket, for a browser."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
