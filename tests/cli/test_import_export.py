"""`recorder import`, `export` and `seal`, as a shell sees them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import soundfile
from typer.testing import CliRunner, Result

from recorder.cli.main import app
from recorder.errors import NoAudioError, SessionNotFoundError, StoreError, UsageError
from recorder.pipeline.locks import RecorderLock, ring_of
from recorder.protocol.envelope import RecordKind
from recorder.store import layout
from recorder.store.journal import JournalWriter, encode_frame
from recorder.store.journal_files import list_journals

SESSION = "019c1410-7c00-7000-8000-000000000001"
LINES = [
    {"dir": "server", "event": {"type": "session.created", "session": {"id": "sess_1"}}},
    {"dir": "client", "message": '{"type":  "response.create"}'},
    {"dir": "client", "close": {"code": 1000, "reason": "bye"}},
]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    data_dir = tmp_path / "data"
    monkeypatch.setenv("RECORDER_DATA", str(data_dir))
    return data_dir


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def recording(path: Path, *lines: object) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines or LINES))
    return path


def write_journal(data_dir: Path, *, closed: bool) -> None:
    layout.create(data_dir)
    facts = {"session_id": SESSION, "opened_at_ns": 10**18, "monotonic_ns": 0, "ring": "w1-1", "session_no": 1}
    writer = JournalWriter(data_dir, SESSION)
    writer.write(encode_frame(0, 0, RecordKind.OPENED, msgspec.json.encode(facts)))
    if closed:
        writer.write(encode_frame(99, 1, RecordKind.CLOSED, b'{"closed_by": "client"}'))
    writer.close(finished=closed)


def test_import_says_what_became_of_each_file(store: Path, tmp_path: Path) -> None:
    good, bad = recording(tmp_path / "good.jsonl"), recording(tmp_path / "bad.jsonl", LINES[0], {"dir": "?"})

    first = run("import", tmp_path)

    assert first.exit_code == 4
    assert [" ".join(line.split()) for line in first.stdout.splitlines()[2:]] == [
        f'{bad} – line 2: unknown direction "?": expected client or server',
        f"{good} {json.loads(run('import', good, '--json').stdout)[0]['session_id']} imported",
    ]
    assert first.stderr == "1 of 2 files could not be imported; see docs/formats.md for what can\n"
    again = run("import", good)
    assert again.exit_code == 0
    assert "already there" in again.stdout


def test_import_for_programs(store: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{")

    result = run("import", "--json", recording(tmp_path / "good.jsonl"), bad)

    assert result.exit_code == 4
    good_row, bad_row = json.loads(result.stdout)
    assert good_row["status"] == "imported"
    assert (good_row["line"], good_row["error"]) == (None, None)
    assert (bad_row["status"], bad_row["line"], bad_row["session_id"]) == ("failed", 1, None)
    assert "is it complete?" in bad_row["error"]


def test_hostile_file_names_command_no_terminal(store: Path, tmp_path: Path) -> None:
    result = run("import", recording(tmp_path / "\x1b[2J[red]x.jsonl"))

    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "\\x1b[2J[red]x.jsonl" in result.stdout


def test_import_of_an_empty_directory(store: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert isinstance(run("import", tmp_path / "none").exception, UsageError)


def test_export_to_a_file_and_to_stdout(store: Path, tmp_path: Path) -> None:
    run("import", recording(tmp_path / "a.jsonl"))
    target = tmp_path / "export.jsonl"

    to_file, to_stdout = run("export", "last", "-o", target), run("export", "sess_1", "--format", "jsonl")

    assert (to_file.exit_code, to_file.stdout) == (0, "")
    assert to_file.stderr == f"5 events written to {target}\n"
    assert target.read_bytes() == to_stdout.stdout_bytes
    rows = [json.loads(line) for line in target.read_bytes().splitlines()]
    assert [row["type"] for row in rows] == [
        "recorder.session_opened", "session.created", "response.create", "websocket.close", "recorder.session_closed"
    ]  # fmt: skip
    assert rows[2]["message"] == '{"type":  "response.create"}'
    assert json.loads(rows[4]["message"])["closed_by"] == "client"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "data", "export.jsonl"]


def test_what_was_exported_is_imported_elsewhere_as_the_same(store: Path, tmp_path: Path) -> None:
    run("import", recording(tmp_path / "a.jsonl"))
    exported = run("export", "last").stdout_bytes
    (tmp_path / "b.jsonl").write_bytes(exported)
    other = tmp_path / "other"

    assert "already there" in run("import", tmp_path / "b.jsonl").stdout
    assert "imported" in run("import", tmp_path / "b.jsonl", "--data", other).stdout
    assert run("export", "last", "--data", other).stdout_bytes == exported


def test_export_failures(store: Path, tmp_path: Path) -> None:
    assert isinstance(run("export", "last").exception, StoreError)
    run("import", recording(tmp_path / "a.jsonl"))
    assert isinstance(run("export", "0").exception, SessionNotFoundError)
    assert isinstance(run("export", "last", "-o", tmp_path / "no" / "such").exception, UsageError)
    assert run("export", "last", "--format", "yaml").exit_code == 2


def test_seal_brings_in_what_was_left_over(store: Path) -> None:
    write_journal(store, closed=False)  # its recorder was killed, and its ring is gone

    result = run("seal")

    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{SESSION}\n", "1 sealed\n")
    assert list_journals(store) == []
    assert run("seal").stderr == "nothing to seal\n"
    assert json.loads(run("sessions", "--json").stdout)[0]["status"] == "lost"


def test_seal_beside_a_recorder_takes_closed_sessions_only(store: Path) -> None:
    write_journal(store, closed=True)
    lock = RecorderLock(store, ring_of(store))
    try:
        result = run("seal")
    finally:
        lock.release()

    assert (result.exit_code, result.stdout) == (0, f"{SESSION}\n")
    assert "a recorder is at work on this store" in result.stderr


def test_seal_reports_what_is_set_aside(store: Path) -> None:
    layout.create(store)
    (store / "journal" / "odd.closed.journal").write_bytes(b"what is this?")

    result = run("seal", "--json")

    assert result.exit_code == 5
    report = json.loads(result.stdout)
    assert (report["sealed"], report["postponed"]) == ([], {})
    assert "is not a journal" in report["quarantined"]["odd"]
    assert (store / "quarantine" / "odd.journal").exists()


def test_seal_needs_a_store(store: Path) -> None:
    assert isinstance(run("seal").exception, StoreError)


def test_export_as_sound(store: Path, tmp_path: Path) -> None:
    audio = {"type": "input_audio_buffer.append", "audio": "AQACAAMABAA="}
    assert run("import", recording(tmp_path / "call.jsonl", LINES[0], {"dir": "client", "event": audio})).exit_code == 0
    out = tmp_path / "call.wav"

    written = run("export", "last", "--format", "wav", "-o", out)

    assert written.exit_code == 0, written.output
    assert soundfile.read(out, dtype="int16")[0].tolist() == [[1, 0], [2, 0], [3, 0], [4, 0]]
    assert written.stderr == (
        "the recording has no times: one speaker stands after the other\n"
        f"0.0 s of sound, 24,000 samples a second, written to {out}\n"
    )
    assert run("export", "last", "--format", "wav").stdout_bytes == out.read_bytes()
    assert run("export", "last", "-o", tmp_path / "named.WAV").exit_code == 0
    assert (tmp_path / "named.WAV").read_bytes() == out.read_bytes()
    assert run("export", "last", "--format", "flac", "--as-sent").stdout_bytes.startswith(b"fLaC")


def test_export_as_an_archive(store: Path, tmp_path: Path) -> None:
    run("import", recording(tmp_path / "good.jsonl"))

    archive = json.loads(run("export", "last", "--format", "har").stdout)
    run("export", "last", "-o", tmp_path / "call.har")
    assert json.loads((tmp_path / "call.har").read_text("utf-8")) == archive

    assert [message["type"] for message in archive["log"]["entries"][0]["_webSocketMessages"]] == ["receive", "send"]


def test_sound_that_cannot_be_exported(store: Path, tmp_path: Path) -> None:
    run("import", recording(tmp_path / "good.jsonl"))
    out = tmp_path / "call.wav"

    silent = run("export", "last", "--format", "wav", "-o", out)

    assert isinstance(silent.exception, NoAudioError)
    assert not out.exists()
    assert isinstance(run("export", "last", "--as-sent").exception, UsageError)
