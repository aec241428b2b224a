"""Scripts for the simulator as hypothesis draws them: calls in any dialect, audio format and kind of turn taking."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from recorder.simulator.script import Script

FORMATS: Final = {"pcm16": {"type": "audio/pcm", "rate": 24000}, "g711_ulaw": {"type": "audio/pcmu"}}
FORMATS_ALAW: Final = {"g711_alaw": {"type": "audio/pcma"}}
WORDS: Final = ("yes", "the weather", "is fine", "tomorrow,", "I think.", "Überall", "so far")

_says = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
_pauses = st.integers(100, 2500)


def _turn() -> st.SearchStrategy[dict[str, Any]]:
    """One response of the server: spoken, written, with tools, and ending in any way but a hang-up."""
    ends = st.sampled_from(["completed"] * 5 + ["failed", "incomplete", "dangling"])
    pacing = st.fixed_dictionaries(
        {}, optional={"pace": st.sampled_from([0.5, 0.8, 1.5, 6.0]), "first_audio_ms": st.integers(200, 900)}
    )
    # Whole milliseconds, so that the samples are as long as was planned.
    lengths = st.sampled_from([0.3, 0.73, 1.0, 2.5, 4.0])
    heard = st.sampled_from(["completed"] * 4 + ["failed"])
    spoken = st.fixed_dictionaries(
        {"say": _says, "user": _says, "transcription": heard, "audio_seconds": lengths, "end": ends, "pacing": pacing}
    )
    written = st.fixed_dictionaries({"say": _says, "modality": st.just("text"), "end": ends})
    calls = st.lists(
        st.sampled_from(["answered", "ignored"]).map(lambda name: {"name": name, "arguments": {"city": "Bonn"}}),
        min_size=1,
        max_size=2,
    )
    silent = st.fixed_dictionaries({"tools": calls})
    calling = st.one_of(silent, st.fixed_dictionaries({"tools": calls, "say": _says, "audio_seconds": lengths}))
    return st.one_of(spoken, spoken, spoken, written, calling)


def _common() -> list[st.SearchStrategy[list[dict[str, Any]]]]:
    """What a client may do in any kind of turn taking; what comes at a wrong time is answered by an error."""
    return [
        _pauses.map(lambda ms: [{"pause": ms}]),
        _says.map(lambda text: [{"text": text}, {"pause": 1500}]),
        st.just([{"cancel": True}]),
        st.sampled_from([0, 150, 700, 60000]).map(lambda ms: [{"truncate": ms}]),
        st.just([{"truncate": "played"}]),
        st.just([{"respond": {"conversation": "none", "output_modalities": ["text"], "input": []}}]),
    ]


def _spoken_steps() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Voices into an open microphone: after an answer, or into the middle of it."""
    speak = st.tuples(st.sampled_from([0.4, 0.7, 1.13, 1.6]), _pauses).map(
        lambda drawn: [{"speak": drawn[0]}, {"pause": drawn[1]}]
    )
    return st.lists(st.one_of(speak, speak, speak, *_common()), min_size=2, max_size=7).map(
        lambda steps: [{"microphone": True}, {"pause": 400}, *(step for group in steps for step in group)]
    )


def _pushed_steps() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Push-to-talk: each voice is committed by the client, which stops the playing itself."""
    talk = st.tuples(st.sampled_from([0.4, 0.9, 1.4]), _pauses, st.booleans()).map(
        lambda drawn: [
            *([{"cancel": True}, {"truncate": "played"}] if drawn[2] else []),
            {"speak": drawn[0]},
            {"commit": True},
            {"respond": {}},
            {"pause": drawn[1]},
        ]
    )
    unsaid = st.just([{"speak": 0.4}, {"send": {"type": "input_audio_buffer.clear"}}, {"pause": 300}])
    return st.lists(st.one_of(talk, talk, unsaid, *_common()), min_size=2, max_size=6).map(
        lambda steps: [step for group in steps for step in group]
    )


def _detections(beta: bool) -> st.SearchStrategy[dict[str, Any] | None]:
    rules = {"interrupt_response": st.sampled_from([True, True, True, False])}
    server = {
        "type": st.just("server_vad"),
        "prefix_padding_ms": st.sampled_from([0, 100, 300]),
        "silence_duration_ms": st.sampled_from([200, 300, 500]),
    }
    idle = {} if beta else {"idle_timeout_ms": st.just(5000)}
    return st.one_of(
        st.none(),
        st.fixed_dictionaries(server, optional=rules | idle),
        st.fixed_dictionaries(
            {"type": st.just("semantic_vad"), "eagerness": st.sampled_from(["auto", "low", "high"])}, optional=rules
        ),
    )


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """A whole script; client and server agree on what they speak."""
    formats = FORMATS | FORMATS_ALAW
    beta, audio_format = draw(st.booleans()), draw(st.sampled_from(sorted(formats)))
    detection, transcription = draw(_detections(beta)), draw(st.sampled_from(["whisper-1", "gpt-4o-transcribe", None]))
    listening = {"turn_detection": detection, "transcription": transcription and {"model": transcription}}
    session = (
        {
            "turn_detection": detection,
            "input_audio_transcription": listening["transcription"],
            "input_audio_format": audio_format,
            "output_audio_format": audio_format,
        }
        if beta
        else {
            "audio": {
                "input": {**listening, "format": formats[audio_format]},
                "output": {"format": formats[audio_format]},
            }
        }
    )
    steps = draw(_pushed_steps() if detection is None else _spoken_steps())
    script = {
        "name": "drawn",
        "dialect": "beta" if beta else "ga",
        "session": session,
        "turns": draw(st.lists(_turn(), min_size=1, max_size=5)),
        "rate_limits": draw(st.sampled_from(["before_done", "after_done", "never"])),
        "client": {
            "audio_format": audio_format,
            "on_speech_started": draw(st.sampled_from(["truncate", "truncate", "ignore"])),
            "tools": {"answered": {"output": "rain", "delay_ms": draw(st.integers(0, 900))}},
            "steps": [{"wait": "session.created"}, *steps, {"pause": draw(_pauses)}],
        },
    }
    return msgspec.convert(script, Script)


def _semantic(turns: list[dict[str, Any]], steps: list[dict[str, Any]]) -> Script:
    """A call with a semantic VAD, an open microphone and a client that truncates."""
    listening = {"turn_detection": {"type": "semantic_vad"}, "format": {"type": "audio/pcma"}}
    session = {"audio": {"input": listening, "output": {"format": {"type": "audio/pcma"}}}}
    steps = [{"wait": "session.created"}, {"microphone": True}, {"pause": 400}, *steps]
    tools = {"answered": {"output": "rain", "delay_ms": 0}}
    part = {"audio_format": "g711_alaw", "tools": tools, "steps": steps}
    return msgspec.convert({"name": "known", "session": session, "turns": turns, "client": part}, Script)


_CALLING: Final[dict[str, Any]] = {"tools": [{"name": "answered", "arguments": {"city": "Bonn"}}]}
_ONE_SECOND: Final[dict[str, Any]] = {"say": "I am listening.", "audio_seconds": 1.0}
TRUNCATED_TWICE: Final = _semantic(
    [_ONE_SECOND],
    [
        *({"speak": 1.13}, {"pause": 1412}, {"cancel": True}, {"truncate": "played"}),
        *({"pause": 2500}, {"truncate": "played"}, {"pause": 900}),
    ],
)
"""The second truncate comes when no more is played, and must not say that more was heard."""
BEFORE_THE_LAST_WAS_PLAYED: Final = _semantic(
    [_CALLING, _CALLING, _ONE_SECOND, _ONE_SECOND],
    [
        *({"speak": 0.4}, {"pause": 100}, {"text": "yes"}, {"pause": 1500}, {"text": "yes"}, {"pause": 1500}),
        *({"speak": 0.4}, {"pause": 200}),
    ],
)
"""A response begins to play while the one before it still does: each plays from its own first audio."""
ASKED_BEFORE_THE_COMMIT: Final = _semantic(
    [_CALLING], [{"speak": 0.4}, {"pause": 100}, {"text": "yes"}, {"pause": 1500}, {"speak": 0.4}, {"pause": 200}]
)
"""The client asks, a voice is committed, the server's own attempt is refused, and only then comes the response."""
TRUNCATED_TWICE_AT_ONCE: Final = _semantic(
    [_ONE_SECOND], [{"text": "yes"}, {"pause": 1500}, {"truncate": 300}, {"truncate": 0}, {"pause": 500}]
)
"""Two truncates are sent before the first is answered."""
REFUSED_AMONG_OTHERS: Final = _semantic(
    [_ONE_SECOND],
    [{"text": "yes"}, {"pause": 1500}, {"truncate": 0}, {"truncate": 1000}, {"truncate": 0}, {"pause": 500}],
)
"""Three truncates are sent before the first is answered, and the second is refused."""
REFUSED_AFTER_THE_COMMIT: Final = _semantic(
    [{**_ONE_SECOND, "end": "dangling"}, _ONE_SECOND],
    [
        *({"text": "yes"}, {"pause": 1500}, {"speak": 1.13}, {"pause": 490}),
        *({"cancel": True}, {"truncate": "played"}, {"text": "yes"}, {"pause": 700}),
    ],
)
"""The client asks at the moment of the commit, and the server comes to it after its own attempt."""
