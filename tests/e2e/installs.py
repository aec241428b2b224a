"""Programs with dependencies of their own, installed into the user's cache from their lock files.

Where that is not possible, or not within a few minutes, the tests that need them are skipped, and say why. A registry
that cannot be reached is found out within seconds, and once a run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE

CLIENTS = Path(__file__).parent / "clients"
INSTALL_SECONDS = 180
PIP = ("--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps", "--only-binary", ":all:")
PATIENT = ("--retries", "1", "--timeout", "10")
_failures: dict[Path, str] = {}


def cached(name: str, lock: Path, install: Callable[[Path], None]) -> Path:
    """A directory of installed dependencies, made once for each content of the lock file.

    Skips the test where they cannot be installed.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:16]
    target = Path(home) / "realtime-recorder" / f"{name}-{digest}"
    if target.is_dir():
        return target
    if target in _failures:
        pytest.skip(_failures[target])
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        install(partial)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        _failures[target] = f"{name} cannot be installed here: {_why(error)}"
        pytest.skip(_failures[target])
    with suppress(OSError):  # somebody else was faster
        partial.rename(target)
    return target


def python_with(name: str, lock: Path) -> Path:
    """The Python of an environment that has what the lock file says."""

    def install(folder: Path) -> None:
        venv.create(folder, with_pip=True, symlinks=True)
        python = folder / "bin" / "python"
        execute(python, "-m", "pip", "install", *PIP, *PATIENT, "-r", lock, seconds=INSTALL_SECONDS)

    return cached(name, lock, install) / "bin" / "python"


def _why(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"not within {error.timeout:g} s"
    said = getattr(error, "stderr", None) or str(error)
    return str(said.strip().splitlines()[-1])


def execute(
    *command: str | Path, cwd: Path | None = None, stdin: str = "", seconds: float = PATIENCE, **environment: str
) -> str:
    """Run a program to its end; what it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout
