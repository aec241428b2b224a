"""What docs/deploy tells service managers to run, run as far as that goes without them."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import typer

from recorder.cli.proxy import proxy
from recorder.cli.proxy_run import _PATIENCE_SECONDS
from recorder.pipeline.sealer import LAST_ROUND_SECONDS, STOP_SECONDS
from recorder.proxy.supervisor import _GRACE_SECONDS
from tests.e2e.conftest import PATIENCE, RecorderProcess, eventually, free_port

Run = Callable[..., RecorderProcess]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
CONTAINER = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", "")
UNIT = (DEPLOY / "recorder.service").read_text(encoding="utf-8")


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", CONTAINER, re.MULTILINE)


def as_run(line: str) -> list[str]:
    """The exec form of an instruction."""
    return msgspec.json.decode(line[line.index("[") :], type=list[str])


def environment() -> dict[str, str]:
    pairs = (pair.partition("=") for line in instructions("ENV") for pair in line.split())
    return {name: value for name, _, value in pairs}


def unit_command() -> list[str]:
    (line,) = re.findall(r"^ExecStart=\S+ (.*)$", UNIT, re.MULTILINE)
    return shlex.split(line)


PROCESSES = ["recorder.proxy.worker", *(f"recorder.pipeline.{name}" for name in ("record", "sorter", "sealer"))]


@pytest.mark.parametrize("command", [unit_command(), as_run(instructions("CMD")[-1])], ids=["unit", "container"])
def test_every_option_exists(command: list[str]) -> None:
    app = typer.Typer()
    app.command()(proxy)
    known = {name for option in typer.main.get_command(app).params for name in option.opts}
    assert command[0] == "proxy"
    assert {word for word in command if word.startswith("--")} <= known


def test_every_variable_exists() -> None:
    app = typer.Typer()
    app.command()(proxy)
    known = {
        option.envvar for option in typer.main.get_command(app).params if isinstance(option, typer.core.TyperOption)
    }
    assert {name for name in environment() if name.startswith("RECORDER_")} <= known


def test_all_that_is_installed_is_copied() -> None:
    copied = {word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    files = {project["project"]["readme"], *project["project"]["license-files"]}
    assert copied == packages | files | {"pyproject.toml", "setup.py", "requirements.lock"}
    assert all((ROOT / name).exists() for name in copied)


def test_the_health_check_tells_whether_it_lives(run: Run, data: Path) -> None:
    port = free_port()
    settings = environment() | {"RECORDER_DATA": str(data), "RECORDER_ADMIN": f"127.0.0.1:{port}"}
    del settings["PATH"]
    command = [word.replace("0.0.0.0:8765", "127.0.0.1:0") for word in as_run(instructions("CMD")[-1])]
    recorder = run(*command, **settings)
    (check,) = instructions("HEALTHCHECK")
    asked = [sys.executable, *(word.replace(":8766", f":{port}") for word in as_run(check)[1:])]
    assert subprocess.run(asked, check=False, timeout=PATIENCE).returncode == 0
    assert recorder.stop() == 0
    assert subprocess.run(asked, check=False, timeout=PATIENCE, capture_output=True).returncode != 0


def test_where_memory_runs_out_the_sealer_goes_first(run: Run, data: Path) -> None:
    recorder = run("proxy", "--listen", "127.0.0.1:0", "--data", str(data), "--ring-mb", "4")

    def score(of: str) -> int:
        pid = recorder.children()[of]
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii"))

    eventually(
        lambda: {"worker", "sealer"} <= recorder.children().keys() and score("sealer") == 500, "it offers itself"
    )
    assert score("worker") < 500


TUNABLES = "GLIBC_TUNABLES"


@pytest.mark.parametrize(
    ("said", "of_worker", "of_sealer"),
    [
        ({}, None, "glibc.malloc.tcache_count=1000"),
        ({TUNABLES: "glibc.malloc.perturb=1"}, "glibc.malloc.perturb=1", "glibc.malloc.perturb=1"),
    ],
    ids=["nobody", "somebody"],
)
def test_the_sealer_keeps_more_memory_at_hand_unless_somebody_says_how(
    run: Run, data: Path, said: dict[str, str], of_worker: str | None, of_sealer: str
) -> None:
    recorder = run("proxy", "--listen", "127.0.0.1:0", "--data", str(data), "--ring-mb", "4", **said)
    eventually(lambda: {"worker", "sealer"} <= recorder.children().keys(), "both run")
    children = recorder.children()
    told = [environment_of(children[name]).get(TUNABLES) for name in ("worker", "sealer")]
    assert told == [of_worker, of_sealer]


def environment_of(pid: int) -> dict[str, str]:
    words = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8").split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)


def test_the_unit_has_the_admin_address_on() -> None:
    command = unit_command()
    assert command[command.index("--admin") + 1] == "127.0.0.1:8766"


def settings_of(unit: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE))


def test_systemd_leaves_the_rings_alone_when_a_service_ends() -> None:
    """`DynamicUser=yes` implies `RemoveIPC=yes`, whatever else is said: what a kill left in /dev/shm would be gone."""
    for unit in DEPLOY.glob("*.service"):
        settings = settings_of(unit)
        assert settings["User"] == "recorder"
        assert "yes" not in {settings.get("DynamicUser", "no"), settings.get("RemoveIPC", "no")}


def test_all_processes_are_given_the_time_that_the_supervisor_gives_them() -> None:
    command = unit_command()
    needed = float(command[command.index("--drain-seconds") + 1]) + _GRACE_SECONDS
    needed += _PATIENCE_SECONDS["recorder"] + _PATIENCE_SECONDS["sorter"] + LAST_ROUND_SECONDS + STOP_SECONDS
    settings = settings_of(DEPLOY / "recorder.service")
    assert float(settings["TimeoutStopSec"]) >= needed
    assert settings["OOMPolicy"] == "continue"
    assert settings["KillMode"] == "mixed"  # the others end in their order
    (container,) = re.findall(r"--stop-timeout (\d+)", CONTAINER)
    assert float(container) >= needed


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_every_line_of_the_units(tmp_path: Path) -> None:
    units = sorted([*DEPLOY.glob("*.service"), *DEPLOY.glob("*.timer")])
    for unit in units:  # what they start is elsewhere here
        text = unit.read_text(encoding="utf-8").replace("/opt/recorder/bin/recorder", sys.executable)
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in units)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    assert len(units) == 3


def test_the_container_runs_as_a_number_that_is_not_root() -> None:
    (user,) = instructions("USER")
    assert re.fullmatch(r"([1-9]\d*):([1-9]\d*)", user), "Kubernetes' runAsNonRoot does not resolve names"
    uid, _, gid = user.partition(":")
    assert f"--uid {uid} --gid {gid}" in CONTAINER


@pytest.mark.parametrize("module", ["recorder.cli.proxy_run", "recorder.pipeline.catalog", *PROCESSES])
def test_nothing_is_needed_that_is_optional(module: str) -> None:
    """The container installs what the lock file names, and that has no extras; no more has a mere `pip install .`."""
    extras = {"obstore", "cryptography", "opentelemetry", "requests"}
    barred = f"import sys; sys.modules.update(dict.fromkeys({sorted(extras)})); import {module}"
    done = subprocess.run([sys.executable, "-c", barred], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
