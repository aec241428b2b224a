from __future__ import annotations

import base64
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recorder.errors import EncryptionKeyError
from recorder.store import keys

ONE, TWO = bytes(range(32)), bytes(range(200, 232))
HEX = ONE.hex().encode()
BASE64 = base64.b64encode(ONE)
Write = Callable[[bytes], Path]


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Write:
    """Writes a key file, and names it."""

    def written(content: bytes) -> Path:
        path = tmp_path / "store.key"
        path.write_bytes(content)
        monkeypatch.setenv(keys.KEY_FILE, str(path))
        return path

    monkeypatch.delenv(keys.KEY_FILE, raising=False)
    monkeypatch.delenv(keys.KEY_COMMAND, raising=False)
    return written


@pytest.mark.parametrize("written", [ONE, HEX, HEX + b"\n", BASE64, b"# of May\n\n  " + BASE64 + b"\r\n"])
def test_a_key_is_written_as_it_is_in_hex_or_in_base64(written: bytes, write: Write) -> None:
    write(written)

    assert keys.keyring() == (keys.id_of(ONE), {keys.id_of(ONE): ONE})


def test_the_first_key_of_several_is_written_with(write: Write) -> None:
    write(TWO.hex().encode() + b"\n# the one before\n" + BASE64)

    assert keys.keyring() == (keys.id_of(TWO), {keys.id_of(TWO): TWO, keys.id_of(ONE): ONE})


def test_no_key_shows_in_logs(write: Write) -> None:
    write(HEX)

    shown = f"{keys.keyring()} {keys.keyring()!r}"
    assert keys.id_of(ONE) in shown
    for secret in (ONE.hex(), str(ONE), BASE64.decode()):
        assert secret not in shown


@pytest.mark.parametrize(
    "written", [b"", b"\n# nothing\n", b"short", bytes(16), b"x" * 32, b"x" * 64, bytes(2000), HEX + b"\nshort"]
)
def test_what_is_no_key_is_refused_and_not_repeated(written: bytes, write: Write) -> None:
    path = write(written)

    with pytest.raises(EncryptionKeyError, match="no key") as caught:
        keys.keyring()

    assert str(path) in caught.value.message
    assert "openssl rand -hex 32" in caught.value.hint
    for secret in ("xxx", "short", HEX.decode()):
        assert secret not in caught.value.message


def test_a_key_file_that_is_not_there_is_named(write: Write) -> None:
    path = write(b"")
    path.unlink()

    with pytest.raises(EncryptionKeyError, match=r"store\.key: No such file"):
        keys.keyring()


def test_a_command_prints_the_key(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.KEY_COMMAND, shlex.join([sys.executable, "-c", f"print('{ONE.hex()}')"]))

    assert keys.keyring().current == keys.id_of(ONE)


@pytest.mark.parametrize(
    ("command", "problem"),
    [("/no/such/command", "cannot be run"), ("'", "cannot be run"), (" ", "cannot be run"), ("false", "ended with 1")],
)
def test_a_command_that_fails_is_said_to(
    command: str, problem: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(keys.KEY_COMMAND, command)

    with pytest.raises(EncryptionKeyError, match=problem):
        keys.keyring()


def test_a_file_and_a_command_are_one_too_many(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(HEX)
    monkeypatch.setenv(keys.KEY_COMMAND, "true")

    with pytest.raises(EncryptionKeyError, match="from a file and from a command"):
        keys.keyring()


def test_what_a_command_line_names_is_for_other_processes_too(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(HEX)
    monkeypatch.setenv(keys.KEY_FILE, "another")
    monkeypatch.chdir(tmp_path)

    keys.use("store.key", None)

    assert os.environ[keys.KEY_FILE] == str(path)
    assert keys.keyring().current == keys.id_of(ONE)


def test_each_file_has_a_key_of_its_own(write: Write) -> None:
    write(HEX)
    id_ = keys.id_of(ONE)

    names = ["segments/events/date=2026-01-31/a.parquet", "segments/events/date=2026-01-31/b.parquet"]
    assert len({ONE, *(keys.derived(id_, name) for name in names)}) == 3
    assert {len(keys.derived(id_, name)) for name in names} == {32}
    assert keys.derived(id_, names[0]) == keys.derived(id_, names[0])


def test_an_unknown_key_is_named_with_its_file_and_what_to_do(write: Write) -> None:
    write(HEX)

    with pytest.raises(EncryptionKeyError, match=r"a\.parquet is encrypted with the key 0badcafe") as caught:
        keys.derived("0badcafe", "segments/events/date=2026-01-31/a.parquet")

    assert caught.value.exit_code == 5
    assert caught.value.http_status == 503
    assert "--key-file (RECORDER_KEY_FILE)" in caught.value.hint


def test_once_written_with_a_key_a_store_wants_one(write: Write, tmp_path: Path) -> None:
    assert keys.for_writing(tmp_path / "data") == ""
    path = write(HEX)
    assert keys.for_writing(tmp_path / "data") == keys.id_of(ONE)
    assert keys.for_writing(tmp_path / "data") == keys.id_of(ONE)
    with keys.in_plain():
        assert keys.for_writing(tmp_path / "data") == ""
    os.environ[keys.KEY_FILE] = ""

    with pytest.raises(EncryptionKeyError, match="encrypted store, and no key"):
        keys.for_writing(tmp_path / "data")
    assert str(path) not in (tmp_path / "data" / keys.MARKER).read_text()
    (tmp_path / "data" / keys.MARKER).unlink()  # on purpose
    assert keys.for_writing(tmp_path / "data") == ""
