"""What leaves the server in a shape of its own: the beta dialect, and a script's rewrites of events."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from recorder.simulator.script import Rewrite
from recorder.simulator.session import Session

_BETA_TYPES = {
    "conversation.item.added": "conversation.item.created",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
}
_BETA_PARTS = {"output_audio": "audio", "output_text": "text"}


def to_beta(event: dict[str, Any], session: Session) -> dict[str, Any] | None:
    """The beta form of a GA server event; None where the beta had no such event."""
    if event["type"] == "conversation.item.done":
        return None
    beta = {**event, "type": _BETA_TYPES.get(event["type"], event["type"])}
    if "item" in beta:
        beta["item"] = _beta_item(beta["item"])
    if "response" in beta:
        beta["response"] = _beta_response(beta["response"], session)
    return beta


def _beta_item(item: dict[str, Any]) -> dict[str, Any]:
    content = [{**part, "type": _BETA_PARTS.get(part["type"], part["type"])} for part in item.get("content", [])]
    return {"object": "realtime.item", **item, **({"content": content} if "content" in item else {})}


def _beta_response(response: dict[str, Any], session: Session) -> dict[str, Any]:
    beta = {key: value for key, value in response.items() if key not in {"audio", "output_modalities"}}
    beta["output"] = [_beta_item(item) for item in response["output"]]
    beta["modalities"] = ["text"] if response["output_modalities"] == ["text"] else ["text", "audio"]
    return {**beta, "voice": session.voice, "output_audio_format": session.output_format.value, "temperature": 0.8}


def rewritten(event: dict[str, Any], rules: list[Rewrite]) -> dict[str, Any]:
    """`event` after the script's rewrites; paths are dotted keys, missing objects on the way are made."""
    rules = [rule for rule in rules if rule.type in {event["type"], "*"}]
    if not rules:
        return event
    event = deepcopy(event)
    for rule in rules:
        for path, value in rule.set.items():
            holder, key = _holder(event, path)
            holder[key] = value
        for path in rule.remove:
            holder, key = _holder(event, path)
            holder.pop(key, None)
    return event


def _holder(event: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *steps, key = path.split(".")
    holder = event
    for step in steps:
        if not isinstance(holder.get(step), dict):
            holder[step] = {}
        holder = holder[step]
    return holder, key
