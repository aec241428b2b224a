"""Decides what the server says next: the script's turns in order, then its fallback, filled in from the context."""

from __future__ import annotations

import re
from itertools import cycle
from typing import Any

import msgspec

from recorder.simulator.conversation import Item
from recorder.simulator.script import Script, ToolCall, Turn

_EXAMPLES: dict[str, Any] = {
    "string": "example",
    "number": 1.5,
    "integer": 1,
    "boolean": True,
    "array": [],
    "null": None,
}


class Director:
    """One connection's walk through its script."""

    def __init__(self, script: Script) -> None:
        self._turns = iter(script.turns)
        self._fallback = cycle(script.fallback)
        self._out_of_band = cycle(script.out_of_band)
        self._heard = iter([turn for turn in script.turns if turn.user is not None])
        self._heard_fallback = cycle(
            [turn for turn in script.fallback if turn.user is not None] or [Turn(user="Hello.")]
        )

    def next_turn(self, context: list[Item], tools: list[dict[str, Any]], tool_choice: Any) -> Turn:
        """The turn that answers `context`. Scripted turns come first; a fallback turn may call one of `tools`."""
        turn = next(self._turns, None)
        if turn is None:
            turn = next(self._fallback)
            call = _fitting_call(context, tools, tool_choice)
            if call is not None and not turn.tools:
                turn = msgspec.structs.replace(turn, say=None, tools=[call])
        return _filled(turn, context)

    def out_of_band_turn(self, context: list[Item]) -> Turn:
        """The turn of a response outside the conversation."""
        return _filled(next(self._out_of_band), context)

    def heard(self) -> Turn:
        """The turn whose `user` and `transcription` say what the user's next speech is understood as."""
        return next(self._heard, None) or next(self._heard_fallback)


def _filled(turn: Turn, context: list[Item]) -> Turn:
    """Put the last user text and tool output in the place of `{user}` and `{output}`."""
    if turn.after_tool is not None and context and context[-1].wire["type"] == "function_call_output":
        turn = msgspec.structs.replace(turn, say=turn.after_tool)
    if turn.say is None or "{" not in turn.say:
        return turn
    user = next((item.text for item in reversed(context) if item.role == "user"), "")
    output = next((item.text for item in reversed(context) if item.wire["type"] == "function_call_output"), "")
    return msgspec.structs.replace(turn, say=turn.say.replace("{user}", user).replace("{output}", output))


def _fitting_call(context: list[Item], tools: list[dict[str, Any]], tool_choice: Any) -> ToolCall | None:
    """A call of the tool that was demanded, or whose name shares a word with what the user just said."""
    functions = [tool for tool in tools if tool.get("type", "function") == "function" and tool.get("name")]
    last = context[-1] if context else None
    if not functions or tool_choice == "none" or (last and last.wire["type"] == "function_call_output"):
        return None
    if isinstance(tool_choice, dict):
        functions = [tool for tool in functions if tool["name"] == tool_choice.get("name")]
    elif tool_choice != "required":
        said = set(re.findall(r"\w+", last.text.lower())) if last and last.role == "user" else set()
        functions = [tool for tool in functions if said & _words(tool["name"])]
    if not functions:
        return None
    return ToolCall(name=functions[0]["name"], arguments=_example(functions[0].get("parameters") or {"type": "object"}))


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Za-z][a-z]+", name)} - {"get", "set", "the", "to"}


def _example(schema: Any) -> Any:
    """A value that fits a JSON schema: its first enum value, its default, or an example of its type."""
    if not isinstance(schema, dict):
        return "example"
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    if "properties" in schema or schema.get("type") == "object":
        properties = schema.get("properties")
        return {name: _example(part) for name, part in properties.items()} if isinstance(properties, dict) else {}
    return _EXAMPLES.get(str(schema.get("type")), "example")
