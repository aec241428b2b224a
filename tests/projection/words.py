"""Words that sessions of these tests are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recorder.projection.conversation import project
from recorder.protocol.envelope import RecordedEvent

Session = Callable[..., list[RecordedEvent]]


def message(item_id: str | None, role: str = "user", text: str = "", **more: Any) -> dict[str, Any]:
    kind = {"user": "input_text", "system": "input_text", "assistant": "output_text"}[role]
    content = [{"type": kind, "text": text}] if text else []
    return {"id": item_id, "type": "message", "role": role, "content": content, **more}


def added(item_id: str, previous: str | None, **more: Any) -> tuple[str, dict[str, Any]]:
    event = {"type": "conversation.item.added", "previous_item_id": previous, "item": message(item_id, **more)}
    return "server", event


def ids(events: list[RecordedEvent], at: int | None = None) -> list[str | None]:
    return [item.id for item in project(events, at).items]


def pcm(milliseconds: int) -> str:
    return "AAAA" * (milliseconds * 16)


def audio_delta(item_id: str, milliseconds: int, response_id: str = "r1") -> dict[str, Any]:
    return {
        "type": "response.output_audio.delta",
        "response_id": response_id,
        "item_id": item_id,
        "content_index": 0,
        "delta": pcm(milliseconds),
    }
