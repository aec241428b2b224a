"""What is put down about a session beside its bytes. Secrets are replaced here, before anything is written anywhere."""

from __future__ import annotations

import datetime as dt
import os
import uuid
from typing import Any

from recorder import __version__
from recorder.protocol.redact import redact_headers, redact_target
from recorder.proxy.http import Request, Response


def new_session_id(now_ns: int) -> str:
    """A UUIDv7 (RFC 9562 section 5.7): Unix milliseconds, then random bits, so that ids sort by time."""
    milliseconds = now_ns // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = (milliseconds & (1 << 48) - 1) << 80 | random & (1 << 80) - 1
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


def opened_facts(request: Request | None, *, session_id: str, now_ns: int, **more: Any) -> dict[str, Any]:
    """A session's first record.

    Args:
        request: the client's; None leaves out all that it sent.
        session_id: the session's.
        now_ns: Unix time.
        more: what else is known.
    """
    return {
        "session_id": session_id,
        "source": "proxy",
        "opened_at": dt.datetime.fromtimestamp(now_ns / 1e9, dt.UTC).isoformat(timespec="microseconds"),
        "opened_at_ns": now_ns,
        **({} if request is None else {"request": _asked(request)}),
        "recorder_version": __version__,
        **more,
    }


def _asked(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "target": redact_target(request.target),
        "headers": redact_headers(request.headers),
    }


def accepted_facts(
    response: Response, *, began_ns: int, now_ns: int, connect_seconds: float | None, headers: bool = True
) -> dict[str, Any]:
    """What is put down when the upstream has agreed to the upgrade, its headers or none; both times are monotonic."""
    return {
        "status": response.status,
        "headers": redact_headers(response.headers) if headers else [],
        "connect_seconds": connect_seconds,
        "handshake_seconds": (now_ns - began_ns) / 1e9,
        "monotonic_ns": now_ns,
    }
