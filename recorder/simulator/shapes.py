"""The types the server insists on in client events; whatever else an event holds is kept as it came."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from recorder.simulator.refusal import EventRefusedError

ItemType = Literal[
    "message",
    "function_call",
    "function_call_output",
    "mcp_approval_response",
    "mcp_approval_request",
    "mcp_list_tools",
    "mcp_call",
    "mcp_tool_call",
    "item_reference",
]


class PartShape(Struct):
    """A content part of an item."""

    type: str | None = None
    text: str | None = None
    transcript: str | None = None
    audio: str | None = None


class ItemShape(Struct):
    """An item as a client gives it."""

    type: ItemType
    id: str | None = None
    role: str | None = None
    content: list[PartShape] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None


class CreateShape(Struct):
    """A `conversation.item.create`."""

    item: ItemShape
    previous_item_id: str | None = None


class ToolShape(Struct):
    """A tool's definition."""

    type: str | None = None
    name: str | None = None
    parameters: dict[str, Any] | None = None


class ResponseShape(Struct):
    """The `response` of a `response.create`."""

    conversation: str | None = None
    instructions: str | None = None
    tools: list[ToolShape] | None = None
    tool_choice: str | dict[str, Any] | None = None
    output_modalities: list[str] | None = None
    modalities: list[str] | None = None
    max_output_tokens: int | str | None = None
    metadata: dict[str, Any] | None = None
    input: list[ItemShape] | None = None


class RespondShape(Struct):
    """A `response.create`."""

    response: ResponseShape | None = None


class CancelShape(Struct):
    """A `response.cancel`."""

    response_id: str | None = None


class SettingsShape(Struct):
    """What is effective of a session, in either dialect."""

    instructions: str | None
    tools: list[ToolShape] | None
    tool_choice: str | dict[str, Any] | None
    modalities: list[str]
    transcription: dict[str, Any] | None
    max_output_tokens: int | str | None


def check(value: Any, shape: type[Struct], *, param: str = "") -> None:
    """Check `value` against a shape.

    Raises:
        EventRefusedError: something in it has another type; `param` plus the path inside says what.
    """
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError as problem:
        text = str(problem)
        wrong, _, path = text.rpartition(" - at `$")
        place = (param + path.rstrip("`")).removeprefix(".")
        missing = "missing required field" in text
        code = "missing_required_parameter" if missing else "invalid_value" if "enum" in text else "invalid_type"
        raise EventRefusedError(code, f"{wrong or text} in '{place}'.", param=place or None) from None
