"""The rows of the vocabulary: which events there are, and which fields each has at its top level.

Names and fields are those of the protocols' published type definitions: the Realtime API (GA, beta, translation, Live),
Azure Voice Live, and what servers of xAI send. `event_types` reads the rows; a new event is two new lines here.
"""

from typing import Final

ROWS: Final = """
ga client session
    session.update: Asks for a changed session configuration.
        event_id? session
ga server session
    session.created: The session exists; carries its initial configuration.
        event_id session
    session.updated: A `session.update` took effect; carries the configuration now in force.
        event_id client_event_id? session
ga client input_audio
    input_audio_buffer.append: Adds base64 audio to the input buffer.
        event_id? audio
    input_audio_buffer.clear: Throws the input buffer away.
        event_id?
    input_audio_buffer.commit: Makes the input buffer a user item.
        event_id?
ga server input_audio
    input_audio_buffer.cleared: The input buffer was thrown away.
        event_id
    input_audio_buffer.committed: The input buffer became a user item, by commit or by VAD.
        event_id item_id previous_item_id?
    input_audio_buffer.dtmf_event_received: The caller pressed a telephone key (SIP).
        event_id? event received_at
    input_audio_buffer.speech_started: VAD heard speech begin.
        event_id item_id audio_start_ms
    input_audio_buffer.speech_stopped: VAD heard speech end.
        event_id item_id audio_end_ms
    input_audio_buffer.timeout_triggered: Nobody spoke for `idle_timeout_ms`; the server goes on by itself.
        event_id item_id audio_start_ms audio_end_ms
ga client conversation
    conversation.item.create: Puts an item into the conversation.
        event_id? previous_item_id? item
    conversation.item.delete: Takes an item out of the conversation.
        event_id? item_id
    conversation.item.retrieve: Asks for the server's copy of an item.
        event_id? item_id
    conversation.item.truncate: Cuts an assistant's audio to what was played.
        event_id? item_id content_index audio_end_ms
ga server conversation
    conversation.created: The session's conversation exists.
        event_id conversation
    conversation.item.added: An item joined the conversation; its content may still grow.
        event_id previous_item_id? item
    conversation.item.created: An item joined the conversation (beta; GA splits it into added and done).
        event_id previous_item_id? item
    conversation.item.deleted: An item was taken out.
        event_id item_id
    conversation.item.done: An item is complete.
        event_id previous_item_id? item
    conversation.item.retrieved: The server's copy of an item, audio included.
        event_id item
    conversation.item.truncated: An assistant's audio was cut.
        event_id item_id content_index audio_end_ms
ga server transcription
    conversation.item.input_audio_transcription.completed: The transcript of a user item, with its usage.
        event_id item_id content_index transcript usage languages? logprobs?
    conversation.item.input_audio_transcription.delta: A piece of a user item's transcript.
        event_id item_id content_index? delta? logprobs? obfuscation? ts?
    conversation.item.input_audio_transcription.failed: A user item could not be transcribed.
        event_id item_id content_index error
    conversation.item.input_audio_transcription.segment: A span of a user item's transcript, with its speaker.
        event_id item_id content_index id text speaker start end
    conversation.item.input_audio_transcription.updated: A user item's transcript was revised.
        event_id? item_id content_index? transcript logprobs?
ga client response
    response.cancel: Stops a response.
        event_id? response_id?
    response.create: Asks the model to respond.
        event_id? response? additional_instructions?
ga server response
    response.created: A response began.
        event_id response timestamp?
    response.done: A response ended; carries its status, output and usage.
        event_id response usage?
    response.output_item.added: A response began an item.
        event_id response_id output_index item
    response.output_item.done: A response finished an item.
        event_id response_id output_index item
    response.content_part.added: An item began a content part.
        event_id response_id item_id output_index content_index part
    response.content_part.done: An item finished a content part.
        event_id response_id item_id output_index content_index part
    response.output_text.delta: A piece of text output.
        event_id response_id item_id output_index content_index delta obfuscation? ts?
    response.output_text.done: A text output is complete.
        event_id response_id item_id output_index content_index text
    response.output_audio.delta: A piece of audio output, base64.
        event_id response_id item_id output_index content_index delta obfuscation? ts?
    response.output_audio.done: An audio output is complete.
        event_id response_id item_id output_index content_index
    response.output_audio_transcript.delta: A piece of the transcript of audio output.
        event_id response_id item_id output_index content_index delta obfuscation? ts?
    response.output_audio_transcript.done: The transcript of an audio output is complete.
        event_id response_id item_id output_index content_index transcript
ga server tool
    response.function_call_arguments.delta: A piece of a function call's JSON arguments.
        event_id response_id item_id call_id output_index delta obfuscation? ts?
    response.function_call_arguments.done: A function call's arguments are complete; the client is to answer.
        event_id response_id item_id call_id output_index arguments name
ga server mcp
    mcp_list_tools.in_progress: The server began to ask an MCP server for its tools.
        event_id item_id
    mcp_list_tools.completed: The tools of an MCP server are known.
        event_id item_id
    mcp_list_tools.failed: The tools of an MCP server could not be had.
        event_id item_id
    response.mcp_call_arguments.delta: A piece of an MCP call's JSON arguments.
        event_id response_id item_id output_index delta obfuscation? ts?
    response.mcp_call_arguments.done: An MCP call's arguments are complete.
        event_id response_id item_id output_index arguments
    response.mcp_call.in_progress: An MCP call began.
        event_id item_id output_index
    response.mcp_call.completed: An MCP call succeeded.
        event_id item_id output_index
    response.mcp_call.failed: An MCP call failed.
        event_id item_id output_index
ga client output_audio
    output_audio_buffer.clear: Stops what is being played (WebRTC, SIP).
        event_id?
ga server output_audio
    output_audio_buffer.started: Playing of a response began (WebRTC, SIP).
        event_id response_id
    output_audio_buffer.stopped: Everything was played (WebRTC, SIP).
        event_id response_id
    output_audio_buffer.cleared: Playing was cut off (WebRTC, SIP).
        event_id response_id
ga server rate_limits
    rate_limits.updated: What is left of the rate limits.
        event_id rate_limits
ga server error
    error: Something went wrong; the session mostly goes on.
        event_id client_event_id? error
beta client session
    transcription_session.update: Asks for a changed transcription session.
        event_id? session
beta server session
    transcription_session.created: A transcription session exists.
        event_id session
    transcription_session.updated: A `transcription_session.update` took effect.
        event_id session
beta server response
    response.audio.delta: Beta name of `response.output_audio.delta`.
        event_id response_id item_id output_index content_index delta obfuscation? ts?
    response.audio.done: Beta name of `response.output_audio.done`.
        event_id response_id item_id output_index content_index
    response.audio_transcript.delta: Beta name of `response.output_audio_transcript.delta`.
        event_id response_id item_id output_index content_index delta obfuscation? ts?
    response.audio_transcript.done: Beta name of `response.output_audio_transcript.done`.
        event_id response_id item_id output_index content_index transcript
    response.text.delta: Beta name of `response.output_text.delta`.
        event_id response_id item_id output_index content_index delta obfuscation? ts?
    response.text.done: Beta name of `response.output_text.done`.
        event_id response_id item_id output_index content_index text
translation client session
    session.close: Asks for the end of the session once all input is translated.
        event_id?
translation client input_audio
    session.input_audio_buffer.append: Adds base64 audio to be translated.
        event_id? audio
translation server session
    session.closed: The session is over.
        event_id client_event_id? reason? session? usage?
translation server transcription
    session.input_transcript.delta: A piece of the transcript of what was said.
        event_id client_event_id? delta elapsed_ms? start_ms? end_ms?
translation server response
    session.output_audio.delta: A piece of output audio, base64; says its own rate and channels.
        event_id? delta elapsed_ms? start_ms? end_ms? format? sample_rate? channels?
    session.output_transcript.delta: A piece of the transcript of output audio.
        event_id client_event_id? delta elapsed_ms? start_ms? end_ms?
live client session
    session.start: Starts a session with its configuration.
        event_id? session
    session.commentary.append: Gives context that the model may speak about.
        event_id? content delegation_id?
    session.instructions.append: Adds developer instructions to a running session.
        event_id? content delegation_id?
    session.thinking.append: Gives silent context or progress.
        event_id? content delegation_id?
live server session
    session.started: The session runs; carries its configuration.
        event_id client_event_id? session
    session.commentary.appended: Commentary was accepted.
        event_id client_event_id? end_ms start_ms
    session.instructions.appended: Instructions were accepted.
        event_id client_event_id? end_ms start_ms
    session.thinking.appended: Silent context was accepted.
        event_id client_event_id? end_ms start_ms
    session.delegation.created: The model handed work to a back end.
        event_id client_event_id? delegation offset_ms
    session.usage.updated: Usage of the whole session so far: cumulative, not to be summed.
        event_id client_event_id? usage context_window?
    info: A notice about the session.
        event_id client_event_id? code message
live both input_audio
    session.input_audio.append: Input audio, base64; a sideband gets it reflected by the server.
        event_id? audio
live client input_audio
    session.input_audio.mute: Mutes the input to the model.
        event_id?
    session.input_audio.unmute: Takes the mute away.
        event_id?
live server input_audio
    session.input_audio.muted: The input is muted.
        event_id client_event_id?
    session.input_audio.unmuted: The input is heard again.
        event_id client_event_id?
live client output_audio
    session.output_audio.fixture.play: Plays a piece of ready-made audio, base64.
        event_id? audio
live server output_audio
    session.output_audio.fixture.playing: Ready-made audio began to play.
        event_id client_event_id?
    session.output_audio.fixture.played: Ready-made audio was played.
        event_id client_event_id?
live client response
    response.item.create: Adds an item to the input of delegated responses.
        event_id? item
live server response
    response.event: Wraps one event of a delegated response.
        event_id client_event_id? event delegation_id?
live client decision
    decision.create: Asks for the configured questions to be decided.
        event_id?
    decision.item.create: Adds an input item for decisions.
        event_id? item
    decision.item.delete: Takes an input item for decisions away.
        event_id? item_id
live server decision
    decision.event: Wraps one event of a decision.
        event_id delegation_id? event source_event_id? source_event_type? trigger_id?
    decision.completed: A decision was made; comes within `decision.event`.
        event_id? decision
    decision.item.created: An input item for decisions was added.
        event_id client_event_id? item
    decision.item.deleted: An input item for decisions was taken away.
        event_id client_event_id? item_id
live both transport
    transport.dtmf.send: Sends a telephone key (SIP); older servers confirm by the same name.
        event_id? client_event_id? event
live server transport
    transport.dtmf.sent: A telephone key was sent (SIP).
        event_id client_event_id? event
    transport.dtmf.received: The caller pressed a telephone key (SIP).
        event_id event
    transport.ringing: The called telephone rings (SIP).
        event_id session_id
    transport.answered: The call was answered (SIP).
        event_id session_id
    transport.failed: The call could not be set up (SIP).
        event_id error session_id
voice_live client input_audio
    input_audio.turn.start: Begins a turn of input audio.
        event_id? turn_id
    input_audio.turn.append: Adds base64 audio to a turn.
        event_id? turn_id audio
    input_audio.turn.end: Ends a turn of input audio.
        event_id? turn_id
    input_audio.turn.cancel: Throws a turn of input audio away.
        event_id? turn_id
    input_audio.clear: Throws all input audio away.
        event_id?
voice_live client conversation
    input_text.delta: A piece of text input that is still being written.
        event_id? id delta content_index?
    input_text.done: Text input is complete.
        event_id? id content_index?
    mcp_approval_response: Allows or refuses an MCP call that waits for approval.
        event_id? approval_request_id? approve? reason?
voice_live client avatar
    session.avatar.connect: Offers a WebRTC connection for the avatar's video.
        event_id? client_sdp
voice_live server avatar
    session.avatar.connecting: Answers the offer for the avatar's video.
        event_id? server_sdp
    session.avatar.switch_to_idle: The avatar rests.
        event_id? turn_id?
    session.avatar.switch_to_speaking: The avatar speaks.
        event_id? turn_id?
    response.animation_blendshapes.delta: Face animation frames that go with the audio.
        event_id? response_id item_id output_index content_index frame_index frames
    response.animation_blendshapes.done: Face animation is complete.
        event_id? response_id item_id output_index
    response.animation_viseme.delta: A mouth shape and its place in the audio.
        event_id? response_id item_id output_index content_index audio_offset_ms viseme_id
    response.animation_viseme.done: Mouth shapes are complete.
        event_id? response_id item_id output_index content_index
    response.video.delta: A piece of the avatar's video.
        event_id? response_id? item_id? output_index content_index? codec delta
voice_live server response
    response.audio_timestamp.delta: A word and its place in the audio.
        event_id? response_id item_id output_index content_index audio_offset_ms audio_duration_ms text timestamp_type
    response.audio_timestamp.done: Word places are complete.
        event_id? response_id item_id output_index content_index
    response.audio_transcript.annotation.added: A source or remark was attached to the transcript of audio output.
        event_id? response_id item_id output_index content_index annotation_index? annotation
    response.invocation.delta: A piece of what a hosted agent was invoked with or gives back.
        event_id? response_id? item_id? output_index? delta
voice_live server tool
    response.foundry_agent_call_arguments.delta: A piece of the arguments of a call to a hosted agent.
        event_id? response_id item_id output_index delta
    response.foundry_agent_call_arguments.done: The arguments of a call to a hosted agent are complete.
        event_id? response_id item_id output_index arguments
    response.foundry_agent_call.in_progress: A call to a hosted agent began.
        event_id? item_id output_index agent_response_id?
    response.foundry_agent_call.completed: A call to a hosted agent succeeded.
        event_id? item_id output_index
    response.foundry_agent_call.failed: A call to a hosted agent failed.
        event_id? item_id output_index
    response.web_search_call.in_progress: A web search by the server began.
        event_id? item_id output_index
    response.web_search_call.searching: A web search by the server is looking.
        event_id? item_id output_index
    response.web_search_call.completed: A web search by the server is done.
        event_id? item_id output_index
    response.file_search_call.in_progress: A file search by the server began.
        event_id? item_id output_index
    response.file_search_call.searching: A file search by the server is looking.
        event_id? item_id output_index
    response.file_search_call.completed: A file search by the server is done.
        event_id? item_id output_index
voice_live server error
    warning: Something is not as asked; the session goes on.
        event_id? warning
xai server session
    ping: Keeps the connection awake; a message, not a control frame.
        event_id? timestamp?
websocket both connection
    websocket.ping: A ping frame.
    websocket.pong: A pong frame.
    websocket.close: A close frame, with code and reason.
        code reason?
recorder recorder recorder
    recorder.session_opened: A client's request was read, or a file imported; carries the session's facts.
        session_id? source? opened_at? opened_at_ns? request? client? upstream? route? labels?
        recording? file? recorder_version?
    recorder.handshake_completed: The upstream accepted; carries its answer and how long it took.
        status headers? connect_seconds? handshake_seconds? interim_statuses?
    recorder.gap: Bytes were forwarded and not recorded.
        direction bytes reason
    recorder.session_closed: The session ended; says by whom, with which code, and how much was carried.
        closed_by? close_code? close_reason? status? error? client_bytes? server_bytes? missed_bytes?
        left_out? recording_stopped? connect_seconds? handshake_seconds? added_latency?
        interim_statuses?
"""
"""Heads `dialect sender family`, below each its `name: meaning`, below that its fields beside `type`; `?` marks those
that may be missing."""

OBJECTS: Final = """
item
    id object type status role name call_id arguments output content phase input namespace
    approval_request_id approve reason server_label tools error
response
    id object status status_details output usage conversation_id conversation model modalities output_modalities
    instructions voice audio output_audio_format temperature max_output_tokens tools tool_choice parallel_tool_calls
    prompt reasoning input metadata commit cancel_previous append_input_items input_items invoke_input
    pre_generated_assistant_message interim_response reasoning_effort
session
    id object type model expires_at client_secret modalities output_modalities instructions voice speed audio
    input_audio_format output_audio_format input_audio_transcription input_audio_noise_reduction turn_detection tools
    tool_choice parallel_tool_calls temperature max_output_tokens max_response_output_tokens prompt reasoning
    reasoning_effort truncation tracing include metadata agent animation avatar input_audio_echo_cancellation
    input_audio_sampling_rate output_audio_timestamp_types interim_response client delegation input safety_identifier
    store triggers status
error
    type code message param event_id client_event_id
"""
"""The fields of the objects that events carry under these names, in any dialect."""
