"""A worker's fixed settings: one value that the supervisor hands over as JSON. It holds no secrets, but names files."""

from __future__ import annotations

from typing import Literal

import msgspec

from recorder.proxy.upstream import Upstream
from recorder.store.ring import DEFAULT_BYTES


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a worker needs to know; paths are absolute.

    Attributes:
        upstream: where connections go, if there is no `config_file`.
        config_file: the routes' TOML file.
        client_tokens: the file of tokens that clients must show; None lets everyone in.
        data_dir: the store.
        ring_dir: where its ring lies.
        ring_bytes: how large the ring is.
        upstream_ca: a PEM file that replaces the system's certificate authorities.
        tls_cert: a PEM file: the listener speaks TLS with it.
        tls_key: its key, if not in the same file.
        recording: False forwards only.
        record: what is kept of sessions, if there is no `config_file`.
        drop_audio: likewise, whose audio is not kept.
        hash_text: likewise, whether hashes take the place of texts.
        sideband: likewise, whether calls that go past the proxy are joined.
        on_recording_failure: what becomes of a new session that cannot be recorded.
        max_sessions: more connections than this at once are refused with 503.
        max_header_bytes: longer request or response heads are refused.
        handshake_timeout_seconds: from accepting a connection to its upgrade.
        connect_timeout_seconds: for TCP and TLS to the upstream.
        drain_seconds: how long running sessions may go on after a stop was asked for.
        idle_timeout_seconds: a session in which nothing is said for so long is closed; 0 for never.
        half_open_seconds: likewise once one side has ended and the other does not.
    """

    upstream: Upstream
    data_dir: str
    ring_dir: str
    ring_bytes: int = DEFAULT_BYTES
    config_file: str | None = None
    client_tokens: str | None = None
    upstream_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    recording: bool = True
    record: Literal["on", "off", "no-audio"] = "on"
    drop_audio: Literal["client", "server", "both"] | None = None
    hash_text: bool = False
    sideband: bool = False
    on_recording_failure: Literal["pass", "refuse"] = "pass"
    max_sessions: int = 10_000
    max_header_bytes: int = 65_536
    handshake_timeout_seconds: float = 30.0
    connect_timeout_seconds: float = 10.0
    drain_seconds: float = 30.0
    idle_timeout_seconds: float = 0.0
    half_open_seconds: float = 60.0
