"""A development certificate for this machine: an authority that is forgotten as soon as it has signed one certificate.

Whoever trusts the authority therefore trusts that one certificate, and nothing that could be signed later. Importing
this module needs `cryptography`, which only the extra `tls` installs.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from recorder.errors import UsageError
from recorder.store.layout import make_directory, sync_directory, write_file

_LIFE: Final = dt.timedelta(days=365)
_RENEW_BEFORE: Final = dt.timedelta(days=1)
_NAMES: Final = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.IPAddress(ipaddress.ip_address("::1")),
)
_PEM: Final = serialization.Encoding.PEM


class Certificate(NamedTuple):
    """A certificate on disk, all PEM.

    Attributes:
        certificate: what the listener shows.
        key: its key.
        authority: what clients are to trust.
    """

    certificate: Path
    key: Path
    authority: Path


def development_certificate(data_dir: Path, now: dt.datetime) -> Certificate:
    """The certificate for localhost, 127.0.0.1 and ::1 in a data directory; made if there is none that is still good.

    Args:
        data_dir: the store; files come into its folder `tls`, for their owner alone.
        now: with a time zone.

    Raises:
        UsageError: the files cannot be read or written.
    """
    folder = data_dir / "tls"
    files = Certificate(folder / "localhost.pem", folder / "localhost.key", folder / "authority.pem")
    try:
        if not _is_good(files, now):
            make_directory(folder)
            _make(files, now)
            sync_directory(folder)
    except OSError as error:
        raise UsageError(f"--tls-self-signed: {error.filename or folder}: {error.strerror}") from None
    return files


def _is_good(files: Certificate, now: dt.datetime) -> bool:
    if not all(file.exists() for file in files):
        return False
    try:
        certificate, authority = (
            x509.load_pem_x509_certificate(file.read_bytes()) for file in (files.certificate, files.authority)
        )
    except ValueError:
        return False
    return certificate.issuer == authority.subject and now + _RENEW_BEFORE < certificate.not_valid_after_utc


def _make(files: Certificate, now: dt.datetime) -> None:
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _named(f"Realtime Recorder, made {now:%Y-%m-%d %H:%M:%S}, for development")
    authority = _begun(issuer, issuer, authority_key, now, is_authority=True)
    certificate = (
        _begun(_named("localhost"), issuer, key, now, is_authority=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_NAMES), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    # In this order: what a crash leaves behind is a certificate that its authority did not sign, and is made anew.
    secret = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for path, content in (
        (files.authority, authority.sign(authority_key, hashes.SHA256()).public_bytes(_PEM)),
        (files.key, secret),
        (files.certificate, certificate.sign(authority_key, hashes.SHA256()).public_bytes(_PEM)),
    ):
        write_file(path, lambda file, content=content: file.write(content))  # type: ignore[misc]


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: dt.datetime, *, is_authority: bool
) -> x509.CertificateBuilder:
    """A certificate to be signed, with the extensions that strict verifiers ask for (RFC 5280 section 4.2.1)."""
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign")
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
        **dict.fromkeys(others, False),
    )
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
