"""What `recorder proxy` does before it listens: look at its routes, make a certificate."""

from __future__ import annotations

import contextlib
import resource
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from recorder.cli.output import note, print_table
from recorder.errors import UsageError
from recorder.proxy.config import WorkerConfig
from recorder.proxy.consent import Mode, RecordingPolicy
from recorder.proxy.routes import Route
from recorder.store.ring import DEFAULT_BYTES

_TRUST = (
    "The certificate is for localhost, 127.0.0.1 and ::1. To trust it, start your client with",
    "  SSL_CERT_FILE={}        Python, curl, Go",
    "  NODE_EXTRA_CA_CERTS={}  Node",
    "  REQUESTS_CA_BUNDLE={}   Python's requests",
    "or give that file to your browser as a certificate authority.",
)
HEADINGS = ("NAME", "HOST", "PATH", "UPSTREAM", "THROUGH", "CREDENTIAL", "RECORDING", "LABELS")

_MOST_RING_BYTES: Final = 256 << 20
"""Three seconds of 750 voice sessions, which is what a worker can carry."""

_MOST_FILES: Final = 1 << 20

_RING_SHARE: Final = 8
"""All rings together take one part in so many of what is free: it is the machine's memory, and a successor's rings
(`--take-over`), or those of workers that died, lie there as well for a while."""


def absolute(path: Path | None) -> str | None:
    """A path as workers get it: they may run in another directory."""
    return str(path.absolute()) if path is not None else None


def allow_files(sessions: int) -> str | None:
    """Let this process, and those that it starts, have as many files open as the system allows.

    Args:
        sessions: as many as a worker is to carry.

    Returns:
        That this is too little for so many, in words; None where it is enough.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most // 2 >= sessions:
        return None
    return f"a process may have {most} files open here: fewer than {most // 2} sessions in a worker, not {sessions}"


def default_ring_bytes(directory: Path, workers: int) -> int:
    """How large a worker's ring is if nobody said so: what its tmpfs has room for, within reason.

    Args:
        directory: where the rings will lie; need not be there yet.
        workers: how many share it; 0: nothing is to be recorded.
    """
    if not workers:
        return 1 << 20
    there = next(path for path in (directory, *directory.parents) if path.exists())
    share = 0
    with contextlib.suppress(OSError):
        share = shutil.disk_usage(there).free // _RING_SHARE // workers
    return max(DEFAULT_BYTES, min(_MOST_RING_BYTES, share)) >> 20 << 20


def print_routes(routes: Iterable[Route]) -> None:
    """Print routes as a table, in the order in which they are tried. Secrets are named by where they come from."""
    print_table(HEADINGS, [_row(route) for route in routes], shrink=frozenset({3, 4, 7}))


def _row(route: Route) -> tuple[str, ...]:
    credential = route.credential
    labels = [f"{name}={value}" for name, value in route.labels.items()] + list(route.label_headers)
    return (
        route.name,
        route.host or "any",
        (route.path_prefix or "/") + (" (stripped)" if route.strip_prefix else ""),
        route.upstream.url,
        str(route.proxy) if route.proxy else "–",
        f"{credential.header} from {credential.source}" if credential.header else credential.source,
        _recording(route.recording) + (", sideband calls too" if route.sideband else ""),
        ", ".join(labels) or "–",
    )


def _recording(policy: RecordingPolicy) -> str:
    content, header = policy.content, policy.consent_header
    mode = Mode.NO_AUDIO if policy.mode is Mode.ON and content.drop_audio == "both" else policy.mode
    words = [mode.value]
    if mode is not Mode.OFF:
        words += [f"{policy.sample:.4g} of all"] if policy.sample < 1 else []
        words += [f"no audio of the {content.drop_audio}"] if mode is Mode.ON and content.drop_audio else []
        words += ["texts hashed"] if content.hash_text else []
    if header:
        words += [f"or as {header} says" if policy.consent_may_loosen else f"less if {header} says so"]
    return ", ".join(words)


def places(routes: Iterable[Route]) -> str:
    """Where routes lead, in a few words."""
    known = list(routes)
    return known[0].upstream.url if len(known) == 1 else f"{len(known)} routes"


def with_development_certificate(config: WorkerConfig) -> WorkerConfig:
    """The settings with a certificate for this machine; says how to trust it.

    Raises:
        UsageError: there is a certificate already, or `cryptography` is not installed.
    """
    if config.tls_cert is not None:
        raise UsageError("--tls-self-signed and --tls-cert exclude each other")
    try:
        from recorder.proxy.certificates import development_certificate
    except ModuleNotFoundError:
        raise UsageError(
            "--tls-self-signed needs the package cryptography",
            hint="pip install '.[tls]' in the recorder's folder, or bring a certificate with --tls-cert.",
        ) from None
    made = development_certificate(Path(config.data_dir), datetime.now(UTC))
    for line in _TRUST:
        note(line.format(made.authority))
    return msgspec.structs.replace(config, tls_cert=str(made.certificate), tls_key=str(made.key))
