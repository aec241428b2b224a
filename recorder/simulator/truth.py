"""What really happened on one connection, told by the server itself.

Written from the script's schedule, the audio samples and the server's own send and receive calls; no decoder, no
model. Definitions are those of the metrics: docs/simulator.md lists the fields.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

Trigger = Literal["client", "vad", "idle_timeout"]


class ResponseTruth(Struct, kw_only=True):
    """One response. All `*_ns` are the server's `time.monotonic_ns()`; None: never happened."""

    id: str
    trigger: Trigger
    trigger_ns: int
    status: str = "dangling"
    status_reason: str | None = None
    out_of_band: bool = False
    modality: str = "audio"
    audio_ms: float = 0.0
    created_ns: int | None = None
    first_token_ns: int | None = None
    first_audio_ns: int | None = None
    last_audio_ns: int | None = None
    done_ns: int | None = None
    transcript: str = ""
    item_ids: list[str] = field(default_factory=list)
    usage: dict[str, Any] | None = None


class ItemTruth(Struct, kw_only=True):
    """One item of the conversation at the end; `text` is what was said, even where a truncate removed it."""

    id: str
    type: str
    role: str | None
    text: str
    audio_ms: float
    truncated_ms: int | None = None
    deleted: bool = False


class InterruptionTruth(Struct, kw_only=True):
    """One barge-in.

    Attributes:
        clock: in whose time it is one. `both`, except in runs at another speed than 1: `script` in the script's
            time only, `wall` only for an observer who takes the wall clock for the listener's.
        delivered_ms: audio of the item sent by then.
        heard_ms: `audio_end_ms` of the last truncate that was accepted.
    """

    response_id: str
    item_id: str
    source: Literal["server_vad", "client"]
    at_ns: int
    clock: Literal["both", "script", "wall"]
    generated_ms: float
    delivered_ms: float
    heard_ms: int | None = None
    truncate_status: str = "missing"


class ToolTruth(Struct, kw_only=True):
    """One function call of the model."""

    call_id: str
    name: str
    arguments: str
    response_id: str
    answered: bool = False
    output: str | None = None


class SpeechTruth(Struct, kw_only=True):
    """One voice of the user on the audio axis: as the samples have it, and as the server reported it."""

    item_id: str
    voice_start_ms: float
    audio_start_ms: int
    voice_end_ms: float | None = None
    audio_end_ms: int | None = None


class CloseTruth(Struct, kw_only=True):
    """How the connection ended."""

    by: Literal["client", "server", "lost"]
    code: int | None
    reason: str | None


class Truth(Struct, kw_only=True):
    """Everything of one connection.

    Attributes:
        error_causes: for each of `errors`, the number of the client's message that it answers, from 0; None where it
            answers none: the server's own attempt to respond to a voice was refused.
    """

    session_id: str
    conversation_id: str
    script: str
    seed: str
    speed: float
    connection_no: int
    model: str
    path: str
    opened_ns: int
    closed_ns: int | None = None
    client_events: list[str] = field(default_factory=list)
    server_events: list[str] = field(default_factory=list)
    responses: list[ResponseTruth] = field(default_factory=list)
    items: list[ItemTruth] = field(default_factory=list)
    interruptions: list[InterruptionTruth] = field(default_factory=list)
    tool_calls: list[ToolTruth] = field(default_factory=list)
    speech: list[SpeechTruth] = field(default_factory=list)
    transcription_usages: list[dict[str, Any]] = field(default_factory=list)
    audio_in_ms: float = 0.0
    audio_out_ms: float = 0.0
    errors: list[dict[str, Any]] = field(default_factory=list)
    error_causes: list[int | None] = field(default_factory=list)
    close: CloseTruth | None = None

    def total(self, name: str) -> int:
        """The sum of one number of tokens (`total_tokens`, …) over the usage of all responses and transcriptions."""
        told = [one.usage or {} for one in self.responses] + self.transcription_usages
        return sum(usage.get(name, 0) for usage in told)

    @property
    def client_event_count(self) -> int:
        """Messages received, text and binary."""
        return len(self.client_events)

    @property
    def server_event_count(self) -> int:
        """Messages sent."""
        return len(self.server_events)

    def interruptions_by(self, clock: Literal["script", "wall"]) -> list[InterruptionTruth]:
        """The interruptions in the script's time, or on the wall clock."""
        return [one for one in self.interruptions if one.clock in {"both", clock}]

    def write(self, folder: Path) -> Path:
        """Write `<session_id>.json` into `folder`, in one step; return its path."""
        facts = msgspec.to_builtins(self)
        facts["client_event_count"] = self.client_event_count
        facts["server_event_count"] = self.server_event_count
        target = folder / f"{self.session_id}.json"
        partial = target.with_suffix(".partial")
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=2))
        return partial.replace(target)
