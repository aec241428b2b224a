from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recorder.analytics.engine import run_models
from recorder.errors import (
    AmbiguousSessionError,
    EventNotFoundError,
    NewerFormatError,
    QueryError,
    SessionNotFoundError,
    StoreError,
)
from recorder.pipeline import commit, live
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.decoding import decode_journal
from recorder.pipeline.seal import seal_all, seal_journal
from recorder.store import layout, schema
from recorder.store.journal_files import list_journals
from recorder.store.manifests import ManifestCache

COUNTS = "SELECT session_id, count(*) AS n FROM events GROUP BY session_id ORDER BY session_id"


def counts(catalog: Catalog) -> dict[str, int]:
    return {row["session_id"]: row["n"] for row in catalog.query(COUNTS).to_dicts()}


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no data directory"):
        Catalog(tmp_path / "none")


def test_an_empty_store_has_typed_views(tmp_path: Path) -> None:
    with Catalog(tmp_path) as catalog:
        assert catalog.query("SELECT * FROM events").columns == schema.EVENTS.names
        assert catalog.query("SELECT * FROM parts").columns == schema.PARTS.names
        assert catalog.query("SELECT * FROM sessions").is_empty()
        for reference in ("last", "0", "", "sess_1"):
            with pytest.raises(SessionNotFoundError):
                catalog.resolve(reference)


def test_a_running_session_is_there_and_grows(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    journal = new_journal().accepted()
    with Catalog(data_dir) as catalog:
        assert counts(catalog) == {journal.session_id: 2}
        journal.client({"type": "response.create"})
        assert counts(catalog) == {journal.session_id: 2}

        catalog.refresh()

        assert counts(catalog) == {journal.session_id: 3}
        assert catalog.query("SELECT status FROM sessions")["status"].to_list() == ["running"]
        journal.closed()
        catalog.refresh()
        assert counts(catalog) == {journal.session_id: 4}
        assert catalog.query("SELECT status FROM sessions")["status"].to_list() == ["closed"]


def test_sealed_and_running_read_the_same(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    journal = new_journal().turn().closed()
    expected = list(decode_journal(journal.file.path))

    def read(catalog: Catalog) -> dict[str, Any]:
        session_id = journal.session_id
        return {
            "recorded": catalog.recorded_events(session_id),
            "messages": [catalog.message(session_id, event.position) for event in expected],
            "events": catalog.events(session_id).rows(),
            "page": catalog.events(session_id, after=2, limit=3)["position"].to_list(),
            "late": catalog.events(session_id, after=len(expected) - 2)["position"].to_list(),
            "sql": catalog.query("SELECT * FROM events ORDER BY position").rows(),
            "parts": catalog.query("SELECT * FROM parts ORDER BY position, part_no").rows(),
            "derived": catalog.query("SELECT * FROM responses ORDER BY ALL").rows(),
            "names": [catalog.resolve(name) for name in (session_id, session_id[:20].upper(), "last")],
        }

    with Catalog(data_dir) as catalog:
        running = read(catalog)
        seal_all(data_dir)
        catalog.refresh()
        assert read(catalog) == running
    assert running["recorded"] == expected
    assert running["messages"] == [event.message() for event in expected]
    assert running["page"] == [3, 4, 5]
    assert running["late"] == [len(expected) - 1]
    assert len(running["events"]) == len(running["sql"]) == len(expected)


def test_what_was_shown_can_be_read_after_it_was_sealed(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    journal = new_journal().turn().closed()
    with Catalog(data_dir) as catalog:
        seal_all(data_dir)

        assert b'"response.create"' in catalog.message(journal.session_id, 5)
        assert catalog.recorded_events(journal.session_id)[-1].type == "recorder.session_closed"


def test_names(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    old = new_journal(1, opened_at_ns=5 * 10**18)
    old.server({"type": "session.created", "session": {"id": "sess_abc"}}).closed()
    new = new_journal(2, opened_at_ns=6 * 10**18)
    new.server({"type": "session.created", "session": {"id": "sess_abd"}})
    seal_all(data_dir)
    with Catalog(data_dir) as catalog:
        assert catalog.resolve("last") == new.session_id
        assert catalog.resolve("sess_abc") == old.session_id
        assert catalog.resolve("sess_abd") == catalog.resolve(" sess_abd ") == new.session_id
        assert catalog.resolve(new.session_id) == new.session_id
        with pytest.raises(AmbiguousSessionError) as caught:
            catalog.resolve("019c")
        assert caught.value.matches == [old.session_id, new.session_id]
        with pytest.raises(AmbiguousSessionError):
            catalog.resolve("sess_ab")
        with pytest.raises(SessionNotFoundError):
            catalog.resolve("019d")


def test_what_is_not_there(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    sealed, running = new_journal(1).turn().closed(), new_journal(2).turn()
    seal_all(data_dir)
    with Catalog(data_dir) as catalog:
        for session_id in (sealed.session_id, running.session_id):
            for position in (-1, 99, 2**62):
                with pytest.raises(EventNotFoundError):
                    catalog.message(session_id, position)
        for ask in (catalog.events, catalog.recorded_events, lambda name: catalog.message(name, 0)):
            with pytest.raises(SessionNotFoundError):
                ask("019c1410-7c00-7000-8000-0000000000ff")


def test_user_sql_only_reads(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    new_journal().turn()
    with Catalog(data_dir) as catalog:
        assert catalog.query_user("SELECT * FROM events", max_rows=2).height == 2
        for sql in ("DROP VIEW events", "SELECT * FROM '/etc/passwd'", "COPY events TO 'x'"):
            with pytest.raises(QueryError):
                catalog.query_user(sql)


def test_a_broken_journal_hides_no_other_session(data_dir: Path, new_journal: Callable[..., Any]) -> None:
    journal = new_journal().turn()
    (data_dir / "journal" / "019c1410-7c00-7000-8000-0000000000ee.journal").write_bytes(b"not a journal")

    with Catalog(data_dir) as catalog:
        assert list(counts(catalog)) == [journal.session_id]


def test_a_journal_that_was_just_created_is_no_session_yet(data_dir: Path) -> None:
    layout.create(data_dir)
    (data_dir / "journal" / "019c1410-7c00-7000-8000-0000000000ee.journal").write_bytes(b"")

    with Catalog(data_dir) as catalog:
        assert counts(catalog) == {}


def test_a_newer_manifest_is_refused(data_dir: Path) -> None:
    layout.create(data_dir)
    room = data_dir / "manifests" / "date=2026-01-31"
    room.mkdir()
    (room / "x.json").write_text('{"format_version": 99}')

    with pytest.raises(NewerFormatError):
        Catalog(data_dir)


def test_parts_of_a_long_running_session_wait_for_the_seal(
    data_dir: Path, new_journal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PARTS_CEILING_BYTES", 100)
    journal = new_journal().turn()
    with Catalog(data_dir) as catalog:
        assert catalog.query("SELECT * FROM parts").is_empty()
        assert catalog.message(journal.session_id, 3) == b'{ "type":"input_audio_buffer.append", "audio":"AAECAwQF" }'
        journal.closed()
        seal_all(data_dir)
        catalog.refresh()
        assert not catalog.query("SELECT * FROM parts").is_empty()


def test_files_of_other_columns_are_read_by_name(
    data_dir: Path, new_journal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:

    real = run_models

    def older(events: Any) -> Any:
        rows = real(events)
        return rows | {"sessions": rows["sessions"].drop_columns(["talk_ratio"])}

    monkeypatch.setattr(commit, "run_models", older)
    new_journal(1).turn().closed()
    seal_all(data_dir)
    monkeypatch.undo()
    new_journal(2).turn().closed()
    seal_all(data_dir)

    with Catalog(data_dir) as catalog:
        assert catalog.query("SELECT session_id, talk_ratio FROM sessions").height == 2


def test_sessions_move_from_running_to_sealed_without_a_flicker(
    data_dir: Path, new_journal: Callable[..., Any]
) -> None:
    """While sessions are closed and sealed, whoever looks sees each once, and no fewer events than before."""
    journals = [new_journal(number).turn() for number in range(1, 6)]
    before = {journal.session_id: 12 for journal in journals}
    after = {journal.session_id: 13 for journal in journals}
    done = threading.Event()
    problems: list[object] = []

    with Catalog(data_dir) as catalog:
        assert counts(catalog) == before

        def look() -> None:
            least = dict(before)
            while not done.is_set():
                try:
                    catalog.refresh()
                    seen = counts(catalog)
                    if seen.keys() != before.keys() or any(not least[k] <= seen[k] <= after[k] for k in seen):
                        problems.append(seen)
                    least = seen
                    names = catalog.query("SELECT session_id FROM sessions")["session_id"].to_list()
                    if sorted(names) != sorted(before):
                        problems.append(names)
                    lengths = {key: len(catalog.recorded_events(key)) for key in before}
                    if any(lengths[key] < least[key] for key in least):
                        problems.append(lengths)
                except Exception as error:  # noqa: BLE001 - a thread's failure is the test's
                    problems.append(error)

        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        for journal in journals:
            journal.closed()
            seal_journal(data_dir, journal.file)
        done.set()
        for thread in threads:
            thread.join()
        assert problems == []
        catalog.refresh()
        assert counts(catalog) == after


def test_models_of_a_long_session_wait_for_growth_or_its_end(
    data_dir: Path, new_journal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "GROWTH", 0.5)
    monkeypatch.setattr(live, "PATIENCE_SECONDS", 1e9)
    journal = new_journal().turn()
    counted = "SELECT (SELECT count(*) FROM events) AS events, event_count AS derived FROM sessions"
    with Catalog(data_dir) as catalog:
        assert catalog.query(counted).row(0) == (12, 12)
        journal.client({"type": "response.create"})
        catalog.refresh()
        assert catalog.query(counted).row(0) == (13, 12)
        monkeypatch.setattr(live, "PATIENCE_SECONDS", 0.0)
        catalog.refresh()
        assert catalog.query(counted).row(0) == (13, 13)
        monkeypatch.setattr(live, "PATIENCE_SECONDS", 1e9)
        journal.closed()
        catalog.refresh()
        assert catalog.query(counted).row(0) == (14, 14)


def test_one_running_session_that_breaks_a_model_hides_no_other(
    data_dir: Path, new_journal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = new_journal(1).turn(), new_journal(2).turn()

    def picky(events: Any) -> Any:
        if bad.session_id in events["session_id"].to_pylist():
            raise RuntimeError("a model broke")
        return run_models(events)

    monkeypatch.setattr(live, "run_models", picky)

    with Catalog(data_dir) as catalog:
        assert counts(catalog) == {good.session_id: 12, bad.session_id: 12}
        assert catalog.query("SELECT session_id FROM sessions")["session_id"].to_list() == [good.session_id]
        assert catalog.resolve(bad.session_id) == bad.session_id


@pytest.mark.parametrize("action", ["close", "seal"])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("step", range(4))
def test_a_session_that_is_sealed_in_mid_look_is_there_once(
    *,
    data_dir: Path,
    new_journal: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    action: str,
    known: bool,
) -> None:
    """Whatever happens before or after either listing, whether its journal was followed before or not."""
    journal = new_journal().turn()
    before = Catalog(data_dir) if known else None
    if action == "seal":
        journal.closed()
    steps = iter(range(4))

    def act() -> None:
        if next(steps, None) == step:
            if action == "close":
                journal.closed()
            else:
                seal_all(data_dir)

    def acting(real: Callable[..., Any]) -> Callable[..., Any]:
        def listing(*args: Any) -> Any:
            act()
            result = real(*args)
            act()
            return result

        return listing

    monkeypatch.setattr("recorder.pipeline.catalog.list_journals", acting(list_journals))
    monkeypatch.setattr(ManifestCache, "refresh", acting(ManifestCache.refresh))
    with before or Catalog(data_dir) as catalog:
        catalog.refresh()
        assert counts(catalog) == {journal.session_id: 13}
        assert catalog.query("SELECT session_id FROM sessions").height == 1
        assert len(catalog.recorded_events(journal.session_id)) == 13
