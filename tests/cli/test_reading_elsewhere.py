"""The examples of docs/store.md: other programs read the files that count."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from recorder.pipeline.catalog import Catalog
from recorder.pipeline.imports import import_files

PAGE = Path(__file__).parents[2] / "docs" / "store.md"
SAMPLES = PAGE.parents[1] / "sample_logs" / "v1"
COUNT = "SELECT model, count(*) FROM responses GROUP BY model"


def blocks(language: str) -> list[str]:
    _, _, section = PAGE.read_text().partition("## Reading it without the recorder")
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("reading") / "data"
    import_files(data_dir, sorted(SAMPLES.glob("*.jsonl")))
    return data_dir


@pytest.fixture
def names(store: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the first example defines, where `recorder` is on the path and the store is named."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("RECORDER_DATA", str(store))
    found: dict[str, Any] = {}
    exec(blocks("python")[0], found)
    return found


@pytest.fixture
def wanted(store: Path) -> list[tuple[Any, ...]]:
    with Catalog(store) as catalog:
        rows = sorted(catalog.query(COUNT).rows(), key=repr)
    assert sum(count for _, count in rows) > 5
    return rows


def test_polars_and_duckdb(names: dict[str, Any], wanted: list[tuple[Any, ...]]) -> None:
    assert sorted(names["by_polars"].rows(), key=repr) == wanted
    assert sorted(names["by_duckdb"].fetchall(), key=repr) == wanted


def test_duckdb_from_its_command_line(names: dict[str, Any], store: Path) -> None:
    (text,) = blocks("sql")
    command = text.splitlines()[0].removeprefix("-- ").removesuffix(" gives the list")
    listed = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    assert listed.count("\n") == len(names["files"])
    sql = re.sub(r"\['.*'\]", lambda _: f"[{listed}]", text)
    with Catalog(store) as catalog:
        wanted = catalog.query("SELECT model, median(time_to_first_audio_seconds) FROM responses GROUP BY model").rows()
    rows = duckdb.execute(sql).fetchall()
    assert sorted(rows, key=repr) == sorted(wanted, key=repr)


def test_spark(names: dict[str, Any], wanted: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--master local[1] --conf spark.ui.enabled=false pyspark-shell")
    exec(blocks("python")[1], names)
    try:
        assert sorted(map(tuple, names["by_spark"].collect()), key=repr) == wanted
    finally:
        names["spark"].stop()
