from __future__ import annotations

import hmac
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from recorder.errors import EncryptionKeyError, StoreError
from recorder.store import encrypted, keys, segments
from recorder.store.datasets import EncryptedFiles
from recorder.store.segments import SegmentFile

DATE = "2026-01-31"
NAMES = ("019c1410-7c00-7000-8000-000000000001", "019c1410-7c00-7000-8000-000000000002")


@pytest.fixture
def key_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A key that is in use."""
    path = tmp_path / "store.key"
    path.write_text("ab" * 32)
    monkeypatch.setenv(keys.KEY_FILE, str(path))
    monkeypatch.delenv(keys.KEY_COMMAND, raising=False)
    return keys.keyring().current


def written(data_dir: Path, name: str, rows: int = 3) -> SegmentFile:
    table = pa.table({"session_id": [name] * rows, "note": [f"the parcel is in cellar {n}" for n in range(rows)]})
    (file,) = segments.write(data_dir, DATE, name, {"notes": table})
    return file


def test_a_file_shows_the_id_of_its_key_and_nothing_else(tmp_path: Path, key_id: str) -> None:
    file = written(tmp_path, NAMES[0])
    content = (tmp_path / file.path).read_bytes()

    assert file.key_id == key_id
    assert content[:4] == content[-4:] == b"PARE"
    assert encrypted.key_id_of(tmp_path / file.path) == key_id
    for word in (b"parcel", b"session_id", b"note", NAMES[0].encode(), b"recorder.format_version", bytes([0xAB] * 32)):
        assert word not in content
    rows = segments.read(tmp_path, [file], "notes")
    assert rows is not None
    assert rows["note"].to_pylist()[2] == "the parcel is in cellar 2"


def test_others_read_a_file_as_the_documentation_says(tmp_path: Path, key_id: str) -> None:
    file = written(tmp_path, NAMES[0])
    key = bytes.fromhex(Path(os.environ[keys.KEY_FILE]).read_text())

    own = hmac.digest(key, b"recorder data file\0" + file.path.encode(), "sha256")
    decryption = pe.create_decryption_properties(own)
    table = pq.read_table(tmp_path / file.path, partitioning=None, decryption_properties=decryption)

    assert table.num_rows == 3


def test_the_same_rows_are_never_the_same_bytes(tmp_path: Path, key_id: str) -> None:
    assert written(tmp_path, NAMES[0]).sha256 != written(tmp_path, NAMES[0]).sha256


def test_a_file_in_anothers_place_cannot_be_read(tmp_path: Path, key_id: str) -> None:
    one, other = written(tmp_path, NAMES[0]), written(tmp_path, NAMES[1])
    (tmp_path / one.path).rename(tmp_path / other.path)

    with pytest.raises(StoreError, match="cannot read"):
        segments.read(tmp_path, [other], "notes")


@pytest.mark.parametrize("at", [0.05, 0.5, 0.95])
def test_a_changed_byte_is_damage(at: float, tmp_path: Path, key_id: str) -> None:
    file = written(tmp_path, NAMES[0], 500)
    content = bytearray((tmp_path / file.path).read_bytes())
    content[int(len(content) * at)] ^= 1
    (tmp_path / file.path).write_bytes(content)

    with pytest.raises(StoreError, match="cannot read"):
        segments.read(tmp_path, [file], "notes")


@pytest.mark.parametrize(
    "content", [b"", b"PARE", b"PAR1 and so on PAR1", b"\xff\xff\xff\xffPARE", b"x" * 500 + b"PARE"]
)
def test_what_is_no_encrypted_file_has_no_key(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)

    assert encrypted.key_id_of(tmp_path / "file") == ""


def test_values_beside_files_are_encrypted_too(key_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = encrypted.seal(b"the parcel", key_id, "one")

    assert b"parcel" not in sealed
    assert encrypted.unseal(sealed, "one") == b"the parcel"
    assert encrypted.seal(b"the parcel", "", "one") == encrypted.unseal(b"the parcel", "one") == b"the parcel"
    with pytest.raises(StoreError, match="other cannot be decrypted"):
        encrypted.unseal(sealed, "other")
    monkeypatch.delenv(keys.KEY_FILE)
    with pytest.raises(EncryptionKeyError, match=f"one is encrypted with the key {key_id}"):
        encrypted.unseal(sealed, "one")


def test_files_are_one_arrow_data_set_for_each_list_of_columns(tmp_path: Path, key_id: str) -> None:
    files = [written(tmp_path, name) for name in NAMES]
    (later,) = segments.write(tmp_path, DATE, NAMES[0] + ".00001", {"notes": pa.table({"session_id": ["x"]})})
    reader = EncryptedFiles(tmp_path)

    found = reader.data_sets([*files, later])["notes"]
    assert [data_set.schema.names for data_set in found] == [["session_id", "note"], ["session_id"]]
    assert sum(data_set.count_rows() for data_set in found) == 7

    (fewer,) = reader.data_sets(files[:1])["notes"]
    assert fewer.to_table()["session_id"].to_pylist() == [NAMES[0]] * 3
    assert reader.data_sets([]) == {}
    (tmp_path / files[1].path).unlink()
    with pytest.raises(StoreError, match="cannot read"):
        reader.data_sets(files[1:])
