"""What the figures were measured on, and with."""

from __future__ import annotations

import os
import platform
import shutil
import ssl
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any


def facts() -> dict[str, Any]:
    """Processor, cores, memory, kernel, and the versions of what takes part."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "recorder": version("realtime-recorder"),
        "websockets": version("websockets"),
        "haproxy": _first_line("haproxy", "-v"),
        "nginx": _first_line("nginx", "-v"),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def cores() -> tuple[int, int]:
    """The core of the load side and that of the proxy; the same where there is but one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def sentence(machine: dict[str, Any]) -> str:
    """The facts in a line of words."""
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB",
        f"Linux {machine['kernel']}",
        f"Python {machine['python']}",
        machine["openssl"],
        machine["haproxy"],
        machine["nginx"],
        f"websockets {machine['websockets']}",
        f"recorder {machine['recorder']}",
    ]
    return "; ".join(part for part in parts if part)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(*command: str) -> str | None:
    if shutil.which(command[0], path=search_path()) is None:
        return None
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": search_path()}
    )
    return next(iter((done.stdout + done.stderr).splitlines()), "").split(" - ")[0].strip()


def search_path() -> str:
    """PATH, with the directories of system services, which users' shells often leave out."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def command_line() -> str:
    """How this run was started, as one types it."""
    return " ".join(["python -m benchmarks", *sys.argv[1:]])
