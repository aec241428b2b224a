"""`recorder verify`, `repair` and `rebuild`, as a shell sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from recorder.cli.main import app
from recorder.errors import StoreError
from recorder.pipeline.imports import import_files

LINES = ({"dir": "server", "event": {"type": "session.created", "session": {"id": "sess_1"}}, "ts": 1769860800.0},)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    import_files(tmp_path / "data", [tmp_path / "a.jsonl"])
    monkeypatch.setenv("RECORDER_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.usefixtures("store")
def test_a_sound_store() -> None:
    assert (run("verify").exit_code, run("verify").stderr) == (0, "nothing is wrong\n")
    assert json.loads(run("verify", "--json").stdout) == []
    assert run("repair").stderr == "nothing to mend\n"
    assert run("rebuild").stderr == "all rows are those of now\n"
    assert json.loads(run("rebuild", "last", "--json").stdout) == {"sessions": 0, "unchanged": 1}


def test_a_damaged_one_is_told_and_mended(store: Path) -> None:
    (path,) = store.glob("segments/sessions/*/*.parquet")
    path.write_bytes(b"no parquet")

    result = run("verify")
    assert result.exit_code == StoreError.exit_code
    assert "file damaged" in result.stdout
    assert path.relative_to(store).as_posix() in result.stdout
    assert "1 problems" in result.stderr

    mended = run("repair")
    assert (mended.exit_code, mended.stderr) == (0, "1 sessions whose derived rows were made anew\n")
    assert run("verify").exit_code == 0


def test_what_cannot_be_mended_is_set_aside(store: Path) -> None:
    (path,) = store.glob("segments/events/*/*.parquet")
    path.unlink()

    result = run("repair", "--json")

    assert result.exit_code == StoreError.exit_code
    assert len(json.loads(result.stdout)["set_aside"]) == 1


def test_no_store(tmp_path: Path) -> None:
    for command in ("verify", "repair", "rebuild"):
        assert isinstance(run(command, "--data", str(tmp_path / "none")).exception, StoreError)
