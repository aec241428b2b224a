"""What is redacted is gone from every file, table, machine and export, in whatever form the store is."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from recorder.formats import har, jsonl
from recorder.pipeline.audio_export import export_audio
from recorder.pipeline.bundle import write_bundle
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.redact_store import Mute, redact
from recorder.pipeline.seal import seal_all
from recorder.pipeline.verify import verify
from recorder.store import audit, keys
from tests.pipeline.buckets import Open
from tests.pipeline.conftest import Journal
from tests.pipeline.machines import everywhere, in_bucket, mirror
from tests.pipeline.scan import found
from tests.pipeline.test_redact_store import sound, talk

NAMES = [re.compile(r"Ada\s+Lovelace"), re.compile(r"da Love|lace, ")]
PHRASE = re.compile(r"Lovelace|da Love")
GONE = [b"Lovelace", b"Ada\\nLove", sound(1002), sound(1002, 1)]
STAYS = [b"Ask [redacted]", b"London", sound(1001), sound(1003), sound(2001)]


@pytest.fixture(params=["plain", "encrypted"])
def is_encrypted(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param == "encrypted":
        (tmp_path / "store.key").write_text("ab" * 32)
        monkeypatch.setenv(keys.KEY_FILE, str(tmp_path / "store.key"))
    return bool(request.param == "encrypted")


def two(data_dir: Path, *, compacted: bool) -> list[str]:
    journals = [talk(Journal(data_dir, number)).closed() for number in (1, 2)]
    seal_all(data_dir)
    if compacted:
        compact(data_dir, grace_seconds=0)
    return [journal.session_id for journal in journals]


def exports(data_dir: Path, session_id: str) -> tuple[dict[str, bytes], Any]:
    """A session in each form that it can leave the store in; and its sound."""
    wav, lines, archive, bundle = (io.BytesIO() for _ in range(4))
    with Catalog(data_dir) as catalog:
        export_audio(catalog, session_id, wav, "wav")
        jsonl.export(catalog.recorded_events(session_id), lines)
        har.export_har(catalog.recorded_events(session_id), archive)
        write_bundle(catalog, [session_id], bundle)
    wav.seek(0)
    frames, _ = soundfile.read(wav, dtype="int16")
    return {"lines": lines.getvalue(), "archive": archive.getvalue(), "bundle": bundle.getvalue()}, frames


def check(data_dir: Path, one: str, other: str, tmp_path: Path) -> None:
    """The one session has what is to stay and nothing else, in SQL and in exports; the other one has everything."""
    with Catalog(data_dir) as catalog:
        views = catalog.query("SELECT table_schema, table_name FROM information_schema.tables").rows()
        assert {"events", "items", "turns", "sessions"} <= {name for _, name in views}
        for schema, view in views:
            rows = catalog.query(f'FROM "{schema}"."{view}"')
            if "session_id" in rows.columns:
                rows = rows.filter(rows["session_id"] == one)
                assert not PHRASE.search(str(rows.rows())), view
        assert "[redacted]" in str(catalog.query("FROM items WHERE session_id = ?", [one]).rows())
        assert "Lovelace" in str(catalog.query("FROM items WHERE session_id = ?", [other]).rows())
    written, frames = exports(data_dir, one)
    left = {int(value) for value in np.unique(frames[:, 0])}
    assert left == {0, 1001, 1003}
    lines = written["lines"] + written["archive"]
    assert not re.search(rb"Lovelace|da Love|Ada", lines)
    assert json.loads(written["archive"])["log"]["entries"]
    room = tmp_path / f"bundle-of-{data_dir.name}"
    with zipfile.ZipFile(io.BytesIO(written["bundle"])) as archive:
        archive.extractall(room)
    assert not found(GONE, room)
    assert {word for _, word in found(STAYS, room)} == {*STAYS}
    untouched, frames = exports(data_dir, other)
    assert b"Lovelace" in untouched["lines"]
    assert {int(value) for value in np.unique(frames[:, 0])} == {0, 1001, 1002, 1003}


def clean(data_dir: Path, one: str, other: str) -> None:
    redact(data_dir, [one], patterns=NAMES, mutes=[Mute(4, 4, by_position=True)], reason="asked for")
    entry = json.loads(audit.path(data_dir).read_text().splitlines()[-1])
    assert (entry["action"], entry["sessions"], entry["muted_ms"]) == ("redact", 1, 100.0)
    assert (entry["reason"], entry["session_digests"]) == ("asked for", list(audit.digests([one])))
    assert not list(verify(data_dir))


@pytest.mark.usefixtures("is_encrypted")
@pytest.mark.parametrize("compacted", [False, True])
def test_on_a_disk(data_dir: Path, tmp_path: Path, *, compacted: bool) -> None:
    one, other = two(data_dir, compacted=compacted)

    clean(data_dir, one, other)

    check(data_dir, one, other, tmp_path)
    redact(data_dir, [other], patterns=NAMES, mutes=[Mute(4, 4, by_position=True)])
    assert not found(GONE, data_dir)


@everywhere
@pytest.mark.usefixtures("is_encrypted")
@pytest.mark.parametrize("compacted", [False, True])
def test_in_a_bucket(opened: Open, tmp_path: Path, *, compacted: bool) -> None:
    here, there, elsewhere = (opened(machine) for machine in "abc")
    one, other = two(here, compacted=compacted)
    mirror(here).push()
    exports(elsewhere, one)  # has it all in its cache

    clean(there, one, other)

    for machine in (here, elsewhere):
        mirror(machine).pull()
    check(elsewhere, one, other, tmp_path)
    redact(there, [other], patterns=NAMES, mutes=[Mute(4, 4, by_position=True)])
    for machine in (here, elsewhere):
        mirror(machine).pull()
    in_bucket(here, tmp_path / "bucket")
    assert not found(GONE, tmp_path / "bucket", here, there, elsewhere)
    assert {word for _, word in found(STAYS, tmp_path / "bucket")} == {*STAYS}
