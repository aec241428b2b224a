"""Compiles what runs for every message of a call. All else about the package stands in pyproject.toml.

Four modules are compiled by mypyc, from the very sources that run interpreted where there is no C compiler, and
`recorder/store/carry.c` takes a message through between two plain sockets in one step: without all that the proxy
takes about a third more processor time. RECORDER_COMPILE=1 insists on compiling, RECORDER_COMPILE=0 forbids it, as
`make setup` does: a compiled module hides later changes of its source.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup

COMPILED = [
    "recorder/proxy/selector.py",
    "recorder/proxy/splice.py",
    "recorder/proxy/streams.py",
    "recorder/store/ring.py",
]


def can_compile() -> bool:
    """Whether there is a C compiler that finds Python's headers."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <Python.h>\n", encoding="utf-8")
        compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
        command = [*compiler, "-c", "-I", sysconfig.get_path("include"), "-o", os.devnull, str(source)]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False


def extensions() -> list[Extension]:
    """The modules to compile; none where they are to stay as they are."""
    wanted = os.environ.get("RECORDER_COMPILE", "")
    if wanted not in {"", "0", "1"}:
        sys.exit(f"RECORDER_COMPILE={wanted}: 1 compiles, 0 does not; without it, what is possible is done")
    if wanted == "0":
        return []
    if not can_compile():
        if wanted == "1":
            sys.exit("RECORDER_COMPILE=1, but no C compiler finds Python.h: apt-get install gcc libc6-dev python3-dev")
        return []
    from mypyc.build import mypycify  # noqa: PLC0415 - needed only where something is compiled

    # Alone and without this project's settings: types are checked by `make lint`, where every dependency is there.
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    return list(mypycify([*options, *COMPILED], group_name="recorder"))


modules = extensions()
setup(ext_modules=modules, cffi_modules=["recorder/store/carry_build.py:ffi"] if modules else [])
