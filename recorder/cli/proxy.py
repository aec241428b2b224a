"""`recorder proxy`: record what passes between an app and the Realtime API."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from recorder.proxy.supervisor import Child

EXAMPLES = (
    ("recorder proxy", "in front of api.openai.com, on 127.0.0.1:8765, into ./data"),
    ("OPENAI_BASE_URL=http://127.0.0.1:8765/v1 python my_agent.py", "an app that goes through it"),
    ("recorder proxy --upstream wss://my-resource.openai.azure.com --data /var/lib/recorder", "another upstream"),
    ("recorder proxy --config routes.toml --client-tokens tokens", "several upstreams; clients hold our tokens only"),
    ("recorder proxy --config routes.toml --check-config", "what that file says, or what is wrong with it"),
    ("recorder proxy --listen 127.0.0.1:8443 --tls-self-signed", "for clients that want wss://, on this machine"),
)
_SEAL_PATIENCE_SECONDS = 600.0
DEFAULT_UPSTREAM = "wss://api.openai.com"
PANEL_ROUTES = "Routes"
PANEL_TLS = "TLS"
PANEL_RECORDING = "Recording"
PANEL_LIMITS = "Limits"


def proxy(
    listen: Annotated[
        str, typer.Option(help="Address to listen on, HOST:PORT; port 0 takes a free one.", envvar="RECORDER_LISTEN")
    ] = "127.0.0.1:8765",
    upstream: Annotated[
        str | None,
        typer.Option(
            help="Where to connect to, like wss://host or ws://host:port/prefix.",
            envvar="RECORDER_UPSTREAM",
            show_default=DEFAULT_UPSTREAM,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of routes to several upstreams, instead of --upstream.",
            envvar="RECORDER_CONFIG",
            rich_help_panel=PANEL_ROUTES,
        ),
    ] = None,
    check_config: Annotated[
        bool,
        typer.Option(
            "--check-config",
            help="Print the routes, or what is wrong with them, and end.",
            envvar="RECORDER_CHECK_CONFIG",
            rich_help_panel=PANEL_ROUTES,
        ),
    ] = False,
    client_tokens: Annotated[
        Path | None,
        typer.Option(
            help="File of tokens that clients must show; `recorder tokens` writes it.",
            envvar="RECORDER_CLIENT_TOKENS",
            rich_help_panel=PANEL_ROUTES,
        ),
    ] = None,
    data: Annotated[
        Path, typer.Option(help="Directory of the recordings; made if missing.", envvar="RECORDER_DATA")
    ] = Path("data"),
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.", envvar="RECORDER_WORKERS")] = 1,
    upstream_ca: Annotated[
        Path | None,
        typer.Option(
            help="PEM file of authorities to trust instead of the system's.",
            envvar="RECORDER_UPSTREAM_CA",
            rich_help_panel=PANEL_TLS,
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(help="Listen with TLS: PEM certificate.", envvar="RECORDER_TLS_CERT", rich_help_panel=PANEL_TLS),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(help="Its key, if in a file of its own.", envvar="RECORDER_TLS_KEY", rich_help_panel=PANEL_TLS),
    ] = None,
    tls_self_signed: Annotated[
        bool,
        typer.Option(
            "--tls-self-signed",
            help="Listen with TLS and a certificate made for this machine; prints how to trust it.",
            envvar="RECORDER_TLS_SELF_SIGNED",
            rich_help_panel=PANEL_TLS,
        ),
    ] = False,
    recording: Annotated[
        bool,
        typer.Option(
            help="Without it, forwards and keeps nothing.", envvar="RECORDER_RECORDING", rich_help_panel=PANEL_RECORDING
        ),
    ] = True,
    on_recording_failure: Annotated[
        str,
        typer.Option(
            help="A session that cannot be recorded: pass or refuse.",
            envvar="RECORDER_ON_RECORDING_FAILURE",
            rich_help_panel=PANEL_RECORDING,
        ),
    ] = "pass",
    seal: Annotated[
        bool,
        typer.Option(
            help="Without it, journals stay journals until `recorder seal`.",
            envvar="RECORDER_SEAL",
            rich_help_panel=PANEL_RECORDING,
        ),
    ] = True,
    ring_mb: Annotated[
        int,
        typer.Option(
            min=1,
            help="Shared memory a worker buffers in, MiB.",
            envvar="RECORDER_RING_MB",
            rich_help_panel=PANEL_RECORDING,
        ),
    ] = 32,
    ring_dir: Annotated[
        Path | None,
        typer.Option(
            help="A tmpfs for it other than /dev/shm.", envvar="RECORDER_RING_DIR", rich_help_panel=PANEL_RECORDING
        ),
    ] = None,
    max_sessions: Annotated[
        int,
        typer.Option(
            min=1,
            help="Sessions a worker serves.",
            envvar="RECORDER_MAX_SESSIONS",
            rich_help_panel=PANEL_LIMITS,
        ),
    ] = 10_000,
    handshake_timeout: Annotated[
        float,
        typer.Option(min=0.1, help="Seconds.", envvar="RECORDER_HANDSHAKE_TIMEOUT", rich_help_panel=PANEL_LIMITS),
    ] = 30.0,
    connect_timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Seconds for TCP and TLS to the upstream.",
            envvar="RECORDER_CONNECT_TIMEOUT",
            rich_help_panel=PANEL_LIMITS,
        ),
    ] = 10.0,
    idle_timeout: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds of silence after which a session is closed; 0 for never.",
            envvar="RECORDER_IDLE_TIMEOUT",
            rich_help_panel=PANEL_LIMITS,
        ),
    ] = 0.0,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Replace the proxy that runs on the same --data: no connection refused, its calls go on.",
            envvar="RECORDER_TAKE_OVER",
        ),
    ] = False,
    drain_seconds: Annotated[
        float,
        typer.Option(
            min=0,
            help="How long running sessions may go on after SIGTERM or Ctrl-C.",
            envvar="RECORDER_DRAIN_SECONDS",
            rich_help_panel=PANEL_LIMITS,
        ),
    ] = 30.0,
) -> None:
    """Record every session that passes through. Point your app at it by changing one URL.

    Bytes are forwarded as they come; recordings land in --data. Stop it with Ctrl-C or SIGTERM.
    """
    from recorder.cli.proxy_setup import absolute, places, print_routes, with_development_certificate
    from recorder.errors import UsageError
    from recorder.proxy.config import WorkerConfig
    from recorder.proxy.settings import load
    from recorder.proxy.supervisor import Signals, supervise, worker_child
    from recorder.proxy.supervisor import listen as listen_on
    from recorder.proxy.takeover import HandOver, TakeOver
    from recorder.proxy.upstream import Upstream
    from recorder.store.layout import create
    from recorder.store.ring import ring_directory

    if on_recording_failure not in {"pass", "refuse"}:
        raise UsageError(f"--on-recording-failure {on_recording_failure!r} is neither pass nor refuse")
    if config is not None and upstream is not None:
        raise UsageError("--config and --upstream exclude each other", hint="Make the upstream a route of the file.")
    store = data.absolute()
    rings = ring_directory(store, ring_dir.absolute() if ring_dir else None)
    settings = WorkerConfig(
        upstream=Upstream.parse(upstream or DEFAULT_UPSTREAM),
        data_dir=str(store),
        ring_dir=str(rings),
        ring_bytes=ring_mb << 20,
        config_file=absolute(config),
        client_tokens=absolute(client_tokens),
        upstream_ca=absolute(upstream_ca),
        tls_cert=absolute(tls_cert),
        tls_key=absolute(tls_key),
        recording=recording,
        on_recording_failure="refuse" if on_recording_failure == "refuse" else "pass",
        max_sessions=max_sessions,
        handshake_timeout_seconds=handshake_timeout,
        connect_timeout_seconds=connect_timeout,
        drain_seconds=drain_seconds,
        idle_timeout_seconds=idle_timeout,
    )
    loaded = load(settings)
    if check_config:
        print_routes(loaded.routes)
        return
    create(store)
    if tls_self_signed:
        settings = with_development_certificate(settings)
    scheme = "ws" if settings.tls_cert is None else "wss"
    signals = Signals()
    predecessor = TakeOver(rings) if take_over else None
    sockets = predecessor.sockets if predecessor else listen_on(listen, workers)
    host, port = sockets[0].getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    hand_over = HandOver(rings, sockets, signals.stop.set)
    children = [worker_child(settings, number, sockets[number::workers]) for number in range(workers)]
    if recording:
        children += _recording_children(store, rings, seal=seal)

    def ready() -> None:
        typer.echo(f"Recording {scheme}://{address} → {places(loaded.routes)} into {data}", err=True)
        typer.echo(f"{scheme}://{address}")
        sys.stdout.flush()
        if predecessor:
            predecessor.ready()

    try:
        supervise(children, signals, on_death=_say_death, on_ready=ready)
    finally:
        hand_over.close()


def _recording_children(store: Path, rings: Path, *, seal: bool) -> list[Child]:
    from recorder.pipeline.parent import ORDERLY
    from recorder.proxy.supervisor import Child

    python = [sys.executable, "-m"]
    command = [*python, "recorder.pipeline.record", str(store), str(rings)]
    children = [Child(name="recorder", command=command, farewell=ORDERLY)]
    if seal:
        command = [*python, "recorder.pipeline.sealer", str(store)]
        patience = _SEAL_PATIENCE_SECONDS
        children.append(Child(name="sealer", command=command, farewell=ORDERLY, patience_seconds=patience))
    return children


def _say_death(child: Child, code: int) -> None:
    typer.echo(f"{child.name} ended with code {code}; starting it again", err=True)
