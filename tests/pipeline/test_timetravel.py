from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recorder.errors import SessionNotFoundError
from recorder.pipeline import timetravel
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.erase import erase
from recorder.pipeline.redact_store import redact
from recorder.pipeline.seal import seal_all
from recorder.pipeline.timetravel import Past, TimeTravel, conversation_at
from recorder.projection.conversation import project
from tests.pipeline.conftest import Journal

SPEECH = {"type": "input_audio_buffer.speech_started", "item_id": "u", "audio_start_ms": 0}
APPEND = {"type": "input_audio_buffer.append", "audio": "AAAA" * 320}
TRANSLATE = {"type": "session.input_audio_buffer.append", "audio": "AAAA" * 320}
STRANGE = {"type": "something.new", "item_id": "x"}
ITEM = {"type": "conversation.item.added", "previous_item_id": None, "item": {"id": "u", "type": "message"}}


@pytest.mark.parametrize("sealed", [True, False])
def test_every_position_is_as_the_fold_of_all_events_up_to_it(
    data_dir: Path, new_journal: Callable[..., Journal], sealed: bool
) -> None:
    journal = new_journal().turn()
    for message in (APPEND, APPEND, SPEECH, TRANSLATE, STRANGE, APPEND, {"type": "input_audio_buffer.commit"}, APPEND):
        (journal.server if message in (SPEECH, STRANGE) else journal.client)(message)
    journal.server({"type": "input_audio_buffer.committed", "item_id": "u"}).server(ITEM).closed()
    if sealed:
        seal_all(data_dir)
    with Catalog(data_dir) as catalog:
        events = catalog.recorded_events(journal.session_id)
        for position in range(len(events)):
            assert conversation_at(catalog, journal.session_id, position) == project(events, position)
        whole = conversation_at(catalog, journal.session_id)
        assert (whole.position, whole.closed) == (len(events) - 1, True)
        assert next(item.audio_ms for item in whole.items if item.id == "u") == pytest.approx(80, abs=1)
        assert conversation_at(catalog, journal.session_id, 10_000) == whole
        assert conversation_at(catalog, journal.session_id, -1).items == []


def test_no_session_is_an_error(data_dir: Path, new_journal: Callable[..., Journal]) -> None:
    new_journal().turn().closed()
    with Catalog(data_dir) as catalog, pytest.raises(SessionNotFoundError):
        conversation_at(catalog, "no such", 1)


def check_every_position(data_dir: Path, journal: Journal) -> None:
    journal.closed()
    seal_all(data_dir)
    with Catalog(data_dir) as catalog:
        events = catalog.recorded_events(journal.session_id)
        past = TimeTravel(catalog)
        for position in range(len(events)):
            wanted = project(events, position)
            assert conversation_at(catalog, journal.session_id, position) == wanted
            assert past.conversation(journal.session_id, position) == wanted


@pytest.mark.parametrize("strange", [{}, {"delta": 7}, {"delta": None}, {"delta": "x", "content_index": 1}])
def test_text_by_the_run_is_text_word_by_word(
    data_dir: Path, new_journal: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch, strange: dict[str, Any]
) -> None:
    monkeypatch.setattr(timetravel, "_MANY_PIECES", 1)
    journal = new_journal()
    where = {"type": "response.output_text.delta", "response_id": "r", "item_id": "a", "content_index": 0}
    other = {**where, "type": "response.output_audio_transcript.delta", "item_id": "b"}
    for message in (
        *({**where, "delta": text} for text in ("Good ", 'mor"ning', " \u00fcber\\all")),
        *({**other, "delta": text} for text in ("one ", "two ")),
        *({**where, "delta": "a"}, {**where, **strange}, {**where, "delta": "b"}),
        {**where, "type": "response.output_text.done", "text": "All."},
        {**where, "delta": "late"},
    ):
        journal.server(message)
    check_every_position(data_dir, journal)


@pytest.mark.parametrize(
    "whole", [{"text": "All."}, {}, {"text": None}, {"text": 7}, {"text": "x", "content_index": 1}]
)
@pytest.mark.parametrize("late", [{}, {"item_id": None}, {"item_id": "b"}])
def test_pieces_that_come_as_a_whole_later_are_left_out_and_others_are_not(
    data_dir: Path,
    new_journal: Callable[..., Journal],
    monkeypatch: pytest.MonkeyPatch,
    whole: dict[str, Any],
    late: dict[str, Any],
) -> None:
    monkeypatch.setattr(timetravel, "_MANY_PIECES", 1)
    journal = new_journal()
    where = {"type": "response.output_text.delta", "response_id": "r", "item_id": "a", "content_index": 0}
    done = {**where, "type": "response.output_text.done"}
    other = {**where, "item_id": "b"}
    for message in (
        *({**where, "delta": text} for text in ("one ", "two ")),
        *({**other, "delta": text} for text in ("three ", "four ")),
        *({**where, "delta": text, **late} for text in ("five ", "six ")),
        {**done, **whole},
        *({**where, "delta": text} for text in ("late ", "later ")),
        {**done, "text": "Once more."},
        *({**other, "delta": text} for text in ("seven ", "eight ")),
    ):
        journal.server(message)
    check_every_position(data_dir, journal)


def texts(past: TimeTravel, session_id: str) -> list[str]:
    return [item.text for item in past.conversation(session_id).items]


def test_what_was_kept_is_read_once(
    data_dir: Path, new_journal: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = [new_journal(number).turn().closed() for number in range(1, 7)]
    seal_all(data_dir)
    made: list[pl.DataFrame] = []

    def counted(rows: pl.DataFrame) -> Past:
        made.append(rows)
        return Past(rows)

    monkeypatch.setattr(timetravel, "Past", counted)
    first, *others = (journal.session_id for journal in journals)
    with Catalog(data_dir) as catalog:
        past = TimeTravel(catalog)
        for position in range(5):
            assert past.conversation(first, position).position == position
        assert len(made) == 1
        for session_id in others:
            past.conversation(session_id)
        past.conversation(others[-1])
        assert len(made) == 6
        past.conversation(first)  # by now others have its place
        assert len(made) == 7
        with pytest.raises(SessionNotFoundError):
            past.conversation("no such")


def test_a_running_session_is_never_as_it_was(data_dir: Path, new_journal: Callable[..., Journal]) -> None:
    journal = new_journal().turn()
    with Catalog(data_dir) as catalog:
        past = TimeTravel(catalog)
        before = past.conversation(journal.session_id)
        journal.server({**ITEM, "item": {"id": "late", "type": "message"}})
        catalog.refresh()
        after = past.conversation(journal.session_id)
        assert [item.id for item in after.items] == [*(item.id for item in before.items), "late"]


def test_what_was_redacted_or_erased_is_not_kept(data_dir: Path, new_journal: Callable[..., Journal]) -> None:
    said = {"id": "u", "type": "message", "content": [{"type": "input_text", "text": "My name is Ada."}]}
    journals = [new_journal(number).turn().server({**ITEM, "item": said}).closed() for number in (1, 2)]
    redacted, erased = (journal.session_id for journal in journals)
    seal_all(data_dir)
    with Catalog(data_dir) as catalog:
        past = TimeTravel(catalog)
        assert texts(past, erased) == texts(past, redacted) == ["", "My name is Ada."]
        gc.collect()
        kept = [weakref.ref(one) for one in gc.get_objects() if isinstance(one, Past)]
        redact(data_dir, [redacted], patterns=[re.compile("Ada")])
        erase(data_dir, [erased])
        catalog.refresh()
        past.forget()
        gc.collect()
        assert [one() for one in kept] == [None, None]
        assert texts(past, redacted) == ["", "My name is [redacted]."]
        with pytest.raises(SessionNotFoundError):
            past.conversation(erased)
