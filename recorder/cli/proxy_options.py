"""The options of `recorder proxy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from recorder.cli.options import parse_data

DEFAULT_UPSTREAM: Final = "wss://api.openai.com"
PANEL_ROUTES: Final = "Routes"
PANEL_TLS: Final = "TLS"
PANEL_RECORDING: Final = "Recording"
PANEL_LIMITS: Final = "Limits"
PANEL_OPERATION: Final = "Operation"

Listen = Annotated[
    str,
    typer.Option(help="Address to listen on; port 0 takes a free one.", envvar="RECORDER_LISTEN", metavar="HOST:PORT"),
]
Upstream = Annotated[
    str | None,
    typer.Option(
        help="Where to connect to, like wss://host or ws://host:port/prefix.",
        envvar="RECORDER_UPSTREAM",
        metavar="URL",
        show_default=DEFAULT_UPSTREAM,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="TOML file of routes to several upstreams, instead of --upstream.",
        envvar="RECORDER_CONFIG",
        metavar="FILE",
        rich_help_panel=PANEL_ROUTES,
    ),
]
CheckConfig = Annotated[
    bool,
    typer.Option(
        "--check-config",
        help="Print the routes, or what is wrong with them, and end.",
        envvar="RECORDER_CHECK_CONFIG",
        rich_help_panel=PANEL_ROUTES,
    ),
]
ClientTokens = Annotated[
    Path | None,
    typer.Option(
        help="File of tokens that clients must show; `recorder tokens` writes it.",
        envvar="RECORDER_CLIENT_TOKENS",
        metavar="FILE",
        rich_help_panel=PANEL_ROUTES,
    ),
]
Data = Annotated[
    Path,
    typer.Option(
        help="Directory of the recordings; made if missing. Or an object store: s3://bucket/prefix.",
        envvar="RECORDER_DATA",
        metavar="DIR",
        parser=parse_data,
    ),
]
Workers = Annotated[int, typer.Option(min=1, max=250, help="Worker processes.", envvar="RECORDER_WORKERS", metavar="N")]
UpstreamCa = Annotated[
    Path | None,
    typer.Option(
        help="PEM file of authorities to trust instead of the system's.",
        envvar="RECORDER_UPSTREAM_CA",
        metavar="FILE",
        rich_help_panel=PANEL_TLS,
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        help="Listen with TLS: PEM certificate.",
        envvar="RECORDER_TLS_CERT",
        metavar="FILE",
        rich_help_panel=PANEL_TLS,
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(
        help="Its key, if in a file of its own.",
        envvar="RECORDER_TLS_KEY",
        metavar="FILE",
        rich_help_panel=PANEL_TLS,
    ),
]
TlsSelfSigned = Annotated[
    bool,
    typer.Option(
        "--tls-self-signed",
        help="Listen with TLS and a certificate made for this machine; prints how to trust it.",
        envvar="RECORDER_TLS_SELF_SIGNED",
        rich_help_panel=PANEL_TLS,
    ),
]
Recording = Annotated[
    bool,
    typer.Option(
        help="Without it, forwards and keeps nothing.", envvar="RECORDER_RECORDING", rich_help_panel=PANEL_RECORDING
    ),
]
Record = Annotated[
    Literal["on", "off", "no-audio"],
    typer.Option(
        help="What is kept of sessions; off keeps their number and size only.",
        envvar="RECORDER_RECORD",
        rich_help_panel=PANEL_RECORDING,
    ),
]
DropAudio = Annotated[
    Literal["client", "server", "both"] | None,
    typer.Option(help="Whose audio is not kept.", envvar="RECORDER_DROP_AUDIO", rich_help_panel=PANEL_RECORDING),
]
HashText = Annotated[
    bool,
    typer.Option(
        "--hash-text",
        help="Keep hashes in place of texts.",
        envvar="RECORDER_HASH_TEXT",
        rich_help_panel=PANEL_RECORDING,
    ),
]
Sideband = Annotated[
    bool,
    typer.Option(
        "--sideband",
        help="Join WebRTC and SIP calls that are begun through the proxy, and record them.",
        envvar="RECORDER_SIDEBAND",
        rich_help_panel=PANEL_RECORDING,
    ),
]
OnRecordingFailure = Annotated[
    Literal["pass", "refuse"],
    typer.Option(
        help="A session that cannot be recorded: let it pass, or refuse it.",
        envvar="RECORDER_ON_RECORDING_FAILURE",
        rich_help_panel=PANEL_RECORDING,
    ),
]
Seal = Annotated[
    bool,
    typer.Option(
        help="Without it, what is recorded stays on spools, unseen, until `recorder seal`.",
        envvar="RECORDER_SEAL",
        rich_help_panel=PANEL_RECORDING,
    ),
]
SealSeconds = Annotated[
    float,
    typer.Option(
        min=0,
        help="How often what running sessions said so far is sealed; 0: at their end alone.",
        envvar="RECORDER_SEAL_SECONDS",
        metavar="SECONDS",
        rich_help_panel=PANEL_RECORDING,
    ),
]
CompactAfter = Annotated[
    int,
    typer.Option(
        min=0,
        help="How many small files of a day are merged, in the background; 0: none, until `recorder compact`.",
        envvar="RECORDER_COMPACT_AFTER",
        metavar="FILES",
        rich_help_panel=PANEL_RECORDING,
    ),
]
RingMb = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Shared memory a worker buffers in, MiB.",
        envvar="RECORDER_RING_MB",
        metavar="N",
        show_default="32 to 256, by what is free",
        rich_help_panel=PANEL_RECORDING,
    ),
]
RingDir = Annotated[
    Path | None,
    typer.Option(
        help="A tmpfs for it other than /dev/shm.",
        envvar="RECORDER_RING_DIR",
        metavar="DIR",
        rich_help_panel=PANEL_RECORDING,
    ),
]
SyncSeconds = Annotated[
    float,
    typer.Option(
        min=0.05,
        help="How often spools are forced to the disk: what a power cut can cost.",
        envvar="RECORDER_SYNC_SECONDS",
        metavar="SECONDS",
        rich_help_panel=PANEL_RECORDING,
    ),
]
DiskFloorMb = Annotated[
    int,
    typer.Option(
        min=0,
        help="With less free disk space, MiB, nothing is recorded.",
        envvar="RECORDER_DISK_FLOOR_MB",
        metavar="N",
        rich_help_panel=PANEL_RECORDING,
    ),
]
MaxSessions = Annotated[
    int,
    typer.Option(
        min=1,
        help="Sessions a worker serves.",
        envvar="RECORDER_MAX_SESSIONS",
        metavar="N",
        rich_help_panel=PANEL_LIMITS,
    ),
]
HandshakeTimeout = Annotated[
    float,
    typer.Option(
        min=0.1,
        help="How long a client or upstream may take for the handshake.",
        envvar="RECORDER_HANDSHAKE_TIMEOUT",
        metavar="SECONDS",
        rich_help_panel=PANEL_LIMITS,
    ),
]
ConnectTimeout = Annotated[
    float,
    typer.Option(
        min=0.1,
        help="For TCP and TLS to the upstream.",
        envvar="RECORDER_CONNECT_TIMEOUT",
        metavar="SECONDS",
        rich_help_panel=PANEL_LIMITS,
    ),
]
IdleTimeout = Annotated[
    float,
    typer.Option(
        min=0,
        help="Silence after which a session is closed; 0 for never.",
        envvar="RECORDER_IDLE_TIMEOUT",
        metavar="SECONDS",
        rich_help_panel=PANEL_LIMITS,
    ),
]
TakeOver = Annotated[
    bool,
    typer.Option(
        "--take-over",
        help="Replace the proxy that runs on the same --data: no connection refused, its calls go on.",
        envvar="RECORDER_TAKE_OVER",
    ),
]
DrainSeconds = Annotated[
    float,
    typer.Option(
        min=0,
        help="How long running sessions may go on after SIGTERM or Ctrl-C.",
        envvar="RECORDER_DRAIN_SECONDS",
        metavar="SECONDS",
        rich_help_panel=PANEL_LIMITS,
    ),
]
Admin = Annotated[
    str,
    typer.Option(
        help="Address for health, metrics and requests to the proxy itself, like 127.0.0.1:8766.",
        envvar="RECORDER_ADMIN",
        metavar="HOST:PORT",
        show_default="none",
        rich_help_panel=PANEL_OPERATION,
    ),
]
LogFormat = Annotated[
    Literal["console", "json"],
    typer.Option(help="For people or for programs.", envvar="RECORDER_LOG_FORMAT", rich_help_panel=PANEL_OPERATION),
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    typer.Option(
        help="The least that is logged.",
        envvar="RECORDER_LOG_LEVEL",
        rich_help_panel=PANEL_OPERATION,
    ),
]
