"""Programs with dependencies of their own, installed into the user's cache from their lock files.

Where that is not possible, the tests that need them are skipped.
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
INSTALL_SECONDS = 240


def cached(name: str, lock: Path, install: Callable[[Path], None]) -> Path:
    """A directory of installed dependencies, made once for each content of the lock file.

    Skips the test where they cannot be installed.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:16]
    target = Path(home) / "realtime-recorder" / f"{name}-{digest}"
    if target.is_dir():
        return target
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        install(partial)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(partial)
        said = getattr(error, "stderr", None) or str(error)
        pytest.skip(f"{name} cannot be installed here: {said.strip().splitlines()[-1]}")
    with suppress(OSError):  # somebody else was faster
        partial.rename(target)
    return target


def python_with(name: str, lock: Path) -> Path:
    """The Python of an environment that has what the lock file says."""

    def install(folder: Path) -> None:
        venv.create(folder, with_pip=True, symlinks=True)
        flags = ("--quiet", "--disable-pip-version-check", "--require-hashes")
        execute(folder / "bin" / "python", "-m", "pip", "install", *flags, "-r", lock, seconds=INSTALL_SECONDS)

    return cached(name, lock, install) / "bin" / "python"


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
