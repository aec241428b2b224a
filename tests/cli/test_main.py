"""The command as a process: what a shell sees."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from recorder.cli import main, query
from recorder.cli.main import app

COMMAND = [sys.executable, "-c", "from recorder.cli.main import main; main()"]
VOICE = "0199c2f1-0000-7000-8000-000000000001"
DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def recorder(*arguments: str, store: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RECORDER_")}
    if store is not None:
        env["RECORDER_DATA"] = str(store)
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, env=clean | env)


def test_help_names_every_command_and_imports_nothing_slow() -> None:
    code = (
        "import sys\nsys.argv = ['recorder', '--help']\nfrom recorder.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "slow = {'duckdb', 'polars', 'pyarrow', 'fastapi', 'websockets', 'numpy', 'uvicorn'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for name in (
        "proxy",
        "tokens",
        "simulate",
        "import",
        "export",
        "seal",
        "sessions",
        "show",
        "replay",
        "query",
        "serve",
    ):
        assert re.search(rf"\b{name}\b", result.stdout)


def test_version() -> None:
    result = recorder("--version")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r"recorder \d+\.\d+\.\d+ \((compiled|interpreted)\)\n", result.stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "error", "hint"),
    [
        (["show", "nope"], 3, "error: no session matches 'nope'", "hint: `recorder sessions` lists them"),
        (["show", "last", "--bogus"], 2, "error: No such option: --bogus", "hint: `recorder show --help`"),
        (["shw"], 2, "error: No such command 'shw'", "hint: `recorder --help`"),
        (["replay", "last", "--speed", "0"], 2, "error: Invalid value for '--speed'", "hint: `recorder replay --help`"),
        (["query", "SELEC"], 2, "error: ", ""),
    ],
)
def test_failures_are_two_lines_and_a_code(store: Path, arguments: list[str], code: int, error: str, hint: str) -> None:
    result = recorder(*arguments, store=store)
    assert (result.returncode, result.stdout) == (code, "")
    lines = result.stderr.splitlines()
    assert lines[0].startswith(error)
    assert len(lines) <= 2
    assert lines[-1].startswith(hint)


def test_a_missing_store_is_no_traceback(tmp_path: Path) -> None:
    result = recorder("sessions", "--data", str(tmp_path / "nowhere"))
    assert result.returncode == 5
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_an_unexpected_error_is_one_line_unless_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by \x1b[31mzero")

    monkeypatch.setattr(query, "open_catalog", fail)
    monkeypatch.setattr(sys, "argv", ["recorder", "query", "SELECT 1"])
    for debug in (False, True):
        if debug:
            monkeypatch.setenv("RECORDER_DEBUG", "1")
        with pytest.raises(SystemExit) as ended:
            main.main()
        assert ended.value.code == 70
        error = capsys.readouterr().err
        assert "error: unexpected ZeroDivisionError: by \\x1b[31mzero" in error
        assert ("Traceback" in error) == debug


def test_a_reader_that_goes_away_is_no_error(store: Path) -> None:
    env = os.environ | {"RECORDER_DATA": str(store)}
    process = subprocess.Popen(
        [*COMMAND, "query", "SELECT * FROM range(200000)", "--limit", "0", "--csv"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 141


def test_ctrl_c_ends_a_replay_with_130(store: Path) -> None:
    env = os.environ | {"RECORDER_DATA": str(store)}
    process = subprocess.Popen(
        [*COMMAND, "replay", "sess_voice", "--from", "66"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )
    assert process.stdout is not None
    assert b"evil" in process.stdout.readline()  # the next line is due in eight seconds
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")


def on_a_terminal(store: Path, *arguments: str, **env: str) -> str:
    """The command's output on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    clean |= {"RECORDER_DATA": str(store), "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"} | env
    process = subprocess.Popen([*COMMAND, *arguments], stdout=theirs, stdin=theirs, stderr=theirs, env=clean)
    os.close(theirs)
    chunks = []
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # Linux says so at the end of a terminal
            break
        chunks.append(chunk)
    os.close(ours)
    assert process.wait(30) == 0
    return b"".join(chunks).decode()


def test_colours_on_a_terminal_only_and_lines_cut_at_its_edge(store: Path) -> None:
    coloured = on_a_terminal(store, "show", "sess_voice")
    plain = on_a_terminal(store, "show", "sess_voice", NO_COLOR="1")
    assert "\x1b[36m" in coloured
    assert "\x1b[3" not in plain
    assert "\x1b[36m" not in recorder("show", "sess_voice", store=store).stdout
    without_styles = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert max(len(line) for line in without_styles.splitlines()) <= 80
    assert "evil\\x1b[31m.event" in without_styles
    assert "…" in without_styles


def commands(group: object = None, prefix: str = "") -> dict[str, TyperCommand]:
    """All commands by their names, those of groups as `group command`."""
    group = group or typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    found: dict[str, TyperCommand] = {}
    for name, command in group.commands.items():
        if isinstance(command, TyperCommand):
            found[prefix + name] = command
        else:
            found |= commands(command, f"{prefix}{name} ")
    return found


def environment_name(command: str, param: object) -> str | None:
    """The variable that an option's help names."""
    explicit = getattr(param, "envvar", None)
    if isinstance(explicit, str) or not getattr(param, "allow_from_autoenv", False):
        return explicit
    return f"RECORDER_{command.upper().replace(' ', '_')}_{getattr(param, 'name', '').upper()}"


def test_every_command_option_and_variable_is_documented() -> None:
    text = DOCS.read_text()
    missing = []
    for name, command in commands().items():
        section = re.search(rf"^## recorder {name.split()[0]}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        words = section[1] if section else ""
        for param in command.params:
            wanted = [f"`{option}" for option in (*param.opts, *param.secondary_opts) if option.startswith("-")]
            variable = environment_name(name, param)
            wanted += [f"`{variable}`"] if variable else []
            missing += [f"{name}: {option}" for option in wanted if option not in words]
        missing += [] if section else [name]
    assert missing == []


def test_commands_are_documented_in_the_order_of_the_help() -> None:
    text = DOCS.read_text()
    ordered = [module.__name__.rpartition(".")[2].rstrip("_") for _, modules in main.COMMANDS for module in modules]
    assert re.findall(r"^\| \[`(\S+)`\]\(#recorder-", text, re.MULTILINE) == ordered
    assert re.findall(r"^## recorder (\S+)$", text, re.MULTILINE) == ordered


def test_examples_in_the_help_name_options_that_exist() -> None:
    known = commands()
    for _, modules in main.COMMANDS:
        for module in modules:
            name = module.__name__.rpartition(".")[2].rstrip("_")
            members = [command for full, command in known.items() if full.split()[0] == name]
            options = {option for command in members for param in command.params for option in param.opts}
            for example, _what in getattr(module, "EXAMPLES", ()):
                ours = example.partition("|")[0]
                if not ours.startswith("recorder"):
                    continue  # what to run beside it
                assert ours.startswith(f"recorder {name}"), example
                assert set(re.findall(r"(?<=\s)--[a-z-]+", ours)) <= options, example


def test_json_is_one_document(store: Path) -> None:
    result = recorder("sessions", "--json", store=store)
    assert len(json.loads(result.stdout)) == 3
