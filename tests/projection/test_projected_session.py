"""The session's configuration, and what waits in the input audio buffer."""

from __future__ import annotations

from recorder.projection.conversation import project
from tests.projection.words import Session, pcm


def test_the_configuration_is_what_the_server_confirmed(session: Session) -> None:
    vad = {"type": "server_vad", "threshold": 0.5}
    events = session(
        ("server", {"type": "session.created", "session": {"model": "m", "audio": {"input": {"turn_detection": vad}}}}),
        ("client", {"type": "session.update", "session": {"instructions": "never confirmed"}}),
        ("server", {"type": "session.updated", "session": {"audio": {"output": {"voice": "marin"}}}}),
        (
            "server",
            {"type": "session.updated", "session": {"audio": {"input": {"turn_detection": {"threshold": 0.7}}}}},
        ),
        (
            "server",
            {"type": "session.updated", "session": {"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}},
        ),
    )
    assert project(events, at=4).session == {
        "model": "m",
        "audio": {
            "input": {"turn_detection": {"type": "server_vad", "threshold": 0.7}},
            "output": {"voice": "marin"},
        },
    }
    assert project(events).session["audio"]["input"] == {"turn_detection": {"type": "semantic_vad"}}


def test_uncommitted_audio_by_client_commit_and_clear(session: Session) -> None:
    append = ("client", {"type": "input_audio_buffer.append", "audio": pcm(100)})
    events = session(
        append,
        append,
        ("client", {"type": "input_audio_buffer.commit"}),
        append,
        ("server", {"type": "input_audio_buffer.committed", "item_id": "u"}),
        ("client", {"type": "input_audio_buffer.clear"}),
        append,
        ("server", {"type": "input_audio_buffer.cleared"}),
    )
    waiting = [project(events, at=position).uncommitted_audio_ms for position in range(9)]
    assert waiting == [0, 100, 200, 200, 300, 100, 100, 200, 100]
    assert project(events).items[0].audio_ms == 200.0


def test_a_refused_commit_is_forgotten(session: Session) -> None:
    append = ("client", {"type": "input_audio_buffer.append", "audio": pcm(100)})
    events = session(
        ("client", {"type": "input_audio_buffer.commit"}),
        ("server", {"type": "error", "error": {"code": "input_audio_buffer_commit_empty"}}),
        append,
        ("client", {"type": "input_audio_buffer.commit"}),
        ("server", {"type": "input_audio_buffer.committed", "item_id": "u"}),
    )
    state = project(events)
    assert (state.items[0].audio_ms, state.uncommitted_audio_ms) == (100.0, 0.0)


def test_uncommitted_audio_by_server_vad(session: Session) -> None:
    append = ("client", {"type": "input_audio_buffer.append", "audio": pcm(100)})
    events = session(
        *[append] * 5,
        ("server", {"type": "input_audio_buffer.speech_started", "audio_start_ms": 100, "item_id": "u"}),
        ("server", {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 400, "item_id": "u"}),
        ("server", {"type": "input_audio_buffer.committed", "item_id": "u", "previous_item_id": None}),
    )
    state = project(events)
    assert state.items[0].audio_ms == 300.0
    assert state.uncommitted_audio_ms == 100.0


def test_a_close_ends_it(session: Session) -> None:
    assert project(session(("recorder", {"type": "recorder.session_closed"}))).closed
