"""A worker's settings: one value that the supervisor hands over as JSON."""

from __future__ import annotations

import functools
import ssl
from typing import Literal

import msgspec

from recorder.errors import UsageError
from recorder.proxy.http import Upstream
from recorder.store.ring import DEFAULT_BYTES


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a worker needs to know; paths are absolute.

    Attributes:
        upstream: where connections go.
        data_dir: the store.
        ring_dir: where its ring lies.
        ring_bytes: how large the ring is.
        upstream_ca: a PEM file that replaces the system's certificate authorities.
        tls_cert: a PEM file: the listener speaks TLS with it.
        tls_key: its key, if not in the same file.
        recording: False forwards only.
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
    upstream_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    recording: bool = True
    on_recording_failure: Literal["pass", "refuse"] = "pass"
    max_sessions: int = 10_000
    max_header_bytes: int = 65_536
    handshake_timeout_seconds: float = 30.0
    connect_timeout_seconds: float = 10.0
    drain_seconds: float = 30.0
    idle_timeout_seconds: float = 0.0
    half_open_seconds: float = 60.0

    def upstream_context(self) -> ssl.SSLContext:
        """TLS towards the upstream. Raises UsageError for an unreadable CA file."""
        return _upstream_context(self.upstream_ca)

    def listener_context(self) -> ssl.SSLContext | None:
        """TLS towards clients, or None for plain. Raises UsageError for an unusable certificate."""
        if self.tls_cert is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"--tls-cert {self.tls_cert}: {error}", hint="PEM files of one certificate.") from None
        return context


@functools.cache
def _upstream_context(upstream_ca: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=upstream_ca)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"--upstream-ca {upstream_ca}: {error}", hint="Give a PEM file of certificates.") from None
    context.set_alpn_protocols(["http/1.1"])
    return context
