"""The certificate for development: made once, for its owner alone, trusted by strict verifiers."""

import datetime as dt
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from recorder.errors import UsageError
from recorder.proxy.certificates import Certificate, development_certificate
from recorder.proxy.tls import listener_context, upstream_context
from tests.proxy.conftest import RunningWorker

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return development_certificate(tmp_path_factory.mktemp("store"), NOW)


def test_files_are_their_owners_alone(made: Certificate) -> None:
    assert {stat.S_IMODE(file.stat().st_mode) for file in made} == {0o600}
    assert stat.S_IMODE(made.key.parent.stat().st_mode) == 0o700
    assert b"PRIVATE" not in made.authority.read_bytes() + made.certificate.read_bytes()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_strict_clients_trust_it(made: Certificate, worker: Callable[..., RunningWorker], name: str) -> None:
    proxy = worker("ws://unused.test", tls_cert=str(made.certificate), tls_key=str(made.key))
    context = ssl.create_default_context(cafile=str(made.authority))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with context.wrap_socket(proxy.connect(), server_hostname=name) as client:
        assert client.getpeercert()["subject"] == ((("commonName", "localhost"),),)  # type: ignore[index]


def test_others_do_not(made: Certificate, worker: Callable[..., RunningWorker]) -> None:
    proxy = worker("ws://unused.test", tls_cert=str(made.certificate), tls_key=str(made.key))
    with proxy.connect() as sock, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")
    trusting = ssl.create_default_context(cafile=str(made.authority))
    with proxy.connect() as sock, pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        trusting.wrap_socket(sock, server_hostname="proxy.test")


def test_it_is_used_until_it_expires(tmp_path: Path) -> None:
    first = development_certificate(tmp_path, NOW)
    before = first.certificate.read_bytes()
    assert development_certificate(tmp_path, NOW + dt.timedelta(days=363)) == first
    assert first.certificate.read_bytes() == before
    development_certificate(tmp_path, NOW + dt.timedelta(days=364, hours=1))
    assert first.certificate.read_bytes() != before


@pytest.mark.parametrize("damaged", ["certificate", "authority", "key"])
def test_what_is_missing_is_made_anew_altogether(tmp_path: Path, damaged: str) -> None:
    made = development_certificate(tmp_path, NOW)
    before = made.certificate.read_bytes()
    getattr(made, damaged).unlink()
    development_certificate(tmp_path, NOW + dt.timedelta(seconds=1))
    assert made.certificate.read_bytes() != before
    listener_context(made.certificate, made.key)


def test_a_renewal_that_was_killed_half_way_is_done_again(tmp_path: Path) -> None:
    made = development_certificate(tmp_path / "a", NOW)
    other = development_certificate(tmp_path / "b", NOW + dt.timedelta(seconds=1))
    made.authority.write_bytes(other.authority.read_bytes())
    development_certificate(tmp_path / "a", NOW + dt.timedelta(seconds=2))
    upstream_context(made.authority)
    listener_context(made.certificate, made.key)
    made.certificate.write_bytes(b"garbage")
    development_certificate(tmp_path / "a", NOW)
    listener_context(made.certificate, made.key)


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "tls").write_bytes(b"")
    with pytest.raises(UsageError, match=r"--tls-self-signed: .*tls"):
        development_certificate(tmp_path, NOW)


def test_certificates_that_cannot_be_used(tmp_path: Path, made: Certificate) -> None:
    with pytest.raises(UsageError, match=r"--tls-cert .*nowhere: No such file"):
        listener_context(tmp_path / "nowhere", None)
    with pytest.raises(UsageError, match="--tls-cert"):
        listener_context(made.certificate, None)
    with pytest.raises(UsageError, match=r"--upstream-ca .*nowhere: No such file"):
        upstream_context(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="route r: ca"):
        upstream_context(made.key, where="route r: ca")


def test_a_new_certificate_is_shown_after_a_reload(tmp_path: Path, worker: Callable[..., RunningWorker]) -> None:
    old = development_certificate(tmp_path / "a", NOW)
    new = development_certificate(tmp_path / "b", NOW)
    proxy = worker("ws://unused.test", tls_cert=str(old.certificate), tls_key=str(old.key))

    def trusts(authority: Path) -> bool:
        context = ssl.create_default_context(cafile=str(authority))
        with proxy.connect() as sock:
            try:
                context.wrap_socket(sock, server_hostname="localhost").close()
            except ssl.SSLCertVerificationError:
                return False
        return True

    assert (trusts(old.authority), trusts(new.authority)) == (True, False)
    for before, after in zip(old, new, strict=True):
        before.write_bytes(after.read_bytes())
    assert proxy.call(lambda worker: worker._settings.reload())
    assert trusts(new.authority)
