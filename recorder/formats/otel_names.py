"""What the recorder's columns are called in OpenTelemetry: the one place that knows.

From the semantic conventions for generative AI (gen_ai.*), for servers and for errors, as packaged with version 1.45 of
the SDK; where they have no name for a thing, it is `recorder.` and the column's own. The conventions for generative AI
are "in development": names may still move.
"""

from __future__ import annotations

from typing import Final

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
OUTPUT_TYPE: Final = "gen_ai.output.type"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
TOOL_TYPE: Final = "gen_ai.tool.type"
LABEL: Final = "recorder.label."

CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"

SESSION: Final = {
    "session_id": "recorder.session_id",
    "server_session_id": "gen_ai.conversation.id",
    "model": "gen_ai.request.model",
    "user_agent": "user_agent.original",
    "status": "recorder.status",
    "closed_by": "recorder.closed_by",
    "close_code": "recorder.close_code",
    "refusal_status": "http.response.status_code",
    "connect_seconds": "recorder.connect_seconds",
    "handshake_seconds": "recorder.handshake_seconds",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "audio_in_seconds": "recorder.audio_in_seconds",
    "audio_out_seconds": "recorder.audio_out_seconds",
    "heard_seconds": "recorder.heard_seconds",
    "interruption_count": "recorder.interruption_count",
    "error_count": "recorder.error_count",
    "cost_usd": "recorder.cost_usd",
}

RESPONSE: Final = {
    "response_id": "gen_ai.response.id",
    "model": "gen_ai.response.model",
    "trigger": "recorder.trigger",
    "out_of_band": "recorder.out_of_band",
    "status": "recorder.status",
    "status_reason": "recorder.status_reason",
    "queue_seconds": "recorder.queue_seconds",
    "time_to_first_token_seconds": "gen_ai.response.time_to_first_chunk",
    "time_to_first_audio_seconds": "recorder.time_to_first_audio_seconds",
    "voice_to_voice_seconds": "recorder.voice_to_voice_seconds",
    "audio_ms": "recorder.audio_ms",
    "stall_ms": "recorder.stall_ms",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "cost_usd": "recorder.cost_usd",
}

TOOL_CALL: Final = {
    "name": "gen_ai.tool.name",
    "call_id": "gen_ai.tool.call.id",
    "arguments_valid": "recorder.arguments_valid",
    "unanswered": "recorder.unanswered",
    "output_bytes": "recorder.output_bytes",
    "resume_seconds": "recorder.resume_seconds",
}
"""Of a function call; what was said in it is in `TOOL_CONTENT`."""

TOOL_CONTENT: Final = {"arguments": "gen_ai.tool.call.arguments", "output": "gen_ai.tool.call.result"}

SPEECH: Final = {
    "item_id": "recorder.item_id",
    "audio_start_ms": "recorder.audio_start_ms",
    "audio_end_ms": "recorder.audio_end_ms",
}

INTERRUPTION: Final = {
    "source": "recorder.source",
    "heard_ms": "recorder.heard_ms",
    "unheard_ms": "recorder.unheard_ms",
    "reaction_seconds": "recorder.reaction_seconds",
    "stop_seconds": "recorder.stop_seconds",
    "truncate_status": "recorder.truncate_status",
    "false_barge_in": "recorder.false_barge_in",
}
