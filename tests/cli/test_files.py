from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from recorder.cli.main import app
from recorder.errors import UsageError
from recorder.pipeline.imports import import_files

SAMPLE = Path(__file__).parents[2] / "sample_logs" / "v1" / "voice_turn.jsonl"


def files(*arguments: str, data: Path) -> Result:
    return CliRunner().invoke(app, ["files", "--data", str(data), *arguments])


def test_paths_one_a_line_and_facts_as_json(tmp_path: Path) -> None:
    data = tmp_path / "data"
    import_files(data, [SAMPLE])

    (path,) = files("--data-set", "responses", data=data).stdout.splitlines()
    assert Path(path) == next(data.glob("segments/responses/*/*.parquet")).resolve()
    (facts,) = json.loads(files("--data-set", "responses", "--json", data=data).stdout)
    assert facts["place"] == path
    assert facts["rows"] == 1
    every = files(data=data).stdout.splitlines()
    assert set(map(Path, every)) == {found.resolve() for found in data.glob("segments/*/*/*.parquet")}


def test_nothing_to_list(tmp_path: Path) -> None:
    result = files(data=tmp_path)
    assert (result.stdout, result.stderr, result.exit_code) == ("", "no file counts\n", 0)
    assert isinstance(files("--data-set", "none", data=tmp_path).exception, UsageError)
