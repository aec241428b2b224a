"""`recorder proxy`: record what passes between an app and the Realtime API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from recorder.cli.options import parse_data

EXAMPLES = (
    ("recorder proxy", "in front of api.openai.com, on 127.0.0.1:8765, into ./data"),
    ("OPENAI_BASE_URL=http://127.0.0.1:8765/v1 python my_agent.py", "an app that goes through it"),
    ("recorder proxy --upstream wss://my-resource.openai.azure.com --data /var/lib/recorder", "another upstream"),
    ("recorder proxy --config routes.toml --client-tokens tokens", "several upstreams; clients hold our tokens only"),
    ("recorder proxy --config routes.toml --check-config", "what that file says, or what is wrong with it"),
    ("recorder proxy --sideband", "calls of browsers and telephones too: WebRTC and SIP"),
    ("recorder proxy --listen 127.0.0.1:8443 --tls-self-signed", "for clients that want wss://, on this machine"),
)
DEFAULT_UPSTREAM = "wss://api.openai.com"
PANEL_ROUTES = "Routes"
PANEL_TLS = "TLS"
PANEL_RECORDING = "Recording"
PANEL_LIMITS = "Limits"
PANEL_OPERATION = "Operation"


def proxy(
    listen: Annotated[
        str,
        typer.Option(
            help="Address to listen on; port 0 takes a free one.", envvar="RECORDER_LISTEN", metavar="HOST:PORT"
        ),
    ] = "127.0.0.1:8765",
    upstream: Annotated[
        str | None,
        typer.Option(
            help="Where to connect to, like wss://host or ws://host:port/prefix.",
            envvar="RECORDER_UPSTREAM",
            metavar="URL",
            show_default=DEFAULT_UPSTREAM,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of routes to several upstreams, instead of --upstream.",
            envvar="RECORDER_CONFIG",
            metavar="FILE",
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
            metavar="FILE",
            rich_help_panel=PANEL_ROUTES,
        ),
    ] = None,
    data: Annotated[
        Path,
        typer.Option(
            help="Directory of the recordings; made if missing. Or an object store: s3://bucket/prefix.",
            envvar="RECORDER_DATA",
            metavar="DIR",
            parser=parse_data,
        ),
    ] = Path("data"),
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.", envvar="RECORDER_WORKERS", metavar="N")] = 1,
    upstream_ca: Annotated[
        Path | None,
        typer.Option(
            help="PEM file of authorities to trust instead of the system's.",
            envvar="RECORDER_UPSTREAM_CA",
            metavar="FILE",
            rich_help_panel=PANEL_TLS,
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            help="Listen with TLS: PEM certificate.",
            envvar="RECORDER_TLS_CERT",
            metavar="FILE",
            rich_help_panel=PANEL_TLS,
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(
            help="Its key, if in a file of its own.",
            envvar="RECORDER_TLS_KEY",
            metavar="FILE",
            rich_help_panel=PANEL_TLS,
        ),
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
    record: Annotated[
        Literal["on", "off", "no-audio"],
        typer.Option(
            help="What is kept of sessions; off keeps their number and size only.",
            envvar="RECORDER_RECORD",
            rich_help_panel=PANEL_RECORDING,
        ),
    ] = "on",
    drop_audio: Annotated[
        Literal["client", "server", "both"] | None,
        typer.Option(help="Whose audio is not kept.", envvar="RECORDER_DROP_AUDIO", rich_help_panel=PANEL_RECORDING),
    ] = None,
    hash_text: Annotated[
        bool,
        typer.Option(
            "--hash-text",
            help="Keep hashes in place of texts.",
            envvar="RECORDER_HASH_TEXT",
            rich_help_panel=PANEL_RECORDING,
        ),
    ] = False,
    sideband: Annotated[
        bool,
        typer.Option(
            "--sideband",
            help="Join WebRTC and SIP calls that are begun through the proxy, and record them.",
            envvar="RECORDER_SIDEBAND",
            rich_help_panel=PANEL_RECORDING,
        ),
    ] = False,
    on_recording_failure: Annotated[
        Literal["pass", "refuse"],
        typer.Option(
            help="A session that cannot be recorded: let it pass, or refuse it.",
            envvar="RECORDER_ON_RECORDING_FAILURE",
            rich_help_panel=PANEL_RECORDING,
        ),
    ] = "pass",
    seal: Annotated[
        bool,
        typer.Option(
            help="Without it, what is recorded stays on spools, unseen, until `recorder seal`.",
            envvar="RECORDER_SEAL",
            rich_help_panel=PANEL_RECORDING,
        ),
    ] = True,
    seal_seconds: Annotated[
        float,
        typer.Option(
            min=0,
            help="How often what running sessions said so far is sealed; 0: at their end alone.",
            envvar="RECORDER_SEAL_SECONDS",
            metavar="SECONDS",
            rich_help_panel=PANEL_RECORDING,
        ),
    ] = 45.0,
    compact_after: Annotated[
        int,
        typer.Option(
            min=0,
            help="How many small files of a day are merged, in the background; 0: none, until `recorder compact`.",
            envvar="RECORDER_COMPACT_AFTER",
            metavar="FILES",
            rich_help_panel=PANEL_RECORDING,
        ),
    ] = 256,
    ring_mb: Annotated[
        int,
        typer.Option(
            min=1,
            help="Shared memory a worker buffers in, MiB.",
            envvar="RECORDER_RING_MB",
            metavar="N",
            rich_help_panel=PANEL_RECORDING,
        ),
    ] = 32,
    ring_dir: Annotated[
        Path | None,
        typer.Option(
            help="A tmpfs for it other than /dev/shm.",
            envvar="RECORDER_RING_DIR",
            metavar="DIR",
            rich_help_panel=PANEL_RECORDING,
        ),
    ] = None,
    sync_seconds: Annotated[
        float,
        typer.Option(
            min=0.05,
            help="How often journals are forced to the disk: what a power cut can cost.",
            envvar="RECORDER_SYNC_SECONDS",
            metavar="SECONDS",
            rich_help_panel=PANEL_RECORDING,
        ),
    ] = 1.0,
    disk_floor_mb: Annotated[
        int,
        typer.Option(
            min=0,
            help="With less free disk space, MiB, nothing is recorded.",
            envvar="RECORDER_DISK_FLOOR_MB",
            metavar="N",
            rich_help_panel=PANEL_RECORDING,
        ),
    ] = 512,
    max_sessions: Annotated[
        int,
        typer.Option(
            min=1,
            help="Sessions a worker serves.",
            envvar="RECORDER_MAX_SESSIONS",
            metavar="N",
            rich_help_panel=PANEL_LIMITS,
        ),
    ] = 10_000,
    handshake_timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="How long a client or upstream may take for the handshake.",
            envvar="RECORDER_HANDSHAKE_TIMEOUT",
            metavar="SECONDS",
            rich_help_panel=PANEL_LIMITS,
        ),
    ] = 30.0,
    connect_timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="For TCP and TLS to the upstream.",
            envvar="RECORDER_CONNECT_TIMEOUT",
            metavar="SECONDS",
            rich_help_panel=PANEL_LIMITS,
        ),
    ] = 10.0,
    idle_timeout: Annotated[
        float,
        typer.Option(
            min=0,
            help="Silence after which a session is closed; 0 for never.",
            envvar="RECORDER_IDLE_TIMEOUT",
            metavar="SECONDS",
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
            metavar="SECONDS",
            rich_help_panel=PANEL_LIMITS,
        ),
    ] = 30.0,
    admin: Annotated[
        str,
        typer.Option(
            help="Address for health, metrics and requests to the proxy itself, like 127.0.0.1:8766.",
            envvar="RECORDER_ADMIN",
            metavar="HOST:PORT",
            show_default="none",
            rich_help_panel=PANEL_OPERATION,
        ),
    ] = "",
    log_format: Annotated[
        Literal["console", "json"],
        typer.Option(help="For people or for programs.", envvar="RECORDER_LOG_FORMAT", rich_help_panel=PANEL_OPERATION),
    ] = "console",
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(
            help="The least that is logged.",
            envvar="RECORDER_LOG_LEVEL",
            rich_help_panel=PANEL_OPERATION,
        ),
    ] = "info",
) -> None:
    """Record every session that passes through. Point your app at it by changing one URL.

    Bytes are forwarded as they come; recordings land in --data. Stop it with Ctrl-C or SIGTERM.
    """
    from recorder import logs
    from recorder.cli.proxy_run import run
    from recorder.cli.proxy_setup import absolute, places, print_routes, with_development_certificate
    from recorder.errors import UsageError
    from recorder.proxy.config import WorkerConfig
    from recorder.proxy.settings import load
    from recorder.proxy.upstream import Upstream
    from recorder.store.keys import for_writing
    from recorder.store.layout import create
    from recorder.store.ring import ring_directory

    if config is not None and upstream is not None:
        raise UsageError("--config and --upstream exclude each other", hint="Make the upstream a route of the file.")
    if config is not None and (record != "on" or drop_audio is not None or hash_text or sideband):
        raise UsageError(
            "--config excludes --record, --drop-audio, --hash-text and --sideband",
            hint="Each route of the file says so itself: recording, drop_audio, hash_text, sideband.",
        )
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
        record=record,
        drop_audio=drop_audio,
        hash_text=hash_text,
        sideband=sideband,
        on_recording_failure=on_recording_failure,
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
    logs.configure("supervisor", log_format=log_format, level=log_level)
    create(store)
    for_writing(store)  # told now rather than by the sealer
    if tls_self_signed:
        settings = with_development_certificate(settings)
    run(
        settings,
        upstreams=places(loaded.routes),
        address=listen,
        workers=workers,
        take_over=take_over,
        seal=seal,
        seal_seconds=seal_seconds,
        compact_after=compact_after,
        sync_seconds=sync_seconds,
        disk_floor_bytes=disk_floor_mb << 20,
        admin_address=admin,
    )
