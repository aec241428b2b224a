"""What a run needs and no package brings: the compiled load side, certificates, mitmproxy in its own environment."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.processes import BenchmarkError, need

ROOT: Final = Path(__file__).parents[1]
_SOURCES: Final = Path(__file__).parent / "loadgen"
_PACKAGES: Final = ("recorder", "api", "dashboards")
_PACKAGING: Final = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
_FLAGS: Final = ("-O2", "-Wall", "-Wextra")


@dataclass(frozen=True)
class Toolbox:
    """Where things lie.

    Attributes:
        cache: kept from run to run.
        load: the load side's program.
        certificate: the upstream's certificate, which is its own authority.
        key: its key.
        recorder: a copy of the recorder's packages, compiled as an installation is.
    """

    cache: Path
    load: Path
    certificate: Path
    key: Path
    recorder: Path


def default_cache() -> Path:
    """A directory of the user's."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "realtime-recorder" / "benchmarks"


def prepare(cache: Path) -> Toolbox:
    """Compile and make what is not there yet.

    Raises:
        BenchmarkError: there is no compiler, or no OpenSSL to compile with.
    """
    cache.mkdir(parents=True, exist_ok=True)
    certificate, key = _certificate(cache)
    return Toolbox(cache, _compile(cache), certificate, key, compiled_recorder(cache))


def compiled_recorder(cache: Path) -> Path:
    """What `pip install` gives where there is a compiler: a copy of the packages, with the hot path compiled.

    A process that is started in this directory by `python -c` or `python -m` imports them from there.

    Raises:
        BenchmarkError: it cannot be compiled.
    """
    packaging = [ROOT / name for name in _PACKAGING]
    sources = [path for package in _PACKAGES for path in (ROOT / package).rglob("*") if _is_source(path)]
    digest = hashlib.sha256()
    for path in sorted([*sources, *packaging]):
        digest.update(bytes(path.relative_to(ROOT)) + b"\0" + path.read_bytes())
    tree = cache / f"recorder-{digest.hexdigest()[:12]}"
    if tree.exists():
        return tree
    partial = tree.with_suffix(f".{os.getpid()}")
    for package in _PACKAGES:
        shutil.copytree(ROOT / package, partial / package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for path in packaging:
        shutil.copy(path, partial)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    environment = {**os.environ, "RECORDER_COMPILE": "1"}
    done = subprocess.run(command, cwd=partial, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr or done.stdout).strip().splitlines()[-1:]
        shutil.rmtree(partial)
        raise BenchmarkError(f"the recorder cannot be compiled: {''.join(why)}", hint="apt-get install gcc libc6-dev")
    shutil.rmtree(partial / "build")
    partial.rename(tree)
    return tree


def _is_source(path: Path) -> bool:
    return path.is_file() and path.suffix != ".so" and "__pycache__" not in path.parts


def _compile(cache: Path) -> Path:
    sources = sorted(_SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    program = cache / f"load-{digest}"
    if program.exists():
        return program
    units = [str(path) for path in sources if path.suffix == ".c"]
    partial = program.with_suffix(f".{os.getpid()}")
    command = [need("cc", "gcc libc6-dev libssl-dev"), *_FLAGS, "-o", str(partial), *units, "-lssl", "-lcrypto"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = next((line for line in done.stderr.splitlines() if "error" in line), "the compiler failed")
        raise BenchmarkError(
            f"the load side cannot be compiled: {why}", hint="apt-get install gcc libc6-dev libssl-dev"
        )
    partial.rename(program)
    return program


def _certificate(cache: Path) -> tuple[Path, Path]:
    certificate, key = cache / "certificate.pem", cache / "key.pem"
    now = dt.datetime.now(dt.UTC)
    if certificate.exists() and key.exists():
        known = x509.load_pem_x509_certificate(certificate.read_bytes())
        if known.not_valid_after_utc > now + dt.timedelta(days=1):
            return certificate, key
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=90))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.touch(mode=0o600)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, key


def mitmdump(cache: Path) -> Path:
    """The program of mitmproxy, installed at its first use.

    Raises:
        BenchmarkError: it cannot be installed.
    """
    room = cache / "mitmproxy"
    program = room / "bin" / "mitmdump"
    if not program.exists():
        for command in (
            [sys.executable, "-m", "venv", str(room)],
            [str(room / "bin/pip"), "install", "-q", "mitmproxy"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BenchmarkError(f"mitmproxy cannot be installed: {(done.stderr or done.stdout).strip()[-300:]}")
    return program
