"""Every command on an encrypted store: with its key as on a plain one, without it a clear refusal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner, Result

from recorder.cli import demo_parts
from recorder.cli.main import app
from recorder.errors import EncryptionKeyError
from recorder.pipeline.compact import compact
from recorder.store import keys

ONE, TWO = bytes(range(32)), bytes(range(100, 132))
COMMAND = [sys.executable, "-c", "from recorder.cli.main import main; main()"]
Run = Callable[..., Result]

READING: tuple[tuple[str, ...], ...] = (
    ("sessions", "--json"),
    ("show", "sess_voice"),
    ("show", "sess_voice", "--transcript"),
    ("replay", "sess_voice", "--speed", "100", "--max-idle", "0.01"),
    ("stats", "--json"),
    ("doctor", "--json"),
    ("query", "--json", "SELECT type, count(*) AS n FROM events WHERE payload LIKE '%resp%' GROUP BY ALL ORDER BY ALL"),
    ("query", "--json", "SELECT * FROM responses ORDER BY ALL LIMIT 3"),
    ("prices", "--in-use", "--json"),
    ("drift", "--json"),
    ("export", "sess_voice"),
    ("verify", "--json"),
)
CHANGING: tuple[tuple[str, ...], ...] = (
    ("rebuild", "--json"),
    ("redact", "sess_voice", "--text", "way", "--json"),
    ("prune", "--audio-older-than", "0s", "--json"),
    ("erase", "sess_voice", "--yes", "--json"),
    ("repair", "--json"),
)


class Stores(NamedTuple):
    """The same sessions in clear and encrypted, and key files: the right one, and another."""

    plain: Path
    encrypted: Path
    right: Path
    wrong: Path


@pytest.fixture(scope="module")
def stores(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Stores:
    room = tmp_path_factory.mktemp("encrypted")
    found = Stores(store, room / "data", room / "right.key", room / "wrong.key")
    shutil.copytree(store, found.encrypted)
    found.right.write_text(ONE.hex() + "\n")
    found.wrong.write_text(TWO.hex() + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(keys.KEY_FILE, str(found.right))
        compact(found.encrypted, grace_seconds=0)
    assert all(path.read_bytes().startswith(b"PARE") for path in found.encrypted.glob("segments/*/*/*.parquet"))
    return found


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on a store; the result's exception is the command's own."""
    monkeypatch.setenv(keys.KEY_FILE, "")
    monkeypatch.setenv(keys.KEY_COMMAND, "")

    def invoke(data_dir: Path, *arguments: str) -> Result:
        monkeypatch.setenv("RECORDER_DATA", str(data_dir))
        return CliRunner().invoke(app, list(arguments))

    return invoke


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_with_its_key_an_encrypted_store_reads_as_a_plain_one(
    arguments: tuple[str, ...], stores: Stores, run: Run
) -> None:
    plain = run(stores.plain, *arguments)
    encrypted = run(stores.encrypted, *arguments, "--key-file", str(stores.right))

    assert (encrypted.exit_code, encrypted.stderr) == (plain.exit_code, plain.stderr)
    assert plain.stdout
    assert encrypted.stdout == plain.stdout


@pytest.mark.parametrize("arguments", [*READING, *CHANGING], ids=" ".join)
def test_without_its_key_nothing_is_read_or_changed(arguments: tuple[str, ...], stores: Stores, run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in stores.encrypted.rglob("*") if path.is_file()}
    for given in ([], ["--key-file", str(stores.wrong)]):
        result = run(stores.encrypted, *arguments, *given)

        assert isinstance(result.exception, EncryptionKeyError)
        assert keys.id_of(ONE) in result.exception.message or "encrypted store" in result.exception.message
        assert "--key-file" in result.exception.hint
        assert result.stdout == ""
        if given == [] and arguments[0] != "sessions":
            break  # the wrong one is as none, which one command of them shows
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_commands_that_change_a_store_write_it_encrypted(stores: Stores, tmp_path: Path, run: Run) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(stores.encrypted, data_dir)
    for arguments in CHANGING:
        result = run(data_dir, *arguments, "--key-command", f"cat {stores.right}")
        assert result.exit_code == 0, (arguments, result.output, result.exception)
        os.environ[keys.KEY_COMMAND] = ""

    assert all(path.read_bytes().startswith(b"PARE") for path in data_dir.glob("segments/*/*/*.parquet"))
    left = json.loads(run(data_dir, "sessions", "--json", "--key-file", str(stores.right)).stdout)
    assert len(left) == 2


def test_a_bundle_of_an_encrypted_store_is_imported_into_another(stores: Stores, tmp_path: Path, run: Run) -> None:
    bundle, theirs = tmp_path / "a.zip", tmp_path / "theirs"
    made = run(stores.encrypted, "bundle", "sess_voice", "-o", str(bundle), "--key-file", str(stores.right))
    assert made.exit_code == 0, made.output
    os.environ[keys.KEY_FILE] = ""

    imported = run(theirs, "import", str(bundle), "--key-file", str(stores.wrong))
    assert imported.exit_code == 0, imported.output
    assert len(json.loads(run(theirs, "sessions", "--json").stdout)) == 1
    assert all(path.read_bytes().startswith(b"PARE") for path in theirs.glob("segments/*/*/*.parquet"))


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RECORDER_")}
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, env=clean | environment, timeout=60
    )


@pytest.mark.parametrize("command", ["proxy", "serve"])
def test_what_stays_open_does_not_begin_without_the_key(command: str, stores: Stores) -> None:
    result = shell(command, "--listen", "127.0.0.1:0", "--data", str(stores.encrypted))

    assert (result.returncode, result.stdout) == (5, "")
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert "encrypted" in error
    assert hint.startswith("hint: Name it with --key-file (RECORDER_KEY_FILE)")


def test_a_key_that_is_none_is_told_before_anything_is_done(stores: Stores, tmp_path: Path) -> None:
    result = shell("sessions", "--data", str(tmp_path), RECORDER_KEY_COMMAND="echo not a key")

    assert result.returncode == 5
    assert result.stderr.startswith(
        "error: what the key command printed, line 1: no key of 32 bytes in hex or base64\n"
    )


def test_the_demos_parts_have_the_key_too() -> None:
    assert {keys.KEY_FILE, keys.KEY_COMMAND} <= demo_parts.KEPT


def test_seal_takes_up_what_waited_for_the_key(stores: Stores, tmp_path: Path, run: Run) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(stores.encrypted, data_dir)
    (journal,) = (data_dir / "journal").iterdir()
    journal.rename(journal.with_name(journal.name.replace(".journal", ".closed.journal")))

    without = run(data_dir, "seal")
    assert without.exit_code == 5
    assert "no key was given to write with" in without.stderr
    assert len(list((data_dir / "journal").glob("*.journal"))) == 1
    assert run(data_dir, "seal", "--key-file", str(stores.right)).exit_code == 0
    assert list((data_dir / "journal").glob("*.journal")) == []
