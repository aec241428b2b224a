"""TLS contexts of both sides. Only HTTP/1.1 is spoken: WebSockets over HTTP/2 are not for clients of this API."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from recorder.errors import UsageError

_ALPN: Final = ["http/1.1"]


def upstream_context(ca: Path | None, *, where: str = "--upstream-ca") -> ssl.SSLContext:
    """TLS towards an upstream.

    Args:
        ca: a PEM file of authorities to trust instead of the system's.
        where: what to call it in an error.

    Raises:
        UsageError: the file is not usable.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{where} {ca}: {_words(error)}", hint="Give a PEM file of certificates.") from None
    context.set_alpn_protocols(_ALPN)
    return context


def listener_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """TLS towards clients.

    Args:
        certificate: a PEM file, the chain's certificates in order.
        key: its key, if not in the same file.

    Raises:
        UsageError: they cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(_ALPN)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"--tls-cert {certificate}: {_words(error)}", hint="PEM files of a certificate and its key."
        ) from None
    return context


def _words(error: OSError) -> str:
    return (error.strerror if not isinstance(error, ssl.SSLError) else error.reason) or str(error)
