from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from recorder.cli.main import app
from recorder.errors import ImportFormatError
from recorder.formats.recordings import open_recordings
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.imports import import_files

ROWS = [
    {"dir": "server", "event": {"type": "session.created", "session": {"id": "sess_1"}}, "ts": 1769860800.5},
    {"dir": "client", "message": '{"type": "input_audio_buffer.append", "audio": "AAECAwQF"}', "ts": 1769860801.5},
    {"dir": "client", "base64": "AAEC", "ts": 1769860802.5},
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of two sessions."""
    for name in ("sess_1", "sess_2"):
        text = b"".join(msgspec.json.encode(row) + b"\n" for row in ROWS).replace(b"sess_1", name.encode())
        (tmp_path / f"{name}.jsonl").write_bytes(text)
    import_files(tmp_path / "data", sorted(tmp_path.glob("*.jsonl")))
    return tmp_path / "data"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def bundle(store: Path, *sessions: str) -> Path:
    path = store.parent / "calls.zip"
    assert run("bundle", *sessions, "-o", path, "--data", store).exit_code == 0
    return path


def rewritten(path: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """The archive, with each member as `change` wants it; None leaves one out."""
    target = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            if (kept := change(name, source.read(name))) is not None:
                archive.writestr(*kept)
    return target


def test_a_bundle_makes_the_identical_sessions_elsewhere(store: Path, tmp_path: Path) -> None:
    path = bundle(store, "sess_1", "sess_2", "sess_1")
    other = tmp_path / "other"

    result = run("import", path, "--data", other, "--json")

    assert [row["status"] for row in msgspec.json.decode(result.stdout)] == ["imported", "imported"]
    with Catalog(store) as mine, Catalog(other) as theirs:
        for name in ("sess_1", "sess_2"):
            session_id = mine.resolve(name)
            assert theirs.recorded_events(session_id) == mine.recorded_events(session_id)
        ordered = "FROM sessions ORDER BY session_id"
        assert theirs.query(ordered).equals(mine.query(ordered))
    again = run("import", path, "--data", other, "--json")
    assert {row["status"] for row in msgspec.json.decode(again.stdout)} == {"present"}


def test_it_holds_the_sessions_that_were_named_and_no_others(store: Path) -> None:
    (recording,) = open_recordings(bundle(store, "sess_2"))

    with Catalog(store) as catalog:
        assert recording.session_id == catalog.resolve("sess_2")


def test_unpacked_it_is_a_store(store: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle(store, "sess_1")) as archive:
        archive.extractall(tmp_path / "unpacked")

    with Catalog(tmp_path / "unpacked") as catalog:
        assert catalog.query("SELECT server_session_id FROM sessions").to_series().to_list() == ["sess_1"]


def _escape(name: str, data: bytes) -> tuple[str, bytes]:
    return ("../../evil.json" if name.startswith("manifests") else name), data


def _flip(name: str, data: bytes) -> tuple[str, bytes]:
    return name, data[:-9] + bytes([data[-9] ^ 1]) + data[-8:] if "/events/" in name else data


def _point_elsewhere(name: str, data: bytes) -> tuple[str, bytes]:
    return name, data.replace(b"segments/events", b"/etc/../segments/events")


def _newer(name: str, data: bytes) -> tuple[str, bytes]:
    return name, data.replace(b'"format_version": ', b'"format_version": 9')


def _without_events(name: str, data: bytes) -> tuple[str, bytes] | None:
    return None if "/events/" in name else (name, data)


def _without_manifest(name: str, data: bytes) -> tuple[str, bytes] | None:
    return None if name.startswith("manifests") else (name, data)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_escape, "'../../evil.json' does not belong in one"),
        (_flip, "is damaged: it is not what its manifest says"),
        (_point_elsewhere, "its content is not what was written"),
        (_newer, "a newer recorder wrote it"),
        (_without_events, "is missing"),
        (_without_manifest, "no session in it"),
    ],
)
def test_what_is_not_as_it_was_written_is_refused(
    store: Path, change: Callable[[str, bytes], tuple[str, bytes] | None], problem: str
) -> None:
    path = rewritten(bundle(store, "sess_1"), change)

    with pytest.raises(ImportFormatError) as caught:
        open_recordings(path)

    assert problem in caught.value.message
    assert not (store.parent.parent / "evil.json").exists()


def test_a_cut_off_archive_is_refused(store: Path) -> None:
    path = bundle(store, "sess_1")
    path.write_bytes(path.read_bytes()[:-30])

    with pytest.raises(ImportFormatError, match="not a bundle, or a damaged one"):
        open_recordings(path)


def test_a_session_that_is_not_there(store: Path) -> None:
    result = run("bundle", "sess_3", "--data", store, "-o", store.parent / "x.zip")

    assert isinstance(result.exception, Exception)
    assert not (store.parent / "x.zip").exists()
