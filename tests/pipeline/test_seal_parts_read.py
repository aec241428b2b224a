"""Reading sessions that are sealed in parts meanwhile: every event once, at any moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recorder.pipeline import live
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.seal import seal_all
from recorder.protocol.envelope import RecordedEvent
from recorder.store import manifests
from recorder.store.journal_files import list_journals
from recorder.store.manifests import ManifestCache
from tests.pipeline.conftest import Journal
from tests.pipeline.test_seal_parts import cache_of, running


def test_a_reader_that_stays_sees_a_running_session_grow_through_its_seals(data_dir: Path) -> None:
    journal = Journal(data_dir)
    journal.turn()
    expected: list[RecordedEvent] = []
    with Catalog(data_dir) as stays:

        def check(count: int) -> None:
            nonlocal expected
            for catalog in (stays, Catalog(data_dir)):
                catalog.refresh()
                found = catalog.recorded_events(journal.session_id)
                assert [event.position for event in found] == list(range(count))
                assert found[: len(expected)] == expected
                assert catalog.query("SELECT count(*), count(DISTINCT position) FROM events").row(0) == (count, count)
                assert catalog.query("SELECT event_count FROM sessions").rows() == [(count,)]
                assert catalog.events(journal.session_id)["position"].to_list() == list(range(count))
                assert catalog.events(journal.session_id, after=count - 2)["position"].to_list() == [count - 1]
                assert catalog.message(journal.session_id, 3) == expected_append
                assert catalog.resolve("last") == catalog.resolve("sess_") == journal.session_id
            assert stays.query("SELECT count(*) FROM parts").item() == 3
            expected = found

        expected_append = b'{ "type":"input_audio_buffer.append", "audio":"AAECAwQF" }'
        check(12)
        for count in (13, 14, 15):
            journal.roll()
            check(count - 1)
            seal_all(data_dir)
            check(count - 1)
            journal.client({"type": "response.create"})
            check(count)
        journal.closed()
        check(16)
        seal_all(data_dir)
        check(16)
        assert stays.query("SELECT status FROM sessions").item() == "closed"


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("step", range(4))
def test_a_part_that_is_sealed_in_mid_look_is_there_once(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, step: int, *, known: bool
) -> None:
    journal = running(data_dir)
    journal.client({"type": "response.cancel"})
    before = Catalog(data_dir) if known else None
    steps = iter(range(4))

    def acting(real: Callable[..., Any]) -> Callable[..., Any]:
        def listing(*args: Any) -> Any:
            if next(steps, None) == step:
                seal_all(data_dir)
            result = real(*args)
            if next(steps, None) == step:
                seal_all(data_dir)
            return result

        return listing

    monkeypatch.setattr("recorder.pipeline.catalog.list_journals", acting(list_journals))
    monkeypatch.setattr(ManifestCache, "refresh", acting(ManifestCache.refresh))
    with before or Catalog(data_dir) as catalog:
        catalog.refresh()
        assert catalog.events(journal.session_id)["position"].to_list() == list(range(14))
        assert catalog.query("SELECT count(*) FROM events").item() == 14
        assert len(catalog.recorded_events(journal.session_id)) == 14


def test_a_session_is_shown_while_none_of_its_journals_is_there(data_dir: Path) -> None:
    """Its last one is in quarantine, say."""
    journal = running(data_dir)
    seal_all(data_dir)
    for file in list_journals(data_dir):
        file.path.unlink()

    with Catalog(data_dir) as catalog:
        assert catalog.events(journal.session_id).height == 13
        assert catalog.query("SELECT status FROM sessions").item() == "running"


def test_memory_of_sealed_rows_is_bounded(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SEALED_CEILING_BYTES", 0)
    journal = running(data_dir)
    with Catalog(data_dir) as catalog:
        assert all(session.sealed_bytes == 0 for session in catalog._live.sessions.values())
        journal.client({"type": "response.create"})
        catalog.refresh()
        assert catalog.query("SELECT event_count FROM sessions").item() == 14


def test_a_part_whose_checkpoint_is_damaged_is_shown_as_far_as_it_is_sealed(data_dir: Path) -> None:
    journal = running(data_dir)
    (part,) = cache_of(data_dir).parts[journal.session_id]
    manifests.write(data_dir, msgspec.structs.replace(part, resume=part.resume[:-9]))

    with Catalog(data_dir) as catalog:
        assert catalog.events(journal.session_id).height == 12
    assert "damaged" in seal_all(data_dir).quarantined[journal.session_id]
