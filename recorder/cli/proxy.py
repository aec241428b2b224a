"""`recorder proxy`: record what passes between an app and the Realtime API."""

from __future__ import annotations

from pathlib import Path

from recorder.cli import proxy_options as options

EXAMPLES = (
    ("recorder proxy", "in front of api.openai.com, on 127.0.0.1:8765, into ./data"),
    ("OPENAI_BASE_URL=http://127.0.0.1:8765/v1 python my_agent.py", "an app that goes through it"),
    ("recorder proxy --upstream wss://my-resource.openai.azure.com --data /var/lib/recorder", "another upstream"),
    ("recorder proxy --config routes.toml --client-tokens tokens", "several upstreams; clients hold our tokens only"),
    ("recorder proxy --config routes.toml --check-config", "what that file says, or what is wrong with it"),
    ("recorder proxy --sideband", "calls of browsers and telephones too: WebRTC and SIP"),
    ("recorder proxy --listen 127.0.0.1:8443 --tls-self-signed", "for clients that want wss://, on this machine"),
)


def proxy(
    listen: options.Listen = "127.0.0.1:8765",
    upstream: options.Upstream = None,
    config: options.Config = None,
    check_config: options.CheckConfig = False,
    client_tokens: options.ClientTokens = None,
    data: options.Data = Path("data"),
    workers: options.Workers = 1,
    upstream_ca: options.UpstreamCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    tls_self_signed: options.TlsSelfSigned = False,
    recording: options.Recording = True,
    record: options.Record = "on",
    drop_audio: options.DropAudio = None,
    hash_text: options.HashText = False,
    sideband: options.Sideband = False,
    on_recording_failure: options.OnRecordingFailure = "pass",
    seal: options.Seal = True,
    seal_seconds: options.SealSeconds = 45.0,
    compact_after: options.CompactAfter = 256,
    ring_mb: options.RingMb = None,
    ring_dir: options.RingDir = None,
    sync_seconds: options.SyncSeconds = 1.0,
    disk_floor_mb: options.DiskFloorMb = 512,
    max_sessions: options.MaxSessions = 10_000,
    handshake_timeout: options.HandshakeTimeout = 30.0,
    connect_timeout: options.ConnectTimeout = 10.0,
    idle_timeout: options.IdleTimeout = 0.0,
    take_over: options.TakeOver = False,
    drain_seconds: options.DrainSeconds = 30.0,
    admin: options.Admin = "",
    log_format: options.LogFormat = "console",
    log_level: options.LogLevel = "info",
) -> None:
    """Record every session that passes through. Point your app at it by changing one URL.

    Bytes are forwarded as they come; recordings land in --data. Stop it with Ctrl-C or SIGTERM.
    """
    from recorder import logs
    from recorder.cli.proxy_run import run
    from recorder.cli.proxy_setup import (
        absolute,
        default_ring_bytes,
        places,
        print_routes,
        with_development_certificate,
    )
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
    if ring_dir is not None and not ring_dir.is_dir():
        raise UsageError(f"--ring-dir {ring_dir}: no such directory", hint="Name a tmpfs that is mounted.")
    store = data.absolute()
    rings = ring_directory(store, ring_dir.absolute() if ring_dir else None)
    settings = WorkerConfig(
        upstream=Upstream.parse(upstream or options.DEFAULT_UPSTREAM),
        data_dir=str(store),
        ring_dir=str(rings),
        ring_bytes=ring_mb << 20 if ring_mb else default_ring_bytes(rings, workers if recording else 0),
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
