"""Every word that pages and charts show, so that they can be read, corrected and translated in one place."""

from __future__ import annotations

from typing import Final

PRODUCT: Final = "Realtime Recorder"
SKIP: Final = "Skip to content"
NAV_OVERVIEW: Final = "Overview"
NAV_SESSIONS: Final = "Sessions"
NAV_FINDINGS: Final = "Findings"
NAV_API: Final = "API"
NONE: Final = "–"
NEEDS_SCRIPT: Final = "Charts need JavaScript; all numbers are on this page without it."

PERIODS: Final = {"1h": "1 h", "24h": "24 h", "7d": "7 d", "30d": "30 d", "all": "All"}
PERIOD_LABEL: Final = "Period"
PERIODS_LONG: Final = {
    "1h": "the last hour",
    "24h": "the last 24 hours",
    "7d": "the last 7 days",
    "30d": "the last 30 days",
    "all": "all time",
}

TILE_SESSIONS: Final = "Sessions"
TILE_LIVE: Final = "live now"
TILE_FIRST_AUDIO: Final = "First audio"
TILE_VOICE_TO_VOICE: Final = "Voice to voice"
TILE_INTERRUPTIONS: Final = "Interruptions"
TILE_TOKENS: Final = "Tokens"
TILE_COST: Final = "Cost"
TILE_PACE: Final = "Pace of callers"
TILE_ERRORS: Final = "Errors"
HELP_FIRST_AUDIO: Final = "From what triggered a response (the end of speech, or response.create) to its first audio."
HELP_VOICE_TO_VOICE: Final = "From the end of the caller's voice to the first audio of the answer: what a caller feels."
HELP_PERCENTILES: Final = "p95 needs 20 responses, p99 needs 100."
HELP_INTERRUPTED: Final = "Share of the spoken responses that were interrupted."
HELP_COST: Final = "At list prices, in US dollars. Sessions whose model has no known price are not in the sum."
HELP_PACE: Final = "Audio that clients sent ÷ the time they took, median: 1 is real time. Off: by more than a tenth."
NOTE_PACE: Final = "{off} off · n\u00a0=\u00a0{n}"
NOTE_INTERRUPTED: Final = "{share} · n\u00a0=\u00a0{n}"
NOTE_COST: Final = "{cost} / min"
NOTE_UNPRICED: Final = "{n} unpriced"
NOTE_TOOL_CALLS: Final = "Tool calls: {n}"
NOTE_CACHED: Final = "{share} % of input cached"
NOTE_PERCENTILE: Final = "p95\u00a0{p95} · n\u00a0=\u00a0{n}"

CHART_SESSIONS: Final = "Sessions"
CHART_LATENCY: Final = "Time to first audio"
CHART_TOKENS: Final = "Tokens"
CHART_INTERRUPTIONS: Final = "Interruptions"
CHART_INTERRUPTED: Final = "%{customdata[0]} of spoken responses (n = %{customdata[1]})"
CHART_COST: Final = "Cost"
CHART_COST_PER_MINUTE: Final = "Cost per minute"
A_MINUTE: Final = "a minute"
CHART_CACHED_INPUT: Final = "Input, cached"
CHART_INPUT: Final = "Input"
CHART_OUTPUT: Final = "Output"
CHART_RESPONSE: Final = "each response"
CHART_RESPONSE_NO: Final = "response %{customdata[0]}"
CHARTS_UNTIMED: Final = "without times (imported): counted above, not in the charts."
CHARTS_NO_TIMES: Final = "These sessions were imported without times, so there is nothing to draw over time."

RECENT: Final = "Recent sessions"
ALL_SESSIONS: Final = "All sessions"

SLO: Final = "Objectives"
SLO_HINT: Final = "Service level objectives, and how fast their error budgets burn"
SLO_NONE: Final = "None are configured: recorder serve --slo FILE"
SLO_STATES: Final = {"met": "met", "missed": "missed", "no data": "no data"}
SLO_SEVERITIES: Final = {"met": "info", "missed": "error", "no data": ""}
SLO_ALERTING: Final = "burning too fast"
SLO_STANDS: Final = "{good} good of {objective} wanted; {left} of the error budget left"
SLO_OVERSPENT: Final = "{good} good of {objective} wanted; the error budget is spent {times} times over"
SLO_SPAN: Final = "{window}: {bad} bad of {n}, burn rate {rate}"

FINDINGS: Final = "Findings"
FINDINGS_HINT: Final = "Known mistakes that these recordings show"
FINDINGS_RECENT: Final = "Findings in recent sessions"
FINDINGS_LOOK: Final = "Look for known mistakes"
FINDINGS_FAILED: Final = "Findings could not be looked for"
FINDINGS_NONE: Final = "Nothing found."
FINDINGS_MORE: Final = "{n} more"
FINDINGS_OF: Final = "{n} of {total} sessions"
FINDINGS_LOOKED: Final = "Sessions looked at: {n}"
SEVERITIES: Final = {"error": "Error", "warning": "Warning", "info": "Info"}
SEVERITY_COUNTS: Final = {"error": "Errors: {n}", "warning": "Warnings: {n}", "info": "Info: {n}"}
EVENT_NO: Final = "Event {n}"

EMPTY_STORE: Final = "No sessions recorded yet"
EMPTY_STORE_DO: Final = "Start the recorder in front of the Realtime API:"
EMPTY_STORE_CHANGE: Final = "and change one URL in your app:"
EMPTY_STORE_FROM: Final = "wss://api.openai.com/v1/realtime"
EMPTY_STORE_TO: Final = "ws://127.0.0.1:8765/v1/realtime"
EMPTY_STORE_PYTHON: Final = 'AsyncOpenAI(websocket_base_url="ws://127.0.0.1:8765/v1")'
EMPTY_STORE_IMPORT: Final = "Or bring in what you have:"
EMPTY_STORE_THEN: Final = "Sessions appear here by themselves, while they run."
EMPTY_PERIOD: Final = "No sessions in"
EMPTY_PERIOD_DO: Final = "Show all time"
EMPTY_FILTER: Final = "No session fits these filters"
EMPTY_FILTER_DO: Final = "Clear the filters"

SEARCH: Final = "Search"
SEARCH_HINT: Final = "Id, model, label, or what was said"
ANY_MODEL: Final = "Any model"
ANY_STATUS: Final = "Any status"
ANY_TIME: Final = "Any time"
FILTER: Final = "Apply"
CLEAR: Final = "Clear"
PREVIOUS: Final = "Previous"
NEXT: Final = "Next"

STATUS: Final = {"running": "Live", "closed": "Closed", "refused": "Refused", "lost": "Lost"}
"""How a session stands, as a badge says it."""

COLUMNS: Final = {
    "status": "Status",
    "session": "Session",
    "opened_at": "Started",
    "model": "Model",
    "duration": "Duration",
    "turns": "Turns",
    "interruptions": "Interruptions",
    "first_audio": "First audio p50",
    "tokens": "Tokens",
    "cost": "Cost",
    "errors": "Errors",
    "events": "Events",
}
NO_TIME: Final = "no times"
IMPORTED: Final = "imported"

TIMELINE: Final = "Timeline"
TIMELINE_HINT: Final = "Drag to zoom, double-click to reset, click to find the event in the list."
TIMELINE_THINNED: Final = "{drawn} of {total} events drawn"
TIMELINE_UNTIMED: Final = "This recording has no times: the axis counts events."
LANES: Final = {
    "user": "User",
    "assistant": "Assistant",
    "responses": "Responses",
    "tools": "Tools",
    "server": "Server events",
    "client": "Client events",
    "recorder": "Recorder",
}
SPAN_SPEECH: Final = "User speech"
SPAN_TYPED: Final = "Typed turn"
SPAN_HEARD: Final = "Heard"
SPAN_UNHEARD: Final = "Generated, unheard"
SPAN_GENERATED: Final = "Generated, hearing unknown"
SPAN_RECEIVED: Final = "Audio received"
SPAN_QUEUED: Final = "Waiting for the response"
SPAN_RESPONSE: Final = "Response"
SPAN_CUT: Final = "Cancelled or failed"
SPAN_ARGUMENTS: Final = "Tool arguments"
SPAN_EXECUTION: Final = "Tool runs"
SPAN_STREAM: Final = "Stream of deltas"
MARK_INTERRUPTION: Final = "Interruption"
MARK_EVENT: Final = "Event"
MARK_ERROR: Final = "Error"
MARK_STALL: Final = "Stall"
MARK_DROPPED: Final = "Turns dropped"
MARK_CACHE_LOST: Final = "Cache lost"
STALLED: Final = "{n} × silence within the answer, {length}"
DROPPED: Final = "about {n} tokens of the conversation"
CACHE_LOST_CAUSES: Final = {
    "truncation": "after truncation",
    "config_change": "after a change of configuration",
    "idle_expiry": "after a pause",
    "unknown": "cause unknown",
}
AXIS_TIME: Final = "seconds since the session opened"
AXIS_POSITION: Final = "position in the session"

LISTEN: Final = "Listen"
LISTEN_HINT: Final = "Caller left, assistant right, as it was heard."
LISTEN_LABEL: Final = "The call: caller left, assistant right"
LISTEN_FILE: Final = "WAV"
LISTEN_AS_SENT: Final = "WAV, uncut"
TRANSCRIPT: Final = "Transcript"
SPEAKERS: Final = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}
TYPED: Final = "typed"
NOT_HEARD: Final = "not heard"
NOT_HEARD_TITLE: Final = "Generated, but cut off before the caller heard it. Where the text was cut is an estimate."
INTERRUPTED: Final = "interrupted"
DELETED: Final = "deleted"
NO_TRANSCRIPT: Final = "No transcript"
HEARD_OF: Final = "heard {heard} of {generated}"
TOOL_ARGUMENTS: Final = "Arguments"
TOOL_OUTPUT: Final = "Output"
TOOL_INVALID: Final = "no valid JSON"
TOOL_UNANSWERED: Final = "never answered"
TOOL_PENDING: Final = "waiting for the output"
EMPTY_TRANSCRIPT: Final = "No conversation is on record."
AT_EVENT: Final = "Show event"

RESPONSES: Final = "Responses"
EMPTY_RESPONSES: Final = "The model has not answered in this session."
RESPONSE_COLUMNS: Final = (
    "#",
    "Status",
    "Trigger",
    "First audio",
    "Voice to voice",
    "Duration",
    "Audio",
    "Input",
    "Cached",
    "Share",
    "Output",
    "Cost",
)
OUT_OF_BAND: Final = "out of band"

ERRORS: Final = "Errors"
ERROR_COLUMNS: Final = ("At", "Error", "Message", "Field", "Caused by")
CAUSE_INFERRED: Final = "probably"
TOOLS: Final = "Tool calls"
TOOL_COLUMNS: Final = ("At", "Function", "Outcome", "Arguments", "Execution", "Until the model spoke on")
TOOL_ANSWERED: Final = "answered"
MCP: Final = "MCP"
MCP_COLUMNS: Final = ("At", "Server", "Kind", "Tool", "Status", "Duration", "Wait for approval", "Error")
MCP_KINDS: Final = {"list_tools": "list of tools", "call": "call", "approval": "approval"}
CONTEXT: Final = "Context and cache"
CONTEXT_COLUMNS: Final = (
    "At",
    "Response",
    "What happened",
    "Input",
    "Dropped",
    "Cached before",
    "Cached",
    "Extra cost",
)
LIMITS: Final = "Rate limits, where least was left"
LIMIT_COLUMNS: Final = ("At", "Limit", "Left", "Of", "Share", "Whole again in")
TRANSCRIPTIONS: Final = "Failed transcriptions"
TRANSCRIPTION_COLUMNS: Final = ("At", "Model", "Error", "Message")

EVENTS: Final = "Events"
EVENT_DIRECTION: Final = "Direction"
EVENT_DIRECTIONS: Final = {"": "All", "client": "Client", "server": "Server", "recorder": "Recorder"}
EVENT_TYPE: Final = "Type"
EVENT_ANY_TYPE: Final = "Any type"
EVENT_STREAMS: Final = "Audio chunks and deltas"
EVENT_EARLIER: Final = "Earlier events"
EVENT_LATER: Final = "Later events"
EVENT_NONE: Final = "No events fit."
EVENT_FAILED: Final = "Events could not be read."
EVENT_UNKNOWN: Final = "unknown type"
EVENT_LIST: Final = "Events of this session"

FACT_MODEL: Final = "Model"
FACT_VOICE: Final = "Voice"
FACT_STARTED: Final = "Started"
FACT_DURATION: Final = "Duration"
FACT_CLOSE: Final = "Closed by"
FACT_TURNS: Final = "Turns"
FACT_FIRST_AUDIO: Final = "First audio, median"
FACT_VOICE_TO_VOICE: Final = "Voice to voice, median"
FACT_TOKENS: Final = "Tokens"
FACT_CACHED: Final = "cached"
FACT_COST: Final = "Cost"
FACT_COST_PER_MINUTE: Final = "Cost per minute"
FACT_WASTED: Final = "Cost of what was not heard"
FACT_INTERRUPTIONS: Final = "Interruptions"
FACT_KEPT: Final = "Recording"
FACT_ERRORS: Final = "Errors"
FACT_AUDIO: Final = "Audio in / heard"
FACT_PACE: Final = "Pace of the audio in"
FACT_GAPS: Final = "gaps"
FACT_OVERHEAD: Final = "Added by the proxy, up / down"
FACT_OVERHEAD_WORST: Final = "longest"
FACT_CLIENT: Final = "Client"
FACT_UPSTREAM: Final = "Upstream"
FACT_ID: Final = "Session id"

ERROR_TITLES: Final = {401: "A token is needed", 404: "Not found", 409: "More than one session fits"}
ERROR_TITLE: Final = "That did not work"
ERROR_BACK: Final = "Back to the overview"
