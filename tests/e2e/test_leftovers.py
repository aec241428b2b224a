"""What a recorder of any format version left when it was killed: after an upgrade, today's brings it into the store."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from recorder.cli.main import app
from recorder.pipeline.catalog import Catalog
from recorder.protocol import checkpoint
from recorder.store import journal, layout, ring, spool
from recorder.store.schema import FORMAT_VERSION

SAMPLES = Path(__file__).parents[2] / "sample_logs"
LEFT = SAMPLES / "leftovers"
EXPECTED: dict[str, Any] = yaml.safe_load((SAMPLES / "stores" / "expected.yaml").read_text("utf-8"))
SESSION = EXPECTED["odd_sessions"][0]
MESSAGES = [
    one["text"].encode() if "text" in one else base64.b64decode(one["base64"]) for one in EXPECTED["odd_messages"]
]
FIRST_BUNDLE = 2
"""There were none when the format was of version 1."""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    layout.create(tmp_path / "data")
    return tmp_path / "data"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def check(data_dir: Path) -> None:
    """The session is there, ended by the client, and nothing else is."""
    with Catalog(data_dir) as catalog:
        events = catalog.recorded_events(SESSION)
        assert [event.message() for event in events if event.direction != "recorder"] == MESSAGES
        assert "recorder.gap" not in {event.type for event in events}
        assert catalog.query("SELECT session_id, closed_by FROM sessions").rows() == [(SESSION, "client")]


def test_there_is_one_of_every_version() -> None:
    wanted = {f"ring-v{version}.ring" for version in range(1, ring.VERSION + 1)}
    wanted |= {f"spool-v{version}.spool" for version in range(1, spool.MAGIC[-1] + 1)}
    wanted |= {f"parts-v{version}" for version in range(1, checkpoint.VERSION + 1)}
    wanted |= {f"bundle-v{version}.bundle" for version in range(FIRST_BUNDLE, FORMAT_VERSION + 1)}
    assert {path.name for path in LEFT.iterdir()} == wanted
    journals = sorted(SAMPLES.glob("*/*/journal/*.journal"))
    assert {path.read_bytes()[len(journal.MAGIC) - 1] for path in journals} == set(range(1, journal.MAGIC[-1] + 1))


@pytest.mark.parametrize("left", sorted(LEFT.glob("*.ring")), ids=lambda path: path.stem)
def test_a_dead_workers_ring(data_dir: Path, tmp_path: Path, left: Path) -> None:
    rings = tmp_path / "rings"
    rings.mkdir(mode=0o700)
    shutil.copy(left, rings)
    noted_in = "journal" if left.stem == "ring-v1" else "spool"  # there were none of these
    (data_dir / noted_in / ".lock").write_bytes(os.fsencode(rings))
    run("seal", "--data", data_dir)
    check(data_dir)
    assert not list(rings.iterdir())


@pytest.mark.parametrize("left", sorted(LEFT.glob("*.spool")), ids=lambda path: path.stem)
def test_a_spool(data_dir: Path, left: Path) -> None:
    shutil.copy(left, data_dir / "spool" / f"{left.stem}.00000000.spool")
    run("seal", "--data", data_dir)
    check(data_dir)
    assert not list((data_dir / "spool").glob("*.spool"))


@pytest.mark.parametrize("left", sorted(LEFT.glob("parts-*")), ids=lambda path: path.name)
def test_a_running_session_of_which_a_part_is_sealed(tmp_path: Path, left: Path) -> None:
    data_dir = Path(shutil.copytree(left, tmp_path / "data"))
    run("seal", "--data", data_dir)
    check(data_dir)


@pytest.mark.parametrize("left", sorted(LEFT.glob("*.bundle")), ids=lambda path: path.stem)
def test_a_bundle(tmp_path: Path, left: Path) -> None:
    run("import", left, "--data", tmp_path / "data")
    check(tmp_path / "data")
