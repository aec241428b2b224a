"""Encrypted stores: nothing lies there in clear, and all else is as ever."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recorder.errors import EncryptionKeyError, QueryError
from recorder.formats.recordings import open_recordings
from recorder.pipeline.bundle import write_bundle
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.erase import erase
from recorder.pipeline.imports import import_files
from recorder.pipeline.prune import prune
from recorder.pipeline.rebuild import rebuild
from recorder.pipeline.redact_store import redact
from recorder.pipeline.repair import repair
from recorder.pipeline.replace import listed
from recorder.pipeline.seal import seal_all
from recorder.pipeline.verify import verify
from recorder.protocol import checkpoint
from recorder.store import encrypted, keys, layout, manifests
from tests.pipeline.conftest import Journal
from tests.pipeline.test_erase import audio, talk, words

ONE, TWO = bytes(range(32)), bytes(range(100, 132))
Use = Callable[..., None]
Record = Callable[..., str]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Use:
    """Sets the keys, the one to write with first; none without any."""

    def chosen(*held: bytes) -> None:
        path = tmp_path / f"{'-'.join(map(keys.id_of, held))}.key"
        path.write_text("\n".join(key.hex() for key in held))
        monkeypatch.setenv(keys.KEY_FILE, str(path) if held else "")

    monkeypatch.delenv(keys.KEY_COMMAND, raising=False)
    chosen()
    return chosen


@pytest.fixture
def record(data_dir: Path) -> Record:
    """Seals a session, with words and sounds that no other has; by a number."""

    def session(number: int = 1, where: Path = data_dir, *, in_parts: bool = False) -> str:
        journal = talk(Journal(where, number), number)
        if in_parts:
            journal.roll()
            seal_all(where)
        journal.server({"type": "response.output_text.done", "text": f"secret-{number}-d"}).closed()
        assert seal_all(where).quarantined == {}
        return str(journal.session_id)

    return session


def key_ids(data_dir: Path) -> set[str]:
    return {file.key_id for manifest in listed(data_dir).counting for file in manifest.files}


def rows(data_dir: Path) -> dict[str, tuple[Any, list[tuple[Any, ...]]]]:
    """Of each view: its columns with their types, and its rows."""
    with Catalog(data_dir) as catalog:
        views = catalog.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'")
        found = {name: catalog.query(f"SELECT * FROM {name} ORDER BY ALL") for name in views["table_name"]}
    return {name: (frame.schema, frame.rows()) for name, frame in found.items()}


def messages(data_dir: Path) -> dict[str, list[bytes]]:
    with Catalog(data_dir) as catalog:
        ids = catalog.query("SELECT session_id FROM sessions ORDER BY ALL")["session_id"].to_list()
        return {each: [event.message() for event in catalog.recorded_events(each)] for each in ids}


def in_clear(needles: list[bytes], *directories: Path) -> set[tuple[str, bytes]]:
    contents = [
        (path.name, path.read_bytes())
        for directory in directories
        for path in directory.rglob("*")
        if path.is_file() and path.suffix != ".key"
    ]
    assert contents
    return {(name, needle) for name, content in contents for needle in needles if needle in content}


def heard(number: int) -> list[bytes]:
    """What was said and heard in a session. Its ids are no secret: files and manifests are named after them."""
    return [word for word in words("", number) if word and not word.startswith(b"sess_of")]


def test_nothing_that_was_said_or_heard_lies_in_clear(data_dir: Path, record: Record, use: Use) -> None:
    use(ONE)
    ids = [record(1, in_parts=True), record(2)]

    paths = list(data_dir.glob("segments/*/*/*.parquet"))
    assert len(paths) > 10
    assert all(path.read_bytes().startswith(b"PARE") for path in paths)
    names = [b"position", b"payload", b"recorder.format_version", b'"team"', b"gpt-realtime", ONE, ONE.hex().encode()]
    assert in_clear([*heard(1), *heard(2), *names], data_dir) == set()
    assert key_ids(data_dir) == {keys.id_of(ONE)}

    assert list(verify(data_dir)) == []
    said = messages(data_dir)
    assert list(said) == ids
    assert any(b"secret-2-d" in message for message in said[ids[1]])
    assert any(base64.b64encode(audio(100)) in message for message in said[ids[0]])


def test_views_are_those_of_a_store_in_clear(data_dir: Path, tmp_path: Path, record: Record, use: Use) -> None:
    stores = data_dir, tmp_path / "plain"
    for store, held in zip(stores, ([ONE], []), strict=True):
        use(*held)
        record(1, store, in_parts=True)
        talk(Journal(store, 2), 2).closed()
        Journal(store, 4).turn().closed()
        Journal(store, 5).turn().roll().server({"type": "response.created", "response": {"id": "resp_r"}})
        seal_all(store)
    use(ONE)
    here, plain = map(rows, stores)

    assert len(here) > 20
    assert len(here["events"][1]) > 40
    for name, found in plain.items():
        assert here[name] == found, name
    assert messages(stores[0]) == messages(stores[1])
    with Catalog(stores[0]) as one, Catalog(stores[1]) as other:
        assert one.findings().equals(other.findings())
        for sql in (
            "SELECT type, count(*) AS n FROM events WHERE session_id = ? GROUP BY ALL ORDER BY ALL",
            "SELECT position, payload FROM events WHERE session_id > ? ORDER BY recorded_at DESC, session_id LIMIT 7",
            "SELECT sum(size_bytes) AS n FROM parts WHERE kind = 'audio' AND session_id <> ?",
            """SELECT model, count(*) AS n FROM sessions JOIN events USING (session_id)
            WHERE type LIKE 'input%' AND opened_at > TIMESTAMPTZ '2026-01-31 00:00:00+00' AND session_id >= ?
            GROUP BY 1""",
            "SELECT octet_length(bytes) AS n FROM audio WHERE codec IN ('flac', 'pcm') AND session_id >= ? ORDER BY n",
        ):
            given = ["019c1410-7c00-7000-8000-000000000001"]
            assert one.query(sql, given).equals(other.query(sql, given)), sql


@pytest.mark.parametrize("held", [[], [TWO]])
def test_without_its_key_a_store_is_left_alone(held: list[bytes], data_dir: Path, record: Record, use: Use) -> None:
    use(ONE)
    session_id = record()
    Journal(data_dir, 2).turn().closed()
    before = {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}
    use(*held)

    for reader in (
        lambda: Catalog(data_dir),
        lambda: list(verify(data_dir)),
        lambda: repair(data_dir),
        lambda: rebuild(data_dir),
        lambda: redact(data_dir, [session_id], patterns=[]),
        lambda: prune(data_dir, audio_older_than=timedelta(0)),
    ):
        with pytest.raises(EncryptionKeyError, match=r"is encrypted with the key|is an encrypted store") as caught:
            reader()
        assert "--key-file" in caught.value.hint
    assert {path: path.read_bytes() for path in before} == before
    assert next(verify(data_dir, quick=True)).kind == "journal_unsealed"  # digests tell without a key


def test_nothing_is_written_in_clear_to_an_encrypted_store(
    data_dir: Path, tmp_path: Path, record: Record, use: Use
) -> None:
    use(ONE)
    record()
    use()
    journal = Journal(data_dir, 2).turn().closed()

    report = seal_all(data_dir)
    assert report.quarantined == {}
    assert "no key was given to write with" in report.postponed[journal.session_id]
    recording = tmp_path / "one.jsonl"
    recording.write_text('{"type":"session.created"}\n')
    with pytest.raises(EncryptionKeyError):
        import_files(data_dir, [recording])

    use(ONE)
    assert seal_all(data_dir).sealed == [journal.session_id]
    assert [each.status for each in import_files(data_dir, [recording])] == ["imported"]
    assert key_ids(data_dir) == {keys.id_of(ONE)}


def test_plain_files_and_those_of_several_keys_are_read_together(data_dir: Path, record: Record, use: Use) -> None:
    record(1)
    use(ONE)
    record(2)
    use(TWO, ONE)
    record(3)

    assert key_ids(data_dir) == {"", keys.id_of(ONE), keys.id_of(TWO)}
    with Catalog(data_dir) as catalog:
        found = catalog.query("SELECT session_id FROM events WHERE payload LIKE '%secret-_-d%' ORDER BY ALL")
    assert [each[-1] for each in found["session_id"]] == ["1", "2", "3"]
    assert list(verify(data_dir)) == []


def test_compaction_encrypts_all_with_the_key_of_now(data_dir: Path, record: Record, use: Use) -> None:
    record(1)
    use(ONE)
    record(2)
    use(TWO, ONE)
    before = rows(data_dir)
    assert [day.sessions for day in compact(data_dir, grace_seconds=0).days] == [2]
    use(TWO)

    assert key_ids(data_dir) == {keys.id_of(TWO)}
    assert in_clear([*heard(1), *heard(2)], data_dir) == set()
    assert rows(data_dir) == before
    assert list(verify(data_dir)) == []
    assert compact(data_dir, grace_seconds=0, dry_run=True).days == []


def test_one_session_is_encrypted_anew_too_and_none_without_a_key(data_dir: Path, record: Record, use: Use) -> None:
    record(1)
    compact(data_dir, grace_seconds=0)
    assert key_ids(data_dir) == {""}
    for key in (ONE, TWO):
        use(key, ONE)
        compact(data_dir, grace_seconds=0)
        assert key_ids(data_dir) == {keys.id_of(key)}
        assert in_clear(heard(1), data_dir) == set()


def test_changes_are_written_encrypted(data_dir: Path, record: Record, use: Use) -> None:
    use(ONE)
    ids = [record(number) for number in (1, 2, 3)]
    compact(data_dir, grace_seconds=0)

    erase(data_dir, [ids[0]])
    redact(data_dir, [ids[1]], patterns=[re.compile("secret-2-b")])
    prune(data_dir, audio_older_than=timedelta(0))

    assert key_ids(data_dir) == {keys.id_of(ONE)}
    assert in_clear([*heard(1), *heard(2), *heard(3)], data_dir) == set()
    assert list(verify(data_dir)) == []
    said = messages_text(data_dir)
    assert [word in said for word in (b"secret-1-a", b"secret-2-a", b"secret-2-b", b"secret-3-b")] == [
        False, True, False, True,
    ]  # fmt: skip


def messages_text(data_dir: Path) -> bytes:
    with Catalog(data_dir) as catalog:
        return "\n".join(catalog.query("SELECT payload FROM events")["payload"].drop_nulls().to_list()).encode()


def test_rebuilding_the_same_rows_changes_nothing(data_dir: Path, record: Record, use: Use) -> None:
    use(ONE)
    record()
    assert rebuild(data_dir, grace_seconds=0).unchanged == 1
    use(TWO, ONE)
    assert rebuild(data_dir, grace_seconds=0).sessions == 1
    assert key_ids(data_dir) == {keys.id_of(ONE), keys.id_of(TWO)}  # events stay as they are
    assert list(verify(data_dir)) == []


def test_a_lost_manifest_is_made_of_encrypted_files(data_dir: Path, record: Record, use: Use) -> None:
    use(ONE)
    session_id = record()
    path = manifests.find(data_dir, session_id)
    assert path is not None
    path.unlink()
    use(TWO)
    with pytest.raises(EncryptionKeyError):
        repair(data_dir)

    use(ONE)
    assert repair(data_dir).left == []
    assert list(messages(data_dir)) == [session_id]
    assert key_ids(data_dir) == {keys.id_of(ONE)}


def test_damage_to_an_encrypted_file_is_damage(data_dir: Path, record: Record, use: Use) -> None:
    use(ONE)
    session_id = record()
    (path,) = data_dir.glob(f"segments/sessions/*/{session_id}.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    assert [problem.kind for problem in verify(data_dir)] == ["file_damaged"]
    assert repair(data_dir).rebuilt == [session_id]
    assert list(verify(data_dir)) == []


def test_where_a_running_session_goes_on_is_encrypted(data_dir: Path, use: Use) -> None:
    use(ONE)
    journal = Journal(data_dir).turn().roll()
    seal_all(data_dir)
    part = manifests.find_part(data_dir, journal.session_id, 0)
    assert part is not None
    assert part.resume.startswith(b"PARE")
    assert checkpoint.decode(encrypted.unseal(part.resume, part.name), "it").events > 5

    use(TWO)
    journal.turn().closed()
    report = seal_all(data_dir)
    assert report.quarantined == {}
    assert f"is encrypted with the key {keys.id_of(ONE)}" in report.postponed[journal.session_id]

    use(TWO, ONE)
    assert seal_all(data_dir).sealed == [journal.session_id]
    assert key_ids(data_dir) == {keys.id_of(ONE), keys.id_of(TWO)}
    assert list(verify(data_dir)) == []


@pytest.mark.parametrize("keep", [False, True])
def test_a_reader_goes_on_while_files_are_sealed_and_replaced(
    keep: bool, data_dir: Path, record: Record, use: Use
) -> None:
    use(ONE)
    layout.create(data_dir)
    with Catalog(data_dir, keep=keep) as catalog:
        for number in (1, 2, 3):
            record(number)
            catalog.refresh()
            assert catalog.query("SELECT count(*) AS n FROM sessions").item() == number
        compact(data_dir, grace_seconds=0)
        catalog.refresh()
        assert catalog.query("SELECT count(*) AS n FROM sessions").item() == 3
        assert catalog.query("SELECT count(*) FROM events WHERE payload LIKE '%secret-_-d%'").item() == 3
        erase(data_dir, [record(4)])
        catalog.refresh()
        assert catalog.query("SELECT count(*) AS n FROM sessions").item() == 3


@pytest.mark.parametrize("keep", [False, True])
def test_a_reader_that_lacks_a_new_key_says_so_and_shows_what_it_has(
    keep: bool, data_dir: Path, record: Record, use: Use
) -> None:
    record(1)
    with Catalog(data_dir, keep=keep) as catalog:
        use(ONE)
        record(2)
        use()
        for _ in range(2):
            with pytest.raises(EncryptionKeyError, match="is encrypted with the key"):
                catalog.refresh()
            assert catalog.query("SELECT count(*) AS n FROM sessions").item() == 1
        use(ONE)
        catalog.refresh()
        assert catalog.query("SELECT count(*) AS n FROM sessions").item() == 2


def test_queries_of_users_see_no_key_and_no_more_than_the_views(data_dir: Path, record: Record, use: Use) -> None:
    use(ONE)
    record()
    with Catalog(data_dir) as catalog:
        assert catalog.query_user("SELECT count(*) FROM sessions").item() == 1
        told = str(catalog.query_user("EXPLAIN SELECT * FROM sessions").rows())
        told += str(catalog.query_user("SELECT * FROM duckdb_views()").rows())
        for secret in (ONE.hex(), base64.b64encode(ONE).decode()):
            assert secret not in told
        for sql in ("SELECT * FROM python_arrow_scan()", "SELECT * FROM duckdb_settings()"):
            with pytest.raises(QueryError):
                catalog.query_user(sql)


def test_a_bundle_is_for_those_who_have_no_key(data_dir: Path, tmp_path: Path, record: Record, use: Use) -> None:
    use(ONE)
    session_id = record()
    bundle = tmp_path / "a.zip"
    with Catalog(data_dir) as catalog, bundle.open("wb") as file:
        write_bundle(catalog, [session_id], file)
    use()

    assert [each.session_id for each in open_recordings(bundle)] == [session_id]
    import_files(tmp_path / "theirs", [bundle])
    assert key_ids(tmp_path / "theirs") == {""}
    use(ONE)
    assert messages(tmp_path / "theirs") == messages(data_dir)


def test_manifests_in_clear_say_nothing_of_keys(data_dir: Path, record: Record, use: Use) -> None:
    path = manifests.find(data_dir, record())
    assert path is not None
    assert "key_id" not in path.read_text()
    files = manifests.read(path).files
    assert all(file.key is msgspec.UNSET and file.key_id == "" for file in files)
    assert not (data_dir / keys.MARKER).exists()
