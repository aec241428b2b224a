"""The shapes of answers, as OpenAPI shows them. Rows of models take theirs from the models' own descriptions."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, Field, create_model

from recorder.analytics.registry import Column, Model, shown_models

Row = TypeVar("Row", bound=BaseModel)


class Error(BaseModel):
    """What went wrong, and what to do."""

    type: str = Field(description="Which case, for programs.", examples=["session_not_found"])
    message: str = Field(description="What went wrong, naming the thing.")
    hint: str = Field(description='What to do about it, or "".')


class ErrorBody(BaseModel):
    """The body of every answer that is no success."""

    error: Error


class Health(BaseModel):
    """That the service answers."""

    status: Literal["ok"] = "ok"
    version: str


class Event(BaseModel):
    """One event: a message of either side, or a fact of the recorder's own."""

    session_id: str
    position: int = Field(description="0, 1, 2 … gapless per session, both directions in one order.")
    direction: Literal["client", "server", "recorder"]
    recorded_at: datetime | None = Field(description="UTC; null where the recording has no times.")
    monotonic_ns: int | None = Field(description="Nanoseconds since the session opened.")
    type: str | None = Field(description="As on the wire; null for what is no JSON object with a type.")
    unknown: bool = Field(description="Whether the vocabulary has no such type: drift.")
    event_id: str | None
    response_id: str | None
    item_id: str | None
    call_id: str | None
    previous_item_id: str | None
    output_index: int | None
    content_index: int | None
    payload: Any = Field(
        description="The message as JSON, as text where it does not parse, without its audio unless that was asked "
        "for; null where it is longer than max_payload_bytes, or binary."
    )
    payload_bytes: int | None = Field(description="Length of the payload's text.")
    audio_ms: float | None = Field(description="Duration of the audio that the message carries.")
    opcode: int | None
    wire_bytes: int
    redacted: bool = Field(description="Whether secrets or content were removed.")
    problem: str | None = Field(description="Why the message could not be decoded; null for a good one.")


class Events(BaseModel):
    """A page of events in order of position."""

    data: list[Event]
    more: bool = Field(description="Whether there are more in the direction of reading.")


class Rows(BaseModel, Generic[Row]):
    """All rows of one session."""

    data: list[Row]


class Page(BaseModel, Generic[Row]):
    """Some of the rows, and how many there are."""

    data: list[Row]
    total: int
    limit: int
    offset: int


class ContentPart(BaseModel):
    """A part of an item's content."""

    type: str
    text: str
    transcript: str
    audio_ms: float | None


class Item(BaseModel):
    """An item of the conversation, as it was at a position."""

    id: str | None
    type: str
    role: str | None
    status: str | None
    position: int = Field(description="Of the event that first named it.")
    at_ns: int | None
    response_id: str | None
    content: list[ContentPart]
    name: str | None
    call_id: str | None
    arguments: str
    output: str | None
    audio_ms: float | None
    audio_end_ms: float | None = Field(description="Where the server truncated it.")
    heard_ms: float | None
    heard_estimated: bool
    truncated: bool
    interrupted: bool
    deleted: bool
    confirmed: bool
    out_of_band: bool


class ActiveResponse(BaseModel):
    """A response that was created and is not done."""

    id: str | None
    position: int
    at_ns: int | None
    out_of_band: bool


class PendingToolCall(BaseModel):
    """A function call without an output yet."""

    call_id: str | None
    item_id: str | None
    name: str | None
    arguments: str
    complete: bool
    position: int


class Conversation(BaseModel):
    """The conversation right after the event at `position`."""

    position: int
    at_ns: int | None
    session: dict[str, Any] = Field(description="The effective configuration, as the server confirmed it.")
    items: list[Item]
    out_of_band: list[Item]
    active_responses: list[ActiveResponse]
    pending_tool_calls: list[PendingToolCall]
    uncommitted_audio_ms: float
    closed: bool


class Latency(BaseModel):
    """Percentiles in seconds; null where n is too small to say (p95 needs 20, p99 needs 100)."""

    n: int
    p50: float | None
    p95: float | None
    p99: float | None


class Finding(BaseModel):
    """A known mistake that was found."""

    session_id: str
    rule: str
    severity: Literal["error", "warning", "info"]
    title: str = Field(description="What is wrong, in a few words.")
    message: str = Field(description="What was found here.")
    positions: list[int] | None = Field(description="The events that show it.")
    advice: str = Field(description="What to do about it.")


class Findings(BaseModel):
    """Findings, the worst first."""

    data: list[Finding]
    total: int


class Overview(BaseModel):
    """Totals over sessions."""

    sessions: int
    live: int = Field(description="Running now.")
    untimed: int = Field(description="Imported without times; counted only where no period is asked for.")
    duration_seconds: float
    responses: int
    turns: int
    interruptions: int
    tool_calls: int
    errors: int
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    first_audio: Latency = Field(description="Trigger of a response to its first audio.")
    voice_to_voice: Latency = Field(description="End of the user's voice to the first audio.")


class Figure(BaseModel):
    """A figure of an aggregate."""

    name: str
    unit: str = Field(description="s, min, tokens, bytes, ratio (a share), USD, USD/min, or none.")
    description: str


class AggregateShape(BaseModel):
    """What can be asked for under `/api/v1/stats/{name}`."""

    name: str
    description: str
    caveats: str
    dimensions: list[str] = Field(description="What it can be grouped by, beside `label:KEY`.")
    by: list[str] = Field(description="What it is grouped by where nobody says.")
    always: str | None = Field(description="What it is grouped by in any case.")
    figures: list[Figure]


class Aggregates(BaseModel):
    """All aggregates."""

    data: list[AggregateShape]


class Statistics(BaseModel):
    """An aggregate's figures."""

    name: str
    by: list[str] = Field(description="What the rows are grouped by: their first columns.")
    data: list[dict[str, Any]] = Field(description="One row a group: dimensions, then figures.")
    unpriced_models: list[str] = Field(description="Billed, and without a price: in no sum of costs.")


TYPES: Final[dict[str, type]] = {
    "VARCHAR": str,
    "TINYINT": int,
    "SMALLINT": int,
    "INTEGER": int,
    "BIGINT": int,
    "FLOAT": float,
    "DOUBLE": float,
    "DECIMAL": float,
    "BOOLEAN": bool,
    "DATE": date,
    "TIMESTAMPTZ": datetime,
    "TIMESTAMP WITH TIME ZONE": datetime,
}
"""DuckDB's types of columns; anything else is given as it comes."""

JSON_COLUMNS: Final = frozenset({"labels"})
"""Columns of JSON text that answers hold as values."""


def _row(model: Model) -> type[BaseModel]:
    fields: dict[str, Any] = {
        column.name: _field(column, key=column.name in model.key) for column in model.shown_columns
    }
    name = "".join(word.capitalize() for word in model.name.split("_"))
    return create_model(f"{name}Row", __doc__=f"{model.description} One row per {model.grain}.", **fields)


def _field(column: Column, *, key: bool) -> tuple[Any, Any]:
    kind: Any = Any if column.name in JSON_COLUMNS else TYPES.get(column.type.upper().partition("(")[0], Any)
    unit = f" [{column.unit}]" if column.unit else ""
    return (Annotated[kind if key else kind | None, Field(description=column.description + unit)], ...)


ROWS: Final[dict[str, type[BaseModel]]] = {name: _row(model) for name, model in shown_models().items()}
"""The shape of a row of every model that is shown."""
