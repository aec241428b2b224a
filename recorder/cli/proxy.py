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
    ("recorder proxy --listen 127.0.0.1:8443 --tls-cert cert.pem --tls-key key.pem", "for clients that want wss://"),
)
_SEAL_PATIENCE_SECONDS = 600.0
PANEL_TLS = "TLS"
PANEL_RECORDING = "Recording"
PANEL_LIMITS = "Limits"


def proxy(
    listen: Annotated[
        str, typer.Option(help="Address to listen on, HOST:PORT; port 0 takes a free one.", envvar="RECORDER_LISTEN")
    ] = "127.0.0.1:8765",
    upstream: Annotated[
        str, typer.Option(help="Where to connect to, like wss://host or ws://host:port/prefix.", envvar="RECORDER_UPSTREAM")
    ] = "wss://api.openai.com",
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
    from recorder.errors import UsageError
    from recorder.proxy.config import WorkerConfig
    from recorder.proxy.http import Upstream
    from recorder.proxy.supervisor import listen as listen_on
    from recorder.proxy.supervisor import stop_on_signals, supervise, worker_child
    from recorder.store.layout import create
    from recorder.store.ring import ring_directory

    if on_recording_failure not in {"pass", "refuse"}:
        raise UsageError(f"--on-recording-failure {on_recording_failure!r} is neither pass nor refuse")
    store = data.absolute()
    create(store)
    rings = ring_directory(store, ring_dir.absolute() if ring_dir else None)
    config = WorkerConfig(
        upstream=Upstream.parse(upstream),
        data_dir=str(store),
        ring_dir=str(rings),
        ring_bytes=ring_mb << 20,
        upstream_ca=str(upstream_ca.absolute()) if upstream_ca else None,
        tls_cert=str(tls_cert.absolute()) if tls_cert else None,
        tls_key=str(tls_key.absolute()) if tls_key else None,
        recording=recording,
        on_recording_failure="refuse" if on_recording_failure == "refuse" else "pass",
        max_sessions=max_sessions,
        handshake_timeout_seconds=handshake_timeout,
        connect_timeout_seconds=connect_timeout,
        drain_seconds=drain_seconds,
    )
    config.upstream_context()
    scheme = "ws" if config.listener_context() is None else "wss"
    stop = stop_on_signals()
    first = listen_on(listen)
    host, port = first.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    sockets = [first, *(listen_on(address) for _ in range(workers - 1))]
    children = [worker_child(config, number, sock) for number, sock in enumerate(sockets)]
    if recording:
        children += _recording_children(store, rings, seal=seal)
    typer.echo(f"Recording {scheme}://{address} → {config.upstream.url} into {data}", err=True)
    typer.echo(f"{scheme}://{address}")
    sys.stdout.flush()
    supervise(children, stop=stop, on_death=_say_death)


def _recording_children(store: Path, rings: Path, *, seal: bool) -> list[Child]:
    from recorder.proxy.supervisor import Child

    python = [sys.executable, "-m"]
    children = [Child(name="recorder", command=[*python, "recorder.pipeline.record", str(store), str(rings)])]
    if seal:
        command = [*python, "recorder.pipeline.sealer", str(store)]
        children.append(Child(name="sealer", command=command, patience_seconds=_SEAL_PATIENCE_SECONDS))
    return children


def _say_death(child: Child, code: int) -> None:
    typer.echo(f"{child.name} ended with code {code}; starting it again", err=True)
