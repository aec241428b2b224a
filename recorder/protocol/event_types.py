"""The vocabulary: every event name that is known, with who sends it, what it is about, and its GA name.

Data, not rules: a name that is not here is recorded, decoded and shown like any other, and listed as drift.
`docs/events.md` is this table (`reference()`).
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Sender = Literal["client", "server", "both", "recorder"]
Dialect = Literal["ga", "beta", "translation", "live", "voice_live", "xai", "websocket", "recorder"]


class EventType(msgspec.Struct, frozen=True):
    """One row of the vocabulary.

    Attributes:
        name: the wire's `type`.
        direction: who sends it.
        family: what it is about; groups of one colour in charts.
        canonical: the GA name of the same thing; the name itself where GA has no other.
        dialect: where the name comes from.
        description: what it means, one sentence.
    """

    name: str
    direction: Sender
    family: str
    canonical: str
    dialect: Dialect
    description: str


_BETA_NAMES: Final = {
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
}


def canonical(name: str) -> str:
    """The GA name of an event type; an unknown name is its own."""
    return _BETA_NAMES.get(name, name)


_TABLE: Final = """
ga client session
    session.update: Asks for a changed session configuration.
ga server session
    session.created: The session exists; carries its initial configuration.
    session.updated: A `session.update` took effect; carries the configuration now in force.
ga client input_audio
    input_audio_buffer.append: Adds base64 audio to the input buffer.
    input_audio_buffer.clear: Throws the input buffer away.
    input_audio_buffer.commit: Makes the input buffer a user item.
ga server input_audio
    input_audio_buffer.cleared: The input buffer was thrown away.
    input_audio_buffer.committed: The input buffer became a user item, by commit or by VAD.
    input_audio_buffer.dtmf_event_received: The caller pressed a telephone key (SIP).
    input_audio_buffer.speech_started: VAD heard speech begin.
    input_audio_buffer.speech_stopped: VAD heard speech end.
    input_audio_buffer.timeout_triggered: Nobody spoke for `idle_timeout_ms`; the server goes on by itself.
ga client conversation
    conversation.item.create: Puts an item into the conversation.
    conversation.item.delete: Takes an item out of the conversation.
    conversation.item.retrieve: Asks for the server's copy of an item.
    conversation.item.truncate: Cuts an assistant's audio to what was played.
ga server conversation
    conversation.created: The session's conversation exists.
    conversation.item.added: An item joined the conversation; its content may still grow.
    conversation.item.created: An item joined the conversation (beta; GA splits it into added and done).
    conversation.item.deleted: An item was taken out.
    conversation.item.done: An item is complete.
    conversation.item.retrieved: The server's copy of an item, audio included.
    conversation.item.truncated: An assistant's audio was cut.
ga server transcription
    conversation.item.input_audio_transcription.completed: The transcript of a user item, with its usage.
    conversation.item.input_audio_transcription.delta: A piece of a user item's transcript.
    conversation.item.input_audio_transcription.failed: A user item could not be transcribed.
    conversation.item.input_audio_transcription.segment: A span of a user item's transcript, with its speaker.
    conversation.item.input_audio_transcription.updated: A user item's transcript was revised.
ga client response
    response.cancel: Stops a response.
    response.create: Asks the model to respond.
ga server response
    response.created: A response began.
    response.done: A response ended; carries its status, output and usage.
    response.output_item.added: A response began an item.
    response.output_item.done: A response finished an item.
    response.content_part.added: An item began a content part.
    response.content_part.done: An item finished a content part.
    response.output_text.delta: A piece of text output.
    response.output_text.done: A text output is complete.
    response.output_audio.delta: A piece of audio output, base64.
    response.output_audio.done: An audio output is complete.
    response.output_audio_transcript.delta: A piece of the transcript of audio output.
    response.output_audio_transcript.done: The transcript of an audio output is complete.
ga server tool
    response.function_call_arguments.delta: A piece of a function call's JSON arguments.
    response.function_call_arguments.done: A function call's arguments are complete; the client is to answer.
ga server mcp
    mcp_list_tools.in_progress: The server began to ask an MCP server for its tools.
    mcp_list_tools.completed: The tools of an MCP server are known.
    mcp_list_tools.failed: The tools of an MCP server could not be had.
    response.mcp_call_arguments.delta: A piece of an MCP call's JSON arguments.
    response.mcp_call_arguments.done: An MCP call's arguments are complete.
    response.mcp_call.in_progress: An MCP call began.
    response.mcp_call.completed: An MCP call succeeded.
    response.mcp_call.failed: An MCP call failed.
ga client output_audio
    output_audio_buffer.clear: Stops what is being played (WebRTC, SIP).
ga server output_audio
    output_audio_buffer.started: Playing of a response began (WebRTC, SIP).
    output_audio_buffer.stopped: Everything was played (WebRTC, SIP).
    output_audio_buffer.cleared: Playing was cut off (WebRTC, SIP).
ga server rate_limits
    rate_limits.updated: What is left of the rate limits.
ga server error
    error: Something went wrong; the session mostly goes on.
beta client session
    transcription_session.update: Asks for a changed transcription session.
beta server session
    transcription_session.created: A transcription session exists.
    transcription_session.updated: A `transcription_session.update` took effect.
beta server response
    response.audio.delta: Beta name of `response.output_audio.delta`.
    response.audio.done: Beta name of `response.output_audio.done`.
    response.audio_transcript.delta: Beta name of `response.output_audio_transcript.delta`.
    response.audio_transcript.done: Beta name of `response.output_audio_transcript.done`.
    response.text.delta: Beta name of `response.output_text.delta`.
    response.text.done: Beta name of `response.output_text.done`.
translation client session
    session.close: Asks for the end of the session once all input is translated.
translation client input_audio
    session.input_audio_buffer.append: Adds base64 audio to be translated.
translation server session
    session.closed: The session is over.
translation server transcription
    session.input_transcript.delta: A piece of the transcript of what was said.
translation server response
    session.output_audio.delta: A piece of output audio, base64; says its own rate and channels.
    session.output_transcript.delta: A piece of the transcript of output audio.
live client session
    session.start: Starts a session with its configuration.
    session.commentary.append: Gives context that the model may speak about.
    session.instructions.append: Adds developer instructions to a running session.
    session.thinking.append: Gives silent context or progress.
live server session
    session.started: The session runs; carries its configuration.
    session.commentary.appended: Commentary was accepted.
    session.instructions.appended: Instructions were accepted.
    session.thinking.appended: Silent context was accepted.
    session.delegation.created: The model handed work to a back end.
    session.usage.updated: Usage of the whole session so far: cumulative, not to be summed.
    info: A notice about the session.
live both input_audio
    session.input_audio.append: Input audio, base64; a sideband gets it reflected by the server.
live client input_audio
    session.input_audio.mute: Mutes the input to the model.
    session.input_audio.unmute: Takes the mute away.
live server input_audio
    session.input_audio.muted: The input is muted.
    session.input_audio.unmuted: The input is heard again.
live client output_audio
    session.output_audio.fixture.play: Plays a piece of ready-made audio, base64.
live server output_audio
    session.output_audio.fixture.playing: Ready-made audio began to play.
    session.output_audio.fixture.played: Ready-made audio was played.
live client response
    response.item.create: Adds an item to the input of delegated responses.
live server response
    response.event: Wraps one event of a delegated response.
live client decision
    decision.create: Asks for the configured questions to be decided.
    decision.item.create: Adds an input item for decisions.
    decision.item.delete: Takes an input item for decisions away.
live server decision
    decision.event: Wraps one event of a decision.
    decision.completed: A decision was made; comes within `decision.event`.
    decision.item.created: An input item for decisions was added.
    decision.item.deleted: An input item for decisions was taken away.
live both transport
    transport.dtmf.send: Sends a telephone key (SIP); older servers confirm by the same name.
live server transport
    transport.dtmf.sent: A telephone key was sent (SIP).
    transport.dtmf.received: The caller pressed a telephone key (SIP).
    transport.ringing: The called telephone rings (SIP).
    transport.answered: The call was answered (SIP).
    transport.failed: The call could not be set up (SIP).
voice_live client input_audio
    input_audio.turn.start: Begins a turn of input audio.
    input_audio.turn.append: Adds base64 audio to a turn.
    input_audio.turn.end: Ends a turn of input audio.
    input_audio.turn.cancel: Throws a turn of input audio away.
    input_audio.clear: Throws all input audio away.
voice_live client avatar
    session.avatar.connect: Offers a WebRTC connection for the avatar's video.
voice_live server avatar
    session.avatar.connecting: Answers the offer for the avatar's video.
    session.avatar.switch_to_idle: The avatar rests.
    session.avatar.switch_to_speaking: The avatar speaks.
    response.animation_blendshapes.delta: Face animation frames that go with the audio.
    response.animation_blendshapes.done: Face animation is complete.
    response.animation_viseme.delta: A mouth shape and its place in the audio.
    response.animation_viseme.done: Mouth shapes are complete.
    response.video.delta: A piece of the avatar's video.
voice_live server response
    response.audio_timestamp.delta: A word and its place in the audio.
    response.audio_timestamp.done: Word places are complete.
voice_live server tool
    response.foundry_agent_call_arguments.delta: A piece of the arguments of a call to a hosted agent.
    response.foundry_agent_call_arguments.done: The arguments of a call to a hosted agent are complete.
    response.foundry_agent_call.in_progress: A call to a hosted agent began.
    response.foundry_agent_call.completed: A call to a hosted agent succeeded.
    response.foundry_agent_call.failed: A call to a hosted agent failed.
voice_live server error
    warning: Something is not as asked; the session goes on.
xai server session
    ping: Keeps the connection awake; a message, not a control frame.
websocket both connection
    websocket.ping: A ping frame.
    websocket.pong: A pong frame.
    websocket.close: A close frame, with code and reason.
recorder recorder recorder
    recorder.session_opened: A client's request was read, or a file imported; carries the session's facts.
    recorder.handshake_completed: The upstream accepted; carries its answer and how long it took.
    recorder.gap: Bytes were forwarded and not recorded.
    recorder.session_closed: The session ended; says by whom, with which code, and how much was carried.
"""
"""Heads `dialect sender family`, below each its `name: meaning` rows."""


def _read_table() -> tuple[EventType, ...]:
    rows: list[EventType] = []
    head: list[str] = []
    for line in _TABLE.strip().splitlines():
        if not line.startswith(" "):
            head = line.split()
            continue
        name, description = line.strip().split(": ", 1)
        row = dict(zip(("dialect", "direction", "family"), head, strict=True))
        row |= {"name": name, "canonical": canonical(name), "description": description}
        rows.append(msgspec.convert(row, EventType))
    return tuple(rows)


VOCABULARY: Final[tuple[EventType, ...]] = _read_table()
_BY_NAME: Final = {event_type.name: event_type for event_type in VOCABULARY}


def is_known(name: str | None) -> bool:
    """Whether the vocabulary has this name."""
    return name in _BY_NAME


def lookup(name: str) -> EventType | None:
    """The row of a name; None for an unknown one."""
    return _BY_NAME.get(name)


def reference() -> str:
    """The vocabulary as a Markdown page, one table a family, in the order of the vocabulary."""
    lines = [
        "# Events",
        "",
        "Every event name that the recorder knows. Others are recorded all the same, and reported as drift.",
        "Models use the canonical name; the stored `type` is always what was sent.",
    ]
    families = dict.fromkeys(event_type.family for event_type in VOCABULARY)
    for family in families:
        lines += [
            "",
            f"## {family}",
            "",
            "| name | sent by | dialect | canonical name | meaning |",
            "|---|---|---|---|---|",
        ]
        for row in VOCABULARY:
            if row.family == family:
                other = f"`{row.canonical}`" if row.canonical != row.name else ""
                lines.append(f"| `{row.name}` | {row.direction} | {row.dialect} | {other} | {row.description} |")
    return "\n".join(lines) + "\n"
