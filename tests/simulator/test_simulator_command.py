import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from recorder.cli import simulate as command
from recorder.errors import ListenError, ScriptError, UsageError
from recorder.simulator.client import play

MAIN = (
    "import sys, typer; from recorder.cli.simulate import simulate; app = typer.Typer(); app.command()(simulate); app()"
)


@pytest.fixture
def app() -> typer.Typer:
    application = typer.Typer()
    application.command()(command.simulate)
    return application


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_a_signal_and_writes_truth(tmp_path: Path, stop: signal.Signals) -> None:
    arguments = ["--listen", "127.0.0.1:0", "--script", "text_turn", "--truth", str(tmp_path), "--seed", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "RECORDER_SIMULATE_SPEED": "50"},
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("simulator ready at ws://127.0.0.1:")
        log = asyncio.run(play("text_turn", line.split()[-1], speed=50))
        process.send_signal(stop)
        assert process.wait(timeout=10) == 0
    (file,) = tmp_path.iterdir()
    truth = json.loads(file.read_text())
    assert truth["server_events"] == log.types("server")
    assert (truth["speed"], truth["seed"]) == (50.0, "1")


def test_lists_the_packaged_scripts(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["--list"])
    assert result.exit_code == 0
    assert "barge_in" in result.output
    assert "The user interrupts twice" in result.output


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--listen", "nowhere"], UsageError),
        (["--listen", "127.0.0.1:99999"], UsageError),
        (["--script", "no_such_script"], ScriptError),
    ],
)
def test_bad_arguments_are_refused(app: typer.Typer, arguments: list[str], error: type[Exception]) -> None:
    assert isinstance(CliRunner().invoke(app, arguments).exception, error)


def test_an_address_in_use_is_said_so(app: typer.Typer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["--listen", f"127.0.0.1:{port}"])
    assert isinstance(result.exception, ListenError)
