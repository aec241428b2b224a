"""A store of every format version that ever was: opened by today's recorder, it shows what it has always shown."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from recorder.cli.main import app
from recorder.errors import NewerFormatError
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.seal import seal_all
from recorder.store.schema import FORMAT_VERSION

SAMPLES = Path(__file__).parents[2] / "sample_logs"
STORES = sorted(path for path in (SAMPLES / "stores").iterdir() if path.is_dir())
EXPECTED: dict[str, Any] = yaml.safe_load((SAMPLES / "stores" / "expected.yaml").read_text("utf-8"))
TABLES = {
    "responses": "response_no",
    "turns": "turn_no",
    "interruptions": "interruption_no",
    "tool_calls": "tool_call_no",
}


@pytest.fixture(params=STORES, ids=lambda path: path.name)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(request.param, tmp_path / "data"))


def session_of(name: str) -> str:
    first = (SAMPLES / "v1" / f"{name}.jsonl").read_text("utf-8").split("\n", 1)[0]
    return str(json.loads(first)["session_id"])


def odd_messages() -> list[bytes]:
    told = EXPECTED["odd_messages"]
    return [one["text"].encode() if "text" in one else base64.b64decode(one["base64"]) for one in told]


def messages(catalog: Catalog, session_id: str) -> list[bytes]:
    rows = catalog.query(
        "SELECT position FROM events WHERE session_id = ? AND direction <> 'recorder' ORDER BY 1", [session_id]
    )
    return [catalog.message(session_id, position) for position in rows["position"]]


def test_there_is_a_store_of_every_version() -> None:
    assert [path.name for path in STORES] == [f"v{version}" for version in range(1, FORMAT_VERSION + 1)]
    for path in STORES:
        files = sorted(path.rglob("*.parquet"))
        assert {(pq.read_metadata(file).metadata or {})[b"recorder.format_version"] for file in files} == {
            path.name[1:].encode()
        }


def test_every_message_comes_back_byte_for_byte(store: Path) -> None:
    with Catalog(store) as catalog:
        for session_id in EXPECTED["odd_sessions"]:
            assert messages(catalog, session_id) == odd_messages()
            assert [
                event.message() for event in catalog.recorded_events(session_id) if event.direction != "recorder"
            ] == (odd_messages())


@pytest.mark.parametrize("name", EXPECTED["imported"])
def test_an_export_is_the_sample_again(store: Path, name: str, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    result = CliRunner().invoke(app, ["export", session_of(name), "--data", str(store), "-o", str(out)])

    assert result.exit_code == 0, result.output
    assert out.read_bytes() == (SAMPLES / "v1" / f"{name}.jsonl").read_bytes()


@pytest.mark.parametrize("rebuilt", [False, True])
@pytest.mark.parametrize("name", EXPECTED["imported"])
def test_tables_hold_the_numbers_of_the_sample(store: Path, name: str, rebuilt: bool) -> None:
    expected = yaml.safe_load((SAMPLES / "v1" / "expected" / f"{name}.yaml").read_text("utf-8"))
    if rebuilt:
        result = CliRunner().invoke(app, ["rebuild", "--data", str(store)])
        assert result.exit_code == 0, result.output
    else:
        expected["session"] |= EXPECTED["made_then"].get(name, {})
    session_id = session_of(name)
    with Catalog(store) as catalog:
        check(catalog.query("FROM sessions WHERE session_id = ?", [session_id]).row(0, named=True), expected["session"])
        for table, key in TABLES.items():
            rows = catalog.query(f"FROM {table} WHERE session_id = ? ORDER BY {key}", [session_id])
            assert rows.height == len(expected[table])
            for row, wanted in zip(rows.iter_rows(named=True), expected[table], strict=True):
                check(row, wanted)


def check(row: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        assert row[name] == (pytest.approx(value, abs=1e-9) if isinstance(value, float) else value), name


def test_sql_tells_how_long_each_part_is(store: Path) -> None:
    with Catalog(store) as catalog:
        for session_id in EXPECTED["odd_sessions"]:
            rows = catalog.query(
                "SELECT kind, size_bytes FROM parts WHERE session_id = ? ORDER BY position, part_no", [session_id]
            )
            assert rows.rows() == [
                ("audio", 961), ("audio", 3_039), ("audio", 5_601), ("audio", 6),
                ("audio", 600), ("image", 256), ("audio", 601), ("audio", 9_602), ("binary", 19), ("binary", 3),
            ]  # fmt: skip


def test_what_was_not_sealed_yet_is_sealed_by_this_version(store: Path) -> None:
    session_id = EXPECTED["odd_sessions"][1]
    assert seal_all(store).sealed == [session_id]

    with Catalog(store) as catalog:
        assert messages(catalog, session_id) == odd_messages()
        assert catalog.query("SELECT count(*) AS n FROM sessions").row(0) == (len(EXPECTED["imported"]) + 2,)
        assert catalog.query("SELECT count(*) AS n FROM audio WHERE session_id = ?", [session_id]).row(0) != (0,)


def test_a_newer_store_is_refused_and_left_alone(store: Path) -> None:
    path = next(store.glob("manifests/*/*.json"))
    manifest = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(manifest | {"format_version": FORMAT_VERSION + 1}), "utf-8")
    before = path.read_bytes()

    with pytest.raises(NewerFormatError, match=f"format version {FORMAT_VERSION + 1} is newer"):
        Catalog(store)
    assert path.read_bytes() == before
